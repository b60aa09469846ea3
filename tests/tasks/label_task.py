"""What holds of every task that chooses a label, and of texts that were written for one."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from itertools import combinations

from hypothesis import strategies as st

from tasks import Example
from tasks.labels import LabelTask

ANY_TEXT = st.text(st.characters(exclude_categories=()))  # half surrogate pairs included


def words(text: str) -> frozenset[str]:
    return frozenset(re.findall(r"[a-z0-9']+", text.lower()))


def grams(text: str) -> frozenset[str]:
    """Runs of five characters, punctuation and case aside."""
    plain = " ".join(re.findall(r"[a-z0-9]+", text.lower()))
    return frozenset(plain[i : i + 5] for i in range(len(plain) - 4))


def first_of_each(task: LabelTask, split: str = "train") -> dict[str, Example]:
    """An example of each label."""
    found: dict[str, Example] = {}
    for example in task.split(split):  # type: ignore[arg-type]
        found.setdefault(example.answer, example)
    return found


def assert_no_near_duplicates(
    texts: Mapping[str, str], parts: Callable[[str], frozenset[str]], limit: float
) -> None:
    place = defaultdict(lambda: len(place))
    masks = {key: sum(1 << place[p] for p in parts(text)) for key, text in texts.items()}
    for (x, a), (y, b) in combinations(masks.items(), 2):
        shared, either = (a & b).bit_count(), (a | b).bit_count()  # ten times as fast as sets
        assert shared < limit * either, (x, y, shared / either)


def keyword_accuracy(train: Sequence[Example], test: Sequence[Example], field: str) -> float:
    """The share of test that one word for each label gets right, the best by its F1 on train."""
    inside, everywhere = defaultdict(Counter), Counter()
    labels = Counter(e.answer for e in train)
    for example in train:
        inside[example.answer].update(words(example.inputs[field]))
        everywhere.update(words(example.inputs[field]))

    def f1(label, word):
        return 2 * inside[label][word] / (everywhere[word] + labels[label])

    best = [(label, max(sorted(everywhere), key=lambda w: f1(label, w))) for label in labels]
    best.sort(key=lambda pair: -f1(*pair))

    def guess(example):
        hits = [label for label, word in best if word in words(example.inputs[field])]
        return (hits or [*labels])[0]

    return sum(guess(e) == e.answer for e in test) / len(test)


def assert_mistake(task: LabelTask, example: Example, text: str, failure: str) -> None:
    """`text` gets the class, and is told the right label and what it stands for."""
    score = task.score(example, text)
    assert (score.failure, score.correct, score.value) == (failure, False, 0.0)
    right = example.answer
    assert f'"{right}"' in score.feedback and task.labels[right] in score.feedback
    assert failure in task.failure_classes


def assert_right_in_any_dress(task: LabelTask, examples: Collection[Example]) -> None:
    for example in examples:
        label = example.answer
        for text in (label, f" {label.title()}. ", f'"{label.upper()}"\n'):
            assert task.score(example, text).correct


def assert_survives(task: LabelTask, example: Example, text: str) -> None:
    score = task.score(example, text)
    assert score.correct == (score.failure is None)
    assert score.correct or score.failure in task.failure_classes
    score.answer.encode()
