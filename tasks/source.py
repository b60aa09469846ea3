"""Running a user's task file so that a mistake in it is one line: file, line and exception."""

from __future__ import annotations

import ast
import hashlib
import importlib
import importlib.util
import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import TypeVar

from tasks.text import nearest, shorten
from tasks.types import TaskError

Result = TypeVar("Result")


def import_file(path: Path) -> ModuleType:
    """Run a .py file as a module; its folder is appended to sys.path, so it may import neighbours.

    Raises TaskError for a file that is missing or raises.
    """
    if not os.path.isfile(path):  # Path.is_file raises on a name that is too long
        hint = nearest(path.name, (p.name for p in path.parent.glob("*.py")))
        raise TaskError(f"{path}: no such file{hint}")
    path = path.resolve()
    # never a bare stem: a file called json.py must not stand in for the library
    name = f"{path.stem}_{hashlib.sha256(str(path).encode()).hexdigest()[:8]}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None  # always so for a .py path
    loader = spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and pickle look the module up while it runs
    _append_path(path.parent)
    try:
        guarded(lambda: loader.exec_module(module), str(path))
    except TaskError:
        del sys.modules[name]
        raise
    return module


def import_named(name: str) -> ModuleType:
    """Import `pkg.mod` from sys.path or the current folder. Raises TaskError."""
    _append_path(Path.cwd())
    return guarded(lambda: importlib.import_module(name), f'module "{name}"')


def guarded(action: Callable[[], Result], what: str) -> Result:
    """`action()`, with whatever it raises turned into a TaskError of one line.

    `what` is the file that is to blame when it occurs in the traceback, else words for the action.
    """
    try:
        return action()
    except TaskError:
        raise
    except (Exception, SystemExit) as error:
        reason = shorten(" ".join(f"{type(error).__name__}: {error}".split()))
        raise TaskError(f"{_find_line(error, what) or what}: {reason}") from error


def own_names(module: ModuleType) -> list[str]:
    """Names a module binds itself at top level (class, def, assignment), not those it imports."""
    if not (module.__file__ or "").endswith(".py"):
        return [name for name in vars(module) if not name.startswith("_")]
    source = Path(str(module.__file__)).read_text(encoding="utf-8")
    names: list[str] = []
    for node in ast.parse(source).body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            names.append(node.name)
        elif isinstance(node, ast.Assign):
            names += [target.id for target in node.targets if isinstance(target, ast.Name)]
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            names.append(node.target.id)
    return names


def imported_names(file: Path) -> list[str]:
    """First parts of the names a source file imports, relative imports included, sorted."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {node.module.partition(".")[0]} if node.module else set()
            names |= set() if node.module else {alias.name for alias in node.names}
    return sorted(names)


def _find_line(error: BaseException, file: str) -> str:
    """'file.py:12': the last line of `file` on the way to the error, else of anything but us."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}:{error.lineno}"
    frames = traceback.extract_tb(error.__traceback__)
    theirs = [f for f in frames if f.filename != __file__ and "importlib" not in f.filename]
    blamed = [f for f in theirs if file.startswith(f.filename)] or theirs
    return f"{blamed[-1].filename}:{blamed[-1].lineno}" if blamed else ""


def _append_path(folder: Path) -> None:
    """Last, never first: a user's random.py must not replace the standard library's."""
    if str(folder) not in sys.path:
        sys.path.append(str(folder))
