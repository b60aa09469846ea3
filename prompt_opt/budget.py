"""How much of its budget a stage may still spend, and what is held back for the end.

DSPy's optimizers know budgets of their own, each another one, and overshoot them. Here nobody is
trusted: whatever asks for answers is stopped in front of the batch that would pass a cap.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from lm.ledger import BudgetExhausted, Caps, Ledger
from prompt_opt.answers import AnswerBook, Spent


@dataclass
class Budget:
    """Caps on what a stage asks for. `held` is out of reach until the end: with it the most
    promising candidates are measured once more.

    Rollouts are never overshot: what is in a batch is chance, so which candidate is the last one
    within the budget would be chance as well. Tokens and seconds are known after a batch only and
    are overshot by less than one. Answers found on disk are charged as if they were drawn now, in
    the order they are asked for: a stage that goes on after a kill is cut where it was cut before.
    """

    caps: Caps
    ledger: Ledger
    book: AnswerBook
    held: Caps = field(default_factory=Caps)
    charged: Spent = field(default_factory=Spent)

    def charge(self, key: str) -> None:
        """Count the answer that `book` has under `key`."""
        answer = self.book.answers[key]
        self.charged.rollouts += 1
        self.charged.tokens += answer.prompt_tokens + answer.completion_tokens
        self.charged.seconds += self.book.seconds[key]
        self.charged.completion_tokens += answer.completion_tokens

    def room(self, last: bool = False) -> int | None:
        """Answers that may still be asked for, None for any number; `last`: what is held, too.

        Raises BudgetExhausted when there is no room, tokens or time left.
        """
        ours, all_ = self.charged, self.ledger
        paid = self.book.paid
        total = Spent(  # with what others count into the ledger
            all_.rollouts - paid.rollouts + ours.rollouts,
            all_.tokens - paid.tokens + ours.tokens,
            all_.seconds - paid.seconds + ours.seconds,
        )
        own = _left(self.caps, Caps() if last else self.held, ours)
        return _least(own, _left(self.ledger.caps, Caps(), total))

    def unpaid(self) -> int | None:
        """Answers that may still be drawn anew, whatever was found on disk."""
        cap = self.caps.rollouts
        return None if cap is None else max(0, cap - self.ledger.rollouts)

    def hold(self, rollouts: int, share: float) -> None:
        """Hold back this many rollouts, and this `share` of tokens and seconds, where capped."""
        self.held = Caps(
            rollouts, int(share * (self.caps.tokens or 0)), share * (self.caps.seconds or 0.0)
        )


def _left(caps: Caps, held: Caps, used: Spent) -> int | None:
    for name in ("rollouts", "tokens", "seconds"):
        cap, spent = getattr(caps, name), getattr(used, name)
        if cap is not None and cap - (getattr(held, name) or 0) <= spent:
            raise BudgetExhausted(f"budget of {cap} {name} used up ({spent:g})")
    return None if caps.rollouts is None else caps.rollouts - (held.rollouts or 0) - used.rollouts


def _least(*numbers: int | None) -> int | None:
    return min((number for number in numbers if number is not None), default=None)
