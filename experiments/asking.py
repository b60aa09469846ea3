"""Any policy on a split, whether a prompt asks or a program."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from evaluation.evaluate import evaluate
from evaluation.types import Enough, EvalRecord, Policy, Progress, ScoreFunction
from lm.types import LanguageModel, Sampling
from tasks.types import Example

BATCH = 128  # examples


def ask_all(
    model: LanguageModel,
    policy: Policy,
    examples: Sequence[Example],
    score: ScoreFunction,
    sampling: Sampling,
    *,
    split: str,
    folder: Path,
    progress: Progress,
    batch: int = BATCH,
    enough: Enough | None = None,
) -> list[EvalRecord]:
    """One record for each example and sample; see `evaluate` and `evaluate_program`.

    A program keeps the answers to its steps in `folder`. dspy is loaded for a program only.
    """
    if policy.program is None:
        return evaluate(
            model,
            policy.prompt,
            examples,
            score,
            sampling,
            split=split,
            progress=progress,
            batch=batch,
            enough=enough,
        )
    from prompt_opt.program_eval import evaluate_program

    return evaluate_program(
        model,
        policy,
        examples,
        score,
        sampling,
        split=split,
        folder=folder,
        progress=progress,
        enough=enough,
    )
