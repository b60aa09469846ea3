"""A `Prompt` as a DSPy program and back, sending the very bytes the evaluator will send.

DSPy's own adapters wrap a question in field markers a small model drowns in. `PlainAdapter` lets
`Prompt.messages` render and `Prompt.extract` read, so prompts found here mean the same elsewhere.
It is set inside `PlainPredict.forward` only: the modules an optimizer brings along (proposers,
summarizers) need DSPy's markers and break under a global plain adapter.
"""

from __future__ import annotations

import keyword
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import dspy
from dspy.lm15 import Config, Request, Response

from lm.types import Completion
from prompt_opt.acting import Acted, acted, completion_of, offered, sent
from tasks.types import Demo, Prompt, TaskError

ASKED = "tasklift/asked"  # among an adapter's outputs; no field can have such a name
REASONING = "reasoning"
# Names DSPy's Predict or Example take as arguments of their own.
_TAKEN = {
    *("self", "completions", "signature", "new_signature", "demos", "config", "lm", "prediction"),
    *("base", "augmented"),
}


@dataclass(frozen=True)
class Asked:
    """What a prediction came from. The completion is without token ids."""

    prompt: Prompt
    completion: Completion
    temperature: float
    rollout: int | None  # DSPy's rollout id: one of several draws


def asked(prediction: dspy.Prediction) -> Any:
    """What lies behind a prediction: `Asked` of a `PlainPredict`, `Ran` of a `Program`."""
    return prediction._asked  # type: ignore[reportAttributeAccessIssue]


def signature_of(prompt: Prompt) -> type[dspy.Signature]:
    """The fields and instruction of `prompt`; in the `cot` style the output has a reasoning.

    Raises TaskError for a field name that DSPy cannot take.
    """
    outputs = [REASONING, prompt.output] if prompt.style == "cot" else [prompt.output]
    names = [*prompt.inputs, *outputs]
    for name in names:
        if not _can_be_field(name) or names.count(name) > 1:
            raise TaskError(f"prompt methods: DSPy cannot take a field {name!r}; rename it")
    fields: dict[str, Any] = {name: (str, dspy.InputField()) for name in prompt.inputs}
    fields |= {name: (str, dspy.OutputField()) for name in outputs}
    return dspy.Signature(fields, prompt.instruction)  # type: ignore[reportReturnType]


def _can_be_field(name: str) -> bool:
    plain = name.isidentifier() and not name.startswith(("_", "dspy_", "model_"))
    return plain and not (
        keyword.iskeyword(name) or name in _TAKEN or hasattr(dspy.Signature, name)
    )


class PlainAdapter(dspy.ChatAdapter):
    """Renders and reads as `frame` does, with the instruction and demos DSPy hands over.

    DSPy's weight optimizers take it (`adapter=program.adapter`), and only because it is a
    `ChatAdapter` by descent: none of that class's rendering is left.
    """

    def __init__(self, frame: Prompt):
        super().__init__()
        self.frame = frame.with_demos(())
        self._instruction = signature_of(frame).instructions

    def prompt(self, signature: type[dspy.Signature], demos: Sequence[Any]) -> Prompt:
        """What is asked with this signature and these demos.

        DSPy strips and dedents an instruction, and replaces an empty one: as long as no optimizer
        has touched it, the frame's own wording stands.
        """
        asked = signature.instructions
        instruction = self.frame.instruction if asked == self._instruction else asked
        shown = tuple(demo_of(self.frame, demo) for demo in demos)
        return replace(self.frame, instruction=instruction, demos=shown)

    def format(
        self, signature: type[dspy.Signature], demos: list[Any], inputs: dict[str, Any]
    ) -> list[dict[str, Any]]:
        return self.prompt(signature, demos).messages(inputs)

    def format_finetune_data(
        self,
        signature: type[dspy.Signature],
        demos: list[Any],
        inputs: dict[str, Any],
        outputs: Any,
    ) -> dict[str, list[Any]]:
        """The chat and the answer to train on: as the model wrote it, where `outputs` tells."""
        behind = vars(outputs).get("_asked") if isinstance(outputs, dspy.Prediction) else None
        demo = demo_of(self.frame, {**dict(inputs), **dict(outputs.items())})
        text = behind.completion.text if isinstance(behind, Asked) else self.frame.reply(demo)
        answer = {"role": "assistant", "content": text}
        return {"messages": [*self.format(signature, demos, inputs), answer]}

    def parse(self, signature: type[dspy.Signature], completion: str) -> dict[str, Any]:
        return self._read(completion)

    def _read(self, completion: str) -> dict[str, Any]:
        """The output fields. A `cot` reply that names no answer has an empty one: it is judged
        wrong, where an exception would make DSPy ask again in another format."""
        answer = self.frame.extract(completion) or ""
        if self.frame.style == "direct":
            return {self.frame.output: answer}
        before, found, after = completion.rpartition(self.frame.marker)
        return {REASONING: (before if found else after).strip(), self.frame.output: answer}

    def __call__(
        self,
        lm: Any,
        lm_kwargs: dict[str, Any],
        signature: type[dspy.Signature],
        demos: list[Any],
        inputs: dict[str, Any],
    ) -> list[dict[str, Any]]:
        prompt = self.prompt(signature, demos)
        request = request_of(lm, lm_kwargs, prompt.messages(inputs))
        response = lm(request, **_outside_request(lm_kwargs))
        return [self._outputs(prompt, request, response, _rollout(lm, lm_kwargs))]

    async def acall(
        self,
        lm: Any,
        lm_kwargs: dict[str, Any],
        signature: type[dspy.Signature],
        demos: list[Any],
        inputs: dict[str, Any],
    ) -> list[dict[str, Any]]:
        prompt = self.prompt(signature, demos)
        request = request_of(lm, lm_kwargs, prompt.messages(inputs))
        response = await lm.acall(request, **_outside_request(lm_kwargs))
        return [self._outputs(prompt, request, response, _rollout(lm, lm_kwargs))]

    def _outputs(
        self, prompt: Prompt, request: Request, response: Response, rollout: int | None
    ) -> dict[str, Any]:
        raw = completion_of(response)
        temperature = request.config.temperature or 0.0
        read = self._read(raw.text)
        read[self.frame.output] = acted(read[self.frame.output], raw.transcript)
        return {**read, ASKED: Asked(prompt, raw, temperature, rollout)}


class PlainPredict(dspy.Predict):
    """A `dspy.Predict` that asks as `prompt` asks. Its saved state loads into a `dspy.Predict`.

    `asked(prediction)` tells what lies behind a prediction; its fields are the signature's alone,
    since optimizers copy them all into demos and into what they show a proposer.
    """

    own_lm: Any = None

    def __init__(self, prompt: Prompt, lm: Any = None):
        super().__init__(signature_of(prompt))
        self.adapter = PlainAdapter(prompt)
        self.own_lm = self.lm = lm  # None: DSPy's `settings.lm`
        self.demos = [_dspy_demo(prompt, demo) for demo in prompt.demos]

    def reset(self) -> None:
        """As DSPy's, which forgets the LM as well: around a search the default one proposes."""
        super().reset()
        self.lm = self.own_lm

    def forward(self, **kwargs: Any) -> Any:
        with dspy.context(adapter=self.adapter):
            return _with_origin(super().forward(**kwargs))

    async def aforward(self, **kwargs: Any) -> Any:
        with dspy.context(adapter=self.adapter):
            return _with_origin(await super().aforward(**kwargs))


def _with_origin(prediction: Any) -> Any:
    prediction._asked = prediction._store.pop(ASKED)
    prediction._completions._completions.pop(ASKED)
    return prediction


def prompt_of(program: PlainPredict) -> Prompt:
    """The prompt a program asks with, whatever optimizer has moved it."""
    signature: Any = program.signature
    return program.adapter.prompt(signature, program.demos)


def demo_of(frame: Prompt, demo: Any) -> Demo:
    """From a dict or a dspy.Example, which may hold more than the fields."""
    reasoning = (demo.get(REASONING) or "") if frame.style == "cot" else ""
    inputs, output = {name: demo[name] for name in frame.inputs}, demo[frame.output]
    turns = output.turns if isinstance(output, Acted) else ()
    return Demo(inputs, str(output), reasoning, turns)


def _dspy_demo(prompt: Prompt, demo: Demo) -> dspy.Example:
    output = Acted(demo.output, demo.turns) if demo.turns else demo.output
    fields: Mapping[str, str] = {**demo.inputs, prompt.output: output}
    return dspy.Example({**fields, REASONING: demo.reasoning} if prompt.style == "cot" else fields)


def request_of(lm: Any, lm_kwargs: Mapping[str, Any], chat: list[dict[str, Any]]) -> Request:
    """`chat` as `lm` is asked it; options of the call come before the LM's own."""
    settings = {**lm.kwargs, **lm_kwargs}
    names = ("temperature", "max_tokens", "top_p", "top_k", "stop")
    wanted = {name: settings[name] for name in names if settings.get(name) is not None}
    tools, chat = offered(chat), [m for m in chat if m["role"] != "tools"]
    system = chat[0]["content"] if chat[0]["role"] == "system" else None
    turns = tuple(sent(message) for message in chat if message["role"] != "system")
    return Request(lm.model, messages=turns, system=system, tools=tools, config=Config(**wanted))


def _rollout(lm: Any, lm_kwargs: Mapping[str, Any]) -> int | None:
    return lm_kwargs.get("rollout_id", lm.kwargs.get("rollout_id"))


def _outside_request(lm_kwargs: Mapping[str, Any]) -> dict[str, Any]:
    return {name: lm_kwargs[name] for name in ("rollout_id", "cache") if name in lm_kwargs}
