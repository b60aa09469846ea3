"""DSPy's bootstrap with random search: which worked examples, shown first, help the most?

DSPy does the optimizing, one candidate a call (`restrict=[seed]`), so that each finished candidate
is counted, reported and kept when the budget ends. What differs from plain DSPy: demos come from a
seeded sample of train, whose teacher answers are asked in one batch beforehand and then read from
the engine's memory; and the incoming prompt competes, so the result is never worse on dev.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import dspy
from dspy.teleprompt import BootstrapFewShotWithRandomSearch, LabeledFewShot
from dspy.utils.callback import BaseCallback

from evaluation.judge import judge
from evaluation.types import PASS_RATES_FILE, Context, Policy, ScoreFunction
from lm.ledger import BudgetExhausted
from prompt_opt.adapter import COMPLETION, PlainPredict, prompt_of, signature_of
from prompt_opt.config import BootstrapConfig
from prompt_opt.engine import Engine
from prompt_opt.quiet import quiet
from tasks.types import Example, Prompt, TaskError

EXAMPLE = "tasklift/example"  # in a case; no field can have such a name
THREADS = 64  # that wait for answers: as many as fill the engine's batch
NO_DEMOS, LABELED_ONLY, UNSHUFFLED = -3, -2, -1  # DSPy's seeds for its three fixed candidates


@dataclass(frozen=True)
class Candidate:
    """A prompt and its mean score on dev, in [0, 1]."""

    name: str
    prompt: Prompt
    dev_score: float


class Bootstrap:
    """A `Method`: picks demos for the policy's prompt; instruction and weights stay as they are.

    Demos the incoming prompt already has are not extended but compete: that prompt is the teacher
    and the first candidate, and candidates show examples it does not. Without any, the teacher
    shows `max_labeled_demos` labeled examples, as DSPy's does. Best on dev wins, fewer demos break
    a tie, and the earlier candidate breaks the next. The policy comes back as it was when the
    budget ends before a candidate is complete.

    Writes answers.jsonl, metrics.jsonl (a row per candidate), candidates.json and program.json
    (the best prompt, for `dspy.Predict.load`) into the stage's folder. Raises TaskError when train
    or dev is empty, or a field has a name DSPy cannot take.
    """

    def __init__(self, config: BootstrapConfig):
        self.config = config

    def check(
        self,
        policy: Policy,
        train: Sequence[Example],
        dev: Sequence[Example],
        score: ScoreFunction,
    ) -> None:
        """Raises TaskError for an empty split and for a field name DSPy cannot take."""
        if not train or not dev:
            raise TaskError(f"bootstrap: split {'dev' if train else 'train'!r} is empty; fill it")
        signature_of(replace(policy.prompt, style=self.config.style))

    def improve(
        self,
        policy: Policy,
        train: Sequence[Example],
        dev: Sequence[Example],
        context: Context,
    ) -> Policy:
        self.check(policy, train, dev, context.score)
        engine = Engine(
            context.open(policy),
            context.sampling,
            context.folder,
            seed=context.seed,
            rollouts=self.config.rollouts,
        )
        found: list[Candidate] = []
        settings = {"lm": engine.lm, "disable_history": True, "callbacks": [_AskAhead(engine)]}
        with engine, dspy.context(**settings), suppress(BudgetExhausted):
            search = _Search(self.config, policy.prompt, train, dev, context, engine)
            for candidate in search.candidates():
                found.append(candidate)
                search.report(len(found) - 1, candidate)
                search.note_pass_rates()
        best = max(found, key=_merit, default=Candidate("incoming", policy.prompt, 0.0))
        _write_result(context, found, best)
        return policy.with_prompt(best.prompt)


def _merit(candidate: Candidate) -> tuple[float, int]:
    return candidate.dev_score, -len(candidate.prompt.demos)


class _AskAhead(BaseCallback):
    """Asks a candidate's whole dev set before DSPy's threads do, which ask in any order.

    They then read answers from memory, and each batch, its rounding and the number of calls
    are the same in every run.
    """

    def __init__(self, engine: Engine):
        self._engine = engine

    def on_evaluate_start(self, call_id: str, instance: Any, inputs: dict[str, Any]) -> None:
        prompt = prompt_of(inputs["program"])
        self._engine.ask([prompt.messages(case[EXAMPLE].inputs) for case in instance.devset])


class _Search:
    """One stage's search: what stays fixed over its candidates."""

    def __init__(
        self,
        config: BootstrapConfig,
        incoming: Prompt,
        train: Sequence[Example],
        dev: Sequence[Example],
        context: Context,
        engine: Engine,
    ):
        self._config, self._context, self._engine = config, context, engine
        self._incoming = incoming
        self._start = replace(incoming, style=config.style, demos=())
        shown = [dict(demo.inputs) for demo in incoming.demos]
        unseen = [example for example in train if dict(example.inputs) not in shown]
        pool = _sample(unseen or train, config.train_examples, f"{context.seed}/train")
        self._pool = [_case(self._start, example) for example in pool]
        held = _sample(dev, config.dev_examples, f"{context.seed}/dev")
        self._dev = [_case(self._start, example) for example in held]
        # A prompt without demos is DSPy's first candidate already.
        first = NO_DEMOS if incoming != self._start else LABELED_ONLY
        self._seeds = range(first, config.candidates)
        self._teacher = self._make_teacher()
        self._judged: dict[tuple[str, str], float] = {}  # each different answer once
        context.folder.mkdir(parents=True, exist_ok=True)
        self._metrics = context.folder / "metrics.jsonl"
        self._metrics.write_text("")

    def candidates(self) -> Iterator[Candidate]:
        """Each candidate once its dev score is known. `BudgetExhausted` passes."""
        yield self._score_incoming()
        for seed in self._seeds:
            if seed == UNSHUFFLED:
                self._rehearse()
            yield self._compile(seed)

    def report(self, step: int, candidate: Candidate) -> None:
        """A row and a progress line."""
        score, demos, rollouts = candidate.dev_score, candidate.prompt.demos, self._engine.used
        row = {"step": step, "phase": "dev", "dev_score": score, "rollouts": rollouts}
        with self._metrics.open("a") as file:
            file.write(json.dumps({**row, "demos": len(demos)}) + "\n")
        self._context.progress(step + 1, len(self._seeds) + 1, dev=score, rollouts=rollouts)

    def note_pass_rates(self) -> None:
        """What was seen of the train examples, for methods further down the chain."""
        train = {case[EXAMPLE].id for case in self._pool}
        rates: dict[str, list[float]] = {}
        for (key, _), value in sorted(self._judged.items()):
            if key in train:
                answers, total = rates.get(key, (0, 0.0))
                rates[key] = [answers + 1, total + value]
        text = json.dumps(rates, ensure_ascii=False, indent=1)
        (self._context.folder / PASS_RATES_FILE).write_text(text, encoding="utf-8")

    def _make_teacher(self) -> PlainPredict:
        if self._incoming.demos:
            teacher = PlainPredict(replace(self._start, demos=self._incoming.demos))
        else:
            labels = LabeledFewShot(k=self._config.max_labeled_demos)
            teacher = labels.compile(PlainPredict(self._start), trainset=self._pool)
        teacher._compiled = True  # or DSPy replaces it by one with other labeled demos
        return teacher

    def _score_incoming(self) -> Candidate:
        evaluate = dspy.Evaluate(
            devset=self._dev,
            metric=self._metric_for(self._incoming),
            num_threads=THREADS,
            max_errors=1,
        )
        with quiet():
            result = evaluate(PlainPredict(self._incoming))
        return Candidate("incoming", self._incoming, _mean([row[2] for row in result.results]))

    def _rehearse(self) -> None:
        """Ask the teacher all it may be asked, at once. DSPy, which asks one question at a time,
        hides an example's own demo from the teacher; the same bytes are needed here."""
        if not self._config.max_bootstrapped_demos:
            return
        adapter, demos = self._teacher.adapter, self._teacher.demos
        signature: Any = self._teacher.signature
        chats = []
        for case in self._pool:
            prompt = adapter.prompt(signature, [demo for demo in demos if demo != case])
            chats.append(prompt.messages(case[EXAMPLE].inputs))
        self._engine.ask(chats)

    def _compile(self, seed: int) -> Candidate:
        config, pool, restrict = self._config, list(self._pool), seed
        if seed >= 0 and not config.max_bootstrapped_demos:
            # DSPy draws from 1 to max_bootstrapped_demos and fails on 0: vary the labeled ones.
            random.Random(f"labeled/{seed}").shuffle(pool)
            restrict = LABELED_ONLY
        with quiet():
            search = BootstrapFewShotWithRandomSearch(
                metric=self._metric_for(self._start),
                max_bootstrapped_demos=config.max_bootstrapped_demos,
                max_labeled_demos=config.max_labeled_demos,
                num_candidate_programs=config.candidates,
                num_threads=THREADS,
                max_errors=1,  # an exception here is a fault of ours, never an answer's
            )
            program: Any = search.compile(
                PlainPredict(self._start),
                teacher=self._teacher,
                trainset=pool,
                valset=self._dev,
                restrict=[restrict],
            )
        scores = program.candidate_programs[0]["subscores"]
        return Candidate(f"seed {seed}", prompt_of(program), _mean(scores))

    def _metric_for(self, prompt: Prompt) -> Any:
        """DSPy's metric: the score on dev; with a trace, whether an answer may become a demo."""

        def metric(case: dspy.Example, prediction: dspy.Prediction, trace: Any = None) -> float:
            given = judge(self._context.score, prompt, case[EXAMPLE], prediction[COMPLETION])
            self._judged[case[EXAMPLE].id, prediction[COMPLETION].text] = given.value
            return given.value if trace is None else float(given.correct)

        return metric


def _sample(examples: Sequence[Example], size: int, seed: str) -> list[Example]:
    return random.Random(seed).sample(list(examples), min(size, len(examples)))


def _case(prompt: Prompt, example: Example) -> dspy.Example:
    """The example as DSPy's, with the task's own inside for the scorer."""
    fields = {**example.inputs, prompt.output: example.answer, EXAMPLE: example}
    return dspy.Example(fields).with_inputs(*prompt.inputs)


def _mean(scores: Sequence[float]) -> float:
    return sum(scores) / len(scores)


def _write_result(context: Context, found: Sequence[Candidate], best: Candidate) -> None:
    rows = [
        {
            "name": candidate.name,
            "dev_score": candidate.dev_score,
            "demos": len(candidate.prompt.demos),
            "prompt": json.loads(candidate.prompt.to_json()),
        }
        for candidate in found
    ]
    text = json.dumps(rows, ensure_ascii=False, indent=1)
    (context.folder / "candidates.json").write_text(text, encoding="utf-8")
    PlainPredict(best.prompt).save(context.folder / "program.json")
