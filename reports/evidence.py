"""The figures that the answer in words is made from, all of them, and nothing else.

`reports.recommendation` reads an `Evidence` and never a run: so each of its rules can be tried on
an outcome that no run has had yet.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from statistics import fmean

from evaluation.compare import Comparison
from evaluation.power import POWER, mcnemar_power, needed_examples, t_power
from reports.answers import still_failing
from reports.attribution import attributions
from reports.budget import allocation
from reports.format_split import splits_between
from reports.load import Arm, Run
from reports.reads import stopped
from reports.tables import arm_scores, comparisons, shared_seeds, versus

LEVEL = 0.05
NORMAL = 1.96  # half a 95 % interval in standard errors


@dataclass(frozen=True)
class Spent:
    """What it took to make an arm, mean over its seeds; answers to dev and test are not in it."""

    rollouts: float = 0.0
    tokens: float = 0.0  # written in those rollouts
    seconds: float = 0.0

    def times(self, other: Spent) -> float:
        """How often the other's cost goes into this one's; infinite where the other is free.

        By time, which every method takes; by rollouts where no time was taken down.
        """
        mine, others = (self.seconds, other.seconds)
        if not (mine or others):
            mine, others = (self.rollouts, other.rollouts)
        return mine / others if others else (float("inf") if mine else 1.0)


@dataclass(frozen=True)
class ArmFigures:
    """One arm over its seeds: `scores` by seed; `failures` are counts by class, all seeds."""

    name: str
    scores: tuple[float, ...]
    methods: tuple[str, ...] = ()
    spent: Spent = Spent()
    trains: bool = False  # its chain moves weights
    failures: Mapping[str, int] = field(default_factory=dict)
    tripped: tuple[str, ...] = ()  # its stages' tripped wires, one line each
    draws: int = 1  # for one answer

    def times(self, other: ArmFigures) -> float:
        """How often the other's cost goes into this one's, in making it or in each answer."""
        return max(self.spent.times(other.spent), self.draws / other.draws)

    @property
    def score(self) -> float:
        return fmean(self.scores)

    @property
    def wrong(self) -> int:
        return sum(self.failures.values())

    @property
    def worst(self) -> tuple[str, int]:
        """The largest class and its count; ("", 0) where no answer is wrong."""
        return max(self.failures.items(), key=lambda item: item[1], default=("", 0))


@dataclass(frozen=True)
class Difference:
    """One arm's score minus another's: 95 % interval, p after Holm; `by_seed` the seeds' own."""

    delta: float
    low: float
    high: float
    p: float
    by_seed: tuple[float, ...] = ()
    needed: int | None = None  # test examples that would show a difference of this size

    @property
    def is_sure(self) -> bool:
        """Beyond noise."""
        return self.p < LEVEL

    @property
    def is_gain(self) -> bool:
        return self.is_sure and self.delta > 0

    @property
    def seeds_disagree(self) -> bool:
        return min(self.by_seed, default=0) < 0 < max(self.by_seed, default=0)

    def reversed(self) -> Difference:
        turned = tuple(-delta for delta in self.by_seed)
        return Difference(-self.delta, -self.high, -self.low, self.p, turned, self.needed)


@dataclass(frozen=True)
class FormatShare:
    """How many of an arm's points of right answers above the baseline are format, how many
    capability (`evaluation.format_split`)."""

    format: float
    capability: float

    @property
    def total(self) -> float:
        return self.format + self.capability

    def is_mostly(self, share: float) -> bool:
        return self.format >= share * self.total > 0


@dataclass(frozen=True)
class Overlap:
    """Test examples that stand in train or dev too, and each arm's score without them."""

    count: int
    scores: Mapping[str, float]


@dataclass(frozen=True)
class Evidence:
    """What a run shows of its arms, in the order of the spec. What is not known is left out.

    `differences` go by (a, b), b against a, in one direction only. `formats` and `interactions`
    (points that prompt and weights bring together beyond the sum of both: value, low, high) go by
    arm. `notes` say what is still missing, `dropped` are arms that halving did not let see test,
    `stopped` those that were not asked all of it, as they were clearly worse than another.
    """

    examples: int
    baseline: str
    arms: tuple[ArmFigures, ...]
    differences: Mapping[tuple[str, str], Difference]
    meanings: Mapping[str, str] = field(default_factory=dict)
    formats: Mapping[str, FormatShare] = field(default_factory=dict)
    interactions: Mapping[str, tuple[float, float, float]] = field(default_factory=dict)
    overlap: Overlap | None = None
    notes: tuple[str, ...] = ()
    dropped: tuple[str, ...] = ()
    stopped: tuple[str, ...] = ()

    def arm(self, name: str) -> ArmFigures:
        return next(arm for arm in self.arms if arm.name == name)

    @property
    def has_baseline(self) -> bool:
        return any(arm.name == self.baseline for arm in self.arms)

    @property
    def others(self) -> tuple[ArmFigures, ...]:
        """All arms but the baseline."""
        return tuple(arm for arm in self.arms if arm.name != self.baseline)

    def versus(self, a: str, b: str) -> Difference | None:
        """b against a; None where they never met."""
        if (a, b) in self.differences:
            return self.differences[a, b]
        found = self.differences.get((b, a))
        return found.reversed() if found is not None else None


def evidence(run: Run) -> Evidence:
    """Read the figures off a run's tables. Raises ReportError as they do."""
    names = run.arm_names
    arms = tuple(_arm(run, name) for name in names)
    return Evidence(
        examples=max(len(scores) for scores in run.scores.values()),
        baseline=run.baseline,
        arms=arms,
        differences={
            (a, b): found
            for i, a in enumerate(names)
            for b in names[i + 1 :]
            if (found := _difference(run, a, b)) is not None
        },
        meanings={failure: run.meaning(failure) for arm in arms for failure in arm.failures},
        formats={name: share for name in names if (share := _format(run, name)) is not None},
        interactions=_interactions(run),
        overlap=_overlap(run),
        notes=run.notes,
        dropped=_dropped(run),
        stopped=tuple(dict.fromkeys(stopped(run)["arm"])),
    )


def _arm(run: Run, name: str) -> ArmFigures:
    arms = [arm for arm in run.arms if arm.arm == name]
    chains = [[run.stages[key].ledger for key in arm.stages] for arm in arms]
    tripped = [
        f"{found.name}: {found.detail}"
        for key in dict.fromkeys(key for arm in arms for key in arm.stages)
        for found in run.audits[key]
        if found.level == "tripped"
    ]
    return ArmFigures(
        name=name,
        scores=tuple(arm_scores(run, name)),
        methods=tuple(run.stages[key].method for key in arms[0].stages),
        spent=Spent(
            fmean(sum(ledger.rollouts for ledger in chain) for chain in chains),
            fmean(sum(ledger.completion_tokens for ledger in chain) for chain in chains),
            fmean(sum(ledger.wall_seconds for ledger in chain) for chain in chains),
        ),
        trains=any(ledger.optimizer_steps for ledger in chains[0]),
        failures=dict(still_failing(run, name).most_common()),
        tripped=tuple(tripped),
        draws=_draws(run, arms[0]),
    )


def _draws(run: Run, arm: Arm) -> int:
    last = run.stages[arm.stages[-1]] if arm.stages else None
    return int(last.told["config"]["n"]) if last is not None and last.kind == "best_of" else 1


def _difference(run: Run, a: str, b: str) -> Difference | None:
    found = versus(run, a, b)
    if found is None:
        return None
    scores = {(arm.arm, arm.seed): run.scores[arm.eval].mean() for arm in run.arms}
    return Difference(
        delta=found.delta,
        low=found.low,
        high=found.high,
        p=found.p_adjusted,
        by_seed=tuple(float(scores[b, s] - scores[a, s]) for s in shared_seeds(run, a, b)),
        needed=_needed(found, len(comparisons(run))),
    )


def _needed(found: Comparison, family: int) -> int | None:
    """Test examples with which a difference of this size would be beyond noise in 4 of 5 runs.

    By `evaluation.power`, up to the next two digits, the level shared among the `family` of
    comparisons: that of McNemar's test with the share of fixed and broken pairs found, or of a t
    test with the spread that the interval tells. None where the examples are enough, where none
    would be, and over several seeds, which are a part of that spread.
    """
    if not found.delta or found.seeds > 1:
        return None
    sd = (found.high - found.low) / (2 * NORMAL) * math.sqrt(found.n)
    fixed, broken = found.fixed / found.n, found.broken / found.n
    right_or_wrong = abs(found.delta - (fixed - broken)) < 1e-9

    def power(n: int) -> float:
        if right_or_wrong:
            return mcnemar_power(n, fixed, broken, LEVEL / family)
        return t_power(n, found.delta, sd, LEVEL / family)

    try:
        wanted = needed_examples(power, POWER)
    except ValueError:
        return None
    unit = 10 ** max(0, int(math.log10(wanted)) - 1)
    return unit * math.ceil(wanted / unit) if wanted > found.n else None


def _format(run: Run, name: str) -> FormatShare | None:
    """Of an arm's gain in right answers over the baseline, mean over the seeds they share."""
    met = list(splits_between(run, run.baseline, name).values()) if name != run.baseline else []
    if not met:
        return None
    return FormatShare(fmean(s.format for s in met), fmean(s.capability for s in met))


def _interactions(run: Run) -> dict[str, tuple[float, float, float]]:
    """Of arms taken apart at one seed; over several there is no interval of the mean."""
    found = {}
    for arm, effects in attributions(run).items():
        one = effects.interaction
        found[arm.arm] = None if arm.arm in found else (one.value, one.low, one.high)
    return {name: figures for name, figures in found.items() if figures is not None}


def _dropped(run: Run) -> tuple[str, ...]:
    """Arms that successive halving took out at every seed."""
    rungs = allocation(run)
    out = dict.fromkeys(rungs.loc[rungs["decision"] == "dropped", "arm"])
    return tuple(name for name in out if name not in run.arm_names)


def _overlap(run: Run) -> Overlap | None:
    ids = run.info.get("overlapping", [])
    if not ids:
        return None
    clean = {
        name: fmean(
            float(scores[~scores.index.isin(ids)].mean())
            for scores in (run.scores[arm.eval] for arm in run.arms if arm.arm == name)
        )
        for name in run.arm_names
    }
    return Overlap(len(ids), {name: score for name, score in clean.items() if score == score})
