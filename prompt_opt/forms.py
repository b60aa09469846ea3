"""What differs between a prompt and a program of several steps while an optimizer moves it.

DSPy holds either in a module. A prompt's question is known before it is put; what a program asks
next hangs on the answers, so that it has to be run (prompt_opt/together.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from functools import partial
from typing import Any

import dspy

from prompt_opt.adapter import PlainPredict, prompt_of, request_of
from prompt_opt.board import Form
from prompt_opt.engine import Engine
from prompt_opt.program import Program
from prompt_opt.speaker import Question
from prompt_opt.together import settled

Student = PlainPredict | Program


def form_of(program: Student) -> Form:
    """What the program asks with, whatever optimizer has moved it."""
    return program.state() if isinstance(program, Program) else prompt_of(program)


def question_of(program: PlainPredict, case: dspy.Example) -> Question:
    """What `program` will ask about `case`."""
    lm: Any = program.lm
    request = request_of(lm, program.config, prompt_of(program).messages(_fields(case)))
    return lm.engine.question_of(request, lm.kwargs.get("rollout_id"))


def ran_side_by_side(
    engine: Engine, pairs: Sequence[tuple[Program, dspy.Example]], *, last: bool = False
) -> list[Future[dspy.Prediction]]:
    """What each program predicts; see `settled`. These runs are nobody's demos: GEPA has put a
    `forward` of its own into the program, which would record them."""
    with dspy.context(trace=None, disable_history=True):
        runs = [partial(Program.forward, program, **_fields(case)) for program, case in pairs]
        return settled(engine, runs, last=last)


def without_own(program: Student, case: dspy.Example) -> Student:
    """`program` as DSPy asks it about `case`: not shown the case itself."""
    if not any(case in step.demos for step in program.predictors()):
        return program
    program = program.deepcopy()
    for step in program.predictors():
        step.demos = [demo for demo in step.demos if demo != case]
    return program


def _fields(case: dspy.Example) -> Any:
    return case.inputs()
