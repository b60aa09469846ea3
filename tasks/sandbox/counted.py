"""Tests, so changed that each assert is counted and the next one is tried either way."""

from __future__ import annotations

import ast
from types import CodeType
from typing import Any

SHOWN = 200  # characters of an assert
# what stands in an assert's place; the checker binds the names
FRAME = """
try:
    pass
except __gone__:
    raise
except BaseException as __error__:
    __failed__({text!r}, __error__)
else:
    __passed__()
"""


def counted(script: str) -> tuple[CodeType, int]:
    """The script's code, and how many asserts must be met. One that cannot fail is left out; one
    that cannot hold (`assert False`) marks a place not to be reached."""
    counting = _Counting()
    tree = ast.fix_missing_locations(counting.visit(ast.parse(script)))
    return compile(tree, "<tests>", "exec"), counting.asserts


class _Counting(ast.NodeTransformer):
    def __init__(self) -> None:
        self.asserts = 0

    def visit_Assert(self, node: ast.Assert) -> Any:
        if isinstance(node.test, ast.Constant):
            if node.test.value:
                return ast.Pass()
        else:
            self.asserts += 1
        text = ast.unparse(ast.Assert(node.test))
        text = text if len(text) <= SHOWN else text[:SHOWN] + "\u2026"
        (attempt,) = ast.parse(FRAME.format(text=text)).body
        assert isinstance(attempt, ast.Try)
        attempt.body = [node]
        return attempt
