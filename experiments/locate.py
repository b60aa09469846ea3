"""Files a spec names: looked for beside the spec first, and part of every key they influence."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any


def locate(name: str, base: Path) -> str:
    """`name` (`file`, or `file:NAME`) as found beside the spec in `base`, else as it is."""
    file, colon, rest = name.partition(":")
    beside = base / Path(file).expanduser()
    return f"{beside}{colon}{rest}" if file and beside.exists() else name


def located(config: dict[str, Any], base: Path) -> dict[str, Any]:
    """`config` with the Python files it names (`reward: mine.py:fn`) located."""
    return {key: locate(value, base) if _is_code(value) else value for key, value in config.items()}


def code_digest(config: dict[str, Any], base: Path) -> str:
    """Digest over the contents of the Python files `config` names; "" when it names none."""
    files = [Path(v.partition(":")[0]) for v in located(config, base).values() if _is_code(v)]
    present = sorted(file for file in files if file.is_file())
    digests = [hashlib.sha256(file.read_bytes()).hexdigest() for file in present]
    return "".join(digests)


def _is_code(value: Any) -> bool:
    return isinstance(value, str) and value.partition(":")[0].endswith(".py")
