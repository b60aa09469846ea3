"""Taking a policy out of a run folder, to be asked again just as the run asked it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from evaluation.types import Policy
from experiments.errors import SpecError
from experiments.locate import locate_model
from experiments.pictures import check_model
from experiments.reading import read_mapping
from experiments.spec import ModelSpec, parse_spec
from experiments.store import RunFolder, damaged
from lm.source import resolve, weights_fingerprint
from lm.types import LanguageModel, Sampling
from tasks.types import Example, Prompt, Task


@dataclass(frozen=True)
class Saved:
    """A policy and how to ask it; `model.source` is where its weights are on this machine."""

    policy: Policy
    model: ModelSpec
    sampling: Sampling
    seed: int = 0


def policy_of_arm(path: Path, arm: str, seed: int | None = None) -> Saved:
    """The policy of an arm, of its first seed when none is given.

    Raises SpecError when it, or its model, is not there.
    """
    if not (path / "arms.json").exists():
        raise SpecError(f"{path}: is no run folder; name one, such as runs/<name>")
    folder = RunFolder(path)
    entries = [entry for entry in folder.arms() if entry["eval"]]
    of_arm = [entry for entry in entries if entry["arm"] == arm]
    if not of_arm:
        known = ", ".join(dict.fromkeys(entry["arm"] for entry in entries)) or "none yet"
        raise SpecError(f"{path}: no evaluated arm {arm!r}; there is {known}")
    chosen = next((entry for entry in of_arm if seed in (None, entry["seed"])), None)
    if chosen is None:
        known = ", ".join(str(entry["seed"]) for entry in of_arm)
        raise SpecError(f"{path}: arm {arm!r} was not run with seed {seed}; there is {known}")
    spec = parse_spec(read_mapping(path / "spec.yaml"), str(path / "spec.yaml"))
    told = folder.read("run.json")
    source = locate_model(spec.model.source, path / told.get("base", "."))
    if weights_fingerprint(resolve(source)) != told.get("model_fingerprint"):
        raise SpecError(f"{path}: {source!r} holds other weights than this run began with")
    if chosen["stages"]:
        policy = folder.load_policy(chosen["stages"][-1], source)
    else:
        prompt = Prompt.from_json(_start_prompt(folder))
        policy = Policy(source, prompt if spec.has_tools(arm) else replace(prompt, tools=()))
    model = spec.model.model_copy(update={"source": source})
    return Saved(policy, model, spec.sampling.build(), chosen["seed"])


def opened(saved: Saved, task: Task, examples: Sequence[Example]) -> LanguageModel:
    """Load what answers `examples`. Raises ModelError."""
    policy, model = saved.policy, saved.model
    if check_model(policy.source, resolve(policy.source), task, examples):
        from lm.vision import load_vision_model

        return load_vision_model(
            policy.source, device=model.device, dtype=policy.dtype(model.dtype)
        )
    from lm.hf import load_model

    return load_model(
        policy.source,
        adapter=policy.adapter,
        device=model.device,
        dtype=policy.dtype(model.dtype),
        quantization=policy.quantization,
    )


def _start_prompt(folder: RunFolder) -> str:
    try:
        return (folder.path / "prompt.json").read_text(encoding="utf-8")
    except OSError as error:
        raise damaged(folder.path / "prompt.json", str(error)) from None


def prompt_from_file(path: Path, task: Task) -> Prompt:
    """A prompt.json that fits `task`. Raises SpecError."""
    try:
        prompt = Prompt.from_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise SpecError(f"{path}: is no prompt.json ({error}); see a run's policy/") from None
    texts = [prompt.instruction, *prompt.inputs]
    texts += [text for d in prompt.demos for text in (d.output, *dict(d.inputs).values())]
    if not all(isinstance(text, str) for text in texts):
        raise SpecError(f"{path}: its instruction, inputs and demos must be texts")
    if prompt.inputs != tuple(task.inputs):
        raise SpecError(
            f"{path}: asks for {', '.join(prompt.inputs)}, the task {task.name!r} gives "
            f"{', '.join(task.inputs)}; name a prompt of this task"
        )
    return prompt
