"""What a spec may say where a reward stands. No torch: the command line reads this.

reward: task                                # a name of BUILT_IN
reward: mine.py:fn                          # any function of TRL's convention
reward: reward-model/                       # a folder that `tasklift reward-train` wrote
reward: {format: tags, names: [think, answer]}
reward: {judge: {model: smollm2-135m, rubric: 'Is the answer polite?'}}
reward: {parts: [task, {reward: {format: tags}, weight: 0.2}], overlong: {start: 80, max: 100}}
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BeforeValidator,
    Discriminator,
    Field,
    Tag,
    TypeAdapter,
    ValidationError,
    field_validator,
    model_validator,
)

from lm.choice import ModelChoice
from reward_models.config_formats import (
    FORMATS,
    Format,
    JsonFormat,
    LanguageFormat,
    LengthFormat,
    Section,
    TagsFormat,
)
from reward_models.types import RewardError
from tasks.text import nearest

BUILT_IN = ("task", "tests", "contains", "closeness", "numeric", "json_fields")  # all read gold
MAJORITY = "majority"  # for best_of alone: no reward, but a vote (reward_models/best_of.py)
PENALTIES = ("overlong", "repetition")
NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"
FUNCTION = re.compile(r"(?P<file>.+\.py):(?P<name>\w+)")
Finite = Annotated[float, Field(allow_inf_nan=False)]


class JudgeConfig(ModelChoice):
    """A model reads question and answer by a `rubric` (text, or a .md or .txt file).

    `pointwise`: it gives each answer a number of `scale`, which becomes 0 to 1. `pairwise`: it says
    which of two answers to the same question is better, asked in both orders; an answer is worth
    the share of the others in its group that it beats, a tie counting half. With `opponents: k`
    each is held against the next k in a circle instead of all. With `gold` the judge is shown
    the right answer. `probabilities: auto` reads the scale's probabilities where the model gives
    them, else the number it writes.
    """

    rubric: str = Field(min_length=1)
    mode: Literal["pointwise", "pairwise"] = "pointwise"
    scale: list[int] = Field(default=[1, 5], min_length=2, max_length=2)
    opponents: Literal["all"] | Annotated[int, Field(ge=1)] = "all"
    gold: bool = False
    probabilities: Literal["auto", "off"] = "auto"
    max_tokens: int = Field(default=16, ge=1)
    timeout: float = Field(default=60.0, gt=0, allow_inf_nan=False)
    concurrency: int = Field(default=8, ge=1)

    @field_validator("scale")
    @classmethod
    def _rises(cls, scale: list[int]) -> list[int]:
        if scale[0] >= scale[1]:
            raise ValueError(f"scale: {scale} does not rise; write e.g. [1, 5]")
        return scale


class JudgeReward(Section):
    judge: JudgeConfig

    @field_validator("judge", mode="before")
    @classmethod
    def _a_mapping(cls, value: Any) -> Any:
        if isinstance(value, str):
            raise ValueError(f"{value!r} says no rubric; write {{model: {value}, rubric: …}}")
        return value


COMPOSED, JUDGED, NAMED = "<parts>", "<judge>", "<name>"  # no places in a file: see `explain`


def _tag(value: Any) -> str | None:
    if isinstance(value, str):
        return NAMED
    keys = value if isinstance(value, Mapping) else getattr(type(value), "model_fields", ())
    if "parts" in keys:
        return COMPOSED
    if "judge" in keys:
        return JUDGED
    if "format" in keys:
        kind = value["format"] if isinstance(value, Mapping) else value.format
        return f"<{kind}>"
    return None


def _known(value: Any) -> Any:
    """Raises ValueError, in our words, for what pydantic would have none for."""
    if isinstance(value, str) and not value.strip():
        raise ValueError(f"is empty; {_spellings()}")
    kind = value.get("format") if isinstance(value, Mapping) else None
    if kind is not None and not (isinstance(kind, str) and kind in FORMATS):
        hint = nearest(str(kind), FORMATS)
        raise ValueError(f"unknown format {kind!r}{hint}; write {', '.join(FORMATS)}")
    if _tag(value) is None:
        raise ValueError(f"{value!r} is no reward; {_spellings()}")
    return value


def _spellings() -> str:
    return (
        f"write {', '.join(BUILT_IN)}, path.py:function, the folder of a reward model, or a "
        "mapping with parts, judge or format"
    )


Single = Annotated[
    Annotated[str, Tag(NAMED)]
    | Annotated[TagsFormat, Tag("<tags>")]
    | Annotated[JsonFormat, Tag("<json>")]
    | Annotated[LengthFormat, Tag("<length>")]
    | Annotated[LanguageFormat, Tag("<language>")]
    | Annotated[JudgeReward, Tag(JUDGED)],
    Discriminator(_tag),
    BeforeValidator(_known),
]


class Part(Section):
    """One term of a composition. Where its reward says None the whole says None, unless it is
    `optional`: then it adds nothing there."""

    reward: Single
    weight: Finite = 1.0
    name: str = Field(default="", pattern=rf"^$|{NAME}")
    optional: bool = False

    @model_validator(mode="before")
    @classmethod
    def _bare(cls, value: Any) -> Any:
        given = value.get("reward", value) if isinstance(value, Mapping) else value
        if isinstance(given, Mapping) and "parts" in given:
            raise ValueError("a composition cannot be a part of another; write its parts here")
        bare = isinstance(value, str) or (isinstance(value, Mapping) and "reward" not in value)
        return {"reward": value} if bare else value

    @model_validator(mode="after")
    def _named(self) -> Self:
        object.__setattr__(self, "name", self.name or short_name(self.reward))
        if self.name in PENALTIES:
            raise ValueError(f"the name {self.name!r} is a penalty's; write another name:")
        return self


class Gate(Part):
    """What must reach `at_least` before content pays. Its own value counts by `weight`, whether it
    holds or not; 0 unless written."""

    weight: Finite = 0.0
    at_least: Finite = 1.0


class Overlong(Section):
    """DAPO's soft penalty (arXiv:2503.14476): 0 up to `start` tokens, -`weight` from `max` on,
    linear between."""

    start: int = Field(ge=0)
    max: int = Field(ge=1)
    weight: Finite = Field(default=1.0, ge=0)

    @model_validator(mode="after")
    def _rises(self) -> Self:
        if self.start >= self.max:
            raise ValueError(f"start {self.start} is not below max {self.max}; write less")
        return self


class Repetition(Section):
    """-`weight` times the share of n-grams of words that have stood before (arXiv:2502.03373)."""

    ngram: int = Field(default=3, ge=1)
    weight: Finite = Field(default=1.0, ge=0)


class Composition(Section):
    """Rewards put together: weighted sum of the parts, behind gates, less penalties, clipped.

    In this order (reward_models/compose.py): where a gate does not hold, each part counts as
    `otherwise`; with `normalize: group` each is then standardized within its group; weights, sum,
    penalties; `clip` bounds the whole.
    """

    parts: list[Part] = Field(min_length=1)
    gate: list[Gate] = Field(default=[])
    otherwise: Finite = 0.0
    normalize: Literal["none", "group"] = "none"
    overlong: Overlong | None = None
    repetition: Repetition | None = None
    clip: list[Finite] | None = Field(default=None, min_length=2, max_length=2)

    @field_validator("gate", mode="before")
    @classmethod
    def _one_gate(cls, value: Any) -> Any:
        return [value] if isinstance(value, str | Mapping) else value

    @model_validator(mode="after")
    def _names_are_distinct(self) -> Self:
        names = [part.name for part in self.terms()]
        if doubled := [name for name in names if names.count(name) > 1]:
            raise ValueError(f"two parts are called {doubled[0]!r}; give one a name: of its own")
        if self.clip is not None and self.clip[0] >= self.clip[1]:
            raise ValueError(f"clip {self.clip} is no interval; write [lowest, highest]")
        return self

    def terms(self) -> list[Part]:
        """Gates and parts."""
        return [*self.gate, *self.parts]


Reward = Annotated[
    Annotated[str, Tag(NAMED)]
    | Annotated[TagsFormat, Tag("<tags>")]
    | Annotated[JsonFormat, Tag("<json>")]
    | Annotated[LengthFormat, Tag("<length>")]
    | Annotated[LanguageFormat, Tag("<language>")]
    | Annotated[JudgeReward, Tag(JUDGED)]
    | Annotated[Composition, Tag(COMPOSED)],
    Discriminator(_tag),
    BeforeValidator(_known),
]
AnyReward = str | Format | JudgeReward | Composition
_ADAPTER: TypeAdapter[AnyReward] = TypeAdapter(Reward)


def parse_reward(raw: Any) -> AnyReward:
    """A reward as a spec or a program writes it, checked. Raises RewardError."""
    try:
        return _ADAPTER.validate_python(raw)
    except ValidationError as error:
        problem = error.errors()[0]
        said = problem.get("ctx", {}).get("error", problem["msg"])
        path = ".".join(str(p) for p in problem["loc"] if not str(p).startswith("<"))
        raise RewardError(f"reward: {path + ': ' if path else ''}{said}") from None


def dump_reward(reward: AnyReward) -> Any:
    """Plain data that `parse_reward` reads back."""
    return reward if isinstance(reward, str) else reward.model_dump()


def short_name(reward: AnyReward) -> str:
    """What a part is called in logs unless it is given a name."""
    if isinstance(reward, str):
        match = FUNCTION.fullmatch(reward)
        return match["name"] if match else Path(reward).name
    if isinstance(reward, JudgeReward):
        return "judge"
    return name_of(reward) if isinstance(reward, Composition) else reward.format


def name_of(reward: AnyReward) -> str:
    """The reward in a word or two, for messages and logs."""
    if isinstance(reward, str):
        return reward
    if isinstance(reward, Composition):
        return "+".join(part.name for part in reward.parts)
    if isinstance(reward, JudgeReward):
        return f"judge {reward.judge.model}"
    return f"format {reward.format}"


def singles(reward: AnyReward) -> list[AnyReward]:
    """The rewards that make it up: itself, or those of its gates and parts."""
    return [t.reward for t in reward.terms()] if isinstance(reward, Composition) else [reward]


def reads_gold(reward: AnyReward) -> bool:
    """Whether it knows the right answer. A user's function may; whoever must not let it (best-of-n)
    has to hand it no gold columns."""
    return any(
        single in BUILT_IN
        if isinstance(single, str)
        else isinstance(single, JudgeReward) and single.judge.gold
        for single in singles(reward)
    )


def questions_per_answer(reward: AnyReward, group: int) -> int:
    """The most that judges are asked for one of `group` answers to the same question."""
    judges = [single.judge for single in singles(reward) if isinstance(single, JudgeReward)]
    return sum(_questions(judge, group) for judge in judges)


def _questions(judge: JudgeConfig, group: int) -> int:
    """Each pair is asked about twice, and has two answers."""
    if judge.mode == "pointwise":
        return 1
    return group - 1 if judge.opponents == "all" else min(2 * judge.opponents, group - 1)
