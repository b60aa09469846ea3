"""Any policy on a split, whether a prompt asks or a program."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from evaluation.evaluate import evaluate
from evaluation.types import BestOf, Enough, EvalRecord, Policy, Progress, ScoreFunction
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

    A program keeps the answers to its steps in `folder`. dspy is loaded for a program only. Where
    the policy picks one of n answers there is one record for each pick.
    """
    if policy.best_of is not None:
        return _choosing(
            model, policy, policy.best_of, examples, score, sampling, split, progress, enough
        )
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


def _choosing(
    model: LanguageModel,
    policy: Policy,
    best_of: BestOf,
    examples: Sequence[Example],
    score: ScoreFunction,
    sampling: Sampling,
    split: str,
    progress: Progress,
    enough: Enough | None,
) -> list[EvalRecord]:
    from reward_models.best_of import chooser

    policy.refuse_program("best_of")
    return evaluate(
        model,
        policy.prompt,
        examples,
        score,
        best_of.sampling(sampling),
        split=split,
        progress=progress,
        batch=max(1, BATCH // best_of.n),  # whatever was asked for: draws depend on it
        enough=enough,
        choose=chooser(best_of, policy.prompt, examples, model.ledger),
    )
