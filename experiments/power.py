"""What can so many examples show? `tasklift power`, and a line of `run --dry-run`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import comb, isnan

from experiments.errors import SpecError


@dataclass(frozen=True)
class Design:
    """What a comparison is planned with. Rates, differences and sd in score units.

    `rate` is the baseline's share right, `correlation` that of right and wrong between the arms.
    With an `sd`, scores are graded and it is the standard deviation of the differences, example by
    example. The 5 % level is shared among `comparisons`.
    """

    rate: float = 0.5
    correlation: float = 0.0
    sd: float | None = None
    power: float = 0.8
    comparisons: int = 1

    @property
    def alpha(self) -> float:
        from evaluation.power import ALPHA

        return ALPHA / self.comparisons

    def of(self, n: int, difference: float) -> float:
        """The power. Raises SpecError where the baseline cannot change by so much."""
        from evaluation.power import discordance, mcnemar_power, t_power

        if self.sd is not None:
            return t_power(n, difference, self.sd, self.alpha)
        try:
            fixed, broken = discordance(self.rate, difference, self.correlation)
        except ValueError as error:
            raise SpecError(f"power: {error}") from error
        return mcnemar_power(n, fixed, broken, self.alpha)

    def smallest(self, n: int, sign: int = 1) -> float:
        """The smallest gain (or loss, at -1) that n examples show; NaN where not even the most."""
        from evaluation.power import smallest_difference

        most = 1.0 if self.sd is not None else self.rate if sign < 0 else 1 - self.rate
        return smallest_difference(lambda size: self.of(n, sign * size), most, self.power)

    def needed(self, difference: float) -> int:
        """The examples it takes. Raises SpecError where the baseline cannot change by so much."""
        from evaluation.power import needed_examples

        try:
            return needed_examples(lambda n: self.of(n, difference), self.power)
        except ValueError as error:
            raise SpecError(f"power: {error}; write another --difference") from error


def describe_power(design: Design, n: int | None, difference: float | None) -> Iterator[str]:
    """What `tasklift power` says, a line at a time."""
    chance = f"{100 * design.power:g} %"
    yield f"{_scores(design)}; {_level(design)}"
    if n is not None:
        for sign, what in ((1, "gain"), (-1, "loss")):
            size = design.smallest(n, sign)
            if isnan(size):
                yield f"{n:,} examples show no {what} with a chance of {chance}, however large"
            else:
                yield f"{n:,} examples show a {what} of {100 * size:.1f} points with {chance}"
            if design.sd is not None:
                break  # one is as easy to see as the other
    if difference is not None:
        size = f"{100 * difference:+g} points"
        if n is not None:
            yield f"{n:,} examples show {size} with {100 * design.of(n, difference):.0f} %"
        yield f"for {size} with {chance} it takes {design.needed(difference):,} examples"
    yield "seeds that differ add to this; it is the chance for one seed, or for seeds that agree"


def dry_run_line(n: int, arms: int, seeds: int = 1) -> str:
    """What `n` test examples show, for all pairs of `arms` arms at once."""
    design = Design(comparisons=max(1, comb(arms, 2)))
    if isnan(size := design.smallest(n)):
        return f"power: {n} test examples are too few to show any difference between arms"
    several = "; seeds that differ add to it, few of them much" if seeds > 1 else ""
    return (
        f"power: {n} test examples show a difference of {100 * size:.1f} points with a chance of "
        f"80 %, {_level(design)}, where the baseline is right half the time and the arms have "
        f"nothing in common (tasklift power says it for others){several}"
    )


def _scores(design: Design) -> str:
    if design.sd is not None:
        return f"graded scores whose differences have an sd of {100 * design.sd:g} points"
    return (
        f"0/1 scores, baseline right in {100 * design.rate:g} %, "
        f"correlation between arms {design.correlation:g}"
    )


def _level(design: Design) -> str:
    if design.comparisons == 1:
        return "p below 0.05"
    return f"p below 0.05 after Holm over {design.comparisons} comparisons"
