"""The frame around every prompt optimizer: a new one writes `search`, all else is done here.

An optimizer may look for prompts however it likes and may be stopped at any question. What counts
is the board that the metric fills: the incoming prompt is measured on dev first, whatever was
measured on all of dev competes with it, and at the end some of the budget that was held back goes
to those that look best but were never measured in full. So the result is never worse on dev than
what came in, and what DSPy returns is one candidate among others.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import dspy

from evaluation.environment import refuse_tools
from evaluation.types import Context, Policy, ScoreFunction, Unfinished
from lm.ledger import BudgetExhausted, Paused
from prompt_opt.acting import tools_of
from prompt_opt.adapter import PlainPredict, signature_of
from prompt_opt.ahead import AskAhead
from prompt_opt.bench import Bench
from prompt_opt.board import Candidate, Form
from prompt_opt.config import PromptConfig
from prompt_opt.engine import Engine
from prompt_opt.program import Source, find_program, kept_program
from prompt_opt.state import State
from tasks.types import Example, TaskError

HELD_SHARE = 0.1  # of tokens and seconds, for each finalist
PROGRAM = "program"  # the folder of a program of several steps


class PromptMethod:
    """A `Method` that moves the prompt, or the state of a program; weights stay as they are.

    With `program` in its options it begins with what the user's file makes. A single predictor
    gives the prompt to start from; a program of several steps goes on as one, is compared by its
    state, and the policy comes back with it, in the stage's folder `program`.

    Best on dev wins, fewer demos break a tie, and the earlier candidate breaks the next. The
    policy comes back as it was when the budget ends before it is measured itself.

    Writes answers.jsonl, metrics.jsonl (a row per candidate), candidates.json, search.json (how
    often was scored, how many proposals could not be read, why it ended) and, unless demos are
    picked by the question, program.json (the best prompt, for `dspy.Predict.load`) into the
    stage's folder.
    """

    name: ClassVar[str]
    finalists: ClassVar[int] = 1  # that may be measured in full at the end
    config: Any

    def __init__(self, config: PromptConfig):
        self.config = config

    def search(self, bench: Bench) -> None:
        """Have candidates scored with the metrics of `bench`. BudgetExhausted passes."""
        raise NotImplementedError

    def check(
        self,
        policy: Policy,
        train: Sequence[Example],
        dev: Sequence[Example],
        score: ScoreFunction,
    ) -> None:
        """Raises TaskError for an empty split, a field name DSPy cannot take, a program that is not
        there or does not fit the task, or has several steps and tools, and a cap that lets nothing
        compete."""
        if not train or not dev:
            raise TaskError(f"{self.name}: split {'dev' if train else 'train'!r} is empty; fill it")
        signature_of(replace(policy.prompt, style=self.config.style))
        if self.config.program is not None:
            found = find_program(self.config.program, policy.prompt)
            if isinstance(found, Source):
                self._refuse_steps_with_tools(policy)
        cap, needed = self.config.rollouts, 2 * min(self.config.dev_examples, len(dev))
        if cap is not None and cap < needed:
            raise TaskError(
                f"{self.name}: rollouts {cap} measures nothing beside the incoming prompt on "
                f"{needed // 2} dev examples; write {needed} or more, or fewer dev_examples"
            )

    def _refuse_steps_with_tools(self, policy: Policy) -> None:
        who = f"{self.name}: a program of several steps"
        refuse_tools(policy.prompt, who, "a program with a single predictor")

    def improve(
        self,
        policy: Policy,
        train: Sequence[Example],
        dev: Sequence[Example],
        context: Context,
    ) -> Policy:
        self.check(policy, train, dev, context.score)
        policy, source = self._begin(policy)
        model, caps = context.open(policy), self.config.caps().within(context.ledger.caps)
        tools = tools_of(context.score, policy.prompt, [*train, *dev])
        engine = Engine(
            model, context.sampling, context.folder, seed=context.seed, caps=caps, tools=tools
        )
        bench = Bench(self.config, policy.prompt, train, dev, context, engine, source)
        try:
            with engine:
                with suppress(BudgetExhausted):
                    bench.begin()
                    self._search_within(bench)
                with suppress(BudgetExhausted):
                    for form in bench.board.promising(self.finalists):
                        bench.measure(form, last=True)
        except Paused:
            raise Unfinished(self._best(policy, bench)) from None
        return self._best(policy, bench)

    def _best(self, policy: Policy, bench: Bench) -> Policy:
        """The policy with the best candidate so far, written into the stage's folder."""
        best = bench.board.best() or Candidate(bench.incoming, 0.0)
        _write_result(bench.context, bench, best.form)
        if isinstance(best.form, State):
            return replace(policy, program=bench.context.folder / PROGRAM)
        return policy.with_prompt(best.form)

    def _begin(self, policy: Policy) -> tuple[Policy, Source | None]:
        """The policy to start from, and its program if it is one of several steps."""
        if self.config.program is None:
            kept: Path | None = policy.program
            return policy, None if kept is None else kept_program(kept, policy.prompt)
        found = find_program(self.config.program, policy.prompt)
        return (policy, found) if isinstance(found, Source) else (policy.with_prompt(found), None)

    def _search_within(self, bench: Bench) -> None:
        """Search with what is not held back for finalists. When fewer come out of it than were
        provided for, it is done again with a little more: what it has asked already costs nothing,
        so it gets to the same point and goes on from there."""
        held, engine, calls = self.finalists, bench.engine, bench.metric_calls
        while True:
            self._hold_back(bench, held)
            bench.metric_calls = calls
            try:
                with dspy.context(**self._settings(bench)):
                    return self.search(bench)
            except BudgetExhausted:
                if len(bench.board.promising(held)) == held:
                    raise
                held -= 1
                engine.reopen()

    def _settings(self, bench: Bench) -> dict[str, Any]:
        """DSPy's settings for a search."""
        return {
            "lm": bench.engine.lm,
            "disable_history": True,
            "trace": None,  # DSPy's own, of all calls ever, would keep every stage's model alive
            "callbacks": [AskAhead(bench)],
            "max_errors": 1,  # an exception in a program is a fault of ours, never an answer's
        }

    def _hold_back(self, bench: Bench, finalists: int) -> None:
        budget = bench.engine.budget
        wanted = finalists * bench.cost
        budget.hold(min(wanted, (budget.caps.rollouts or 0) // 2), HELD_SHARE * finalists)


def _write_result(context: Context, bench: Bench, best: Form) -> None:
    kind = "prompt" if bench.source is None else "program"
    rows = [
        {
            "dev_score": candidate.dev_score,
            "demos": len(candidate.form.demos),
            kind: json.loads(candidate.form.to_json()),
        }
        for candidate in bench.board.candidates
    ]
    text = json.dumps(rows, ensure_ascii=False, indent=1)
    (context.folder / "candidates.json").write_text(text, encoding="utf-8")
    told = {
        "metric_calls": bench.metric_calls,
        "unread": bench.unread,
        "ended": bench.stopped or bench.engine.spent or "done",
    }
    (context.folder / "search.json").write_text(json.dumps(told), encoding="utf-8")
    if isinstance(best, State):
        assert bench.source is not None
        bench.source.save(context.folder / PROGRAM, best)
    elif best.nearest is None:  # else no state of a `dspy.Predict` can say what is shown
        PlainPredict(best).save(context.folder / "program.json")
