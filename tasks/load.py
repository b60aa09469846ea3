"""From what a user writes after `task:` to a Task, and what of it belongs in a run folder."""

from __future__ import annotations

import hashlib
import inspect
import json
import os
import re
from collections.abc import Collection, Mapping, Sequence
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import Any

from tasks import json_scorer, scorers, text
from tasks.files import FileTask, from_file
from tasks.source import guarded, import_file, import_named, imported_names, own_names
from tasks.text import nearest, shorten
from tasks.tools import schema_of
from tasks.types import Task, TaskError

BUILT_INS: Mapping[str, str] = {
    "banking77": "tasks.known.banking77:Banking77",
    "bikeshare": "tasks.bikeshare:BikeShare",
    "calculator": "tasks.calculator:Calculator",
    "digit-image": "tasks.digit_image:DigitImage",
    "gsm8k": "tasks.known.gsm8k:GSM8K",
    "hotpotqa": "tasks.known.hotpotqa:HotpotQA",
    "humaneval": "tasks.humaneval:HumanEval",
    "ifeval": "tasks.known.ifeval:IFEval",
    "ifeval-loose": "tasks.known.ifeval:IFEvalLoose",
    "inflection": "tasks.inflection:Inflection",
    "injection": "tasks.injection:Injection",
    "json-extraction": "tasks.known.json_extraction:JsonExtraction",
    "math500": "tasks.known.math500:Math500",
    "questions": "tasks.questions:Questions",
    "sql": "tasks.sql:Sql",
    "ticket-routing": "tasks.known.ticket_routing:TicketRouting",
}
# Spelled PREFIX:REST; the class gets the whole name and reads the rest itself.
FAMILIES: Mapping[str, str] = {
    "inspect": "tasks.adapters.inspect:InspectTask",
    "lm-eval": "tasks.adapters.lm_eval:LMEvalTask",
    "reasoning": "tasks.known.reasoning:Reasoning",
    "verifiers": "tasks.adapters.verifiers:VerifiersTask",
}
HOUSE = Path(__file__).resolve().parent  # our own tasks import nothing of a user's
ENTRY_POINTS = "tasklift.tasks"

# Where a task was loaded from, by id() since a task need not be hashable; the task itself is kept
# so that the id stays its own.
_origins: dict[int, tuple[Task, Path]] = {}


def load_task(name: str) -> Task:
    """The task that `name` spells. Tried in this order:

    a prefix of `FAMILIES`, `path/file.py[:NAME]`, `pkg.mod:NAME`, a .jsonl, .csv or .yaml file, a
    built-in name, an entry point of the group `tasklift.tasks`. NAME is a Task class (called
    without arguments), an instance, or a function without arguments that returns one; a file that
    defines a single Task needs no NAME. Raises TaskError, one line that lists what there is.
    """
    family, colon, _ = name.partition(":")
    if colon and family in FAMILIES:
        return _load_member(family, name)
    if match := re.fullmatch(r"(.+\.py)(?::(\w+))?", name):
        return _load_from(import_file(Path(match[1]).expanduser()), match[2])
    if re.fullmatch(r"[\w.]+:\w+", name):
        module, _, attribute = name.partition(":")
        return _load_from(import_named(module), attribute)
    if name.endswith((".jsonl", ".csv", ".yaml", ".yml")):
        path = Path(name).expanduser()
        task = from_file(path)
        if path.suffix in (".yaml", ".yml"):
            _origins[id(task)] = (task, path)
        return task
    installed = {point.name: point for point in entry_points(group=ENTRY_POINTS)}
    if name in BUILT_INS:
        return load_task(BUILT_INS[name])
    if name in installed:
        return _as_task(guarded(installed[name].load, f'entry point "{name}"'), f'"{name}"')
    raise TaskError(_describe_unknown(name, sorted({*BUILT_INS, *installed})))


def task_files(task: Task) -> tuple[Path, ...]:
    """Files that make the task what it is: its code, its bases' code, its data.

    A task class that reads data names it in an attribute `files`, or a change goes unseen.
    """
    found = [_origins[id(task)][1]] if id(task) in _origins else []
    if not isinstance(task, FileTask):
        bases = [base for base in type(task).__mro__ if base.__module__ != Task.__module__]
        found += [path for base in bases if (path := _source_file(base))]
    found += [Path(file).expanduser() for file in getattr(task, "files", ())]
    found += neighbours(found)
    return tuple(dict.fromkeys(path.resolve() for path in found))


def task_copies(task: Task) -> dict[str, bytes]:
    """What to keep of the task with its results: relative name to content, no name twice."""
    files = task_files(task)
    if not files:
        return {}
    top = Path(os.path.commonpath([file.parent for file in files]))
    return {file.relative_to(top).as_posix(): file.read_bytes() for file in files}


def neighbours(files: Sequence[Path]) -> list[Path]:
    """Modules beside a user's task file that it imports, and those that they import.

    Read off the source, not off what happens to be loaded, so that it is the same at every call.
    """
    found: list[Path] = []
    waiting = [file.resolve() for file in files if file.suffix == ".py"]
    while waiting:
        file = waiting.pop()
        if HOUSE in file.parents:
            continue
        for name in imported_names(file):
            module, package = file.parent / f"{name}.py", file.parent / name
            inside = sorted(package.rglob("*.py")) if (package / "__init__.py").exists() else []
            new = [path for path in (module, *inside) if path.is_file() and path not in found]
            found += new
            waiting += new
    return found


def task_source(task: Task) -> str | None:
    """Text of the file that defines the task; None for bare data and for code without a file."""
    code = [path for path in task_files(task) if path.suffix in (".py", ".yaml", ".yml")]
    return code[0].read_text(encoding="utf-8") if code else None


def task_hash(task: Task) -> str:
    """16 hex digits over declaration, code and data files. Opens no split, the test split least."""
    declared = [
        task.name,
        task.instruction,
        list(task.inputs),
        task.output,
        dict(task.failure_classes),
    ]
    if getattr(task, "tools", ()):
        declared += [[schema_of(tool) for tool in task.tools], task.max_turns]
    if isinstance(task, FileTask) and task.read:
        declared.append(task.read)
    digest = hashlib.sha256(json.dumps(declared).encode())
    # a FileTask's code is ours
    scoring = [inspect.getfile(module) for module in (scorers, json_scorer, text)]
    own = [Path(file) for file in scoring if isinstance(task, FileTask)]
    for path in (*task_files(task), *own):
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:16]


def check_shape(task: Any, where: str) -> Task:
    """`task`, if it has everything a Task has, of the right kinds. Raises TaskError if not."""
    guarded(lambda: _check_parts(task, where), where)  # any of them may be a property that raises
    return task


def _check_parts(task: Any, where: str) -> None:
    for name in ("name", "instruction", "output"):
        if not isinstance(getattr(task, name, None), str):
            raise TaskError(f'{where}: no text attribute "{name}"; write {name} = "..."')
    if not task.name.strip():
        raise TaskError(f'{where}: the name is empty; write name = "my-task"')
    fields = getattr(task, "inputs", None)
    if not isinstance(fields, tuple | list) or not fields or not _all_text(fields):
        raise TaskError(f'{where}: inputs is {fields!r}; write a tuple such as ("question",)')
    classes = getattr(task, "failure_classes", None)
    if not isinstance(classes, Mapping) or not _all_text([*classes, *classes.values()]):
        raise TaskError(f"{where}: failure_classes must map each class to a sentence about it")
    formal = getattr(task, "format_failures", ())
    if isinstance(formal, str) or not isinstance(formal, Collection) or set(formal) - set(classes):
        known = ", ".join(classes) or "none yet"
        raise TaskError(f"{where}: format_failures must list some of failure_classes ({known})")
    words = [task.name, task.instruction, task.output, *fields, *classes, *classes.values()]
    if not _is_utf8("".join(words)):
        raise TaskError(f"{where}: half a surrogate pair in its texts; write whole characters")
    for name, stub in (("split", Task.split), ("score", Task.score)):
        # a subclass that leaves a method out inherits the protocol's empty one
        if not callable(getattr(task, name, None)) or getattr(type(task), name, None) is stub:
            call = "split(self, name)" if name == "split" else "score(self, example, text)"
            raise TaskError(f'{where}: no method "{name}"; write def {call}')
    _check_tools(task, where)
    _check_files(task, where)


def _check_tools(task: Any, where: str) -> None:
    """Where a task has tools, their schemas can be made and it has what else it takes."""
    tools = getattr(task, "tools", ())
    if isinstance(tools, str) or not isinstance(tools, Sequence) or not all(map(callable, tools)):
        raise TaskError(f"{where}: tools is {tools!r}; write a tuple of functions")
    if not tools:
        return
    names = [schema_of(tool)["function"]["name"] for tool in tools]
    if len(set(names)) < len(names):
        raise TaskError(f"{where}: two tools have one name ({', '.join(names)}); rename one")
    turns = getattr(task, "max_turns", None)
    if type(turns) is not int or turns < 1:
        raise TaskError(f"{where}: max_turns is {turns!r}; write how many turns, such as 4")
    for name in ("tools_for", "score_transcript", "demonstration"):
        if not callable(getattr(task, name, None)):
            raise TaskError(f'{where}: tools, and no method "{name}"; subclass tasks.Task')


def _check_files(task: Any, where: str) -> None:
    files = getattr(task, "files", ())
    if isinstance(files, str) or not isinstance(files, Sequence):
        raise TaskError(f'{where}: files is {files!r}; write a tuple such as ("data.jsonl",)')
    for file in files:
        if not isinstance(file, str | Path) or not Path(file).expanduser().is_file():
            raise TaskError(f"{where}: files names {str(file)!r}, which is no file; mend the path")


def _load_from(module: ModuleType, name: str | None) -> Task:
    path = Path(module.__file__ or "")
    own = own_names(module)
    tasks = [key for key in own if _looks_like_task(getattr(module, key, None))]
    instances = {type(getattr(module, key)).__name__ for key in tasks}
    tasks = [key for key in tasks if key not in instances]  # TASK = Mine() stands for Mine
    if name is None and len(tasks) == 1:
        name = tasks[0]
    if name is None:
        found = f"several tasks, {', '.join(tasks)}" if tasks else "no task"
        hint = f"write {path.name}:{tasks[0]}" if tasks else "define a class that subclasses Task"
        raise TaskError(f"{path}: {found}; {hint}")
    if not hasattr(module, name):
        known = ", ".join(tasks or own) or "nothing"
        raise TaskError(f'{path}: no "{name}"{nearest(name, own)}; it defines {known}')
    task = _as_task(getattr(module, name), f"{path}:{name}")
    _origins[id(task)] = (task, path)
    return task


def _load_member(family: str, name: str) -> Task:
    module, _, attribute = FAMILIES[family].partition(":")
    kind = getattr(import_named(module), attribute)
    return check_shape(guarded(lambda: kind(name), f'"{shorten(name, 80)}"'), f'"{name}"')


def _as_task(value: Any, where: str) -> Task:
    if inspect.isclass(value) or inspect.isroutine(value):
        value = guarded(value, where)
    return check_shape(value, where)


def _looks_like_task(value: Any) -> bool:
    return callable(getattr(value, "split", None)) and callable(getattr(value, "score", None))


def _all_text(values: Any) -> bool:
    return all(isinstance(value, str) and value.strip() for value in values)


def _is_utf8(text: str) -> bool:
    return not any("\ud800" <= letter <= "\udfff" for letter in text)


def _source_file(kind: type) -> Path | None:
    try:
        found = inspect.getsourcefile(kind)
    except (TypeError, OSError):  # built-in, or typed at a prompt
        return None
    # Python's own bases (Protocol, Generic) come with the interpreter, not with the task
    return Path(found) if found and kind.__module__ not in ("typing", "builtins", "abc") else None


def _describe_unknown(name: str, known: list[str]) -> str:
    name = shorten(name, 80)
    if "/" in name or os.path.exists(name):
        return f'"{name}" is no task file; write file.py, file.py:NAME, data.jsonl or task.yaml'
    listed = ", ".join([*known, *(f"{family}:NAME" for family in FAMILIES)])
    return (
        f'no task "{name}"{nearest(name, known)}; built in: {listed}; or give file.py, data.jsonl'
    )
