"""Turning pydantic's errors into one line a user can act on."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from typing import Any, get_args

from pydantic import BaseModel, Tag, ValidationError


def nearest(name: str, known: Sequence[str]) -> str:
    """The advice behind an unknown name: the nearest one, or all there are."""
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f"did you mean {near[0]!r}?" if near else f"there is {', '.join(known)}"


def explain(error: ValidationError, model: type[BaseModel], where: str = "") -> str:
    """The first problem of `error`: where, what, what instead."""
    problem = error.errors()[0]
    location = list(problem["loc"])
    places = [str(part) for part in location if not _is_tag(part)]
    path = ".".join([*([where] if where else []), *places])
    if problem["type"] == "extra_forbidden":
        known = list(_fields(model, location[:-1]))
        return f"{path}: unknown key; {nearest(str(location[-1]), known)}"
    if problem["type"] == "missing":
        return f"{path}: is missing; write {location[-1]}: …"
    if problem["type"] == "value_error":  # ours: already says where and what instead
        text = str(problem.get("ctx", {}).get("error", problem["msg"]))
        return f"{path}: {text}" if path and not text.startswith(path) else text
    return f"{path}: {problem['input']!r} is wrong; {_lower(problem['msg'])}"


def _is_tag(part: Any) -> bool:
    """Whether it names a branch of a union (reward_models/config.py): no place in a file."""
    return isinstance(part, str) and part.startswith("<")


def _fields(model: type[BaseModel], location: Sequence[Any]) -> Sequence[str]:
    for part in location:
        if _is_tag(part) or part not in model.model_fields:
            continue
        tag = next((p for p in location[location.index(part) + 1 :][:1] if _is_tag(p)), None)
        sections = dict(_sections(model.model_fields[part].annotation))
        if not sections:
            break
        model = sections[tag if tag in sections else next(iter(sections))]
    return list(model.model_fields)


def _sections(annotation: Any, tag: str | None = None) -> Iterator[tuple[str | None, Any]]:
    """The models in `Section`, `Section | None`, `list[Section]` or a union, with their tags."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield tag, annotation
        return
    tags = [m.tag for m in getattr(annotation, "__metadata__", ()) if isinstance(m, Tag)]
    for inner in get_args(annotation):
        yield from _sections(inner, tags[0] if tags else tag)


def _lower(message: str) -> str:
    return message[:1].lower() + message[1:]
