"""Messages that show pictures, and who can look at them. No torch: plans ask here, too."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

from lm.types import Chat, ModelError


class Picture(Protocol):
    """What a part of type `image` holds under `image`."""

    @property
    def png(self) -> bytes: ...


def reads_pictures(folder: Path) -> bool:
    """Whether the model in `folder` is a vision-language model."""
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(config, dict) and isinstance(config.get("vision_config"), dict)


def parts_of(content: Any) -> list[dict[str, Any]]:
    """A message's content as parts, whichever way it was written."""
    return [{"type": "text", "text": content}] if isinstance(content, str) else list(content)


def words_of(content: Any) -> str:
    """The texts of a content, one behind the other."""
    return "".join(part["text"] for part in parts_of(content) if part["type"] == "text")


def pictures_of(chat: Chat) -> Iterator[Picture]:
    """The pictures of a chat, in order."""
    for message in chat:
        for part in parts_of(message["content"]):
            if part["type"] == "image":
                yield part["image"]


def refuse_pictures(chat: Chat, who: str) -> None:
    """Raises ModelError on behalf of `who`, which reads text only."""
    if any(not isinstance(message["content"], str) for message in chat):
        raise ModelError(
            f"model: {who} reads text only, and the task shows pictures; name a folder or Hub id "
            "of a vision-language model"
        )
