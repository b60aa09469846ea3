"""Reading a YAML file a person wrote: every mistake in it is one line that says where."""

from __future__ import annotations

from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml

from experiments.errors import SpecError


class _Strict(yaml.SafeLoader):
    """YAML lets a key stand twice and forgets the first; here that is a mistake."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Hashable, Any]:
        seen = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if isinstance(key, Hashable) and key in seen and key != "<<":
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key!r} stands twice", key_node.start_mark
                )
            seen.add(key if isinstance(key, Hashable) else id(key))
        return super().construct_mapping(node, deep)


def read_mapping(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file. Raises SpecError for anything else."""
    try:
        raw = yaml.load(path.read_text(encoding="utf-8"), _Strict)
    except FileNotFoundError:
        raise SpecError(f"{path}: no such file; name a spec, e.g. spec.yaml") from None
    except (OSError, UnicodeDecodeError) as error:
        raise SpecError(f"{path}: cannot be read ({error}); name a YAML text file") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f"{path}:{mark.line + 1}" if mark else f"{path}"
        problem = getattr(error, "problem", None) or "a character YAML does not allow"
        raise SpecError(f"{line}: is not YAML as wanted here ({problem}); mend this line") from None
    except (ValueError, RecursionError) as error:  # impossible dates, endless nesting
        raise SpecError(f"{path}: is not YAML ({error}); quote odd values") from None
    if not isinstance(raw, dict):
        raise SpecError(f"{path}: is no mapping; write name:, task:, model: and arms:")
    return raw


def apply_override(raw: dict[str, Any], text: str) -> None:
    """Set `a.b=value` (YAML) in a raw spec. Raises SpecError."""
    key, equals, value = text.partition("=")
    *parents, last = key.split(".")
    if not equals or not all([*parents, last]):
        raise SpecError(f"--set {text!r}: write key=value, e.g. --set methods.grpo.steps=50")
    node = raw
    for part in parents:
        child = node.setdefault(part, {})
        if not isinstance(child, dict):
            if part != "model":
                raise SpecError(f"--set {text!r}: {part!r} holds no options; set {part}=… whole")
            child = node[part] = {"source": child}
        node = child
    try:
        node[last] = yaml.load(value, _Strict)
    except (yaml.YAMLError, ValueError):
        raise SpecError(f"--set {text!r}: the value is not YAML; quote it") from None
