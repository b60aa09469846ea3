"""The answer in words on constructed outcomes: what it must say, and what it must not."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from scipy.stats import norm

from reports import load_run, recommendation, report_markdown
from reports.evidence import (
    ArmFigures,
    Difference,
    Evidence,
    FormatShare,
    Overlap,
    Spent,
    evidence,
)
from reports.recommendation import RULES, choose, paragraph
from reports.wording import PLAIN

ZERO = ArmFigures("zero", (0.50,), failures={"tense": 90, "empty": 60})
PROMPT = ArmFigures(
    "prompt", (0.70,), ("bootstrap",), Spent(900, 3000, 25), failures={"tense": 60, "empty": 30}
)
GRPO = ArmFigures(
    "grpo", (0.80,), ("grpo",), Spent(3200, 29_000, 1000), trains=True, failures={"tense": 60}
)
BOTH = ArmFigures(
    "both",
    (0.90,),
    ("bootstrap", "grpo"),
    Spent(4100, 32_000, 1100),
    trains=True,
    failures={"tense": 20, "empty": 10},
)


def sure(delta: float, half: float = 0.04, p: float = 0.0004, **more) -> Difference:
    return Difference(delta, delta - half, delta + half, p, more.pop("by_seed", (delta,)), **more)


def unsure(delta: float, half: float, p: float = 0.4, **more) -> Difference:
    return sure(delta, half, p, **more)


def outcome(*arms: ArmFigures, n: int = 300, **changes) -> Evidence:
    """What the arms' own scores say: every difference beyond noise, unless `differences` differ."""
    said = changes.pop("differences", {})
    differences = {
        (a.name, b.name): sure(b.score - a.score) for i, a in enumerate(arms) for b in arms[i + 1 :]
    }
    fields = {"baseline": "zero", "meanings": {"tense": "Another tense."}, **changes}
    return Evidence(n, arms=arms, differences={**differences, **said}, **fields)


def at(arm: ArmFigures, *scores: float, **changes) -> ArmFigures:
    return replace(arm, scores=scores, **changes)


# name: (what was found, the arm to take, what must be said, what must not)
OUTCOMES: dict[str, tuple[Evidence, str, list[str], list[str]]] = {
    "clear win": (
        outcome(ZERO, PROMPT, GRPO),
        "grpo",
        [
            "Take grpo. It scores 80.0 % on 300 test examples, 30.0 points above zero "
            "(95 % interval +26.0 to +34.0, p < 0.001 after Holm).",
            "The next, prompt, is 10.0 points behind, beyond noise.",
            "one seed",
            "3,200 rollouts (29,000 tokens written) and 17 minutes; a point cost 33 seconds.",
            "What still fails most is tense, all 60 wrong answers: another tense.",
            "Next: chain prompt and grpo; each helps alone.",
        ],
        ["inside the noise", "cannot say", "Keep", "only"],
    ),
    "no difference, and that is known": (
        outcome(
            ZERO,
            at(PROMPT, 0.503),
            differences={("zero", "prompt"): unsure(0.003, 0.012)},
            n=5000,
        ),
        "zero",
        ["Keep zero (50.0 % on 5,000 test examples)", "more than 1.5 points above or below"],
        ["cannot say", "Take", "more test examples", "beyond noise"],
    ),
    "too little data": (
        outcome(
            ZERO,
            at(PROMPT, 0.54),
            differences={("zero", "prompt"): unsure(0.04, 0.14, needed=620)},
            n=50,
        ),
        "zero",
        [
            "The data cannot say whether any arm beats zero (50.0 % on only 50 test examples)",
            "prompt, the best, is 4.0 points above it (95 % interval -10.0 to +18.0, p = 0.400",
            "Next: more test examples: about 620 would show a gain of this size.",
        ],
        ["Keep", "Take", "no arm is more than", "no arm scores higher"],
    ),
    "above zero by itself, not among all that are compared": (
        outcome(
            ZERO,
            at(PROMPT, 0.6, 0.7),
            differences={
                ("zero", "prompt"): Difference(0.15, 0.02, 0.28, 0.09, (0.1, 0.2)),
            },
        ),
        "zero",
        [
            "No arm beats zero (50.0 % on 300 test examples) beyond noise. prompt, the best, is "
            "15.0 points above it, and its own interval is above zero, but that is not enough",
            "(95 % interval +2.0 to +28.0, p = 0.090 after Holm)",
            "Next: more seeds and more test examples.",
        ],
        ["Take", "Keep", "cannot say", "no difference"],
    ),
    "a level arm that is cheaper": (
        outcome(
            ZERO,
            PROMPT,
            at(GRPO, 0.712),
            differences={("prompt", "grpo"): unsure(0.012, 0.015, p=0.2)},
        ),
        "prompt",
        [
            "Take prompt.",
            "grpo's extra 1.2 points are inside the noise (95 % interval -0.3 to +2.7) and cost "
            "40 times as much.",
        ],
        ["Take grpo", "not ruled out", "beyond noise, but"],
    ),
    "a level arm that is a little cheaper": (
        outcome(
            ZERO,
            PROMPT,
            at(GRPO, 0.712, spent=Spent(3200, 29_000, 75)),
            differences={("prompt", "grpo"): unsure(0.012, 0.015, p=0.2)},
        ),
        "prompt",
        [
            "Take prompt.",
            "inside the noise (95 % interval -0.3 to +2.7) and cost 3.0 times as much",
        ],
        ["Take grpo"],
    ),
    "a level arm at the same price": (
        outcome(
            ZERO,
            PROMPT,
            at(GRPO, 0.712, spent=Spent(3200, 29_000, 30)),
            differences={("prompt", "grpo"): unsure(0.012, 0.015, p=0.2)},
        ),
        "grpo",
        ["Take grpo.", "Its lead over prompt, 1.2 points, is inside the noise"],
        ["Take prompt", "times as much"],
    ),
    "a dearer arm that is surely better, by a little": (
        outcome(ZERO, PROMPT, at(GRPO, 0.72, spent=Spent(3200, 29_000, 100)), n=5000),
        "grpo",
        ["Take grpo.", "The next, prompt, is 2.0 points behind, beyond noise."],
        ["Take prompt", "times as much"],
    ),
    "a level arm that is cheaper, on little data": (
        outcome(
            ZERO,
            PROMPT,
            at(GRPO, 0.712),
            differences={("prompt", "grpo"): unsure(0.012, 0.09)},
        ),
        "prompt",
        ["Take prompt.", "cost 40 times as much; that it is better by up to 10.2 points is not"],
        ["Take grpo", "equal", "no difference"],
    ),
    "a win too dear": (
        outcome(ZERO, PROMPT, at(GRPO, 0.715), n=5000),
        "prompt",
        [
            "Take prompt.",
            "grpo scores 1.5 points more, beyond noise, but costs 40 times as much",
            ": 11 minutes for each further point.",
        ],
        ["Take grpo", "inside the noise", "Next: chain"],
    ),
    "a large lead that is not sure": (
        outcome(ZERO, PROMPT, GRPO, differences={("prompt", "grpo"): unsure(0.1, 0.15)}, n=60),
        "grpo",
        [
            "Take grpo.",
            "Its lead over prompt, 10.0 points, is inside the noise (95 % interval -5.0 to +25.0).",
        ],
        ["Take prompt", "beyond noise"],
    ),
    "only format": (
        outcome(ZERO, GRPO, formats={"grpo": FormatShare(0.28, 0.02)}),
        "grpo",
        [
            "Of the 30.0 points it gained in right answers, 28.0 are format: above all it",
            "Next: ask for the form in the baseline's prompt",
        ],
        ["capability", "chain"],
    ),
    "some format": (
        outcome(ZERO, GRPO, formats={"grpo": FormatShare(0.12, 0.18)}),
        "grpo",
        ["it gained in right answers, 12.0 are format and 18.0 capability."],
        ["above all", "ask for the form"],
    ),
    "a tripped wire": (
        outcome(ZERO, PROMPT, at(GRPO, 0.8, tripped=("reward probe: pays for empty answers",))),
        "grpo",
        [
            "Do not rely on grpo yet: it scores 80.0 %",
            "A wire tripped while it trained (reward probe: pays for empty answers)",
            "The best without one is prompt, 70.0 %.",
            "Next: mend what tripped the wire",
        ],
        ["Take grpo", "chain"],
    ),
    "the baseline at the ceiling": (
        outcome(
            at(ZERO, 0.99),
            at(PROMPT, 0.993),
            differences={("zero", "prompt"): unsure(0.003, 0.02)},
        ),
        "zero",
        ["Keep zero (99.0 % on 300 test examples): with 1.0 points left to gain", "a harder test"],
        ["Take", "cannot say", "more test examples"],
    ),
    "everything worse": (
        outcome(ZERO, at(PROMPT, 0.3), at(GRPO, 0.2)),
        "zero",
        [
            "Keep zero (50.0 % on 300 test examples): no arm scores higher, and prompt and grpo "
            "are worse beyond noise."
        ],
        ["Take", "cannot say", "not ruled out", "It took"],
    ),
    "nothing higher, but that is not sure": (
        outcome(ZERO, at(PROMPT, 0.48), differences={("zero", "prompt"): unsure(-0.02, 0.09)}),
        "zero",
        ["no arm scores higher; that prompt is better by up to 7.0 points is not ruled out."],
        ["Take", "worse"],
    ),
    "seeds disagree": (
        outcome(
            ZERO,
            at(GRPO, 0.48, 0.62, 0.70),
            differences={
                ("zero", "grpo"): Difference(0.1, -0.12, 0.32, 0.3, (-0.02, 0.12, 0.2), 900)
            },
        ),
        "zero",
        ["The data cannot say", "Its seeds disagree (-2.0 to +20.0 points).", "train more seeds"],
        ["Take", "more test examples", "one seed", "seeds gain"],
    ),
    "seeds agree": (
        outcome(
            ZERO,
            at(GRPO, 0.78, 0.82),
            differences={("zero", "grpo"): sure(0.3, by_seed=(0.28, 0.32))},
        ),
        "grpo",
        ["All 2 seeds gain (+28.0 to +32.0 points)."],
        ["disagree", "one seed"],
    ),
    "one arm": (
        outcome(ZERO),
        "zero",
        ["Only zero has been evaluated yet: 50.0 %", "nothing to compare", "Next: add an arm."],
        ["Take", "Keep", "best", "beyond noise"],
    ),
    "the chain beats its parts": (
        outcome(ZERO, PROMPT, GRPO, BOTH, interactions={"both": (0.05, 0.01, 0.09)}),
        "both",
        [
            "Take both.",
            "it beats prompt by 20.0 points and grpo by 10.0 points, beyond noise, and brings "
            "5.0 points more than what each brings alone adds up to.",
        ],
        ["Next: chain", "inside the noise"],
    ),
    "the chain, where the interaction is not known": (
        outcome(ZERO, PROMPT, GRPO, BOTH, interactions={"both": (0.05, -0.01, 0.11)}),
        "both",
        ["it beats prompt by 20.0 points and grpo by 10.0 points, beyond noise."],
        ["adds up", "inside the noise"],
    ),
    "all at the floor": (
        outcome(
            at(ZERO, 0.0),
            at(GRPO, 0.003, failures={"empty": 200, "tense": 99}),
            differences={("zero", "grpo"): unsure(0.003, 0.01)},
        ),
        "zero",
        [
            "No arm does this task yet; the best, grpo, scores 0.3 %",
            "empty, 200 of 299",
            "make sure that the scorer takes right ones",
        ],
        ["Keep", "Take", "cannot say", "no arm is more than"],
    ),
    "overlap allowed": (
        outcome(ZERO, GRPO, overlap=Overlap(12, {"zero": 0.49, "grpo": 0.74})),
        "grpo",
        [
            "12 of the 300 test examples stand in train or dev too; without them grpo scores "
            "74.0 % and zero scores 49.0 %."
        ],
        [],
    ),
    "an unfinished run": (
        outcome(ZERO, GRPO, notes=("Not evaluated yet, so absent: both (seed 0).",)),
        "grpo",
        ["Take grpo.", "The run is not finished. Not evaluated yet, so absent: both (seed 0)."],
        [],
    ),
    "arms dropped by halving": (
        outcome(ZERO, GRPO, dropped=("prompt", "ppo")),
        "grpo",
        ["Take grpo.", "Dropped on dev and never tested: prompt and ppo."],
        ["not finished"],
    ),
    "a baseline that has its own price": (
        outcome(at(ZERO, 0.5, spent=Spent(900, 3000, 640)), GRPO),
        "grpo",
        ["It took 3,200 rollouts (29,000 tokens written) and 17 minutes; a point cost 12 seconds."],
        [],
    ),
    "a baseline not evaluated": (
        outcome(PROMPT, GRPO),
        "grpo",
        [
            "grpo scores 80.0 % on 300 test examples, the most, but what it gained is unknown: "
            "zero is not evaluated yet.",
            "Next: evaluate zero.",
        ],
        ["Take", "Keep", "above"],
    ),
    "a sure gain that is small": (
        outcome(at(ZERO, 0.7), at(GRPO, 0.712), n=9000),
        "grpo",
        ["grpo gains, but little: it scores 71.2 % on 9,000 test examples, 1.2 points above zero"],
        ["Take", "Keep"],
    ),
    "nothing left to mend": (
        outcome(ZERO, at(GRPO, 1.0, failures={})),
        "grpo",
        ["grpo leaves no answer wrong."],
        ["What still fails"],
    ),
}


@pytest.mark.parametrize("name", OUTCOMES)
def test_what_is_said_of(name):
    found, arm, said, never = OUTCOMES[name]
    text = paragraph(found)
    assert choose(found).arm.name == arm
    for part in said:
        assert part in text, text
    for part in never:
        assert part not in text, text


@pytest.mark.parametrize("name", OUTCOMES)
def test_every_paragraph_is_sentences_of_plain_english(name):
    text = paragraph(OUTCOMES[name][0])
    assert text[-1] == "." and "\n" not in text and "  " not in text and ".." not in text
    assert not re.search(r"nan|inf\b|None|\( | \)| ,|;\.|: \.", text)
    assert len(text) < 1000


def test_every_rule_has_its_outcome():
    """A rule that no outcome above makes speak would be a rule that nobody has read."""
    for rule in RULES:
        found = [(found, choose(found)) for found, *_ in OUTCOMES.values()]
        assert any(rule(one, choice, PLAIN) for one, choice in found), rule.__name__


@pytest.mark.parametrize("half", [0.005, 0.02, 0.05, 0.2])
@pytest.mark.parametrize("delta", [-0.3, -0.02, 0.0, 0.02, 0.3])
@pytest.mark.parametrize("p", [0.0004, 0.2])
def test_no_claim_goes_beyond_its_figures(delta, half, p):
    """Whatever the figures: a win is sure and positive, sameness needs a narrow interval."""
    found = outcome(
        ZERO,
        at(GRPO, 0.5 + delta),
        differences={("zero", "grpo"): Difference(delta, delta - half, delta + half, p, (delta,))},
    )
    text = paragraph(found)
    assert ("Take" in text or "gains, but little" in text) == (p < 0.05 and delta > 0)
    assert ("worse beyond noise" in text) == (p < 0.05 and delta < 0)
    if "above or below it" in text:
        assert abs(delta) + half < 0.02
    if "p = 0.200" in text:
        assert "beyond noise" not in text or "No arm beats" in text


# and from real run folders


def test_a_run_folder_says_its_answer_first(folder):
    run = load_run(folder)
    text = report_markdown(run)
    head = text.splitlines()[2]
    assert head.startswith("Take **shots+grpo**. It scores 90.0 % on only 20 test examples")
    assert "70.0 points above **zero**" in head
    assert "over **shots**, 30.0 points, is not sure where so many are compared" in head
    assert "*tense*, all 2 wrong answers: another tense." in head
    assert "The run is not finished. Not evaluated yet, so absent: grpo (seed 0)." in head
    assert recommendation(run) == head.replace("*", "")
    assert text.index("Take **shots+grpo**") < text.index("| task |")


def test_arms_that_halving_dropped_are_named(folder):
    row = {"rung": 1, "arm": "ppo", "seed": 0, "budget": {"rollouts": 64}, "rollouts": 64}
    row |= {"drawn": 64, "dev_score": 0.1, "kept": False}
    (folder / "allocation.json").write_text(json.dumps({"rows": [row, {**row, "arm": "shots"}]}))
    assert "Dropped on dev and never tested: ppo." in recommendation(load_run(folder))


def _edit(folder: Path, name: str, **changes) -> None:
    path = folder / name
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_a_run_with_overlap_is_scored_without_it(folder):
    _edit(folder, "run.json", overlapping=[f"e{i:02}" for i in range(10, 20)])
    found = evidence(load_run(folder))
    assert found.overlap is not None
    assert found.overlap.scores == pytest.approx({"zero": 0.0, "shots": 0.9, "shots+grpo": 1.0})
    assert (
        "10 of the 20 test examples stand in train or dev too; without them shots+grpo scores "
        "100.0 % and zero scores 0.0 %."
    ) in recommendation(load_run(folder))
    _edit(folder, "run.json", overlapping=[f"e{i:02}" for i in range(20)])
    assert "stand in train or dev too." in recommendation(load_run(folder))


def test_a_run_whose_best_arm_tripped_a_wire(folder):
    audit = {"name": "reward probe", "level": "tripped", "step": 7, "detail": "pays for <b>\x1b"}
    (folder / "stages/S2/audits.json").write_text(json.dumps([audit]))
    text = recommendation(load_run(folder))
    assert text.startswith("Do not rely on shots+grpo yet")
    assert "(reward probe: pays for <b>\\x1b)" in text
    assert "The best without one is shots, 60.0 %." in text
    written = report_markdown(load_run(folder))
    assert "<b>" not in written
    assert written.index("**Tripped wire**") < written.index("Do not rely on")


def test_a_gain_that_is_format_is_called_so(folder):
    """Six of the baseline's answers are empty, ten have the wrong tense; both are mended."""
    _edit(folder, "run.json", format_failures=["tense", "empty"])
    share = evidence(load_run(folder)).formats["shots+grpo"]
    assert (share.format, share.capability) == pytest.approx((0.7, 0.0))
    assert "learned to answer in the form asked for" in recommendation(load_run(folder))
    _edit(folder, "run.json", format_failures=[])
    share = evidence(load_run(folder)).formats["shots+grpo"]
    assert share.total == pytest.approx(0.7) and share.format < 0.7
    assert "above all" not in recommendation(load_run(folder))


def test_how_many_examples_would_tell_is_the_power_of_the_test(folder):
    """As the textbook's two normal quantiles say, the level shared among three comparisons."""
    found = evidence(load_run(folder)).versus("shots", "shots+grpo")
    assert found is not None and found.needed is not None
    error = (found.high - found.low) / (2 * 1.96)
    quantiles = norm.isf(0.05 / 3 / 2) + norm.isf(0.2)
    assert found.needed == pytest.approx(20 * (quantiles * error / found.delta) ** 2, rel=0.25)
    sure = evidence(load_run(folder)).versus("zero", "shots+grpo")
    assert sure is not None and sure.needed is None


def test_answers_that_take_several_draws_are_dearer_whatever_it_took_to_make_them():
    picked = replace(GRPO, name="picked", methods=("grpo", "best_of"), draws=8)
    clear = outcome(ZERO, GRPO, at(picked, 0.86))
    assert choose(clear).arm.name == "picked"
    assert "Each answer takes 8 draws." in paragraph(clear)
    level = {("grpo", "picked"): unsure(0.01, 0.03)}
    alike = outcome(ZERO, GRPO, at(picked, 0.81), differences=level)
    assert choose(alike).arm.name == "grpo"
    said = paragraph(alike)
    assert "cost 8.0 times as much" in said and "Each answer takes" not in said


def test_costs_and_figures_are_those_of_the_tables(folder):
    found = evidence(load_run(folder))
    both = found.arm("shots+grpo")
    assert both.spent == Spent(30 + 64, 2 * (30 + 64), 100.0)
    assert (both.methods, both.trains) == (("bootstrap", "grpo"), True)
    assert not found.arm("shots").trains
    gain = found.versus("zero", "shots+grpo")
    assert gain is not None and gain.delta == pytest.approx(0.7)
    back = found.versus("shots+grpo", "zero")
    assert back is not None and (back.low, back.high) == (-gain.high, -gain.low)


def test_the_baseline_of_a_run_is_kept_where_all_is_worse(folder):
    _edit(folder, "run.json", baseline="shots+grpo")
    text = recommendation(load_run(folder))
    assert text.startswith("Keep shots+grpo (90.0 % on only 20 test examples): no arm scores high")
    assert "zero is worse beyond noise" in text
