"""What an optimizer may move in a program of several steps, as text: its state.

Per step, by name: signature (instruction, prefixes, descriptions) and demos, as DSPy saves them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from tasks.types import Demo, Prompt


@dataclass(frozen=True)
class State:
    """The state of a program. `text` is its JSON; equal programs have equal texts."""

    text: str

    @classmethod
    def of(cls, dumped: Mapping[str, Mapping[str, Any]]) -> State:
        """From what `dspy.Predict.dump_state` returns of each step. Raises TypeError for a demo
        that no JSON holds."""
        kept = {
            name: {key: step[key] for key in _KEPT if key in step}
            | {"demos": [_without_marks(demo) for demo in step["demos"]]}
            for name, step in dumped.items()
        }
        return cls(json.dumps(kept, ensure_ascii=False))

    def to_json(self) -> str:
        return self.text

    @cached_property
    def steps(self) -> dict[str, dict[str, Any]]:
        """By name, as `dspy.Predict.load_state` wants them."""
        return {
            name: {**step, "traces": [], "train": [], "lm": None}
            for name, step in json.loads(self.text).items()
        }

    @cached_property
    def demos(self) -> list[dict[str, Any]]:
        """Those of all steps."""
        return [demo for step in self.steps.values() for demo in step["demos"]]

    def without_demos(self) -> State:
        return State.of({name: {**step, "demos": []} for name, step in self.steps.items()})

    def as_prompt(self, frame: Prompt) -> Prompt:
        """What the steps say, as far as a prompt can: all instructions in one, and the demos that
        hold the inputs of `frame`, with whatever else is in them as output."""
        said = "\n".join(step["signature"]["instructions"] for step in self.steps.values())
        whole = [demo for demo in self.demos if demo.keys() >= set(frame.inputs)]
        shown = [
            Demo({name: str(demo[name]) for name in frame.inputs}, _rest(demo, frame))
            for demo in whole
        ]
        return Prompt(said, frame.inputs, frame.output, tuple(shown))

    def other_texts(self, frame: Prompt) -> list[str]:
        """The demos that `as_prompt` leaves out: those of steps that do not see the question."""
        return [_rest(d, frame) for d in self.demos if not d.keys() >= set(frame.inputs)]


_KEPT = ("signature", "demos", "fields")


def _without_marks(demo: Mapping[str, Any]) -> dict[str, Any]:
    """Without what is no field, as DSPy has it: a name that begins with `dspy_` (`Bench.case`)."""
    return {name: value for name, value in demo.items() if not name.startswith("dspy_")}


def _rest(demo: Mapping[str, Any], frame: Prompt) -> str:
    left = (name for name in demo if name not in frame.inputs and name != "augmented")
    return "\n".join(str(demo[name]) for name in left)
