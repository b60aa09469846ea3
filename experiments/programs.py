"""What an arm's program means for its stages: who can follow it, and what it must not know."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from evaluation.types import Policy
from experiments.locate import locate_code
from experiments.plan import Stage
from experiments.prepare import Experiment
from tasks.types import Prompt, TaskError

if TYPE_CHECKING:
    from prompt_opt.program import Source


def foreseen(experiment: Experiment, stage: Stage) -> Policy:
    """What is known of the policy `stage` starts from before any stage has run: the start, and the
    file of the program that an earlier stage brings, where it is one of several steps.

    Raises TaskError for a program that cannot be used.
    """
    found = _brought(experiment, stage.parent)
    if found is None or isinstance(found, Prompt):
        return experiment.start
    return replace(experiment.start, program=found.file)


def refuse_leaks(experiment: Experiment, stage: Stage, after: Policy, label: str) -> None:
    """Raise TaskError naming the stage when its prompt or program holds what it must not know.

    What the user's own program says may be said.
    """
    found, frame = _brought(experiment, stage), experiment.start.prompt
    texts: list[str] = []
    prompt, before = after.prompt, found if isinstance(found, Prompt) else frame
    if after.program is not None:
        from prompt_opt.program import Source, kept_program

        state = kept_program(after.program, frame).state
        prompt, texts = state.as_prompt(frame), state.other_texts(frame)
        before = found.state.as_prompt(frame) if isinstance(found, Source) else frame
    try:
        experiment.refuse_leaks(prompt, before=before, texts=texts)
    except TaskError as error:
        raise TaskError(f"{label}: {error}") from None


def _brought(experiment: Experiment, stage: Stage | None) -> Prompt | Source | None:
    """What the program comes down to that `stage` or one before it names."""
    while stage is not None:
        config: dict[str, Any] = locate_code(stage.step.config, experiment.base)
        if config.get("program") is not None:
            from prompt_opt.program import find_program

            return find_program(config["program"], experiment.start.prompt)
        stage = stage.parent
    return None
