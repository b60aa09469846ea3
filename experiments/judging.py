"""`tasklift failures RUN --judge MODEL`: an arm's failures, labelled again by a model."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd

from evaluation.labels import Agreement, agreement, label_failures
from lm.choice import ModelChoice
from lm.types import LanguageModel
from reports import escape
from reports.load import ReportError, Run
from reports.render import Format, render
from reports.tables import best_arm


def open_judge(model: str, endpoint: str | None, key_env: str | None) -> LanguageModel:
    """The judge: a model that `lm.source` finds, or the one that `endpoint` knows by this name.

    Raises ModelError when there is none.
    """
    return ModelChoice(model=model, endpoint=endpoint, key_env=endpoint and key_env).open()


def judged(run: Run, judge: LanguageModel, arm: str | None, sample: int, format: Format) -> str:
    """What the judge calls a sample of an arm's failures (default: the best arm's), as text.

    Raises ReportError when there is no such arm, or nothing that could be labelled.
    """
    name = arm or best_arm(run)
    if name not in run.arm_names:
        raise ReportError(f"no arm {name!r} in {run.path}; it has {', '.join(run.arm_names)}")
    answers = pd.concat([run.answers[a.eval] for a in run.arms if a.arm == name])
    classes = run.info.get("failure_classes", {})
    asked = label_failures(
        judge, answers, classes, instruction=_instruction(run.path), sample=sample
    )
    if asked.empty:
        raise ReportError(f"{name} has no failing answer of a known class; name another --arm")
    counts = _counts(asked)
    if format == "csv":
        return render(counts, "csv")
    shown = escape.plain if format == "terminal" else escape.markdown
    head = f"{shown(judge.name)} on failures of {shown(name)}"
    return f"{head}: {in_words(agreement(asked))}\n\n{render(counts, format)}"


def in_words(found: Agreement) -> str:
    """The agreement as a sentence or two."""
    apart = found.asked - found.named
    said = f"of {found.asked} labelled, {apart} got no class; of {found.named} others "
    said += f"{found.same} have the class of the rules"
    if found.kappa != found.kappa:
        return f"{said}. Cohen's kappa is not defined: too few classes."
    return f"{said}, Cohen's kappa {found.kappa:.2f} [{found.low:.2f}, {found.high:.2f}]."


def _counts(labels: pd.DataFrame) -> pd.DataFrame:
    """How often the judge called a class of the rules what, most frequent first."""
    named = labels.assign(label=labels["label"].fillna("(none)"))
    counts = named.value_counts(["rule", "label"]).rename("count").reset_index()
    return counts.sort_values(["count", "rule", "label"], ascending=[False, True, True])


def _instruction(folder: Path) -> str:
    path = folder / "prompt.json"
    try:
        found = json.loads(path.read_text("utf-8")) if path.is_file() else {}
        return str(found.get("instruction", ""))
    except (OSError, ValueError, AttributeError):
        raise ReportError(f"{path} cannot be read; run the spec again") from None
