"""What every prompt optimizer works with: examples, metric, teacher and the books, in one place.

An optimizer gets DSPy's own objects from here and gives nothing back: what it has tried, and how
good it was, the metric notes by itself (prompt_opt/board.py).
"""

from __future__ import annotations

import json
import random
import threading
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import dspy
from dspy.teleprompt import LabeledFewShot

from evaluation.judge import judge
from evaluation.types import PASS_RATES_FILE, Context
from lm.ledger import BudgetExhausted
from lm.types import Completion
from prompt_opt.acting import shown_answer
from prompt_opt.adapter import PlainPredict, asked, prompt_of
from prompt_opt.answers import Answer
from prompt_opt.board import Board, Candidate, Form
from prompt_opt.config import PromptConfig
from prompt_opt.engine import Engine, ModelStopped
from prompt_opt.forms import Student, form_of, question_of, ran_side_by_side, without_own
from prompt_opt.program import Program, Ran, Source, judge_ran
from prompt_opt.quiet import aloud
from prompt_opt.speaker import Speaker
from prompt_opt.state import State
from prompt_opt.together import raise_first
from tasks.types import Example, Prompt, Score, TaskError

ID = "dspy_id"  # in a case
THREADS = 64  # that wait for answers: as many as fill the engine's batch


class Bench:
    """One stage's search: what stays fixed over its candidates, and what is learned of them.

    `pool` and `dev` are DSPy examples ("cases") of the seeded samples of train and dev that the
    config asks for. `start` is the incoming prompt without its demos, in `style`. With a `source`
    the candidates are states of that program, and of the prompt only the field names matter.
    """

    def __init__(
        self,
        config: PromptConfig,
        incoming: Prompt,
        train: Sequence[Example],
        dev: Sequence[Example],
        context: Context,
        engine: Engine,
        source: Source | None = None,
    ):
        self.context, self.engine, self.source = context, engine, source
        self.incoming: Form = incoming if source is None else source.state
        self._prompt, style = incoming, incoming.style if config.program else config.style
        self.start = replace(incoming, style=style, demos=(), nearest=None)
        shown = [dict(demo.inputs) for demo in self._incoming_prompt().demos]
        unseen = [example for example in train if dict(example.inputs) not in shown]
        pool = _sample(unseen or train, config.train_examples, f"{context.seed}/train")
        self.pool = [self.case(example) for example in pool]
        held = _sample(dev, config.dev_examples, f"{context.seed}/dev")
        self.dev = [self.case(example) for example in held]
        self._examples: dict[str, Example] = {}
        self.know([*pool, *held])
        self.board = Board([example.id for example in held])
        self.cost = len(held)  # of a candidate on dev, in rollouts
        self.proposer: Speaker | None = None
        self.metric_calls = 0
        self.stopped: str | None = None  # why the search ended early, the budget aside
        self.unread = 0  # proposals that were not in DSPy's format
        self._errors: list[str] = []  # of a program
        self._judged: dict[tuple[str, str, str], float] = {}  # each different answer once
        self._lock = threading.Lock()
        self._steps = Steps(context, engine, config.candidates_at_most())

    def case(self, example: Example) -> dspy.Example:
        """The example as DSPy's. It shows nothing that a proposer should not see: a name that
        begins with `dspy_` is left out of its items."""
        fields = {name: example.inputs[name] for name in self.start.inputs}
        answer = shown_answer(self.context.score, self.start, example)
        fields |= {self.start.output: answer, ID: example.id}
        return dspy.Example(fields).with_inputs(*self.start.inputs)

    def know(self, examples: Sequence[Example]) -> None:
        """Have the metrics judge cases of these, too."""
        self._examples |= {example.id: example for example in examples}

    def example(self, case: dspy.Example) -> Example:
        """The task's own example behind a case."""
        return self._examples[case[ID]]

    def _incoming_prompt(self) -> Prompt:
        return self._prompt if self.source is None else self.source.state.as_prompt(self._prompt)

    def student(self, *, demos: bool = False) -> Student:
        """The program to start from, with or without the incoming demos."""
        if self.source is not None:
            state = self.source.state if demos else self.source.state.without_demos()
            return self.source.built(self.engine.lm, state)
        own = self._prompt
        shown = replace(self.start, demos=own.demos, nearest=own.nearest) if demos else self.start
        return PlainPredict(shown, self.engine.lm)

    def teacher(self, max_labeled_demos: int) -> Student:
        """The program whose right answers may become demos: with the incoming demos, else with
        labeled ones, as DSPy's has them."""
        teacher = self.student(demos=True)
        if not form_of(teacher).demos:
            teacher = LabeledFewShot(k=max_labeled_demos).compile(teacher, trainset=self.pool)
        teacher._compiled = True  # or DSPy replaces it by one with other labeled demos
        return teacher

    def rehearse(self, teacher: Student) -> None:
        """Ask the teacher all it may be asked, at once. DSPy, which asks one question at a time,
        hides an example's own demo from the teacher; the same bytes are needed here."""
        self.ask_ahead([(without_own(teacher, case), case) for case in self.pool])

    def ask_ahead(self, pairs: Sequence[tuple[Any, dspy.Example]]) -> None:
        """Have the engine know what these programs will ask about these cases."""
        self.engine.answers([question_of(p, c) for p, c in pairs if isinstance(p, PlainPredict)])
        programs = [pair for pair in pairs if isinstance(pair[0], Program)]
        raise_first(ran_side_by_side(self.engine, programs))

    def foresee(self, program: Any, cases: Sequence[dspy.Example]) -> None:
        """Ask what an evaluation of `program` is about to ask. BudgetExhausted passes, and what is
        paid counts."""
        if isinstance(program, Program):
            found = ran_side_by_side(self.engine, [(program, case) for case in cases])
            if any(isinstance(future.exception(), BudgetExhausted) for future in found):
                self._grade_ended(cases, found)
            raise_first(found)
        elif isinstance(program, PlainPredict):
            self._foresee_prompt(program, cases)

    def _foresee_prompt(self, program: PlainPredict, cases: Sequence[dspy.Example]) -> None:
        questions = [question_of(program, case) for case in cases]
        try:
            self.engine.answers(questions)
        except BudgetExhausted:
            for case, question in zip(cases, questions, strict=True):
                answer = self.engine.known(question)
                if answer is not None and question.sampling == self.engine.student.plain:
                    self.judge_answer(self.example(case), prompt_of(program), answer)
            raise

    def measure(self, form: Form, *, last: bool = False) -> None:
        """Make `form` a candidate: all of dev, in full batches. BudgetExhausted passes, and what is
        paid counts."""
        if isinstance(form, State):
            assert self.source is not None
            program = self.source.built(self.engine.lm, form)
            pairs = [(program, case) for case in self.dev]
            found = ran_side_by_side(self.engine, pairs, last=last)
            self._grade_ended(self.dev, found)
            raise_first(found)
        else:
            self._measure_prompt(form, last)
        self.report()

    def _measure_prompt(self, prompt: Prompt, last: bool) -> None:
        student = self.engine.student
        chats = [prompt.messages(self.example(case).inputs) for case in self.dev]
        questions = [student.question(chat) for chat in chats]
        try:
            self.engine.answers(questions, last=last)
        finally:  # at a cut, too, what is paid for counts
            for case, question in zip(self.dev, questions, strict=True):
                if answer := self.engine.known(question):
                    self.judge_answer(self.example(case), prompt, answer)

    def _grade_ended(
        self, cases: Sequence[dspy.Example], found: Sequence[Future[dspy.Prediction]]
    ) -> None:
        for case, future in zip(cases, found, strict=False):  # after a cut nothing more was run
            if future.exception() is None:
                self._grade(case, future.result())

    def judge_answer(self, example: Example, prompt: Prompt, answer: Answer) -> Score:
        """Score what the engine has answered to `prompt`, and note it."""
        asked, turns = answer.prompt_tokens, tuple(answer.transcript)
        raw = Completion(answer.text, (), (), answer.finish_reason, asked, transcript=turns)
        given = judge(self.context.score, prompt, example, raw)
        return self._note(prompt, example, raw, given)

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

    def begin(self) -> None:
        """Measure what came in. Raises TaskError for a program that raises on every dev example: no
        search can mend that, and the user can."""
        self.measure(self.incoming)
        self.cost = max(self.cost, self.engine.used)  # a program asks more than once
        if self.source is not None and self._errors and len(self._errors) >= len(self.dev):
            told = self._errors[0].removeprefix("The program failed: ")
            where = f"program {self.source.file.name}:{self.source.name}"
            raise TaskError(f"{where}: raised on all {len(self.dev)} dev examples; {told}")

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
        if isinstance(behind, Ran):
            given = judge_ran(self.context.score, example, behind)
            if behind.error is not None:
                self._errors.append(given.feedback)
            return self._note(behind.state, example, behind.completion, given, behind.as_evaluated)
        given = judge(self.context.score, behind.prompt, example, behind.completion)
        usual = behind.rollout is None
        usual = usual and behind.temperature == self.context.sampling.temperature
        return self._note(behind.prompt, example, behind.completion, given, usual)

    def _note(
        self, form: Form, example: Example, answer: Completion, given: Score, usual: bool = True
    ) -> Score:
        with self._lock:
            self.metric_calls += 1
            called = json.dumps(answer.transcript, ensure_ascii=False)
            self._judged[example.id, answer.text, called] = given.value
        if usual:
            self.board.note(form, example.id, given.value)
        return given

    def _note_pass_rates(self) -> None:
        """What was seen of the train examples, for methods further down the chain."""
        train = {self.example(case).id for case in self.pool}
        rates: dict[str, list[float]] = {}
        with self._lock:
            judged = sorted(self._judged.items())
        for (key, *_), value in judged:
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
        more: dict[str, Any] = {"demos": len(candidate.form.demos), "metric_calls": metric_calls}
        more["spent"] = asdict(self._engine.budget.charged) | {"train_tokens": 0}
        with self._path.open("a") as file:
            file.write(json.dumps({**row, **more}) + "\n")
        self._step += 1
        total = max(self._expected, self._step)
        with aloud():
            self._context.progress(self._step, total, dev=score, rollouts=rollouts)


def _sample(examples: Sequence[Example], size: int, seed: str) -> list[Example]:
    return random.Random(seed).sample(list(examples), min(size, len(examples)))


def _verdict(given: Score) -> str:
    if given.correct:
        return "The answer is right."
    return f"The answer is wrong ({given.failure})." if given.failure else "The answer is wrong."
