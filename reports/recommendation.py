"""The answer in words: which arm to take, how sure that is, what it costs, what still fails.

All rules are here, in the order in which their sentences are read. Each looks at an `Evidence` and
says its sentence or nothing. "Beyond noise" means p < 0.05 after Holm; where a difference is not,
its interval is shown and nothing is called equal unless the interval itself is narrow.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from reports.evidence import ArmFigures, Difference, Evidence
from reports.render import percent
from reports.wording import (
    PLAIN,
    Style,
    certainty,
    doubt,
    duration,
    examples,
    listed,
    signed,
    size,
    times,
)

SMALL = 0.03  # a gain below three points may not be worth another method
NARROW = 0.02  # an interval within two points of zero: there is no difference that matters
CHEAPER = 1.5  # an arm cheaper by this factor is taken where the dearer cannot be told from it
EXPENSIVE = 10.0  # by this factor it is taken even if the dearer's small lead is beyond noise
FLOOR, CEILING = 0.02, 0.97  # scores at which there is nothing to build on, and nothing to gain
MOSTLY = 2 / 3  # the share of a gain, or of the wrong answers, that is most of it
SOME = 1 / 4  # the share of a gain that is worth a word


@dataclass(frozen=True)
class Choice:
    """What the rules settled on.

    `arm` is the one to take: `top`, the highest score beyond noise above the baseline, or a cheaper
    arm nearly as good; the baseline where no arm is above it beyond noise. `best` has the highest
    score of all, noise or not. `gain` is `arm` (`best`, if the baseline stays) against the
    baseline; None where they never met.
    """

    arm: ArmFigures
    top: ArmFigures
    best: ArmFigures
    gain: Difference | None
    is_win: bool


def paragraph(found: Evidence, style: Style = PLAIN) -> str:
    """The sentences of all rules that have something to say."""
    choice = choose(found)
    return " ".join(filter(None, (rule(found, choice, style) for rule in RULES)))


def choose(found: Evidence) -> Choice:
    """Which arm to take, by the thresholds above."""
    best = max(found.arms, key=lambda arm: arm.score)
    winners = _winners(found)
    if not winners:
        stays = next((arm for arm in found.arms if arm.name == found.baseline), best)
        return Choice(stays, best, best, found.versus(found.baseline, best.name), False)
    top = max(winners, key=lambda arm: arm.score)
    arm = min(
        (a for a in winners if a is top or (not a.tripped and _is_preferred(found, a, top))),
        key=lambda arm: (arm.spent.seconds, arm.spent.rollouts, arm.draws, -arm.score),
    )
    return Choice(arm, top, best, found.versus(found.baseline, arm.name), True)


def _winners(found: Evidence) -> list[ArmFigures]:
    """The arms above the baseline beyond noise."""
    gains = ((arm, found.versus(found.baseline, arm.name)) for arm in found.others)
    return [arm for arm, gain in gains if gain is not None and gain.is_gain]


def _is_preferred(found: Evidence, cheap: ArmFigures, top: ArmFigures) -> bool:
    """Whether what `top` has above a cheaper arm is too little, or too unsure, for its price."""
    extra = found.versus(cheap.name, top.name)
    if extra is None or extra.delta >= SMALL:
        return False
    dearer = top.times(cheap)
    return dearer >= EXPENSIVE or (dearer >= CHEAPER and not extra.is_sure)


def verdict(found: Evidence, choice: Choice, s: Style) -> str:
    """Which arm, by how much, and how sure."""
    name, tested = s.name(choice.arm.name), examples(found.examples)
    score = f"{percent(choice.arm.score)} on {tested}"
    scored = f"scores {percent(choice.best.score)} on {tested}"
    best = s.name(choice.best.name)
    if len(found.arms) == 1:
        return f"Only {name} has been evaluated yet: {score}. There is nothing to compare it with."
    if choice.best.score <= FLOOR:
        return f"No arm does this task yet; the best, {best}, {scored}."
    if not found.has_baseline:
        base = s.name(found.baseline)
        unknown = f"what it gained is unknown: {base} is not evaluated yet"
        return f"{best} {scored}, the most, but {unknown}."
    if not choice.is_win or choice.gain is None:
        return _no_win(found, choice, s)
    if choice.arm.tripped:
        lead = f"Do not rely on {name} yet: it scores"
    elif choice.gain.delta < SMALL:
        lead = f"{name} gains, but little: it scores"
    else:
        lead = f"Take {name}. It scores"
    gain = f"{size(choice.gain.delta)} above {s.name(found.baseline)}"
    return f"{lead} {score}, {gain} ({certainty(choice.gain)})."


def _no_win(found: Evidence, choice: Choice, s: Style) -> str:
    """Why nothing beats the baseline: it is near the top, all is worse, level, or it is unknown."""
    base, best = choice.arm, choice.best
    keep = f"Keep {s.name(base.name)} ({percent(base.score)} on {examples(found.examples)})"
    gains = {arm.name: found.versus(base.name, arm.name) for arm in found.others}
    met = {name: gain for name, gain in gains.items() if gain is not None}
    worse = [name for name, gain in met.items() if gain.is_sure and gain.delta < 0]
    are = "is" if len(worse) == 1 else "are"
    also = f", and {s.names(worse)} {are} worse beyond noise" if worse else ""
    if base.score >= CEILING:
        left = size(1 - base.score)
        return f"{keep}: with {left} left to gain no arm can show that it is better{also}."
    if met and all(gain.low > -NARROW and gain.high < NARROW for gain in met.values()):
        most = size(max(max(-gain.low, gain.high) for gain in met.values()))
        return f"{keep}: no arm is more than {most} above or below it, by the 95 % intervals{also}."
    if best is base:
        return f"{keep}: no arm scores higher{also}{_not_ruled_out(met, s)}."
    if choice.gain is None:
        return f"{keep}: {s.name(best.name)} scores higher, but they share no seed{also}."
    beats = f"beats {s.name(base.name)} ({percent(base.score)} on {examples(found.examples)})"
    above = f"{s.name(best.name)}, the best, is {size(choice.gain.delta)} above it"
    if choice.gain.low > 0:
        return (
            f"No arm {beats} beyond noise{also}. {above}, and its own interval is above zero, but "
            f"that is not enough where so many are compared ({certainty(choice.gain)})."
        )
    return f"The data cannot say whether any arm {beats}: {above} ({certainty(choice.gain)}){also}."


def _not_ruled_out(met: dict[str, Difference], s: Style) -> str:
    """No arm scores higher, but some may be better for all that is known."""
    name = max(met, key=lambda name: met[name].high)
    if met[name].high < SMALL:
        return ""
    return f"; that {s.name(name)} is better by up to {size(met[name].high)} is not ruled out"


def tripwire(found: Evidence, choice: Choice, s: Style) -> str:
    """A tripped wire takes the claim back, and names the best arm without one."""
    if not choice.arm.tripped:
        return ""
    said = (
        f"A wire tripped while it trained ({s.text(choice.arm.tripped[0])}), so its score may not "
        "be what it seems."
    )
    clean = [arm for arm in _winners(found) if not arm.tripped]
    if not clean:
        return said
    other = max(clean, key=lambda arm: arm.score)
    return f"{said} The best without one is {s.name(other.name)}, {percent(other.score)}."


def rivals(found: Evidence, choice: Choice, s: Style) -> str:
    """What else could be taken: the dearer arm left aside, or one that cannot be told from it."""
    if not choice.is_win:
        return ""
    if choice.top is not choice.arm:
        return _left_aside(found, choice, s)
    leads = [(a, found.versus(a.name, choice.arm.name)) for a in found.others]
    met = [(arm, lead) for arm, lead in leads if lead is not None]
    level = [(arm, lead) for arm, lead in met if not lead.is_sure]
    if level:
        arm, lead = max(level, key=lambda pair: pair[0].score)
        behind = f"{'lead over' if lead.delta > 0 else 'distance to'} {s.name(arm.name)}"
        return f"Its {behind}, {size(lead.delta)}, is {doubt(lead)}."
    if not met or choice.arm.tripped:
        return ""
    arm, lead = min(met, key=lambda pair: pair[1].delta)
    return f"The next, {s.name(arm.name)}, is {size(lead.delta)} behind, beyond noise."


def _left_aside(found: Evidence, choice: Choice, s: Style) -> str:
    """Why the highest score is not the one to take."""
    extra = found.versus(choice.arm.name, choice.top.name)
    assert extra is not None  # they were compared to choose
    top, much = s.name(choice.top.name), times(choice.top.times(choice.arm))
    if extra.is_sure:
        dearer = choice.top.spent.seconds - choice.arm.spent.seconds
        each = f": {duration(dearer / (100 * extra.delta))} for each further point"
        each = each if choice.top.draws <= choice.arm.draws else ""  # paid with every answer
        return f"{top} scores {size(extra.delta)} more, beyond noise, but costs {much}{each}."
    if extra.delta <= 0:
        return f"{top} scores no more and costs {much}."
    said = f"{top}'s extra {size(extra.delta)} are {doubt(extra)} and cost {much}"
    if extra.high < SMALL:
        return f"{said}."
    return f"{said}; that it is better by up to {size(extra.high)} is not ruled out."


def seeds(found: Evidence, choice: Choice, s: Style) -> str:
    """Whether another seed would say the same."""
    by_seed = choice.gain.by_seed if choice.gain is not None else ()
    span = f"{signed(min(by_seed))} to {signed(max(by_seed))} points" if by_seed else ""
    if choice.gain is not None and choice.gain.seeds_disagree:
        return f"Its seeds disagree ({span})."
    if not choice.is_win:
        return ""
    if len(by_seed) < 2:
        return "This is one seed; how another would score is not known."
    return f"All {len(by_seed)} seeds gain ({span})." if min(by_seed) > 0 else ""


def cost(found: Evidence, choice: Choice, s: Style) -> str:
    """What it took, and what a point took beyond what the baseline took itself."""
    spent = choice.arm.spent
    if not choice.is_win or choice.gain is None or not (spent.seconds or spent.rollouts):
        return ""
    drawn = f"{spent.rollouts:,.0f} rollouts ({spent.tokens:,.0f} tokens written)"
    further = spent.seconds - found.arm(found.baseline).spent.seconds
    each = f"; a point cost {duration(further / (100 * choice.gain.delta))}" if further > 0 else ""
    took = [drawn] * bool(spent.rollouts) + [duration(spent.seconds)] * bool(spent.seconds)
    answers = f" Each answer takes {choice.arm.draws} draws." if choice.arm.draws > 1 else ""
    return f"It took {listed(took)}{each}.{answers}"


def chain(found: Evidence, choice: Choice, s: Style) -> str:
    """Whether a chain of methods is better than its methods alone."""
    whole = set(choice.arm.methods)
    parts = [arm for arm in found.others if arm.methods and set(arm.methods) < whole]
    leads = [(arm, found.versus(arm.name, choice.arm.name)) for arm in parts]
    sure = [f"{s.name(arm.name)} by {size(g.delta)}" for arm, g in leads if g and g.is_gain]
    if not choice.is_win or len(parts) < 2 or len(sure) < len(parts):
        return ""
    said = f"The chain is worth its parts: it beats {listed(sure)}, beyond noise"
    value, low, high = found.interactions.get(choice.arm.name, (0.0, 0.0, 0.0))
    if low <= 0 <= high:
        return f"{said}."
    more = "more" if value > 0 else "less"
    return f"{said}, and brings {size(value)} {more} than what each brings alone adds up to."


def form(found: Evidence, choice: Choice, s: Style) -> str:
    """How much of the gain is answering in the form asked for."""
    share = found.formats.get(choice.arm.name)
    if not choice.is_win or share is None or not 0 < SOME * share.total <= share.format:
        return ""
    gained = f"Of the {size(share.total)} it gained in right answers"
    said = f"{gained}, {100 * share.format:.1f} are format"
    if share.is_mostly(MOSTLY):
        return f"{said}: above all it learned to answer in the form asked for."
    return f"{said} and {100 * share.capability:.1f} capability."


def remains(found: Evidence, choice: Choice, s: Style) -> str:
    """The largest class of what the arm still gets wrong."""
    arm = choice.best if choice.best.score <= FLOOR else choice.arm
    if not arm.failures:
        return f"{s.name(arm.name)} leaves no answer wrong."
    failure, count = arm.worst
    meaning = s.text(found.meanings.get(failure, ""))
    part = "all" if count == arm.wrong else f"{count:,} of"
    said = f"What still fails most is {s.failure(failure)}, {part} {arm.wrong:,} wrong answers"
    return f"{said}: {meaning[0].lower()}{meaning[1:]}" if meaning else f"{said}."


def overlap(found: Evidence, choice: Choice, s: Style) -> str:
    """Test examples that the methods may have seen."""
    if found.overlap is None:
        return ""
    scores = found.overlap.scores
    names = dict.fromkeys([choice.arm.name, choice.best.name, found.baseline])
    without = [f"{s.name(n)} scores {percent(scores[n])}" for n in names if n in scores]
    said = f"{found.overlap.count:,} of the {found.examples:,} test examples stand in train or dev"
    return f"{said} too; without them {listed(without)}." if without else f"{said} too."


def unfinished(found: Evidence, choice: Choice, s: Style) -> str:
    """What is missing from the run, and what was never judged on test."""
    said = ["The run is not finished.", *map(s.text, found.notes)] if found.notes else []
    if found.dropped:
        said.append(f"Dropped on dev and never tested: {s.names(found.dropped)}.")
    if found.stopped:
        said.append(f"Stopped on test, clearly worse than another: {s.names(found.stopped)}.")
    return " ".join(said)


def advice(found: Evidence, choice: Choice, s: Style) -> str:
    """The one thing to do next."""
    if len(found.arms) == 1:
        return "Next: add an arm."
    if choice.best.score <= FLOOR:
        return (
            "Next: read some answers, make sure that the scorer takes right ones, then try worked "
            "examples in the prompt or a larger model; RL needs some right answers to start from."
        )
    if not found.has_baseline:
        return f"Next: evaluate {s.name(found.baseline)}."
    if choice.arm.tripped:
        return "Next: mend what tripped the wire and train again."
    if choice.gain is not None and choice.gain.seeds_disagree:
        return "Next: train more seeds."
    if not choice.is_win:
        return _after_no_win(choice, s)
    if (share := found.formats.get(choice.arm.name)) and share.is_mostly(MOSTLY):
        return "Next: ask for the form in the baseline's prompt, and see what is left of the gain."
    untried = _untried_chain(found, s) if choice.arm is choice.top else ""
    return untried or _largest_failure(choice.arm, s)


def _after_no_win(choice: Choice, s: Style) -> str:
    if choice.arm.score >= CEILING:
        return "Next: a harder test."
    gain = choice.gain
    if gain is None or (gain.low > -NARROW and gain.high < NARROW):
        return _largest_failure(choice.arm, s)
    if len(gain.by_seed) > 1:
        return "Next: more seeds and more test examples."
    enough = f": about {gain.needed:,} would show a gain of this size" if gain.needed else ""
    return f"Next: more test examples{enough}."


def _untried_chain(found: Evidence, s: Style) -> str:
    """A prompt and a training that each beat the baseline, and no arm that has both."""
    single = [arm for arm in _winners(found) if len(arm.methods) == 1]
    tried = [set(arm.methods) for arm in found.arms]
    for prompt in (arm for arm in single if not arm.trains):
        for trained in (arm for arm in single if arm.trains):
            if {*prompt.methods, *trained.methods} not in tried:
                both = s.names([prompt.name, trained.name])
                return f"Next: chain {both}; each helps alone."
    return ""


def _largest_failure(arm: ArmFigures, s: Style) -> str:
    failure, count = arm.worst
    if not arm.wrong or count < MOSTLY * arm.wrong:
        return ""
    return f"Next: work on {s.failure(failure)}, with demos or train examples of its kind."


Rule = Callable[[Evidence, Choice, Style], str]
RULES: tuple[Rule, ...] = (  # in reading order
    *(verdict, tripwire, form, rivals, chain, seeds, cost),
    *(remains, overlap, unfinished, advice),
)
