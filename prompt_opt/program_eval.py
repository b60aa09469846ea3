"""A program of several steps on a split: what `evaluation.evaluate` is to a prompt."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import dspy

from evaluation.evaluate import mean_score, record_of, refuse_twins
from evaluation.types import Enough, EvalRecord, Policy, Progress, ScoreFunction
from lm.ledger import Purpose, Stopwatch
from lm.types import LanguageModel, ModelError, Sampling
from prompt_opt.adapter import asked
from prompt_opt.engine import Engine
from prompt_opt.program import Program, judge_ran, kept_program
from prompt_opt.together import SEATS, together
from tasks.types import Example


def evaluate_program(
    model: LanguageModel,
    policy: Policy,
    examples: Sequence[Example],
    score: ScoreFunction,
    sampling: Sampling,
    *,
    split: str,
    folder: Path,
    purpose: Purpose = "eval",
    progress: Progress | None = None,
    enough: Enough | None = None,
) -> list[EvalRecord]:
    """One record for each example and sample, as `evaluation.evaluate.evaluate` makes them.

    `text` is the program's output, or the reply it could not read; tokens are those of all its LM
    calls, whose answers stay in `folder`/answers.jsonl: a killed evaluation pays none twice. With
    `enough` it ends after the first batch of which that says so. A step
    that does not fit the context window gets an empty answer, cut. Raises ModelError when that is
    all that a whole batch gets, and TaskError when the program cannot be loaded.
    """
    assert policy.program is not None
    refuse_twins(examples, split)
    source = kept_program(policy.program, policy.prompt)
    model.forget()
    records: list[EvalRecord] = []
    with Engine(model, sampling, folder, seed=sampling.seed, purpose=purpose) as engine:
        programs = [source.built(lm) for lm in _lms(engine.lm, sampling)]
        for start in range(0, len(examples), SEATS):
            some = examples[start : start + SEATS]
            answered = _records(engine, programs, some, policy, score, split)
            if all(r.finish == "length" and not r.prompt_tokens for r in answered):
                raise ModelError(
                    f"program {source.file.name}:{source.name}: none of its questions fits the "
                    "model's context window; use fewer demos, shorter inputs or fewer max_tokens"
                )
            records += answered
            if progress is not None:
                progress(start + len(some), len(examples), score=mean_score(records))
            if enough is not None and enough(records, len(examples)):
                break
    return records


def _lms(lm: Any, sampling: Sampling) -> list[Any]:
    """One LM for each sample: its rollout id makes other draws."""
    return [lm, *(lm.copy(rollout_id=sample) for sample in range(1, sampling.n))]


def _records(
    engine: Engine,
    programs: Sequence[Program],
    examples: Sequence[Example],
    policy: Policy,
    score: ScoreFunction,
    split: str,
) -> list[EvalRecord]:
    fields = [{name: e.inputs[name] for name in policy.prompt.inputs} for e in examples]
    with Stopwatch() as watch, dspy.context(trace=None, disable_history=True):
        runs = [partial(program, **given) for given in fields for program in programs]
        found = together(engine, runs)
    pairs = [(example, sample) for example in examples for sample in range(len(programs))]
    records = []
    for (example, sample), prediction in zip(pairs, found, strict=True):
        ran = asked(prediction)
        judged = judge_ran(score, example, ran)
        seconds = watch.seconds / len(found)
        records.append(record_of(split, example, sample, judged, ran.completion, seconds))
    return records
