"""Every spelling of a task, and the one line each mistake gets."""

from __future__ import annotations

import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import pytest

import tasks.load
from tasks import Task, TaskError
from tasks.inflection import Inflection
from tasks.load import (
    check_shape,
    load_task,
    task_copies,
    task_files,
    task_hash,
    task_source,
)

SOURCE = """
from dataclasses import dataclass
from tasks import Example, Score, Task
from tasks.inflection import Inflection

@dataclass
class Note:
    text: str

class Echo(Task):
    name = "echo"
    instruction = "Repeat."

    def split(self, name):
        return [Example(f"{name}-{n}", {"input": f"{name} {n}"}, "x") for n in range(3)]

    def score(self, example, text):
        right = text == example.answer
        return Score(float(right), right)

def make():
    return Echo()
"""


@pytest.fixture
def write(tmp_path):
    def save(name, content):
        path = tmp_path / name
        path.write_text(content, encoding="utf-8")
        return str(path)

    return save


@pytest.fixture(autouse=True)
def _same_path(monkeypatch):
    monkeypatch.setattr(sys, "path", list(sys.path))


def refuse(name):
    with pytest.raises(TaskError) as error:
        load_task(name)
    message = str(error.value)
    assert "\n" not in message
    return message


def test_a_file_with_one_task_needs_no_name(write):
    path = write("echo.py", SOURCE)
    assert load_task(path).name == "echo"
    assert load_task(f"{path}:Echo").name == "echo"
    assert load_task(f"{path}:make").name == "echo"
    assert load_task(write("inst.py", SOURCE + "TASK = Echo()\n")).name == "echo"
    assert load_task(f"{path}:Inflection").name == "inflection"


def test_modules_data_and_built_ins_are_found(write, tmp_path, monkeypatch):
    assert isinstance(load_task("inflection"), Inflection)
    assert isinstance(load_task("tasks.inflection:Inflection"), Inflection)
    rows = "input,answer\n" + "".join(f"q{n},a\n" for n in range(9))
    assert load_task(write("rows.csv", rows)).name == "rows"
    assert load_task(write("t.yaml", "data: rows.csv")).name == "t"
    write("neighbour.py", SOURCE)
    monkeypatch.chdir(tmp_path)
    assert load_task("neighbour:Echo").name == "echo"


def test_an_installed_entry_point_is_found(monkeypatch):
    point = SimpleNamespace(name="theirs", load=lambda: Inflection)
    monkeypatch.setattr(tasks.load, "entry_points", lambda group: [point])
    assert load_task("theirs").name == "inflection"
    assert '(did you mean "theirs"?)' in refuse("their")


def test_a_folder_is_appended_to_the_path_never_put_first(write, tmp_path):
    write("json.py", "raise RuntimeError('the wrong json')")
    write("words_of_echo.py", "WORD = 'hi'")
    source = SOURCE + "import json\nfrom words_of_echo import WORD\n"
    assert load_task(write("echo.py", source)).name == "echo"
    assert sys.path[-1] == str(tmp_path)


def test_a_file_with_a_library_name_stands_in_for_nothing(write):
    before = sys.modules["json"]
    assert load_task(write("json.py", SOURCE)).name == "echo"
    assert sys.modules["json"] is before


CANDIDATES = SOURCE + "class Other(Echo):\n    pass\n"
BROKEN = [
    (SOURCE + "1 / 0\n", "", ":23: ZeroDivisionError: division by zero"),
    (SOURCE + "import json\njson.loads('{')\n", "", ":24: JSONDecodeError: "),
    ("x = (\n", "", ":1: SyntaxError: '(' was never closed"),
    ("import sys\nsys.exit(3)\n", "", ":2: SystemExit: 3"),
    ("x = 1\n", "", ": no task; define a class that subclasses Task"),
    (CANDIDATES, "", ": several tasks, Echo, Other; write t.py:Echo"),
    (SOURCE, ":Ecko", ': no "Ecko" (did you mean "Echo"?); it defines Echo'),
    (SOURCE + "def bad():\n    raise KeyError('k')\n", ":bad", ":24: KeyError: 'k'"),
    (SOURCE + "def bad(x):\n    return x\n", ":bad", ":bad: TypeError: bad() missing 1 required"),
    (SOURCE, ":Note", ":Note: TypeError: "),
    ("from tasks import Task\nclass A(Task):\n    pass\n", "", ':A: no text attribute "name"'),
    (
        "from tasks import Task\nclass A(Task):\n    name = instruction = 'a'\n",
        "",
        ':A: no method "split"; write def split(self, name)',
    ),
    (
        SOURCE.replace("def score", "def grade"),
        "",
        ':Echo: no method "score"; write def score(self, example, text)',
    ),
    (
        SOURCE.replace('"Repeat."', '"Repeat."\n    inputs = ("input")'),
        "",
        ":Echo: inputs is 'input'; write a tuple",
    ),
]


BROKEN += [
    (SOURCE.replace('"Repeat."', f'"Repeat."\n    files = {files}'), "", message)
    for files, message in (
        ("None", ":Echo: files is None; write a tuple"),
        ("'echo.txt'", ":Echo: files is 'echo.txt'; write a tuple"),
        ("('gone.txt',)", ":Echo: files names 'gone.txt', which is no file"),
        ("('/',)", ":Echo: files names '/', which is no file"),
        ("(1,)", ":Echo: files names '1', which is no file"),
        ("property(lambda self: 1 / 0)", ": ZeroDivisionError: division by zero"),
        ("failure_classes = property(lambda self: 1 / 0)", ": ZeroDivisionError: division"),
    )
]
BROKEN.append((SOURCE.replace('"Repeat."', '"\\ud800"'), "", ":Echo: half a surrogate pair"))


@pytest.mark.parametrize(("source", "name", "message"), BROKEN)
def test_a_broken_file_is_said_with_its_line(write, source, name, message):
    path = write("t.py", source)
    found = refuse(path + name)
    assert found.startswith(path) or f" {path}" in found
    assert message in found


def test_what_does_not_exist_is_said_with_what_does(write):
    path = write("echo.py", SOURCE)
    assert refuse(path.replace("echo", "ecko")).endswith('no such file (did you mean "echo.py"?)')
    assert 'no task "inflexion" (did you mean "inflection"?)' in refuse("inflexion")
    listed = refuse("zzz")
    assert "built in: " in listed and "reasoning:NAME" in listed and len(listed) < 400
    assert all(name in listed for name in tasks.load.BUILT_INS)
    assert "is no task file" in refuse("some/folder")
    assert (
        refuse("no_such_mod:X") == 'module "no_such_mod": ModuleNotFoundError: '
        "No module named 'no_such_mod'"
    )
    assert 'no "sqr" (did you mean "sqrt"?)' in refuse("math:sqr")
    assert 'no text attribute "name"' in refuse("math:pi")
    assert refuse("gone.jsonl") == "gone.jsonl: no such file"


@pytest.mark.parametrize(
    "spelling",
    [
        "",
        ":",
        ".py",
        "a:b:c",
        "\0",
        "x" * 500,
        "x" * 5_000,
        "../..",
        "*.py",
        "x" * 300 + ".py",
        "x" * 300 + ".csv",
    ],
)
def test_odd_spellings_are_task_errors(spelling):
    assert len(refuse(spelling)) < 400 + len(spelling) * spelling.endswith((".py", ".csv"))


def test_a_shape_that_is_not_a_subclass_is_enough():
    ducks = SimpleNamespace(
        name="d",
        instruction="",
        inputs=["q"],
        output="a",
        failure_classes={},
        split=list,
        score=max,
    )
    assert check_shape(ducks, "here") is ducks
    for wrong in ("truncated", ["truncated"], 3):
        ducks.format_failures = wrong
        with pytest.raises(TaskError, match="here: format_failures must list some of"):
            check_shape(ducks, "here")
    del ducks.format_failures
    ducks.failure_classes = {"a": ""}
    with pytest.raises(TaskError, match="here: failure_classes must map"):
        check_shape(ducks, "here")


def test_hash_and_source_follow_the_files_and_open_no_split(write, monkeypatch):
    path = write(
        "echo.py", SOURCE.replace("def split", "def split_(self, name): 1 / 0\n    def split")
    )
    task = load_task(path)
    monkeypatch.setattr(type(task), "split", lambda self, name: 1 / 0)
    first = task_hash(task)
    assert task_hash(load_task(path)) == first
    source = task_source(task)
    assert source is not None and "class Echo" in source
    write("echo.py", SOURCE + "# changed\n")
    assert task_hash(load_task(path)) != first


@pytest.mark.parametrize("change", ["turns", "signature", "docstring"])
def test_hash_covers_tools_wherever_they_are_from(change):
    task = load_task("calculator")
    first = task_hash(task)

    def calculator(expression: str) -> str:
        """Works out an arithmetic expression.

        Args:
            expression: such as 12 * (3 + 4)
        """
        return ""

    tools: Any = {"tools": (calculator,), "max_turns": 3}
    same = type("Same", (type(task),), tools)()
    if change == "turns":
        same.max_turns = 9
    elif change == "signature":
        calculator.__annotations__["expression"] = int
    else:
        calculator.__doc__ = "Does sums."
    plain = type("Same", (type(task),), {})()
    assert task_hash(same) != task_hash(plain) == task_hash(type("Same", (type(task),), {})())
    assert task_hash(load_task("calculator")) == first


def test_hash_covers_data_yaml_and_the_file_of_a_function(write, tmp_path):
    rows = "input,answer\n" + "".join(f"q{n},a\n" for n in range(9))
    write("rows.csv", rows)
    yaml = write("t.yaml", "data: rows.csv")
    before = load_task(yaml)
    assert [path.name for path in task_files(before)] == ["t.yaml", "rows.csv"]
    assert task_source(before) == "data: rows.csv"
    first = task_hash(before)
    write("rows.csv", rows + "q10,a\n")
    assert task_hash(load_task(yaml)) != first
    call = f"from tasks.files import from_file\ndef make():\n    return from_file({yaml!r})\n"
    made = load_task(write("make.py", call) + ":make")
    assert [path.name for path in task_files(made)] == ["make.py", "t.yaml", "rows.csv"]
    assert task_source(load_task(str(tmp_path / "rows.csv"))) is None


def test_helpers_a_task_imports_count_and_are_copied(write, tmp_path):
    (tmp_path / "words_beside_it").mkdir()
    write("words_beside_it/__init__.py", "")
    write("words_beside_it/nouns.py", "NOUN = 'tree'")
    path = write("echo.py", SOURCE + "from words_beside_it.nouns import NOUN\n")
    write("never_imported.py", "")
    task = load_task(path)
    first = task_hash(task)
    assert task_copies(task) == {
        name: (tmp_path / name).read_bytes()
        for name in ("echo.py", "words_beside_it/__init__.py", "words_beside_it/nouns.py")
    }
    write("words_beside_it/nouns.py", "NOUN = 'house'")
    assert task_hash(task) != first
    assert task_source(task) == (tmp_path / "echo.py").read_text()


def test_a_helper_imported_only_when_a_split_opens_counts_from_the_start(write, tmp_path):
    write("deep_words.py", "WORD = 'x'")
    write("late_words.py", "from deep_words import WORD\n")
    late = "from late_words import WORD\n        return [Example(f"
    task = load_task(write("echo.py", SOURCE.replace("return [Example(f", late)))
    first = task_hash(task)
    assert {path.name for path in task_files(task)} == {
        *("echo.py", "late_words.py", "deep_words.py")
    }
    task.split("test")
    assert task_hash(task) == first
    write("deep_words.py", "WORD = 'y'")
    assert task_hash(task) != first


def test_copies_of_files_with_one_name_do_not_overwrite_each_other(write, tmp_path):
    for folder in ("data/old", "data/new"):
        (tmp_path / folder).mkdir(parents=True)
        write(f"{folder}/rows.csv", folder)
    files = [str(tmp_path / folder / "rows.csv") for folder in ("data/old", "data/new")]
    path = write("echo.py", SOURCE.replace('"Repeat."', f'"Repeat."\n    files = {files}'))
    assert set(task_copies(load_task(path))) == {
        *("echo.py", "data/old/rows.csv", "data/new/rows.csv")
    }
    rows = "input,answer\n" + "".join(f"q{n},a\n" for n in range(9))
    assert task_copies(load_task(write("rows.csv", rows))) == {"rows.csv": rows.encode()}


def test_the_hash_of_a_data_file_covers_our_scorers(write, tmp_path, monkeypatch):
    task = load_task(write("rows.csv", "input,answer\n" + "".join(f"q{n},a\n" for n in range(9))))
    first = task_hash(task)
    monkeypatch.setattr(tasks.load.text, "__file__", write("text.py", "# other code"))
    assert task_hash(task) != first


def test_importing_tasks_is_light():
    heavy = ["torch", "dspy", "transformers", "numpy", "yaml", "lemminflect", "pydantic"]
    code = "import sys, tasks, tasks.load, tasks.check, tasks.inflection\nprint(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert not set(heavy) & set(loaded.stdout.split())


def test_a_subclass_is_a_task():
    assert isinstance(Inflection(), Task)


def test_every_built_in_stands_in_the_documentation(root):
    table = (root / "docs" / "known-tasks.md").read_text(encoding="utf-8")
    rows = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    for name in tasks.load.BUILT_INS:
        assert any(f"`{name}`" in row for row in rows), name
    told = table + (root / "docs" / "adapters.md").read_text(encoding="utf-8")
    assert all(f"`{family}:" in told for family in tasks.load.FAMILIES)


def test_a_family_goes_before_files_and_modules(tmp_path, monkeypatch):
    with pytest.raises(TaskError, match="no such file"):
        load_task("lm-eval:missing.yaml")
    with pytest.raises(TaskError, match="no generator"):
        load_task("reasoning:NAME")
