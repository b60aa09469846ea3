"""What every prompt optimizer works with: examples, metric, teacher and the books, in one place.

An optimizer gets DSPy's own objects from here and gives nothing back: what it has tried, and how
good it was, the metric notes by itself (prompt_opt/board.py).
"""

from __future__ import annotations

import json
import random
import threading
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import dspy
from dspy.teleprompt import LabeledFewShot

from evaluation.judge import judge, judge_answer
from evaluation.types import PASS_RATES_FILE, Context, ScoreFunction
from lm.types import Completion
from prompt_opt.adapter import PlainPredict, asked, prompt_of, request_of
from prompt_opt.answers import Answer
from prompt_opt.board import Board, Candidate, Form
from prompt_opt.config import PromptConfig
from prompt_opt.engine import Engine
from prompt_opt.program import Program, Ran, Source
from prompt_opt.speaker import Question
from prompt_opt.state import State
from prompt_opt.together import together
from tasks.types import Example, Prompt, Score, TaskError

THREADS = 64  # that wait for answers: as many as fill the engine's batch
Student = PlainPredict | Program


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
        both = zip([*self.pool, *self.dev], [*pool, *held], strict=True)
        self._examples = {_key(case): example for case, example in both}
        self.board = Board([example.id for example in held])
        self.cost = len(held)  # of a candidate on dev, in rollouts
        self.metric_calls = 0
        self.stopped: str | None = None  # why the search ended early, the budget aside
        self._errors: list[str] = []  # of a program
        self._judged: dict[tuple[str, str], float] = {}  # each different answer once
        self._lock = threading.Lock()
        self._steps = Steps(context, engine, config.candidates_at_most())

    def case(self, example: Example) -> dspy.Example:
        """The example as DSPy's. It holds nothing that a proposer should not see."""
        fields = {name: example.inputs[name] for name in self.start.inputs}
        fields[self.start.output] = example.answer
        return dspy.Example(fields).with_inputs(*self.start.inputs)

    def example(self, case: dspy.Example) -> Example:
        """The task's own example behind a case."""
        return self._examples[_key(case)]

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
        self.ask_ahead([(_without_own(teacher, case), case) for case in self.pool])

    def ask_ahead(self, pairs: Sequence[tuple[Any, dspy.Example]]) -> None:
        """Have the engine know what these programs will ask about these cases."""
        plain = [question(p, case) for p, case in pairs if isinstance(p, PlainPredict)]
        self.engine.answers(plain)
        self._run([pair for pair in pairs if isinstance(pair[0], Program)])

    def _run(
        self, pairs: Sequence[tuple[Program, dspy.Example]], *, last: bool = False
    ) -> list[dspy.Prediction]:
        with dspy.context(trace=None):  # these runs are nobody's demos
            runs = [partial(program, **_fields(case)) for program, case in pairs]
            return together(self.engine, runs, last=last)

    def measure(self, form: Form, *, last: bool = False) -> None:
        """Make `form` a candidate: all of dev, in full batches. BudgetExhausted passes."""
        if isinstance(form, State):
            assert self.source is not None
            program = self.source.built(self.engine.lm, form)
            found = self._run([(program, case) for case in self.dev], last=last)
            for case, prediction in zip(self.dev, found, strict=True):
                self._grade(case, prediction)
        else:
            chats = [form.messages(self.example(case).inputs) for case in self.dev]
            for case, answer in zip(self.dev, self.engine.ask(chats, last=last), strict=True):
                self.judge_answer(self.example(case), form, answer)
        self.report()

    def judge_answer(self, example: Example, prompt: Prompt, answer: Answer) -> Score:
        """Score what the engine has answered to `prompt`, and note it."""
        raw = Completion(answer.text, (), (), answer.finish_reason, answer.prompt_tokens)
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
        behind, example, score = asked(prediction), self.example(case), self.context.score
        if isinstance(behind, Ran):
            given = judge_ran(score, example, behind)
            if behind.error is not None:
                self._errors.append(given.feedback)
            return self._note(behind.state, example, behind.completion, given, behind.as_evaluated)
        given = judge(score, behind.prompt, example, behind.completion)
        usual = behind.temperature == self.context.sampling.temperature
        return self._note(behind.prompt, example, behind.completion, given, usual)

    def _note(
        self, form: Form, example: Example, answer: Completion, given: Score, usual: bool = True
    ) -> Score:
        with self._lock:
            self.metric_calls += 1
            self._judged[example.id, answer.text] = given.value
        if usual:
            self.board.note(form, example.id, given.value)
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
        self._context.progress(self._step, max(self._expected, self._step), ended=why)

    def write(self, candidate: Candidate, metric_calls: int) -> None:
        score, rollouts = candidate.dev_score, self._engine.used
        row = {"step": self._step, "phase": "dev", "dev_score": score, "rollouts": rollouts}
        more = {"demos": len(candidate.form.demos), "metric_calls": metric_calls}
        with self._path.open("a") as file:
            file.write(json.dumps({**row, **more}) + "\n")
        self._step += 1
        total = max(self._expected, self._step)
        self._context.progress(self._step, total, dev=score, rollouts=rollouts)


def form_of(program: Student) -> Form:
    """What the program asks with, whatever optimizer has moved it."""
    return program.state() if isinstance(program, Program) else prompt_of(program)


def judge_ran(score: ScoreFunction, example: Example, ran: Ran) -> Score:
    """Score what a program has said."""
    return judge_answer(score, example, ran.answer, ran.completion, ran.error)


def question(program: PlainPredict, case: dspy.Example) -> Question:
    """What `program` will ask about `case`."""
    lm: Any = program.lm
    request = request_of(lm, program.config, prompt_of(program).messages(_fields(case)))
    return lm.engine.question_of(request, lm.kwargs.get("rollout_id"))


def _without_own(program: Student, case: dspy.Example) -> Student:
    """`program` as DSPy asks it about `case`: not shown the case itself."""
    if not any(case in step.demos for step in program.predictors()):
        return program
    program = program.deepcopy()
    for step in program.predictors():
        step.demos = [demo for demo in step.demos if demo != case]
    return program


def _fields(case: dspy.Example) -> Any:
    return case.inputs()


def _key(case: dspy.Example) -> tuple[tuple[str, str], ...]:
    return tuple(sorted(case.items()))


def _sample(examples: Sequence[Example], size: int, seed: str) -> list[Example]:
    return random.Random(seed).sample(list(examples), min(size, len(examples)))


def _verdict(given: Score) -> str:
    if given.correct:
        return "The answer is right."
    return f"The answer is wrong ({given.failure})." if given.failure else "The answer is wrong."
