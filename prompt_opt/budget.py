"""How much of its budget a stage may still spend, and what is held back for the end.

DSPy's optimizers know budgets of their own, each another one, and overshoot them. Here nobody is
trusted: whatever asks for answers is stopped in front of the batch that would pass a cap.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from lm.ledger import BudgetExhausted, Caps, Ledger


@dataclass
class Budget:
    """Caps on what `ledger` counts of a stage. `held` is out of reach until the end: with it the
    most promising candidates are measured once more.

    Rollouts are never overshot: what is in a batch is chance, so which candidate is the last one
    within the budget would be chance as well. Tokens and seconds are known after a batch only and
    are overshot by less than one.
    """

    caps: Caps
    ledger: Ledger
    held: Caps = field(default_factory=Caps)

    def room(self, last: bool = False) -> int | None:
        """Answers that may still be asked for, None for any number; `last`: what is held, too.

        Raises BudgetExhausted when there is no room, tokens or time left.
        """
        left = None
        for caps, held in ((self.caps, Caps() if last else self.held), (self.ledger.caps, Caps())):
            for name, used in (
                ("rollouts", self.ledger.rollouts),
                ("tokens", self.ledger.tokens),
                ("seconds", self.ledger.seconds),
            ):
                cap = getattr(caps, name)
                if cap is None:
                    continue
                rest = cap - (getattr(held, name) or 0) - used
                if rest <= 0:
                    raise BudgetExhausted(f"budget of {cap} {name} used up ({used:g})")
                if name == "rollouts":
                    left = rest if left is None else min(left, rest)
        return left

    def hold(self, rollouts: int, share: float) -> None:
        """Hold back this many rollouts, and this `share` of tokens and seconds, where capped."""
        self.held = Caps(
            rollouts, int(share * (self.caps.tokens or 0)), share * (self.caps.seconds or 0.0)
        )
