"""Pictures as inputs of examples.

An `Image` is a text: its own name, which holds the hash of its pixels. So whoever keeps, compares
or counts inputs, records among them, has a short text that is the same for the same picture; who
asks a model finds the bytes beside it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any

LARGEST_BYTES = 2_000_000
LARGEST_SIDE = 4_096  # pixels
SIGNATURE = b"\x89PNG\r\n\x1a\n"


class Image(str):
    """A PNG picture; the text is `image:png:` and the SHA-256 of `png` in hex.

    `Image(data)` raises ValueError for data that is no PNG, or too large a one.
    """

    png: bytes
    media_type = "image/png"

    def __new__(cls, png: bytes) -> Image:
        _check(png)
        made = super().__new__(cls, f"image:png:{hashlib.sha256(png).hexdigest()}")
        made.png = png
        return made

    def __getnewargs__(self) -> tuple[bytes]:  # type: ignore[reportIncompatibleMethodOverride]
        """For `copy`: made again from the bytes."""
        return (self.png,)

    @property
    def file_name(self) -> str:
        """What it is called in a run's folder `images`."""
        return f"{self.rpartition(':')[2]}.png"


def _check(png: bytes) -> None:
    if not isinstance(png, bytes) or png[:8] != SIGNATURE or png[12:16] != b"IHDR":
        raise ValueError("an Image is made of the bytes of a PNG file; convert the picture first")
    sides = int.from_bytes(png[16:20], "big"), int.from_bytes(png[20:24], "big")
    if len(png) > LARGEST_BYTES or not all(0 < side <= LARGEST_SIDE for side in sides):
        raise ValueError(
            f"a picture of {sides[0]} x {sides[1]} pixels and {len(png):,} bytes; at most "
            f"{LARGEST_SIDE} pixels a side and {LARGEST_BYTES:,} bytes, so make it smaller"
        )


def images_of(inputs: Mapping[str, Any]) -> list[Image]:
    """The pictures among the inputs of an example."""
    return [value for value in inputs.values() if isinstance(value, Image)]


def shows_images(examples: Iterable[Any]) -> bool:
    """Whether any of the examples has a picture."""
    return any(images_of(example.inputs) for example in examples)
