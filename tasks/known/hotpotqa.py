"""Questions that take two facts (Yang et al., 2018, "HotpotQA"), closed book: no passage is given.

`hotpotqa/hotpot_qa`, config `distractor`; its test answers are not published, so test is its
validation split, as everywhere. `value` is the F1 of the official script, `correct` its exact
match, both after SQuAD's normalization (Rajpurkar et al., 2016); a yes, no or "noanswer" that is
not the gold answer gets 0 whatever words it shares.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Mapping
from typing import Any

from tasks.known.hub_task import HubTask, Source
from tasks.text import MAX_CHARS, contains, shorten
from tasks.types import Example, Score, SplitName

ARTICLES = re.compile(r"\b(a|an|the)\b")
REMOVED = str.maketrans("", "", string.punctuation)
WHOLE = ("yes", "no", "noanswer")  # these are right or wrong, never partly
REFUSED = re.compile(
    r"\b(?:not know|don't know|do not have|don't have|cannot|can't|unable|not sure|no information"
    r"|unknown)\b"
)

FAILURES = {
    "empty": "There is no word in the answer.",
    "opposite": "Yes for no, or no for yes.",
    "no_decision": "The question is to be answered by yes or no, and the answer is neither.",
    "extra_text": "The right answer with other words around it.",
    "partial": "Some words are right.",
    "refused": "The answer says that it is not known.",
    "wrong": "No word is right.",
}
COLUMNS = ("id", "question", "answer", "type", "level")
SOURCES: Mapping[SplitName, Source] = {
    "train": Source("hotpotqa/hotpot_qa", "distractor", "train", COLUMNS),
    "test": Source("hotpotqa/hotpot_qa", "distractor", "validation", COLUMNS),
}


class HotpotQA(HubTask):
    """90,447 questions for train, 500 of them cut off as dev, and 7,405 for test."""

    name = "hotpotqa"
    instruction = "Answer the question with a name, a date, a number, yes or no, and nothing else."
    inputs = ("question",)
    output = "answer"
    failure_classes = FAILURES
    format_failures = ("empty", "no_decision", "extra_text")
    sources = SOURCES

    def build(self, row: Mapping[str, Any], id: str) -> Example:
        kind = "yes/no" if row["answer"] in ("yes", "no") else "span"
        meta = {"type": row["type"], "level": row["level"], "kind": kind}
        meta["words"] = len(row["question"].split())
        return Example(row["id"], {"question": row["question"]}, row["answer"], meta)

    def score(self, example: Example, text: str) -> Score:
        gold, text = squad_normal(example.answer), text[:MAX_CHARS]
        answer, shown = squad_normal(text), shorten(text)
        if answer == gold:
            return Score(1.0, True, answer=shown)
        value = hotpot_f1(gold, answer)
        failure = _classify(gold, answer, value, text)
        why = f'The answer is "{example.answer}". {FAILURES[failure]} Word overlap {value:.2f}.'
        return Score(value, False, failure, why, shown)


def squad_normal(text: str) -> str:
    """Lower case, without punctuation, articles and double spaces: SQuAD's `normalize_answer`."""
    return " ".join(ARTICLES.sub(" ", text.lower().translate(REMOVED)).split())


def hotpot_f1(gold: str, answer: str) -> float:
    """Word overlap in [0, 1] of two normalized answers; HotpotQA's `f1_score`."""
    if gold != answer and (gold in WHOLE or answer in WHOLE):
        return 0.0
    gold_words, words = gold.split(), answer.split()
    shared = sum((Counter(gold_words) & Counter(words)).values())
    return 2 * shared / (len(gold_words) + len(words)) if shared else 0.0


def _classify(gold: str, answer: str, value: float, text: str) -> str:
    if not answer:
        return "empty"
    if gold in ("yes", "no"):
        first = answer.split()[0]
        other = "no" if gold == "yes" else "yes"
        return {gold: "extra_text", other: "opposite"}.get(first, "no_decision")
    if contains(answer, gold):
        return "extra_text"
    if REFUSED.search(text.lower().replace("\u2019", "'")):
        return "refused"
    return "partial" if value else "wrong"
