"""Nearest neighbours as demos: every question is shown the train examples that are most like it.

DSPy's KNNFewShot is a program that picks demos whenever it is called. Here the picking is part of
the prompt (`Prompt.nearest`), so that the evaluator and RL ask the very same way; likeness is that
of tasks/neighbours.py, where DSPy would want a sentence encoder.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from evaluation.types import Policy, ScoreFunction
from prompt_opt.acting import turns_before
from prompt_opt.adapter import demo_of
from prompt_opt.answers import Answer
from prompt_opt.bench import Bench
from prompt_opt.config_search import KNNConfig
from prompt_opt.program import Source, find_program
from prompt_opt.prompt_method import PromptMethod
from tasks.types import Demo, Example, Prompt, TaskError


class KNN(PromptMethod):
    """Candidates differ in how many neighbours they show."""

    name = "knn"
    finalists = 0
    config: KNNConfig

    def check(
        self,
        policy: Policy,
        train: Sequence[Example],
        dev: Sequence[Example],
        score: ScoreFunction,
    ) -> None:
        """Also raises TaskError for a program of several steps, and when there are fewer examples
        than any of `neighbours`."""
        super().check(policy, train, dev, score)
        policy.refuse_program(self.name)
        if self.config.program is not None:
            found = find_program(self.config.program, policy.prompt)
            if isinstance(found, Source):
                replace(policy, program=found.file).refuse_program(self.name)
        most, least = min(len(train), self.config.train_examples), min(self.config.neighbours)
        if least > most:
            raise TaskError(f"knn: {most} train examples have no {least} neighbours; write fewer")

    def search(self, bench: Bench) -> None:
        demos = tuple(self._demos(bench))
        for count in self.config.neighbours:
            if count <= len(demos):
                bench.measure(replace(bench.start, demos=demos, nearest=count))

    def _demos(self, bench: Bench) -> list[Demo]:
        examples = [bench.example(case) for case in bench.pool]
        if bench.start.style == "direct":
            return [demo_of(bench.start, case) for case in bench.pool]
        found = []
        answers = bench.engine.ask([bench.start.messages(e.inputs) for e in examples])
        for example, answer in zip(examples, answers, strict=True):
            if bench.judge_answer(example, bench.start, answer).correct:
                found.append(_with_reasoning(bench.start, dict(example.inputs), answer))
        return found


def _with_reasoning(prompt: Prompt, inputs: dict[str, str], answer: Answer) -> Demo:
    reasoning, _, output = answer.text.rpartition(prompt.marker)
    return Demo(inputs, output.strip(), reasoning.strip(), turns_before(answer.transcript))
