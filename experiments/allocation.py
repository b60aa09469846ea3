"""What a spec may say of budgets, and the rungs that follow from it. Loads no torch."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from lm.ledger import Caps


class BudgetSpec(BaseModel):
    """What every arm may spend along its whole chain, spent in order: first come, first served.

    `rollouts` are answers drawn to improve a policy, `tokens` those read and written for them,
    `seconds` those of sampling and training; scoring on dev by weight methods is free.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    rollouts: int | None = Field(default=None, ge=1)
    tokens: int | None = Field(default=None, ge=1)
    seconds: float | None = Field(default=None, gt=0, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _limits(cls, raw: Any) -> Any:
        if not isinstance(raw, BudgetSpec) and (not isinstance(raw, dict) or not raw):
            raise ValueError("names no limit; write e.g. {rollouts: 5000}")
        return raw

    def caps(self) -> Caps:
        return Caps(**self.model_dump())


class HalvingSpec(BaseModel):
    """Successive halving over arms (Jamieson & Talwalkar, 2016, arXiv:1502.07943).

    In each rung an arm may spend `eta` times what it might in the rung before, and goes on from
    where it was; the best 1/`eta` of the arms, rounded up, survive it, until one is left. With
    `rollouts` that much is shared out among all arms of a seed; else the spec's `budget` is what an
    arm may have spent by the end of the last rung.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    rollouts: int | None = Field(default=None, ge=1)
    eta: int = Field(default=2, ge=2)


class AllocateSpec(BaseModel):
    """How the budget finds its way to the arms."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    halving: HalvingSpec = HalvingSpec()

    @model_validator(mode="before")
    @classmethod
    def _by_name(cls, raw: Any) -> Any:
        return {"halving": {}} if raw == "halving" else raw


class StopEarlySpec(BaseModel):
    """The evaluation of an arm on test ends once it is worse, by more than `margin` in score units,
    than an arm evaluated before it (`evaluation.stopping`). `alpha` is the chance that this happens
    in the whole run to any arm that is not; the arm then stands in no table but its own."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    alpha: float = Field(default=0.05, gt=0, lt=0.5)
    margin: float = Field(default=0.0, ge=0, lt=1)


@dataclass(frozen=True)
class Rung:
    """`arms` take part, each with `caps` along its chain, counted from its beginning; `kept` of
    them survive."""

    number: int
    arms: int
    kept: int
    caps: Caps


def rungs(halving: HalvingSpec, budget: BudgetSpec, arms: int) -> list[Rung]:
    """The rungs for so many arms with methods, the first one first."""
    sizes = _sizes(arms, halving.eta)
    return [
        Rung(
            number,
            size,
            math.ceil(size / halving.eta),
            _part(budget.caps(), halving.eta ** (len(sizes) - 1 - number)),
        )
        for number, size in enumerate(sizes)
    ]


def share(halving: HalvingSpec, arms: int) -> int:
    """What an arm that gets to the last rung may draw of `halving.rollouts`: then all arms
    together draw no more than these, since every rung goes on from the one before."""
    assert halving.rollouts is not None
    sizes = _sizes(arms, halving.eta)
    steps = [halving.eta**k - (halving.eta ** (k - 1) if k else 0) for k in range(len(sizes))]
    units = sum(size * step for size, step in zip(sizes, steps, strict=True))
    return halving.rollouts // units * halving.eta ** (len(sizes) - 1)


def _sizes(arms: int, eta: int) -> list[int]:
    sizes = [arms]
    while (kept := math.ceil(sizes[-1] / eta)) > 1:
        sizes.append(kept)
    return sizes


def _part(caps: Caps, divisor: int) -> Caps:
    return Caps(
        None if caps.rollouts is None else caps.rollouts // divisor,
        None if caps.tokens is None else caps.tokens // divisor,
        None if caps.seconds is None else caps.seconds / divisor,
    )


def describe_rungs(rungs: Sequence[Rung]) -> Iterator[str]:
    """Halving in words, nothing for a spec that does not ask for it."""
    for rung in rungs:
        limits = ", ".join(f"{v:,} {k}" for k, v in vars(rung.caps).items() if v is not None)
        yield f"halving, rung {rung.number}: {rung.arms} arms up to {limits} each; {rung.kept} kept"
    if rungs:
        yield "the one that is left, and arms without methods, go on test; the others do not"
