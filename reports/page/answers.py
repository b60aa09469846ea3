"""Every answer to every test example, as columns for the page to search.

Texts are kept once, in one list that columns point into, since the same answer comes often; all
of it is gzipped and in base64, so that no text of a model can end the element it lies in.
"""

from __future__ import annotations

import base64
import gzip
import json
from typing import Any

import numpy as np
import pandas as pd

from reports.answers import _features, _parsed
from reports.load import Run
from reports.page.prompts import prompts, shown_to_the_page
from tasks.neighbours import most_alike

MOST_ANSWERS = 120_000  # in a page: 10,000 examples by 6 arms are half of that
MOST_BYTES = 18_000_000  # of base64; a page stays below 25 MB
TEXTS = ("answer", "text", "feedback", "finish")
Columns = dict[str, Any]


def packed(data: Any) -> str:
    """JSON, gzipped, as base64. ASCII alone, and lone surrogates as their escapes."""
    text = json.dumps(data, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return base64.b64encode(gzip.compress(text.encode("ascii"), 6, mtime=0)).decode("ascii")


def packed_answers(run: Run) -> str:
    """The answers as `packed`; of a run that is too large, to as many examples as fit."""
    ids = _ids(run)
    per_example = sum(len(run.answers[key]) for key in _evals(run)) / len(ids)
    room = len(ids) if per_example == 0 else int(MOST_ANSWERS / per_example)
    while True:
        text = packed(columns(run, max(1, room)))
        if len(text) <= MOST_BYTES or room <= 1:
            return text
        room = int(min(room, len(ids)) * 0.8 * MOST_BYTES / len(text))


def columns(run: Run, most: int) -> Columns:
    """At most so many examples, in the order of the run, and what every arm answered to them."""
    ids = _ids(run)
    kept = ids if len(ids) <= most else _drawn(ids, most)
    place = pd.Index(kept)
    evals = _evals(run)
    frames = {key: _within(run.answers[key], place) for key in evals}
    texts = _Texts()
    told, of_arm = shown_to_the_page(run)
    examples, inputs = _examples(pd.concat(frames.values(), ignore_index=True), place, texts)
    classes = list(dict.fromkeys(c for key in evals for c in run.outcomes[key].cat.categories))
    return {
        "of": len(ids),
        "ids": kept.tolist(),
        **examples,
        "classes": classes,
        "meanings": {name: run.meaning(name) for name in classes},
        "evals": [_answers(run, key, frames[key], place, classes, texts) for key in evals],
        "arms": [
            {"arm": a.arm, "seed": a.seed, "eval": evals.index(a.eval), "prompt": of_arm.get(a)}
            for a in run.arms
        ],
        "prompts": told,
        "nearest": _nearest(run, inputs, of_arm),
        "baseline": run.baseline,
        "strings": texts.all(),
    }


class _Texts:
    """The texts of all columns, each once."""

    def __init__(self) -> None:
        self._place: dict[str, int] = {}

    def codes(self, column: Any) -> list[int]:
        """Where each text of a column stands; -1 where it is missing."""
        code_A, found = pd.factorize(column)
        place = [self._place.setdefault(str(text), len(self._place)) for text in found]
        return np.append(np.array(place, dtype=int), -1)[code_A].tolist()

    def all(self) -> list[str]:
        return list(self._place)


def _evals(run: Run) -> list[str]:
    return list(dict.fromkeys(arm.eval for arm in run.arms))


def _ids(run: Run) -> pd.Index:
    found = [
        pd.Index(run.answers[key]["example_id"].unique().astype(object)) for key in _evals(run)
    ]
    ids = found[0]
    for other in found[1:]:
        ids = ids.append(other.difference(ids, sort=False)) if not ids.equals(other) else ids
    return ids


def _drawn(ids: pd.Index, most: int) -> pd.Index:
    """Always the same ones, in their order."""
    return ids[np.sort(np.random.default_rng(0).permutation(len(ids))[:most])]


def _within(answers: pd.DataFrame, place: pd.Index) -> pd.DataFrame:
    at = place.get_indexer(pd.Index(answers["example_id"].to_numpy(dtype=object)))
    return answers.assign(place=at).loc[at >= 0]


def _examples(
    answers: pd.DataFrame, place: pd.Index, texts: _Texts
) -> tuple[Columns, list[dict[str, str]]]:
    """What is asked, columns by example, and the inputs as they are."""
    first = answers.drop_duplicates("place").sort_values("place")
    inputs = [{str(k): str(v) for k, v in row.items()} for row in _parsed(first["inputs"].tolist())]
    fields = list(dict.fromkeys(name for row in inputs for name in row))
    by_field = {name: pd.Series([row.get(name) for row in inputs], dtype=object) for name in fields}
    metas = first["meta"].tolist()
    features = _features(metas)
    found = {
        "fields": fields,
        "inputs": [texts.codes(by_field[name]) for name in fields],
        "gold": texts.codes(first["gold"]),
        "meta": texts.codes(first["meta"]),
        "slices": {
            name: {"values": values, "codes": value_M.tolist()}
            for name, (values, value_M) in features.items()
        },
    }
    return found, inputs


def _answers(
    run: Run, key: str, frame: pd.DataFrame, place: pd.Index, classes: list[str], texts: _Texts
) -> Columns:
    """The answers of one evaluation, rows of one example behind each other."""
    frame = frame.sort_values(["place", "sample"], kind="stable")
    outcome = run.outcomes[key].loc[frame.index]
    renumbered = pd.Index(classes).get_indexer(outcome.cat.categories)
    found: Columns = {
        "outcome": renumbered[outcome.cat.codes].tolist(),
        **{name: texts.codes(frame[name]) for name in TEXTS},
        "tokens": frame["completion_tokens"].tolist(),
        "prompt_tokens": frame["prompt_tokens"].tolist(),
    }
    if "transcript" in frame and frame["transcript"].notna().to_numpy().any():
        found["transcript"] = texts.codes(frame["transcript"])
    score = frame["score"].to_numpy(dtype=float)
    if not bool(((score == 0) | (score == 1)).all()) or (score != frame["correct"]).any():
        found["score"] = [round(value, 6) for value in score.tolist()]
    if len(frame) != len(place) or not (frame["place"].to_numpy() == np.arange(len(place))).all():
        found["example"], found["sample"] = frame["place"].tolist(), frame["sample"].tolist()
    return found


def _nearest(
    run: Run, inputs: list[dict[str, str]], of_arm: dict[Any, int]
) -> dict[int, list[list[int]]]:
    """By prompt that picks its demos by the question: which ones each example is shown."""
    found = {}
    for arm, prompt in prompts(run).items():
        if prompt.nearest is None or of_arm[arm] in found:
            continue
        asked = tuple(prompt._question(demo.inputs) for demo in prompt.demos)
        if all(set(prompt.inputs) <= set(row) for row in inputs):
            found[of_arm[arm]] = [
                most_alike(asked, prompt._question(row), prompt.nearest) for row in inputs
            ]
    return found


__all__ = ["MOST_ANSWERS", "columns", "packed", "packed_answers"]
