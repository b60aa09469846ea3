"""What a spec may say of the form of an answer. No torch: the command line reads this."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class TagsFormat(Section):
    """1 where the reply is these tags in this order, each once, closed, and nothing outside them;
    else the share of tags that stand once, in order and closed, times 0.5. `outside: anything`
    lets text stand around them, as in <think>…</think>answer."""

    format: Literal["tags"]
    outside: Literal["nothing", "anything"] = "nothing"
    names: list[Annotated[str, Field(pattern=r"^[A-Za-z][\w-]*$")]] = Field(
        default=["think", "answer"], min_length=1
    )

    @field_validator("names")
    @classmethod
    def _distinct(cls, names: list[str]) -> list[str]:
        if len(set(names)) < len(names):
            raise ValueError("names must be distinct; write e.g. [think, answer]")
        return names


class JsonFormat(Section):
    """1 where the answer is JSON that fits `json_schema` (inline, or a .json file), 0.5 where it is
    JSON that does not, else 0."""

    format: Literal["json"]
    json_schema: dict[str, Any] | str | None = None


class LengthFormat(Section):
    """1 where the reply has `min` to `max` of `unit`, else falling linearly to 0 at no length, and
    at twice `max`."""

    format: Literal["length"]
    min: int = Field(default=0, ge=0)
    max: int | None = Field(default=None, ge=1)
    unit: Literal["words", "chars", "tokens"] = "words"

    @model_validator(mode="after")
    def _is_a_window(self) -> Self:
        if self.max is None and not self.min:
            raise ValueError("no window; write min, max or both")
        if self.max is not None and self.max < self.min:
            raise ValueError(f"max {self.max} is below min {self.min}; write more")
        return self


class LanguageFormat(Section):
    """The share of the reply's letters that are written in one of `scripts`: Latin, Cyrillic, Han …

    0 where there are no letters. A script is no language: this tells Russian from English, not
    English from French.
    """

    format: Literal["language"]
    scripts: list[str] = Field(min_length=1)


Format = TagsFormat | JsonFormat | LengthFormat | LanguageFormat
FORMATS: dict[str, type[Format]] = {
    "tags": TagsFormat,
    "json": JsonFormat,
    "length": LengthFormat,
    "language": LanguageFormat,
}
