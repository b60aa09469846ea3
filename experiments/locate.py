"""Files a spec names: looked for beside the spec first, and part of every key they influence."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from reward_models.config import JudgeReward, dump_reward, parse_reward, singles
from reward_models.mentions import Mention, mentions, relocated
from tasks.load import BUILT_INS, FAMILIES

_FILE = re.compile(r"(?P<file>.+\.(?:py|jsonl|csv|yaml|yml|json|md|txt))(?P<name>:\w+)?")


def locate_task(name: str, base: Path) -> str:
    """`name` with its file as found beside the spec (in `base`), else as it is."""
    family, colon, rest = name.partition(":")
    if colon and family in FAMILIES:
        file, at, member = rest.partition("@")
        beside = _beside(file, base)
        return f"{family}:{beside}{at}{member}" if os.path.isfile(beside) else name
    match = _FILE.fullmatch(name)
    if name in BUILT_INS or match is None:
        return name
    beside = _beside(match["file"], base)
    return f"{beside}{match['name'] or ''}" if os.path.isfile(beside) else name


def locate_model(source: str, base: Path) -> str:
    """A model folder or GGUF file as found beside the spec, else `source` as it is."""
    from lm.source import ALIASES

    beside = _beside(source, base)
    there = os.path.isdir(beside) or (source.endswith(".gguf") and os.path.isfile(beside))
    return beside if source not in ALIASES and there else source


def locate_code(config: Mapping[str, Any], base: Path) -> dict[str, Any]:
    """`config` with the Python files it names (`program: mine.py:Solve`) located, and all that its
    reward names: code, rubrics, folders, models."""
    found = {key: locate_task(v, base) if _is_code(v) else v for key, v in config.items()}
    if _rewards(found):
        found["reward"] = locate_reward(found["reward"], base)
    return found


def locate_reward(reward: Any, base: Path) -> Any:
    """What a spec says of a reward, with all it names on disk as found beside the spec."""
    return dump_reward(relocated(parse_reward(reward), lambda named: _located(named, base)))


def code_files(config: Mapping[str, Any], base: Path) -> list[Path]:
    """The Python files, rubrics and schemas that `config` names, as far as they exist."""
    found = locate_code(config, base)
    names = [str(value) for key, value in found.items() if key != "reward" and _is_code(value)]
    names += [m.name for m in _mentions(found) if m.kind == "code"]
    matches = [_FILE.fullmatch(name) for name in names]
    files = [match["file"] for match in matches if match]
    files += [m.name for m in _mentions(found) if m.kind == "text"]  # whatever its suffix
    return [path for file in files if (path := Path(file).expanduser()).is_file()]


def code_digest(config: Mapping[str, Any], base: Path) -> list[str]:
    """A digest of the content of each file `config` names."""
    return [hashlib.sha256(file.read_bytes()).hexdigest() for file in code_files(config, base)]


def reward_digest(config: Mapping[str, Any], base: Path) -> list[str]:
    """The weights that a reward reads with: of a learned one its folder, of a judge its local
    model. Raises ModelError when that is not to be found."""
    if not _rewards(config):
        return []
    from reward_models.content import mention_digest

    found = _mentions(locate_code(config, base))
    return [mention_digest(named) for named in found if named.kind in ("folder", "model")]


def reward_parameters(config: Mapping[str, Any], base: Path) -> dict[str, int | None]:
    """The sizes of the models a reward reads with, by the name stage.json has for them; None where
    nobody knows it: at an address, or because there are several of different sizes."""
    from lm.flops import count_parameters
    from lm.source import resolve

    found = _mentions(locate_code(config, base))
    judges = [count_parameters(resolve(m.name)) for m in found if m.kind == "model"]
    learned = [count_parameters(Path(m.name).expanduser()) for m in found if m.kind == "folder"]
    sizes: dict[str, set[int | None]] = {"judge_parameters": {*judges, *_remote_judges(config)}}
    sizes["reward_parameters"] = {*learned}
    return {name: s.pop() if len(s) == 1 else None for name, s in sizes.items() if s}


def _remote_judges(config: Mapping[str, Any]) -> list[None]:
    return [
        None
        for single in (singles(parse_reward(config["reward"])) if _rewards(config) else [])
        if isinstance(single, JudgeReward) and single.judge.endpoint is not None
    ]


def _rewards(config: Mapping[str, Any]) -> bool:
    return config.get("reward") is not None


def _mentions(config: Mapping[str, Any]) -> list[Mention]:
    return list(mentions(parse_reward(config["reward"]))) if _rewards(config) else []


def _located(named: Mention, base: Path) -> str:
    if named.kind == "model":
        return locate_model(named.name, base)
    if named.kind == "code":
        return locate_task(named.name, base)
    beside = _beside(named.name, base)
    return beside if os.path.exists(beside) else named.name


def proposer_digest(config: Mapping[str, Any], base: Path) -> list[str]:
    """The weights of a local model that proposes, found now: a typing error must not show up after
    hours. Raises ModelError."""
    from lm.source import resolve, weights_fingerprint

    chosen = config.get("reflection")
    if not chosen or chosen["endpoint"] is not None:
        return []
    return [weights_fingerprint(resolve(locate_model(chosen["model"], base)))]


def proposer_parameters(config: Mapping[str, Any], base: Path) -> int | None:
    """The size of another model that proposes, as `lm.flops` counts it; None where nobody knows it,
    because it answers at an address."""
    from lm.flops import count_parameters
    from lm.source import resolve

    chosen = config["reflection"]
    if chosen["endpoint"] is not None:
        return None
    return count_parameters(resolve(locate_model(chosen["model"], base)))


def _beside(file: str, base: Path) -> str:
    return os.path.join(base, os.path.expanduser(file))


def _is_code(value: Any) -> bool:
    match = _FILE.fullmatch(value) if isinstance(value, str) else None
    return match is not None and match["file"].endswith(".py")
