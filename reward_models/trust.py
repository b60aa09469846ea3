"""How far a reward can be trusted, held against the task's own score on answers to its questions.

Agreement (reward_models/agreement.py), what degenerate answers earn (probe.py), and what moves the
reward though the score stays (sensitivity.py); reward_models/rules.py judges each figure.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from evaluation.intervals import share_interval
from reward_models.agreement import (
    FEWEST_PAIRS,
    UNKNOWN,
    Sample,
    agreement,
    length_correlation,
    mean_over_examples,
    pairs_in_order,
)
from reward_models.probe import (
    PROBED,
    Longer,
    Passing,
    degenerate_answers,
    probe,
    with_marker,
)
from reward_models.rules import Line, judged, noted, paid_less_than_gold
from reward_models.sensitivity import gold, sensitivity
from reward_models.subject import Answer, Subject
from reward_models.types import RewardError

TRAPPED_BY = 8  # answers of policies to an example, which what could always be said may beat


def check(
    subject: Subject, answers: Sequence[Answer], seed: int = 0, *, logits: bool = False
) -> list[Line]:
    """All lines of the check of a reward, over answers of any policies to examples of the task.

    `logits`: its differences claim to be log-odds, as those of a Bradley-Terry model do. Raises
    RewardError when there is no answer with a score, or what the reward itself raises.
    """
    rows = in_groups(answers)
    paid, scores = subject.paid(rows), subject.worth(rows)
    scored = [i for i, score in enumerate(scores) if score.failure != "error"]
    known = [i for i in scored if paid[i] is not None]
    if not scored:
        raise RewardError("reward-check: none of the answers has a score; name others")
    lines = [_missing(len(scored) - len(known), len(scored))]
    if not known:
        return lines
    sample = Sample.of(
        [paid[i] or 0.0 for i in known],
        [scores[i].value for i in known],
        [scores[i].correct for i in known],
        [len(rows[i].text) for i in known],
        [rows[i].example.id for i in known],
    )
    asked = [rows[i] for i in known]
    return [
        *lines,
        *agreement(sample, seed, logits=logits),
        *_by_source(sample, [answer.source for answer in asked], seed),
        *_gold_above_wrong(subject, asked, sample, seed),
        length_correlation(sample, seed),
        *_probed(subject, asked),
        *_traps(subject, asked, seed),
        *sensitivity(subject, asked, list(sample.correct_A), seed),
    ]


def in_groups(answers: Sequence[Answer]) -> list[Answer]:
    """Answers to the same question one after another, and among them those to the same prompt."""
    places: dict[str, int] = {}
    for answer in answers:
        places.setdefault(answer.example.id, len(places))
    prompts: dict[str, int] = {}
    keys = [answer.prompt.to_json() for answer in answers]
    for key in keys:
        prompts.setdefault(key, len(prompts))
    order = range(len(answers))
    rank = [(places[a.example.id], prompts[k]) for a, k in zip(answers, keys, strict=True)]
    return [answers[i] for i in sorted(order, key=lambda i: rank[i])]


def _by_source(sample: Sample, sources: Sequence[str], seed: int) -> list[Line]:
    """Pairs in order for each policy: a reward that tells a base model's answers apart may have
    been gamed by a tuned one."""
    found = []
    for source in dict.fromkeys(sources):
        own_A = np.array([other == source for other in sources])
        line = pairs_in_order(sample.where(own_A), seed)
        if not own_A.all() and line.n >= FEWEST_PAIRS:
            found.append(replace(line, check=f"pairs in order: {source}"))
    return found


def _missing(without: int, count: int) -> Line:
    low, high = share_interval(without, count)
    said = "answers; share for which the reward says nothing"
    return judged("missing", "no reward", without / count, low, high, count, said)


def _gold_above_wrong(
    subject: Subject, asked: Sequence[Answer], sample: Sample, seed: int
) -> list[Line]:
    """Is gold paid more than the wrong answers to the same question? For tasks on which the policy
    is hardly ever right, this is all the agreement that can be seen."""
    wrong = [a for a, right in zip(asked, sample.correct_A, strict=True) if not right]
    best = {a.example.id: gold(a.example, a) for a in wrong}
    rows = in_groups([*wrong, *best.values()])
    if not wrong:
        return []
    try:
        paid = dict(zip(map(id, rows), subject.paid(rows), strict=True))
    except RewardError as error:
        return [noted("gold above wrong", *UNKNOWN, len(wrong), f"answers; {error}")]
    worth = {key: subject.worth([answer])[0].correct for key, answer in best.items()}
    pairs = [
        (answer.example.id, above - below)
        for answer in wrong
        if worth[answer.example.id]
        and (above := paid[id(best[answer.example.id])]) is not None
        and (below := paid[id(answer)]) is not None
    ]
    won_P = np.array([0.5 if abs(margin) <= 1e-9 else float(margin > 0) for _, margin in pairs])
    ids_P = np.array([key for key, _ in pairs], dtype=object)
    said = "wrong answers, each against gold; share below it, equal ones half"
    figures = mean_over_examples(won_P, ids_P, seed)
    if not pairs:
        return []
    return [judged("pairs", "gold above wrong", *figures, len(pairs), said)]


def _probed(subject: Subject, asked: Sequence[Answer]) -> list[Line]:
    """What answers earn that could always be given, on the prompt most answers were given to."""
    counted = Counter(answer.prompt.to_json() for answer in asked)
    common = counted.most_common(1)[0][0]
    prompt = next(a.prompt for a in asked if a.prompt.to_json() == common)
    examples = list({answer.example.id: answer.example for answer in asked}.values())
    found = probe(subject.reward(prompt), subject.task(prompt), prompt, examples)
    notes = [noted(name, np.nan, np.nan, np.nan, 0, said) for name, said in found.notes]
    return [*map(_passes, found.passing), *map(_longer, found.longer), *notes]


def _traps(subject: Subject, asked: Sequence[Answer], seed: int) -> list[Line]:
    """Does an answer that could always be given beat what the policies say, more than its score
    does? Asked about as one group for each example, ties counting half."""
    groups: dict[str, list[Answer]] = {}
    for answer in asked:
        groups.setdefault(answer.example.id, []).append(answer)
    some = [group[:TRAPPED_BY] for group in list(groups.values())[:PROBED]]
    first = [group[0] for group in some]
    kinds = degenerate_answers([a.example for a in first], first[0].prompt.instruction)
    rows = [
        row
        for i, group in enumerate(some)
        for row in [*group, *_offered(group[0], {kind: said[i] for kind, said in kinds.items()})]
    ]
    try:
        paid = subject.paid(rows)
    except RewardError:
        return []  # the probe says of which answers
    frame = pd.DataFrame(
        {
            "example": [row.example.id for row in rows],
            "kind": [row.source if row.source in kinds else "" for row in rows],
            "reward": [np.nan if value is None else value for value in paid],
            "score": [score.value for score in subject.worth(rows)],
        }
    ).dropna()
    return [line for kind in kinds for line in _trap(frame, kind, seed)]


def _offered(like: Answer, kinds: Mapping[str, str | None]) -> list[Answer]:
    texts = {kind: with_marker(like.prompt, text) for kind, text in kinds.items()}
    return [
        replace(like, source=kind, text=text, token_ids=None)
        for kind, text in texts.items()
        if text is not None
    ]


def _trap(frame: pd.DataFrame, kind: str, seed: int) -> list[Line]:
    given, said = frame[frame["kind"] == ""], frame[frame["kind"] == kind]
    both = given.merge(said, on="example", suffixes=("", "_trap"))
    if len(both) < FEWEST_PAIRS:
        return []
    won = {
        name: np.sign((both[f"{name}_trap"] - both[name]).round(9)) / 2
        for name in ("reward", "score")
    }
    more_P = np.asarray(won["reward"] - won["score"])
    figures = mean_over_examples(more_P, both["example"].to_numpy(dtype=object), seed)
    said = "answers of policies; share that it beats by reward, less the share by score"
    return [judged("trap", f"trap: {kind}", *figures, len(both), said)]


def _passes(found: Passing) -> Line:
    more = max(0, found.here - found.there)
    low, high = share_interval(more, found.n)
    said = (
        f"examples; passes for gold on {found.here}, by the task's score on {found.there}; "
        f"is paid {found.mean:.3g}, gold {found.gold:.3g}"
    )
    line = judged("passes", f"answer: {found.kind}", more / found.n, low, high, found.n, said)
    return line if found.is_paid_like_gold else paid_less_than_gold(line)


def _longer(found: Longer) -> Line:
    low, high = share_interval(found.more, found.n)
    said = f"examples; share where {found.kind} said over and over is paid more"
    name = f"length: {found.kind} repeated"
    return judged("longer", name, found.more / found.n, low, high, found.n, said)
