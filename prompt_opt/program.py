"""A user's own DSPy program of several steps: found, run as data is gathered, and kept.

`Program` is wrapped around the user's module wherever DSPy or the evaluator runs it: every LM call
goes to the engine, DSPy's adapter is the module's own, and what goes wrong inside is an answer that
is judged, not an exception. What is kept is source and state, never a pickle.
"""

from __future__ import annotations

import copy
import inspect
import json
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import dspy
from dspy.dsp.utils.settings import main_thread_config
from dspy.utils.exceptions import AdapterParseError

from evaluation.judge import judge_answer
from evaluation.types import ScoreFunction
from lm.staging import staged_folder
from lm.types import Completion
from prompt_opt.answers import Answer
from prompt_opt.bare import bare_prompt
from prompt_opt.quiet import share_bars
from prompt_opt.speaker import listening
from prompt_opt.state import State
from tasks.load import neighbours
from tasks.source import guarded, import_file, own_names
from tasks.text import nearest
from tasks.types import Example, Prompt, Score, TaskError

STATE, ENTRY = "state.json", "program.json"


@dataclass(frozen=True)
class Ran:
    """How a program got to a prediction.

    `answer` is None where a reply was not of the form the program reads, `error` what it raised
    otherwise. The completion is without token ids: its text is what was answered, its counts are
    those of all calls. `as_evaluated`: with the LM's own settings, not those of a trial.
    """

    state: State
    answer: str | None
    completion: Completion
    error: Exception | SystemExit | None
    as_evaluated: bool


def judge_ran(score: ScoreFunction, example: Example, ran: Ran) -> Score:
    """Score what a program has said."""
    return judge_answer(score, example, ran.answer, ran.completion, ran.error)


class Program(dspy.Module):
    """The user's `module`, asked through `lm` with `adapter` (None: DSPy's default).

    `prompt_opt.adapter.asked(prediction)` is the `Ran` behind a prediction.
    """

    def __init__(self, module: dspy.Module, output: str, lm: Any, adapter: Any = None):
        super().__init__()
        self.module, self.output, self.own_lm, self.adapter = module, output, lm, adapter
        for step in self._steps():
            step.lm = lm

    def _steps(self) -> list[Any]:
        """All predictors, those that DSPy holds for frozen too."""
        return [step for _, step in self.module.named_sub_modules(dspy.Predict)]

    def state(self) -> State:
        return state_of(self.module)

    def forward(self, **inputs: Any) -> dspy.Prediction:
        for step in self._steps():
            step.lm = step.lm or self.own_lm  # DSPy's `reset` has it forgotten
        given, answer, error = None, None, None
        own = {"lm": self.own_lm, "adapter": self.adapter, "callbacks": []}  # those of a search
        with dspy.context(**own), listening() as heard:
            try:
                given = self.module(**inputs)
                answer = _text(given, self.output)
            except AdapterParseError as unread:
                text = unread.lm_response or ""
            except (Exception, SystemExit) as raised:  # whatever a program does is data
                text, error = "", raised
            else:
                text = answer
        found = given if isinstance(given, dspy.Prediction) and answer is not None else None
        found = dspy.Prediction(**{self.output: answer or ""}) if found is None else found
        found._asked = Ran(self.state(), answer, _completion(text, heard), error, self._is_usual())
        return found

    def _is_usual(self) -> bool:
        own = self.own_lm.kwargs
        return all(step.lm is None or step.lm.kwargs == own for step in self._steps())


def _text(given: Any, output: str) -> str:
    """Raises TypeError for what holds no such output."""
    if not isinstance(given, dspy.Prediction) or output not in given:
        what = f"no {output!r}" if isinstance(given, dspy.Prediction) else type(given).__name__
        raise TypeError(f"forward returned {what}; return dspy.Prediction({output}=...)")
    return given[output] if isinstance(given[output], str) else str(given[output])


def _completion(text: str, heard: Sequence[Answer]) -> Completion:
    finish = heard[-1].finish_reason if heard else "stop"
    asked, said = (
        sum(getattr(answer, name) for answer in heard)
        for name in ("prompt_tokens", "completion_tokens")
    )
    return Completion(text, (), (), finish, asked, said)


@dataclass(frozen=True)
class Source:
    """Where a program comes from: `file`, the `name` in it, and the state it begins with."""

    file: Path
    name: str
    output: str
    module: dspy.Module
    adapter: Any
    state: State

    def built(self, lm: Any, state: State | None = None) -> Program:
        """The program with `state`, else its own. Signatures are copies: DSPy writes into them."""
        share_bars()
        module = self._module(state or self.state)
        return Program(module, self.output, lm, self.adapter)

    def save(self, folder: Path, state: State) -> None:
        """Source, what it imports from beside itself, and state; `Solve().load("state.json")`
        reads the state in plain DSPy."""
        with staged_folder(folder) as draft:
            for file in (self.file, *neighbours([self.file])):
                target = draft / file.resolve().relative_to(self.file.resolve().parent)
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(file, target)
            self._module(state).save(draft / STATE)
            told = {"file": self.file.name, "name": self.name}
            (draft / ENTRY).write_text(json.dumps(told), encoding="utf-8")

    def _module(self, state: State) -> dspy.Module:
        module = self.module.deepcopy()
        for name, step in module.named_predictors():
            step.load_state(state.steps[name])
        return module


def state_of(module: dspy.Module) -> State:
    return State.of({name: _dumped(step) for name, step in module.named_predictors()})


def _dumped(step: dspy.Predict) -> dict[str, Any]:
    """Without its LM, which is ours and no part of the program."""
    bare = copy.copy(step)
    bare.lm = None
    return bare.dump_state()


def find_program(name: str, frame: Prompt) -> Prompt | Source:
    """What `my_program.py:Solve` names: the prompt it comes down to, or a program of several steps.

    Raises TaskError in one line when there is none, or its fields are not those of `frame`.
    """
    match = re.fullmatch(r"(.+\.py):(\w+)", name)
    if match is None:
        raise TaskError(f"program {name!r}: names no class; write my_program.py:Solve")
    source = _source(Path(match[1]).expanduser(), match[2], frame)
    return bare_prompt(source.module, frame) or source


def kept_program(folder: Path, frame: Prompt) -> Source:
    """What `Source.save` has written. Raises TaskError when it cannot be read."""
    try:
        told = json.loads((folder / ENTRY).read_text(encoding="utf-8"))
        source = _source(folder / told["file"], told["name"], frame)
        source.module.load(folder / STATE)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise TaskError(f"{folder}: holds no program of ours ({error})") from None
    return replace(source, state=state_of(source.module))


def _source(file: Path, name: str, frame: Prompt) -> Source:
    where = f"program {file}:{name}"
    with _own_settings() as own:
        found = import_file(file)
        if not hasattr(found, name):
            hint = nearest(name, own_names(found))
            raise TaskError(f"{where}: {file.name} defines no {name!r}{hint}; name a dspy.Module")
        module = getattr(found, name)
        if inspect.isclass(module) or inspect.isroutine(module):
            module = guarded(module, str(file))
        adapter = own.get("adapter")
    if not isinstance(module, dspy.Module):
        kind = type(module).__name__
        raise TaskError(f"{where}: is a {kind}, no dspy.Module; name one, or what makes one")
    module._compiled = False  # or DSPy takes it for frozen
    if not module.predictors():
        raise TaskError(f"{where}: has no dspy.Predict to optimize; give it one")
    _check_fields(module, where, frame)
    return Source(file, name, frame.output, module, adapter, state_of(module))


@contextmanager
def _own_settings() -> Iterator[Mapping[str, Any]]:
    """What a file sets with `dspy.configure` counts for its program, not for the whole process."""
    config: Any = main_thread_config
    before = dict(config)
    config["adapter"] = None
    try:
        yield config
    finally:
        config.clear()
        config.update(before)


def _check_fields(module: dspy.Module, where: str, frame: Prompt) -> None:
    """Raises TaskError when `module` cannot be called with the task's inputs, or a predictor that
    stands alone does not give its output."""
    wanted = f"{', '.join(frame.inputs)} -> {frame.output}"
    step: Any = module.predict if type(module) is dspy.ChainOfThought else module
    if isinstance(step, dspy.Predict):
        signature: Any = step.signature
        given, found = signature.input_fields, signature.output_fields
        needed = {name for name, info in given.items() if info.is_required()}
        if not needed <= set(frame.inputs) <= set(given) or frame.output not in found:
            fields = f"{', '.join(given)} -> {', '.join(found)}"
            raise TaskError(
                f"{where}: its fields are {fields}, the task's are {wanted}; match them"
            )
        return
    forward: Any = getattr(type(module), "forward", None)  # of an instance, DSPy warns
    try:
        inspect.signature(forward).bind(module, **dict.fromkeys(frame.inputs, ""))
    except TypeError as error:
        told = "it has no forward" if forward is None else f"forward: {error}"
        raise TaskError(f"{where}: {told}; the task's fields are {wanted}, match them") from None
