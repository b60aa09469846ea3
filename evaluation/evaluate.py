"""Every arm is measured here, the same way: ask the examples, judge each answer, keep a record."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import replace

from evaluation.environment import toolboxes
from evaluation.judge import judge_all
from evaluation.types import Enough, EvalRecord, Progress, ScoreFunction
from lm.ledger import Purpose, Stopwatch
from lm.turns import Tools, converse
from lm.types import Chat, Completion, LanguageModel, ModelError, PromptTooLong, Sampling
from tasks.types import Example, Prompt, Score

# Of the answers drawn for each example, those that count: example by example, given the chats.
Choose = Callable[
    [Sequence[Example], Sequence[Chat], Sequence[Sequence[Completion]]], list[list[Completion]]
]


def evaluate(
    model: LanguageModel,
    prompt: Prompt,
    examples: Sequence[Example],
    score: ScoreFunction,
    sampling: Sampling,
    *,
    split: str,
    purpose: Purpose = "eval",
    progress: Progress | None = None,
    batch: int = 128,
    enough: Enough | None = None,
    choose: Choose | None = None,
) -> list[EvalRecord]:
    """One record for each example and sample, in the order of `examples`, then of samples.

    `choose` picks among the answers drawn, without knowing what they are worth; its time counts.
    Asks `batch` examples at a time and reports after each. The same arguments give the same
    records, `seconds` apart; at temperature above 0 another `batch` draws other answers.

    With `enough` it ends after the first batch of which that says so.

    A question that does not fit the context window behind the prompt has an empty answer of no
    tokens, cut (`finish` length); demos may be longer on one example than on all of dev. Raises
    ModelError when a whole batch does not fit, ValueError when two examples share an id (arms are
    paired by it), and `lm.ledger.BudgetExhausted` from the model.
    """
    refuse_twins(examples, split)
    model.forget()  # a run that was killed and goes on must round as one that was not
    records: list[EvalRecord] = []
    for start in range(0, len(examples), batch):
        asked = examples[start : start + batch]
        chats = [prompt.messages(example.inputs) for example in asked]
        with Stopwatch() as watch:
            tools = toolboxes(score, prompt, asked)
            rows = _answers(model, chats, tools, _of_batch(sampling, start), purpose)
            if choose is not None:
                rows = choose(asked, chats, rows)
        seconds = watch.seconds / max(1, sum(map(len, rows)))
        answers = [
            (example, sample, completion)
            for example, row in zip(asked, rows, strict=True)
            for sample, completion in enumerate(row)
        ]
        scores = judge_all(score, prompt, [(example, answer) for example, _, answer in answers])
        for (example, sample, completion), judged in zip(answers, scores, strict=True):
            records.append(record_of(split, example, sample, judged, completion, seconds))
        if progress is not None:
            progress(start + len(asked), len(examples), score=mean_score(records))
        if enough is not None and enough(records, len(examples)):
            break
    return records


def _answers(
    model: LanguageModel,
    chats: Sequence[Chat],
    tools: Sequence[Tools | None],
    sampling: Sampling,
    purpose: Purpose,
) -> list[list[Completion]]:
    """As `converse`; where a prompt is too long, one after another."""
    try:
        return converse(model, chats, tools, sampling, purpose)
    except PromptTooLong as error:
        found: list[list[Completion]] = []
        for place, chat in enumerate(chats):
            later = replace(sampling, first_row=sampling.first_row + place * sampling.n)
            try:
                found += converse(model, [chat], [tools[place]], later, purpose)
            except PromptTooLong:
                found.append([Completion("", (), (), "length", 0)] * sampling.n)
        if not any(row[0].prompt_tokens for row in found):
            raise ModelError(str(error)) from None
        return found


def mean_score(records: Sequence[EvalRecord]) -> float:
    """The mean of `score` in [0, 1]; 0 without records."""
    return sum(record.score for record in records) / len(records) if records else 0.0


def _of_batch(sampling: Sampling, start: int) -> Sampling:
    # Draws depend on the seed and the row within the call: one seed would give row 3 of every
    # batch the same luck.
    digest = hashlib.sha256(f"{sampling.seed}/{start}".encode()).digest()
    return replace(sampling, seed=int.from_bytes(digest[:4], "big"))


def refuse_twins(examples: Sequence[Example], split: str) -> None:
    """Raises ValueError when two examples share an id."""
    if len({example.id for example in examples}) < len(examples):
        raise ValueError(f"two examples of the {split} split share an id; ids must be unique")


def record_of(
    split: str,
    example: Example,
    sample: int,
    judged: Score,
    completion: Completion,
    seconds: float,
) -> EvalRecord:
    """The record of an answer that was judged."""
    return EvalRecord(
        split=split,
        example_id=example.id,
        sample=sample,
        score=judged.value,
        correct=judged.correct,
        failure=judged.failure,
        answer=judged.answer,
        gold=example.answer,
        text=completion.text,
        feedback=judged.feedback,
        finish=completion.finish_reason,
        prompt_tokens=completion.prompt_tokens,
        completion_tokens=completion.completion_tokens,
        seconds=seconds,
        inputs=json.dumps(dict(example.inputs), ensure_ascii=False),
        meta=json.dumps(dict(example.meta), ensure_ascii=False, default=str),
        transcript=transcript_text(completion),
    )


def transcript_text(completion: Completion) -> str | None:
    """The turns of an answer as JSON text, None where it is a single reply."""
    told = completion.transcript
    return json.dumps(list(told), ensure_ascii=False, default=str) if told else None
