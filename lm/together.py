"""A model whose answers several processes draw together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

from lm.hf import HFModel
from lm.ledger import PURPOSES, Ledger, Purpose, Usage
from lm.ranks import gathered, own_part
from lm.types import Completion, Further, Sampling


class TogetherModel(HFModel):
    """An HFModel that all processes ask the same at the same time; each draws its part.

    All get all answers: those that one process would have drawn, since a draw depends on its row
    alone (rounding aside). Their ledgers stay equal.
    """

    def complete(
        self,
        prompts: Sequence[Sequence[int]],
        sampling: Sampling,
        purpose: Purpose,
        further: Further | None = None,
    ) -> list[list[Completion]]:
        if further is None:
            self.ledger.check(purpose)  # by all, also those without a part
        mine = own_part(len(prompts))
        rows = slice(mine.start * sampling.n, mine.stop * sampling.n)
        own = replace(
            sampling, first_row=sampling.first_row + rows.start, draws=sampling.draws[rows]
        )
        part = further and Further(further.limits[mine], further.unread[mine])
        with counted_together(self.ledger):
            drawn = super().complete(prompts[mine], own, purpose, part)
        return [answers for some in gathered(drawn) for answers in some]


@contextmanager
def counted_together(ledger: Ledger) -> Iterator[None]:
    """What the processes count while it lasts ends up in the ledger of each.

    Counts are added up; of the seconds, which pass for all at once, the most.
    """
    before: dict[Purpose, Usage] = {p: replace(usage) for p, usage in ledger.usage.items()}
    yield
    spent = {p: _less(usage, before.get(p, Usage())) for p, usage in ledger.usage.items()}
    everyones = gathered(spent)
    for purpose in PURPOSES:
        rows = [each[purpose] for each in everyones if purpose in each]
        if not rows:
            continue
        old = before.get(purpose, Usage())
        ledger.usage[purpose] = Usage(
            calls=old.calls + sum(row.calls for row in rows),
            completions=old.completions + sum(row.completions for row in rows),
            prompt_tokens=old.prompt_tokens + sum(row.prompt_tokens for row in rows),
            completion_tokens=old.completion_tokens + sum(row.completion_tokens for row in rows),
            seconds=old.seconds + max(row.seconds for row in rows),
        )


def _less(usage: Usage, before: Usage) -> Usage:
    return Usage(
        calls=usage.calls - before.calls,
        completions=usage.completions - before.completions,
        prompt_tokens=usage.prompt_tokens - before.prompt_tokens,
        completion_tokens=usage.completion_tokens - before.completion_tokens,
        seconds=usage.seconds - before.seconds,
    )
