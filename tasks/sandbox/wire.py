"""Plain data between the program and the one who checks it, as JSON. Never pickle, never repr.

What arrives was written by a process that may do anything; what `decode` makes of it is built of
Python's own types alone, so an `__eq__` of the program's is never called by the checker.
"""

from __future__ import annotations

import json
import os
from itertools import islice

TYPE_CHECKING = False  # without the cost of importing typing
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

EXACT = 2**53  # whole numbers beyond it are written in hex, of any length
MOST_ITEMS = 100_000  # taken from an iterator


class Opaque:
    """Stands for a returned object that is no plain data; equal to nothing, good for nothing."""

    def __init__(self, kind: str):
        self.kind = kind

    def __repr__(self) -> str:
        return f"<{self.kind[:60]}>"


def encode(value: Any) -> Any:
    """`value` as what `json.dumps` takes. Raises RecursionError for deep nesting."""
    if value is None or value is True or value is False:
        return value
    for kind, write in WRITERS:
        if isinstance(value, kind):
            return write(value)
    if hasattr(value, "__next__"):
        return {"iterator": [encode(item) for item in islice(value, MOST_ITEMS)]}
    return {"opaque": type(value).__name__}


def _number(value: int | float) -> Any:
    if isinstance(value, int):
        value = int(value)
        return value if abs(value) < EXACT else {"int": hex(value)}
    value = float(value)
    return value if value - value == 0 else {"float": repr(value)}  # nan and inf are no JSON


def _items(name: str) -> Callable[[Any], Any]:
    return lambda value: {name: [encode(item) for item in value]}


WRITERS: tuple[tuple[Any, Callable[[Any], Any]], ...] = (
    ((int, float), _number),
    (str, str.__str__),
    (list, lambda value: [encode(item) for item in value]),
    (tuple, _items("tuple")),
    (set, _items("set")),
    (frozenset, _items("frozenset")),
    (dict, lambda value: {"dict": [[encode(k), encode(v)] for k, v in value.items()]}),
    ((bytes, bytearray), lambda value: {"bytes": value.hex()}),
    (complex, lambda value: {"complex": [encode(value.real), encode(value.imag)]}),
    (range, lambda value: {"range": [value.start, value.stop, value.step]}),
    (type({}.keys()), _items("keys")),
    (type({}.values()), _items("values")),
)
READERS: dict[str, Callable[[Any], Any]] = {
    "int": lambda text: int(text, 16),
    "float": float,
    "tuple": lambda items: tuple(map(decode, items)),
    "set": lambda items: set(map(decode, items)),
    "frozenset": lambda items: frozenset(map(decode, items)),
    "dict": lambda pairs: {decode(key): decode(value) for key, value in pairs},
    "bytes": bytes.fromhex,
    "complex": lambda parts: complex(*map(decode, parts)),
    "range": lambda parts: range(*parts),
    "keys": lambda items: dict.fromkeys(map(decode, items)).keys(),
    "values": lambda items: dict(enumerate(map(decode, items))).values(),
    "iterator": lambda items: iter([*map(decode, items)]),
    "opaque": lambda kind: Opaque(str(kind)),
}


def decode(data: Any) -> Any:
    """Inverse of `encode`. Raises ValueError, TypeError or KeyError for what it never writes."""
    if isinstance(data, list):
        return [decode(item) for item in data]
    if isinstance(data, dict):
        ((name, content),) = data.items()
        return READERS[name](content)
    return data


def send(channel: int, message: Any) -> None:
    """One message: four bytes of length, then JSON."""
    data = json.dumps(message).encode()
    data = len(data).to_bytes(4, "big") + data
    while data:
        data = data[os.write(channel, data) :]


def receive(channel: int) -> Any:
    """The next message; None at the end. Waits for it."""
    size = _read(channel, 4)
    return json.loads(_read(channel, int.from_bytes(size, "big"))) if size else None


def _read(channel: int, size: int) -> bytes:
    data = b""
    while len(data) < size:
        more = os.read(channel, min(size - len(data), 1 << 20))
        if not more:
            return b""
        data += more
    return data
