"""What a user writes of an arm: a chain of methods, each a name, or a name with options.

Raises ValueError, one line that begins with where it stands.
"""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError

from experiments.explain import explain, nearest
from experiments.methods import KINDS


def chain_of(written: Any, where: str) -> tuple[Any, bool]:
    """What is written of an arm: its chain, and whether it has tools."""
    if not isinstance(written, dict):
        return written, True
    for key in written:
        if key not in ("chain", "tools"):
            raise ValueError(f"{where}: {nearest(str(key), ['chain', 'tools'])}")
    tools = written.get("tools", True)
    if not isinstance(tools, bool):
        raise ValueError(f"{where}.tools: {tools!r} is no switch; write true or false")
    return written.get("chain", []), tools


def step_of(item: Any, methods: dict[str, Any], where: str) -> dict[str, Any]:
    """One method of a chain, a name or a name with options, as `Step` holds it."""
    if isinstance(item, dict) and set(item) == {"name", "kind", "config"}:  # a resolved spec
        options = {**_options(item["config"], where), "method": item["kind"]}
        return resolve_step(item["name"], options, where)
    if isinstance(item, str):
        name, inline = item, {}
    elif isinstance(item, dict) and len(item) == 1:
        name, inline = next(iter(item.items()))
    else:
        raise ValueError(f"{where}: {item!r} is no method; write a name or {{name: {{options}}}}")
    if name not in methods and name not in KINDS:
        known = nearest(str(name), [*methods, *KINDS])
        raise ValueError(f"{where}: no method {name!r}; {known}")
    inline = _options(inline, f"{where}.{name}")
    return resolve_step(name, {**methods.get(name, {}), **inline}, f"{where}.{name}")


def resolve_step(name: Any, options: Any, where: str) -> dict[str, Any]:
    """The method `name` with these options and its kind's defaults."""
    options = dict(_options(options, where))
    kind = options.pop("method", name)
    if not isinstance(name, str) or not isinstance(kind, str) or kind not in KINDS:
        raise ValueError(f"{where}: no method {kind!r}; {nearest(str(kind), list(KINDS))}")
    for key in options:
        if not isinstance(key, str):
            raise ValueError(f"{where}: {key!r} is no option; {nearest(str(key), _known(kind))}")
    try:
        config = KINDS[kind].config.model_validate(options)
    except ValidationError as error:
        raise ValueError(explain(error, KINDS[kind].config, where)) from None
    return {"name": name, "kind": kind, "config": config.model_dump()}


def _known(kind: str) -> list[str]:
    return list(KINDS[kind].config.model_fields)


def _options(options: Any, where: str) -> dict[Any, Any]:
    if options is not None and not isinstance(options, dict):
        raise ValueError(f"{where}: must hold options; write e.g. {{steps: 25}}")
    return options or {}
