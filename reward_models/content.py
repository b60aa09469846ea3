"""What a reward's files hold, as digests: a reward that has changed is another one."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from lm.source import resolve, weights_fingerprint
from reward_models.config import FUNCTION, AnyReward, dump_reward
from reward_models.mentions import Mention, relocated


def content_digest(reward: AnyReward) -> str:
    """16 hex digits over the reward and the content of all it names, wherever that lies.

    Raises ModelError when a judge's local model is not to be found; a file that is not there counts
    as empty, and is refused where the reward is loaded.
    """
    text = json.dumps(dump_reward(relocated(reward, mention_digest)), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def mention_digest(named: Mention) -> str:
    """A digest of the file, folder or model: of what it holds, not of where it lies."""
    if named.kind == "model":
        return weights_fingerprint(resolve(named.name))
    match = FUNCTION.fullmatch(named.name)
    path = Path(match["file"] if match else named.name).expanduser()
    digest = hashlib.sha256((match["name"] if match else "").encode())
    if named.kind == "folder" and path.is_dir():
        digest.update(weights_fingerprint(path).encode())
        path = path / "tasklift.json"
    digest.update(path.read_bytes() if path.is_file() else b"")
    return digest.hexdigest()[:16]
