"""What can be told to training that is asked from outside (rl/lessons.py). No torch here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self, TypeVar

from pydantic import BaseModel, Field, ValidationError, model_validator

from lm.types import ModelError
from rl.config import GRPOConfig, WeightsConfig
from tasks.text import nearest

# of a stage: there is no dev split here, and nothing to go on from
STAGE = frozenset({"eval_every", "checkpoint_every", "audits"})
# whoever hands over the groups decides these
ROLLOUTS = frozenset({
    "steps", "warmup_steps", "prompts_per_step", "group_size", "curriculum", "engine", "reward",
    "resample",
})  # fmt: skip


class FinetuneConfig(WeightsConfig):
    """Supervised steps on given answers, `rows_per_step` of them a step; as in `sft`."""

    rows_per_step: int = Field(default=32, ge=1)

    @model_validator(mode="before")
    @classmethod
    def _means_something(cls, given: Any) -> Any:
        return _without(given, STAGE)


class ReinforceConfig(GRPOConfig):
    """Policy-gradient steps on given groups, one batch of them a step; as in `grpo`.

    `temperature` is the one the answers were drawn at.
    """

    @model_validator(mode="before")
    @classmethod
    def _means_something(cls, given: Any) -> Any:
        return _without(given, STAGE | ROLLOUTS)

    @model_validator(mode="after")
    def _minibatches_are_equal(self) -> Self:
        """In the place of the base class's: how many rows a step has shows at the step."""
        return self


def _without(given: Any, foreign: frozenset[str]) -> Any:
    for name in given:
        if name in foreign:
            raise ValueError(f"{name} says nothing here; leave it out")
    return given


Config = TypeVar("Config", bound=BaseModel)


def read_settings(kind: type[Config], what: str, settings: Mapping[str, Any]) -> Config:
    """`settings` as a config. Raises ModelError, one line, for what it does not know or allow."""
    try:
        return kind(**settings)
    except ValidationError as error:
        foreign = STAGE | ROLLOUTS if issubclass(kind, ReinforceConfig) else STAGE
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"])
        if first["type"] == "extra_forbidden":
            known = sorted(set(kind.model_fields) - foreign)
            raise ModelError(
                f"{what}: unknown setting {name!r}{nearest(name, known)}; write {', '.join(known)}"
            ) from None
        message = first["msg"].removeprefix("Value error, ")
        raise ModelError(f"{what}: {name + ': ' if name else ''}{message}") from None
