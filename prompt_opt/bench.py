"""What every prompt optimizer works with: examples, metric, teacher and the books, in one place.

An optimizer gets DSPy's own objects from here and gives nothing back: which prompts it has tried,
and how good they were, the metric notes by itself (prompt_opt/board.py).
"""

from __future__ import annotations

import json
import random
import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import dspy
from dspy.teleprompt import LabeledFewShot

from evaluation.judge import judge
from evaluation.types import PASS_RATES_FILE, Context
from lm.ledger import BudgetExhausted
from lm.types import Completion
from prompt_opt.adapter import PlainPredict, asked, prompt_of, request_of
from prompt_opt.answers import Answer
from prompt_opt.board import Board, Candidate
from prompt_opt.config import PromptConfig
from prompt_opt.engine import Engine, ModelStopped
from prompt_opt.quiet import aloud
from prompt_opt.speaker import Question, Speaker
from tasks.types import Example, Prompt, Score

ID = "dspy_id"  # in a case
THREADS = 64  # that wait for answers: as many as fill the engine's batch


class Bench:
    """One stage's search: what stays fixed over its candidates, and what is learned of them.

    `pool` and `dev` are DSPy examples ("cases") of the seeded samples of train and dev that the
    config asks for. `start` is the incoming prompt without its demos, in the config's style.
    """

    def __init__(
        self,
        config: PromptConfig,
        incoming: Prompt,
        train: Sequence[Example],
        dev: Sequence[Example],
        context: Context,
        engine: Engine,
    ):
        self.context, self.engine, self.incoming = context, engine, incoming
        self.start = replace(incoming, style=config.style, demos=(), nearest=None)
        shown = [dict(demo.inputs) for demo in incoming.demos]
        unseen = [example for example in train if dict(example.inputs) not in shown]
        pool = _sample(unseen or train, config.train_examples, f"{context.seed}/train")
        self.pool = [self.case(example) for example in pool]
        held = _sample(dev, config.dev_examples, f"{context.seed}/dev")
        self.dev = [self.case(example) for example in held]
        self._examples: dict[str, Example] = {}
        self.know([*pool, *held])
        self.board = Board([example.id for example in held])
        self.proposer: Speaker | None = None
        self.metric_calls = 0
        self.stopped: str | None = None  # why the search ended early, the budget aside
        self.unread = 0  # proposals that were not in DSPy's format
        self._judged: dict[tuple[str, str], float] = {}  # each different answer once
        self._lock = threading.Lock()
        self._steps = Steps(context, engine, config.candidates_at_most())

    def case(self, example: Example) -> dspy.Example:
        """The example as DSPy's. It shows nothing that a proposer should not see: a name that
        begins with `dspy_` is left out of its items."""
        fields = {name: example.inputs[name] for name in self.start.inputs}
        fields |= {self.start.output: example.answer, ID: example.id}
        return dspy.Example(fields).with_inputs(*self.start.inputs)

    def know(self, examples: Sequence[Example]) -> None:
        """Have the metrics judge cases of these, too."""
        self._examples |= {example.id: example for example in examples}

    def example(self, case: dspy.Example) -> Example:
        """The task's own example behind a case."""
        return self._examples[case[ID]]

    def student(self, *, demos: bool = False) -> PlainPredict:
        """The program to start from, with or without the incoming demos."""
        own = self.incoming
        shown = replace(self.start, demos=own.demos, nearest=own.nearest) if demos else self.start
        return PlainPredict(shown, self.engine.lm)

    def teacher(self, max_labeled_demos: int) -> PlainPredict:
        """The program whose right answers may become demos: with the incoming demos, else with
        labeled ones, as DSPy's has them."""
        teacher = self.student(demos=True)
        if not teacher.demos:
            teacher = LabeledFewShot(k=max_labeled_demos).compile(teacher, trainset=self.pool)
        teacher._compiled = True  # or DSPy replaces it by one with other labeled demos
        return teacher

    def rehearse(self, teacher: PlainPredict) -> None:
        """Ask the teacher all it may be asked, at once. DSPy, which asks one question at a time,
        hides an example's own demo from the teacher; the same bytes are needed here."""
        signature: Any = teacher.signature
        chats = []
        for case in self.pool:
            fields: Any = case.inputs()
            shown = [demo for demo in teacher.demos if demo != case]
            chats.append(teacher.adapter.prompt(signature, shown).messages(fields))
        self.engine.ask(chats)

    def measure(self, prompt: Prompt, *, last: bool = False) -> None:
        """Make `prompt` a candidate: all of dev, in full batches. BudgetExhausted passes."""
        student = self.engine.student
        chats = [prompt.messages(self.example(case).inputs) for case in self.dev]
        questions = [student.question(chat) for chat in chats]
        try:
            self.engine.answers(questions, last=last)
        finally:  # at a cut, too, what is paid for counts
            for case, question in zip(self.dev, questions, strict=True):
                if answer := self.engine.known(question):
                    self.judge_answer(self.example(case), prompt, answer)
        self.report()

    def foresee(self, program: PlainPredict, cases: Sequence[dspy.Example]) -> None:
        """Ask what `program` is about to ask. BudgetExhausted passes, and what is paid counts."""
        questions = [question_of(program, case) for case in cases]
        try:
            self.engine.answers(questions)
        except BudgetExhausted:
            for case, question in zip(cases, questions, strict=True):
                answer = self.engine.known(question)
                if answer is not None and question.sampling == self.engine.student.plain:
                    self.judge_answer(self.example(case), prompt_of(program), answer)
            raise

    def judge_answer(self, example: Example, prompt: Prompt, answer: Answer) -> Score:
        """Score what the engine has answered to `prompt`, and note it."""
        raw = Completion(answer.text, (), (), answer.finish_reason, answer.prompt_tokens)
        return self._judge(example, prompt, raw, noted=True)

    def metric(self, case: dspy.Example, prediction: dspy.Prediction, trace: Any = None) -> float:
        """DSPy's metric: the score; with a trace, whether an answer may become a demo."""
        given = self._grade(case, prediction)
        return given.value if trace is None else float(given.correct)

    def graded(
        self,
        case: dspy.Example,
        prediction: dspy.Prediction,
        trace: Any = None,
        pred_name: str | None = None,
        pred_trace: Any = None,
    ) -> dspy.Prediction:
        """The metric of reflective optimizers: a score and what to say of the answer."""
        given = self._grade(case, prediction)
        return dspy.Prediction(score=given.value, feedback=given.feedback or _verdict(given))

    def stop(self, why: str) -> None:
        """Note, and tell, why the search ends here."""
        self.stopped = why
        self._steps.tell(why)

    def report(self) -> None:
        """Row and progress line of what has become a candidate since the last call."""
        for candidate in self.board.collect():
            self._steps.write(candidate, self.metric_calls)
        self._note_pass_rates()

    def _grade(self, case: dspy.Example, prediction: dspy.Prediction) -> Score:
        try:
            behind, example = asked(prediction), self.example(case)
        except Exception as error:  # a fault of ours, which DSPy would take for a score of 0
            raise ModelStopped(error) from error
        usual = behind.rollout is None
        usual = usual and behind.temperature == self.context.sampling.temperature
        return self._judge(example, behind.prompt, behind.completion, noted=usual)

    def _judge(self, example: Example, prompt: Prompt, answer: Completion, *, noted: bool) -> Score:
        given = judge(self.context.score, prompt, example, answer)
        with self._lock:
            self.metric_calls += 1
            self._judged[example.id, answer.text] = given.value
        if noted:
            self.board.note(prompt, example.id, given.value)
        return given

    def _note_pass_rates(self) -> None:
        """What was seen of the train examples, for methods further down the chain."""
        train = {self.example(case).id for case in self.pool}
        rates: dict[str, list[float]] = {}
        with self._lock:
            judged = sorted(self._judged.items())
        for (key, _), value in judged:
            if key in train:
                answers, total = rates.get(key, (0, 0.0))
                rates[key] = [answers + 1, total + value]
        text = json.dumps(rates, ensure_ascii=False, indent=1)
        (self.context.folder / PASS_RATES_FILE).write_text(text, encoding="utf-8")


class Steps:
    """metrics.jsonl and the progress line: one step for each candidate."""

    def __init__(self, context: Context, engine: Engine, expected: int):
        context.folder.mkdir(parents=True, exist_ok=True)
        self._path: Path = context.folder / "metrics.jsonl"
        self._path.write_text("")
        self._context, self._engine, self._expected, self._step = context, engine, expected, 0

    def tell(self, why: str) -> None:
        with aloud():
            self._context.progress(self._step, max(self._expected, self._step), ended=why)

    def write(self, candidate: Candidate, metric_calls: int) -> None:
        score, rollouts = candidate.dev_score, self._engine.used
        row = {"step": self._step, "phase": "dev", "dev_score": score, "rollouts": rollouts}
        more = {"demos": len(candidate.prompt.demos), "metric_calls": metric_calls}
        with self._path.open("a") as file:
            file.write(json.dumps({**row, **more}) + "\n")
        self._step += 1
        total = max(self._expected, self._step)
        with aloud():
            self._context.progress(self._step, total, dev=score, rollouts=rollouts)


def question_of(program: PlainPredict, case: dspy.Example) -> Question:
    """What `program` will ask about `case`."""
    lm: Any = program.lm
    fields: Any = case.inputs()
    request = request_of(lm, program.config, prompt_of(program).messages(fields))
    return lm.engine.question_of(request, lm.kwargs.get("rollout_id"))


def _sample(examples: Sequence[Example], size: int, seed: str) -> list[Example]:
    return random.Random(seed).sample(list(examples), min(size, len(examples)))


def _verdict(given: Score) -> str:
    if given.correct:
        return "The answer is right."
    return f"The answer is wrong ({given.failure})." if given.failure else "The answer is wrong."
