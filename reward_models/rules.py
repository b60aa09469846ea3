"""Every rule by which a reward is trusted or not, with its reason. Nothing else decides.

The yardstick is the task's own score, on answers whose score is known. A reward has to show that it
can tell right from wrong: too few answers to see it are held against it. A flaw has to be shown: it
counts when the 95 % interval (over examples) lies beyond the threshold, so that a reward which is
noisy and no more is not called flawed. The gravest line is the verdict on the whole.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

Level = Literal["ok", "note", "care", "no"]
VERDICTS: dict[Level, str] = {
    "ok": "trust",
    "care": "trust with care",
    "no": "do not train on it",
}


@dataclass(frozen=True)
class Line:
    """One figure of the check: `low` to `high` its 95 % interval, NaN where it has none.

    `n` counts what it is made of, as `detail` says. `rule` names the rule of `RULES` that judged
    it, "" where none did.
    """

    check: str
    value: float
    low: float
    high: float
    n: int
    level: Level
    detail: str
    rule: str = ""


@dataclass(frozen=True)
class Rule:
    """`care` and `no` are the thresholds for "trust with care" and "do not train on it".

    `must_show`: the reward has to reach them (below is bad), and be better than `chance` beyond
    noise. Otherwise they are limits of a flaw (above is bad), passed by the whole interval.
    """

    care: float
    no: float
    reason: str
    must_show: bool = False
    chance: float = 0.5
    of_size: bool = False  # a flaw in either direction; downward it is never more than "care"


RULES: dict[str, Rule] = {
    "pairs": Rule(
        0.75,
        0.6,
        "GRPO, rejection sampling and best-of-n learn from which of two answers to the same "
        "question is paid more: 1/2 is guessing, and below 3/4 every fourth lesson is wrong",
        must_show=True,
    ),
    "overall": Rule(
        0.6,
        -math.inf,
        "PPO's critic and thresholds on the reward (rft's accept) compare across questions; group "
        "methods do not, so this alone forbids nothing",
        must_show=True,
    ),
    "confident": Rule(
        0.75,
        0.6,
        "where the reward sees the largest differences it moves the policy most, and optimization "
        "goes there first: being wrong there is worse than on average",
        must_show=True,
    ),
    "length": Rule(
        0.15,
        0.35,
        "at equal score a longer answer must not pay: length is the easiest thing to learn and the "
        "best known way in which rewards are gamed (arXiv:2310.03716)",
        of_size=True,
    ),
    "longer": Rule(
        0.5,
        0.75,
        "the same answer said over and over must not be paid more",
    ),
    "passes": Rule(
        0.2,
        1 / 3,
        "an answer that a policy can always give, whatever is asked, must not pass for gold: RL "
        "finds it sooner or later. What is paid less than gold on average forbids nothing",
    ),
    "trap": Rule(
        0.25,
        math.inf,
        "an answer that could always be given is paid more than most of what the policies say, "
        "though it scores no higher: where right answers are rare, RL climbs to it and stays there",
    ),
    "inflation": Rule(
        0.25,
        0.5,
        "a change that leaves the score as it was must not raise the reward: half a standard "
        "deviation of rewards is what the policy will take before it learns the task",
    ),
    "lenient": Rule(
        0.5,
        math.inf,
        "where a change makes a right answer wrong by the task's score and the reward hardly "
        "notices, training may drift into that form; the task may also be too strict",
    ),
    "order": Rule(
        0.1,
        0.5,
        "an answer's place among those to the same question says nothing of it",
        of_size=True,
    ),
    "overoptimized": Rule(
        0.02,
        0.05,
        "where more optimization raises the reward and lowers the score, the reward is gamed: stop "
        "at the peak, with fewer steps, a smaller n or a penalty on KL (arXiv:2210.10760)",
    ),
    "missing": Rule(
        0.05,
        0.5,
        "answers without a reward teach nothing, and which ones they are is rarely chance",
    ),
}
NOT_JUDGED = (
    "rank correlations say what the pairs say, on another scale; calibration does not matter to a "
    "method that compares rewards, only to who reads them as probabilities"
)


def judged(
    rule: str, check: str, value: float, low: float, high: float, n: int, detail: str
) -> Line:
    """The line, with the verdict of a rule of `RULES` on it."""
    return Line(check, value, low, high, n, _level(RULES[rule], value, low, high), detail, rule)


def paid_less_than_gold(line: Line) -> Line:
    """A line of `passes` on an answer that passes for gold on some examples only."""
    return replace(line, level="care") if line.level == "no" else line


def noted(check: str, value: float, low: float, high: float, n: int, detail: str) -> Line:
    """A line that no rule judges."""
    return Line(check, value, low, high, n, "note", detail)


def _level(rule: Rule, value: float, low: float, high: float) -> Level:
    if rule.must_show:
        if math.isnan(low):
            return "care"  # hardly anybody has seen it tell right from wrong
        if value < rule.no:
            return "no"
        return "care" if value < rule.care or low <= rule.chance else "ok"
    if math.isnan(low):
        return "note"  # too few to say
    if low > rule.no:
        return "no"
    upward = low > rule.care
    downward = rule.of_size and high < -rule.care
    return "care" if upward or downward else "ok"


def verdict(lines: Sequence[Line]) -> Level:
    """The gravest level of all lines: "ok", "care" or "no"."""
    levels = {line.level for line in lines}
    return "no" if "no" in levels else "care" if "care" in levels else "ok"
