"""`tasklift chat RUN:ARM`: talk to a tuned policy, asked just as the run asks it.

In a terminal the fields of a question are asked one by one; from a pipe every line is a question
and gets a line back, so that two files can be laid side by side.
"""

from __future__ import annotations

import json
import sys
from argparse import Namespace
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from evaluation.environment import Environment, scoring
from evaluation.types import ScoreFunction
from experiments.asking import ask_all
from experiments.errors import SpecError
from experiments.locate import locate_task
from experiments.progress import Silence
from experiments.reading import read_mapping
from experiments.saved import Saved, policy_of_arm
from experiments.spec import parse_spec
from experiments.store import RunFolder
from lm.types import Chat, LanguageModel, ModelError, PromptTooLong, Sampling
from reports.escape import plain
from tasks.load import load_task
from tasks.sandbox import settle
from tasks.text import shorten
from tasks.tools import calls_of
from tasks.types import Example, Message, Prompt, Score

LONGEST = 10**6  # characters of an answer on one line
NEW = "/new"


def chat(options: Namespace) -> int:
    """Raises SpecError for an arm that is not there, or a line that is no question."""
    path, arm = named_arm(options.arm)
    saved = policy_of_arm(path, arm, options.seed)
    if options.raw:
        refuse_raw(saved, arm)
    sampling = replace(saved.sampling, n=1)
    if options.max_tokens:
        sampling = replace(sampling, max_tokens=options.max_tokens)
    model = _loaded(saved, options.device or saved.model.device)
    with TemporaryDirectory() as scratch:
        if options.raw:
            talk = Talk(model, sampling)
            _converse(talk) if sys.stdin.isatty() else _pipe(talk.say)
        else:
            score = _scoring(path) if saved.policy.prompt.tools else _unknown
            asked = Asked(model, saved, sampling, Path(scratch), score)
            _interview(asked, arm) if sys.stdin.isatty() else _pipe(asked.line)
    return 0


def named_arm(text: str) -> tuple[Path, str]:
    """The run folder and the arm in `RUN:ARM` or `RUN/ARM`. Raises SpecError."""
    for mark in (":", "/"):
        run, found, arm = text.rpartition(mark)
        if found and arm and (Path(run) / "arms.json").exists():
            return Path(run), arm
    if (Path(text.rstrip(":/")) / "arms.json").exists():
        folder = RunFolder(Path(text.rstrip(":/")))
        names = ", ".join(dict.fromkeys(entry["arm"] for entry in folder.arms())) or "none yet"
        raise SpecError(f"chat: which arm of {folder.path}? write {folder.path}:ARM, of {names}")
    raise SpecError(f"chat: {text!r} names no arm of a run; write it like runs/<name>:ARM")


def refuse_raw(saved: Saved, arm: str) -> None:
    """Raises SpecError where an arm is more than weights, so that nothing is left to talk to."""
    policy = saved.policy
    if policy.program is not None or policy.best_of is not None:
        what = "a program of several steps" if policy.program else "the best of several answers"
        raise SpecError(f"chat: arm {arm!r} answers by {what}; leave out --raw")


def _unknown(example: Example, said: Any) -> Score:
    """Nobody knows what is right here."""
    return Score(0.0, False)


class Asked:
    """Answers questions as the evaluator would, whether a prompt asks, a program, or best_of."""

    def __init__(
        self,
        model: LanguageModel,
        saved: Saved,
        sampling: Sampling,
        scratch: Path,
        score: ScoreFunction = _unknown,
    ):
        self.model, self.policy, self.sampling = model, saved.policy, sampling
        self.scratch, self.score, self.count = scratch, score, 0
        self.calls: list[str] = []  # of tools, for the newest answer, as they are shown

    def answer(self, inputs: Mapping[str, str]) -> str:
        """What the model says. Raises ModelError when the question is too long for it."""
        self.count += 1
        records = ask_all(
            self.model,
            self.policy,
            [Example(f"chat-{self.count}", inputs, "")],
            self.score,
            self.sampling,
            split="chat",
            folder=self.scratch,
            progress=Silence(),
        )
        self.calls = called(json.loads(records[0].transcript or "[]"))
        return records[0].text

    def line(self, text: str) -> str:
        """The answer that counts, out of what the model says to one line of a file."""
        said = self.answer(fields_of(text, self.policy.prompt))
        extracted = self.policy.prompt.extract(said)
        return said.strip() if extracted is None else extracted


class Talk:
    """A free conversation with the weights alone, which remembers what was said."""

    def __init__(self, model: LanguageModel, sampling: Sampling):
        self.model, self.sampling = model, sampling
        self.said: list[Message] = []

    def say(self, text: str) -> str:
        """The reply. A conversation that has outgrown the model's window begins anew."""
        try:
            return self._reply([*self.said, {"role": "user", "content": text}])
        except PromptTooLong as error:
            if not self.said:
                raise ModelError(str(error)) from None
            print("(too long for the model's window; begun anew)", file=sys.stderr)
            return self._reply([{"role": "user", "content": text}])

    def _reply(self, chat: Chat) -> str:
        [[completion]] = self.model.generate([chat], self.sampling, "eval")
        self.said = [*chat, {"role": "assistant", "content": completion.text}]
        return completion.text


def fields_of(text: str, prompt: Prompt) -> dict[str, str]:
    """The fields of a question on one line: the line itself, or a JSON object where there are
    several. Raises SpecError."""
    if len(prompt.inputs) == 1:
        return {prompt.inputs[0]: text}
    shape = "{" + ", ".join(f'"{name}": "…"' for name in prompt.inputs) + "}"
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    if (
        not isinstance(found, dict)
        or set(found) != set(prompt.inputs)
        or not all(isinstance(value, str) for value in found.values())
    ):
        raise SpecError(f"is no question; write {shape}")
    return found


def _pipe(answer: Callable[[str], str]) -> None:
    """One line out for each line in, an empty one for an empty one; where a question is too long,
    the reason in parentheses."""
    for number, text in enumerate(sys.stdin, 1):
        question = text.rstrip("\r\n")
        try:
            said = answer(question) if question.strip() else ""
        except SpecError as error:
            raise SpecError(f"chat: line {number} {error}") from None
        except ModelError as error:
            said = f"({error})"
        print(plain(said, LONGEST), flush=True)


def _interview(asked: Asked, arm: str) -> None:
    names = asked.policy.prompt.inputs
    print(f"{arm}: asks for {', '.join(names)}; Ctrl-D ends it")
    for inputs in _typed(names):
        _show(lambda given=inputs: asked.answer(given), asked)


def _typed(names: tuple[str, ...]) -> Iterator[dict[str, str]]:
    """Questions from the keyboard, until it ends; an empty first field is asked again."""
    try:
        while True:
            first = input(f"{names[0]}: ")
            if first.strip():
                yield {names[0]: first, **{name: input(f"{name}: ") for name in names[1:]}}
    except (EOFError, KeyboardInterrupt):
        print()


def _converse(talk: Talk) -> None:
    print(f"free chat, without the arm's prompt; {NEW} forgets what was said, Ctrl-D ends it")
    for typed in _typed(("you",)):
        if typed["you"].strip() == NEW:
            talk.said = []
        else:
            _show(lambda text=typed["you"]: talk.say(text))


def _show(answer: Callable[[], str], asked: Asked | None = None) -> None:
    """Print an answer, its lines as they are, and before it the calls of tools; a question that is
    too long is said to be."""
    try:
        said = answer()
    except ModelError as error:
        said = f"({error})"
    for call in asked.calls if asked else ():
        print(f"  {plain(call, LONGEST)}")
    print("\n".join(f"> {plain(part, LONGEST)}" for part in said.split("\n")), flush=True)


def _loaded(saved: Saved, device: str) -> LanguageModel:
    from lm.hf import load_model

    return load_model(
        saved.policy.source,
        adapter=saved.policy.adapter,
        device=device,
        dtype=saved.policy.dtype(saved.model.dtype),
        quantization=saved.policy.quantization,
    )


def called(transcript: Sequence[Mapping[str, Any]]) -> list[str]:
    """A line for each call: the tool, its arguments, what it said."""
    lines = []
    for call in calls_of(transcript):
        given = ", ".join(f"{name}={value!r}" for name, value in call.arguments.items())
        lines.append(f"{call.name or 'malformed call'}({given}): {shorten(call.result)}")
    return lines


def _scoring(run: Path) -> ScoreFunction:
    """The task of a run, for its tools. Raises TaskError and SpecError."""
    spec = parse_spec(read_mapping(run / "spec.yaml"), str(run / "spec.yaml"))
    told = RunFolder(run).read("run.json")
    task = load_task(locate_task(spec.task, run / told.get("base", ".")))
    settle(task, spec.sandbox.allow_missing if spec.sandbox else ())
    score = scoring(task)
    if not isinstance(score, Environment):
        raise SpecError(f"chat: the task {spec.task!r} has no tools any more; run the spec again")
    return replace(score, score=_unknown, of_transcript=_unknown)
