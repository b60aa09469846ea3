"""What an arm's program means for its stages: who can follow it, and what it must not know."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evaluation.types import Policy
from experiments.locate import locate_code
from experiments.plan import Stage
from experiments.prepare import Experiment
from tasks.types import Prompt, TaskError

if TYPE_CHECKING:
    from prompt_opt.program import Source
    from prompt_opt.state import State


def foreseen(experiment: Experiment, stage: Stage) -> Policy:
    """What is known of the policy `stage` starts from before any stage has run: the start, and the
    file of the program that an earlier stage brings, where it is one of several steps.

    Raises TaskError for a program that cannot be used.
    """
    found = _brought(experiment, stage.parent)
    if found is None or isinstance(found, Prompt):
        return experiment.start_of(tools=stage.tools)
    return replace(experiment.start_of(tools=stage.tools), program=found.file)


def refuse_leaks(experiment: Experiment, stage: Stage, after: Policy, label: str) -> None:
    """Raise TaskError naming the stage when its prompt or program holds what it must not know.

    What the user's own program says may be said.
    """
    found, frame = _brought(experiment, stage), experiment.start.prompt
    prompt, texts = after.prompt, ()
    before = found if isinstance(found, Prompt) else frame
    if after.program is not None and not isinstance(found, Prompt | None):
        before = found.state.as_prompt(frame)
        prompt, texts = _shown(experiment, after.program, found.state)
    try:
        experiment.refuse_leaks(prompt, before=before, texts=texts)
    except TaskError as error:
        raise TaskError(f"{label}: {error}") from None


def _shown(experiment: Experiment, program: Path, first: State) -> tuple[Prompt, list[str]]:
    """What the program says, as a prompt and other texts; `first` is the user's own state.

    A demo is one of the prompt's where it asks what a train example asks. A step may be asked
    something else under the same name, and that is looked through as text.
    """
    from prompt_opt.program import kept_program

    frame = experiment.start.prompt
    state, before = kept_program(program, frame).state, first.as_prompt(frame)
    prompt = state.as_prompt(frame)
    train = [{name: e.inputs[name] for name in frame.inputs} for e in experiment.train]
    known = [demo for demo in prompt.demos if demo in before.demos or dict(demo.inputs) in train]
    others = [demo for demo in prompt.demos if demo not in known]
    texts = ["\n".join([*demo.inputs.values(), demo.output]) for demo in others]
    own = first.other_texts(frame)
    texts += [text for text in state.other_texts(frame) if text not in own]
    return prompt.with_demos(known), texts


def _brought(experiment: Experiment, stage: Stage | None) -> Prompt | Source | None:
    """What the program comes down to that `stage` or one before it names."""
    while stage is not None:
        config: dict[str, Any] = locate_code(stage.step.config, experiment.base)
        if config.get("program") is not None:
            from prompt_opt.program import find_program

            return find_program(config["program"], experiment.start.prompt)
        stage = stage.parent
    return None
