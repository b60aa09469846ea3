"""The types every room shares: what is asked, what counts as right, and how the question is put.

Standard library only, so that naming a task costs nothing. The instruction lives in the `Prompt`,
never in an example's inputs: that is what lets a prompt optimizer move it while RL trains on the
very same examples.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Protocol, runtime_checkable

from tasks.images import Image, images_of
from tasks.neighbours import most_alike

# `role` and `content`: a text, or parts where pictures are shown, {"type": "text", "text": …} and
# {"type": "image", "image": an `Image`}.
Message = dict[str, Any]
# An answer in several turns, as `lm.turns` writes it and a scorer reads it (docs/tools.md).
Transcript = Sequence[Mapping[str, Any]]
SplitName = Literal["train", "dev", "test"]
SPLITS: tuple[SplitName, ...] = ("train", "dev", "test")


class TaskError(ValueError):
    """A task that cannot be used. One line: what, where, what to write instead."""


@dataclass(frozen=True)
class Example:
    """One question. `inputs` maps field name to text or an `Image`, `meta` holds features used for
    slices."""

    id: str
    inputs: Mapping[str, str]
    answer: str
    meta: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Score:
    """What the task says of one answer.

    `value` is in [0, 1]; `failure` is one of the task's failure classes, None when correct;
    `feedback` is a sentence for reflective optimizers; `answer` is what was extracted. Where the
    task scores by several tests of its own, `tests` is the share of them that hold.
    """

    value: float
    correct: bool
    failure: str | None = None
    feedback: str = ""
    answer: str = ""
    tests: float | None = None


@runtime_checkable
class Task(Protocol):
    """A task: subclass this or match its shape. Only `split` and `score` need writing.

    `inputs` and `output` name the fields. `failure_classes` maps each class `score` may return to
    one sentence that says what it means. `format_failures` are those of them where the answer is
    not of the form asked for, so that it shows nothing of what the model can do.
    """

    name: str
    instruction: str
    inputs: tuple[str, ...] = ("input",)
    output: str = "answer"
    failure_classes: Mapping[str, str] = {}
    format_failures: Collection[str] = ()
    tools: Sequence[Callable[..., Any]] = ()
    max_turns: int = 4

    def split(self, name: SplitName) -> Sequence[Example]:
        """The examples of one split, in a fixed order, the same at every call."""
        ...

    def score(self, example: Example, text: str) -> Score:
        """Score the answer `text`. Must not raise, whatever the text holds."""
        ...

    def tools_for(self, example: Example) -> Sequence[Callable[..., Any]]:
        """The tools as this example has them: the names and signatures of `tools`."""
        return self.tools

    def score_transcript(self, example: Example, transcript: Transcript) -> Score:
        """Score an answer with its calls (`tasks.tools.calls_of` reads them); its last text is what
        `score` would get: here an empty one where the answer ends with a call. Must not raise."""
        from tasks.tools import unanswered

        said = "" if unanswered(transcript) else str(transcript[-1]["content"])
        return self.score(example, said)

    def demonstration(self, example: Example) -> Transcript:
        """The assistant's turns of a right answer, for `sft` to learn from: calls as
        `tasks.tools.calling` writes them, then the answer. Results come from the tools."""
        return [{"role": "assistant", "content": example.answer}]


@dataclass(frozen=True)
class Demo:
    """One worked example inside a prompt. `reasoning` is shown in the `cot` style only.

    `turns` stand between question and answer where tools were used: the assistant's, with
    `tool_calls` unless `content` holds them as a model has written them, and what tools said.
    """

    inputs: Mapping[str, str]
    output: str
    reasoning: str = ""
    turns: tuple[Mapping[str, Any], ...] = ()


def _told(turn: Mapping[str, Any]) -> Message:
    if calls := turn.get("tool_calls"):
        content = json.dumps({"content": turn["content"], "calls": calls}, ensure_ascii=False)
        return {"role": "calls", "content": content}
    return {"role": turn["role"], "content": turn["content"]}


Style = Literal["direct", "cot"]
COT_REQUEST = "Think step by step. Then write the final answer on a last line that starts with"


@dataclass(frozen=True)
class Prompt:
    """How a question is put. RL, DSPy and the evaluator all send the bytes `messages` returns.

    With `nearest`, a question is shown only so many of the demos, those most like it; never a demo
    of the question itself. `tools` are the schemas of the functions that may be called: a message
    of their own, in front, which a chat template has its way of showing (lm/rendering.py).
    """

    instruction: str
    inputs: tuple[str, ...] = ("input",)
    output: str = "answer"
    demos: tuple[Demo, ...] = ()
    style: Style = "direct"
    nearest: int | None = None
    tools: tuple[Mapping[str, Any], ...] = ()

    @classmethod
    def of(cls, task: Task) -> Prompt:
        """The task's own prompt: its instruction and tools, no demos."""
        from tasks.tools import schema_of

        schemas = tuple(schema_of(tool) for tool in getattr(task, "tools", ()))
        return cls(task.instruction, tuple(task.inputs), task.output, tools=schemas)

    def with_demos(self, demos: Sequence[Demo]) -> Prompt:
        return replace(self, demos=tuple(demos))

    @property
    def marker(self) -> str:
        """What the line with the final answer starts with in the `cot` style."""
        return f"{self.output.capitalize()}:"

    def messages(self, inputs: Mapping[str, str]) -> list[Message]:
        """The chat for one question: tools, system instruction, demos as turns, the question.

        Where a demo calls tools, a message of role `calls` holds the calls as JSON, which
        lm/tool_calls.py writes as the model does, and one of role `tool` a result.
        """
        system = self.instruction
        if self.style == "cot":
            system = f'{system}\n{COT_REQUEST} "{self.marker}".'.lstrip()
        chat: list[Message] = []
        chat += [{"role": "tools", "content": json.dumps(self.tools)}] if self.tools else []
        chat += [{"role": "system", "content": system}] if system else []
        for demo in self._shown(inputs):
            chat.append({"role": "user", "content": self._content(demo.inputs)})
            chat += map(_told, demo.turns if self.tools else ())
            chat.append({"role": "assistant", "content": self.reply(demo)})
        return [*chat, {"role": "user", "content": self._content(inputs)}]

    def _shown(self, inputs: Mapping[str, str]) -> Sequence[Demo]:
        if self.nearest is None:
            return self.demos
        asked = tuple(self._question(demo.inputs) for demo in self.demos)
        return [self.demos[i] for i in most_alike(asked, self._question(inputs), self.nearest)]

    def extract(self, text: str) -> str | None:
        """The answer inside a reply; None when a `cot` reply never names one."""
        if self.style == "direct":
            return text.strip()
        _, found, answer = text.rpartition(self.marker)
        return answer.strip() if found else None

    def _content(self, inputs: Mapping[str, str]) -> str | list[dict[str, Any]]:
        """The question; in parts where there are pictures, in the order of the fields."""
        if not images_of({name: inputs[name] for name in self.inputs}):
            return self._question(inputs)
        parts: list[dict[str, Any]] = []
        for name in self.inputs:
            value, label = inputs[name], f"{name.capitalize()}: " if len(self.inputs) > 1 else ""
            if isinstance(value, Image):
                parts += [{"type": "text", "text": label}] if label else []
                parts.append({"type": "image", "image": value})
            else:
                parts.append({"type": "text", "text": f"{label}{value}"})
        return parts

    def _question(self, inputs: Mapping[str, str]) -> str:
        if len(self.inputs) == 1:
            return inputs[self.inputs[0]]
        return "\n".join(f"{name.capitalize()}: {inputs[name]}" for name in self.inputs)

    def reply(self, demo: Demo) -> str:
        """What the assistant says in a demo; without reasoning, `cot` has its last line alone."""
        if self.style == "direct":
            return demo.output
        return f"{demo.reasoning}\n{self.marker} {demo.output}".lstrip()

    def to_json(self) -> str:
        demos = [
            {"inputs": dict(d.inputs), "output": d.output, "reasoning": d.reasoning}
            | ({"turns": list(d.turns)} if d.turns else {})
            for d in self.demos
        ]
        chosen: dict[str, Any] = {} if self.nearest is None else {"nearest": self.nearest}
        chosen |= {"tools": list(self.tools)} if self.tools else {}
        return json.dumps(
            {
                "instruction": self.instruction,
                "inputs": list(self.inputs),
                "output": self.output,
                "style": self.style,
                **chosen,
                "demos": demos,
            },
            ensure_ascii=False,
            indent=1,
        )

    @classmethod
    def from_json(cls, text: str) -> Prompt:
        """Inverse of `to_json`. Raises KeyError or TypeError on JSON of another shape."""
        raw = json.loads(text)
        return cls(
            instruction=raw["instruction"],
            inputs=tuple(raw["inputs"]),
            output=raw["output"],
            demos=tuple(Demo(**{**d, "turns": tuple(d.get("turns", ()))}) for d in raw["demos"]),
            style=raw["style"],
            nearest=raw.get("nearest"),
            tools=tuple(raw.get("tools", ())),
        )
