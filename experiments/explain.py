"""Turning pydantic's errors into one line a user can act on."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import Any, get_args

from pydantic import BaseModel, ValidationError


def nearest(name: str, known: Sequence[str]) -> str:
    """The advice behind an unknown name: the nearest one, or all there are."""
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f"did you mean {near[0]!r}?" if near else f"there is {', '.join(known)}"


def explain(error: ValidationError, model: type[BaseModel], where: str = "") -> str:
    """The first problem of `error`: where, what, what instead."""
    problem = error.errors()[0]
    location = list(problem["loc"])
    path = ".".join([*([where] if where else []), *map(str, location)])
    if problem["type"] == "extra_forbidden":
        known = list(_fields(model, location[:-1]))
        return f"{path}: unknown key; {nearest(str(location[-1]), known)}"
    if problem["type"] == "missing":
        return f"{path}: is missing; write {location[-1]}: …"
    if problem["type"] == "value_error":  # ours: already says where and what instead
        text = str(problem.get("ctx", {}).get("error", problem["msg"]))
        return f"{path}: {text}" if path and not text.startswith(path) else text
    return f"{path}: {problem['input']!r} is wrong; {_lower(problem['msg'])}"


def _fields(model: type[BaseModel], location: Sequence[Any]) -> Sequence[str]:
    for part in location:
        annotation = model.model_fields[part].annotation if part in model.model_fields else None
        sections = [
            kind
            for kind in (annotation, *get_args(annotation))  # `Section`, or `Section | None`
            if isinstance(kind, type) and issubclass(kind, BaseModel)
        ]
        if not sections:
            break
        model = sections[0]
    return list(model.model_fields)


def _lower(message: str) -> str:
    return message[:1].lower() + message[1:]
