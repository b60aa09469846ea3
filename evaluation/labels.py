"""A second opinion on failure classes: a language model labels a sample of wrong answers.

The rules of a task name a class for every wrong answer, and may be wrong about what they see. A
judge that reads the classes' meanings labels some of them again, without knowing what the rules
said; Cohen's kappa (1960) tells how far the two agree beyond what their class frequencies would
make them agree by chance. It says nothing of which of the two is right.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from lm.types import Chat, LanguageModel, Sampling
from tasks.text import fold, normalize

NOT_JUDGED = ("error", "unclassified")  # no property of the answer, or no class at all
REPLY_TOKENS = 32
SHOWN_CHARS = 1_500
RESAMPLES = 2_000
FEWEST = 10  # named answers below which kappa has no interval
SYSTEM = "You sort wrong answers into classes. Reply with the name of one class and nothing else."
LABELS = ("example_id", "rule", "label", "reply")


@dataclass(frozen=True)
class Agreement:
    """How a judge's labels agree with the rules' classes.

    Of `asked` answers the judge named a class for `named`; those only count in the rest. `same`
    have the class of the rules. `kappa` is in [-1, 1], `low` to `high` its 95 % percentile
    bootstrap interval over answers; all three are NaN where it is not defined: without a named
    class, or when both say one and the same class throughout.
    """

    asked: int
    named: int
    same: int
    kappa: float
    low: float
    high: float


def label_failures(
    model: LanguageModel,
    answers: pd.DataFrame,
    classes: Mapping[str, str],
    *,
    instruction: str = "",
    sample: int = 50,
    seed: int = 0,
) -> pd.DataFrame:
    """Ask `model` for the class of `sample` failing ones among `answers`; columns `LABELS`.

    `answers` has the columns of `EvalRecord`, `classes` a sentence for each class. One failing
    answer of an example is drawn at most, so that the rows are independent; fewer rows come back
    where fewer fail. `label` is missing where the reply names no class, or several.
    """
    told = {name: said for name, said in classes.items() if name not in NOT_JUDGED}
    failing = answers.loc[~answers["correct"].astype(bool) & answers["failure"].isin(list(told))]
    mixed = failing.sort_values(["example_id", "sample"]).sample(frac=1, random_state=seed)
    drawn = mixed.drop_duplicates("example_id").head(sample).to_dict("records")
    chats = [_chat({str(k): v for k, v in row.items()}, told, instruction) for row in drawn]
    replies = model.generate(chats, Sampling(max_tokens=REPLY_TOKENS), "judge")
    rows = [
        (row["example_id"], row["failure"], read_label(reply.text, told), reply.text)
        for row, [reply] in zip(drawn, replies, strict=True)
    ]
    return pd.DataFrame(rows, columns=pd.Index(LABELS), dtype=object)


def _chat(row: Mapping[str, str], classes: Mapping[str, str], instruction: str) -> Chat:
    inputs = "\n".join(f"{name}: {text}" for name, text in json.loads(row["inputs"]).items())
    parts = {
        "The question was": f"{instruction}\n{inputs}".strip(),
        "A right answer is": row["gold"],
        "The answer given was": row["text"] or row["answer"] or "(no text)",
        "What is wrong with it? The classes are": "\n".join(
            f"{name}: {said}" for name, said in classes.items()
        ),
    }
    asked = "\n\n".join(f"{title}:\n{text[:SHOWN_CHARS]}" for title, text in parts.items())
    return [
        {"role": "system", "content": SYSTEM},
        {"role": "user", "content": f"{asked}\n\nReply with the name of one class."},
    ]


def read_label(reply: str, classes: Mapping[str, str]) -> str | None:
    """The one class that a reply names, None where there is none or more than one.

    Case, quotes, and whether words are joined by "_" or a space do not matter. Of names within
    each other ("wrong", "wrong_form") the longer counts where it stands.
    """
    names = {normalize(name.replace("_", " ")): name for name in classes}
    text = fold(reply).replace("_", " ")
    if (whole := normalize(text)) in names:
        return names[whole]
    either = "|".join(map(re.escape, sorted(names, key=len, reverse=True)))
    found = set(re.findall(rf"(?<!\w)(?:{either})(?!\w)", text)) if names else set()
    return names[found.pop()] if len(found) == 1 else None


def agreement(labels: pd.DataFrame, *, seed: int = 0) -> Agreement:
    """How far the `label` of each row agrees with its `rule` (the frame of `label_failures`)."""
    named = labels.loc[labels["label"].notna()]
    rule, label = (named[name].astype(str).to_numpy() for name in ("rule", "label"))
    classes, code = np.unique(np.concatenate([rule, label]), return_inverse=True)
    pair = code[: len(rule)] * len(classes) + code[len(rule) :]
    both_P = np.bincount(pair, minlength=len(classes) ** 2)
    kappa = float(_kappas(both_P[None], len(classes))[0]) if len(classes) > 1 else np.nan
    low = high = np.nan
    if not np.isnan(kappa) and len(rule) >= FEWEST and not (rule == label).all():
        # drawing rows with replacement draws pairs of classes with their frequencies
        drawn_RP = np.random.default_rng(seed).multinomial(
            len(rule), both_P / len(rule), size=RESAMPLES
        )
        low, high = np.nanpercentile(_kappas(drawn_RP, len(classes)), [2.5, 97.5])
    return Agreement(
        len(labels), len(rule), int((rule == label).sum()), kappa, float(low), float(high)
    )


def _kappas(both_RP: np.ndarray, size: int) -> np.ndarray:
    """Cohen's kappa of each row of counts of (rule, label) pairs; NaN where chance explains all.

    scikit-learn's `cohen_kappa_score` says the same, one table at a time.
    """
    both_RCC = both_RP.reshape(-1, size, size) / both_RP.sum(axis=1)[:, None, None]
    same_R = np.trace(both_RCC, axis1=1, axis2=2)
    chance_R = (both_RCC.sum(axis=1) * both_RCC.sum(axis=2)).sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(chance_R < 1, (same_R - chance_R) / (1 - chance_R), np.nan)
