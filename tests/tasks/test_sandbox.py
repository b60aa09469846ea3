"""The sandbox on programs of good will, where walls are missing, and what crosses the wire."""

from __future__ import annotations

import json
import math
import os
import resource
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks import sandbox
from tasks.inflection import Inflection
from tasks.sandbox import DEFAULT, WALLS, Limits, Sandbox, missing_walls, run_code, run_tests
from tasks.sandbox.wire import Opaque, decode, encode
from tasks.types import TaskError
from tests.tasks.orphans import adopted

ROOT = Path(__file__).resolve().parents[2]
ADD = "def add(a, b):\n    return a + b\n"
walled = pytest.mark.skipif(bool(missing_walls()), reason=f"no walls: {missing_walls()}")


@walled
def test_a_whole_program_reads_and_prints():
    outcome = run_code("name = input()\nprint('hello', name, end='')", stdin="wörld")
    assert (outcome.failure, outcome.output) == (None, "hello wörld")
    assert outcome.walls == tuple(WALLS)
    assert run_code("import sys\nprint(1)\nsys.exit(0)").output == "1\n"
    assert run_code("print(1 / 0)").failure == "raised"


@walled
def test_every_assert_counts_and_the_first_that_fails_is_told():
    tests = (
        "assert add(1, 1) == 2\nassert True, 'free'\nfor n in range(3):\n  assert add(n, 1) == 2"
    )
    outcome = run_tests(ADD, tests, function="add")
    assert (outcome.failure, outcome.passed, outcome.tried) == ("wrong_result", 2, 4)
    assert outcome.share == 0.5
    assert outcome.detail == "assert add(n, 1) == 2 does not hold: add returned 1"


@walled
def test_a_program_that_dies_fails_the_asserts_it_did_not_live_to_see():
    dies = "import os\ndef add(a, b):\n    return 2 if a == b else os._exit(0)"
    tests = "assert add(1, 1) == 2\nassert add(1, 2) == 3\nassert add(2, 2) == 2"
    outcome = run_tests(dies, tests, function="add")
    assert (outcome.failure, outcome.passed, outcome.tried) == ("exited_early", 1, 3)


@walled
def test_tests_may_expect_an_exception_but_not_swallow_a_death():
    tests = "try:\n  add(1, None)\n  assert False\nexcept TypeError:\n  pass"
    assert run_tests(ADD, tests, function="add").failure is None
    dead = "def add(a, b):\n    raise SystemExit"
    assert run_tests(dead, tests, function="add").failure == "exited_early"
    swallows = "import os\ndef add(a, b):\n    os._exit(0)"
    tests = "try:\n  add(1, None)\nexcept BaseException:\n  pass"
    assert run_tests(swallows, tests, function="add").failure == "exited_early"


@walled
def test_a_pass_needs_every_assert_and_the_end_of_the_script():
    for tests, passed, tried in (
        ("for n in add([], []):\n  assert n == 1", 0, 1),  # an empty list leads round the assert
        ("if add(1, 2) == 4:\n  assert add(1, 2) == 4", 0, 1),
        ("assert all(map(lambda n: add(n, None) == n, [1, 2]))", 0, 1),
    ):
        outcome = run_tests(ADD, tests, function="add")
        assert outcome.failure, tests
        assert (outcome.passed, outcome.tried) == (passed, tried)
    ends = "def add(a, b):\n    raise StopIteration"
    tests = (
        "assert all(map(lambda n: add(n, 1) == n + 1, [1, 2]))\nassert [*map(add, [1], [2])] == []"
    )
    outcome = run_tests(ends, tests, function="add")
    assert (outcome.failure, outcome.passed) == ("raised", 0)
    no_assert = run_tests(ADD, "add(1, 2)", function="add")
    assert (no_assert.failure, no_assert.passed, no_assert.tried) == (None, 1, 1)


@walled
def test_of_several_readings_the_first_that_is_python_is_run():
    outcome = run_tests(["def add(", ADD, "1 / 0"], "assert add(1, 2) == 3", function="add")
    assert outcome.failure is None
    outcome = run_tests(["x", ADD], "assert add(1, 2) == 3", function="add")
    assert outcome.failure == "raised"
    assert run_tests(["x x", "("], "add(1, 2)", function="add").failure == "syntax_error"


@walled
def test_a_program_may_ask_for_its_own_limits():
    asks = "import resource\nlow = (2, 2)\nresource.setrlimit(resource.RLIMIT_CPU, low)\n"
    outcome = run_code(asks + "print(resource.prlimit(0, resource.RLIMIT_CPU))")
    assert (outcome.failure, outcome.output) == (None, "(2, 2)\n")


@walled
def test_the_tests_own_mistakes_are_not_taken_for_success():
    assert run_tests(ADD, "assert add(1, 2) == undefined", function="add").failure
    with pytest.raises(TaskError, match="sandbox: the checker failed: SyntaxError"):
        run_tests(ADD, "assert add(1,", function="add")


@walled
def test_values_that_would_keep_the_tests_busy_for_ever_do_not():
    short = Sandbox(Limits(seconds=1))
    endless = "def add(a, b):\n    return range(10**12)"
    for tests, failure in (
        ("assert sorted(add(1, 2)) == [3]", "wrong_result"),
        ("for n in add(1, 2):\n  pass\nassert False", "timeout"),
    ):
        outcome = run_tests(endless, tests, function="add", sandbox=short)
        assert (outcome.failure, outcome.passed) == (failure, 0)


@walled
def test_state_lasts_from_call_to_call_and_not_from_run_to_run():
    counts = "n = 0\ndef add(a, b):\n    global n\n    n += 1\n    return n"
    for _ in range(2):
        tests = "assert add(0, 0) == 1\nassert add(0, 0) == 2"
        assert run_tests(counts, tests, function="add").failure is None


@walled
def test_the_same_program_has_the_same_outcome_many_at_a_time():
    chance = "import random\ndef add(a, b):\n    return random.random(), list({'x', 'y', 'z'})"
    with ThreadPoolExecutor(8) as pool:
        runs = list(pool.map(lambda _: run_tests(chance, "assert add(1, 2) is 0", function="add"),
                             range(8)))  # fmt: skip
    assert len(set(runs)) == 1


def children_seconds(work: Callable[[], object]) -> float:
    """CPU time of the processes that `work` starts and ends, which no wait for others adds to."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    work()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


@walled
def test_a_program_of_good_will_costs_little():
    """Against a Python that does nothing, each at its best, turn by turn on the same machine: a
    busy one slows both. 5 times as much where it was written (0.05 and 0.01 seconds)."""
    bare = [sys.executable, "-s", "-S", "-P", "-c", "pass"]
    ours, plain = [], []
    for _ in range(8):
        plain.append(children_seconds(lambda: subprocess.run(bare)))
        ours.append(
            children_seconds(lambda: run_tests(ADD, "assert add(1, 2) == 3", function="add"))
        )
    assert min(ours) < 10 * min(plain)


@walled
def test_limits_are_the_callers():
    roomy = replace(DEFAULT, limits=Limits(memory=128 << 20, processes=1))
    assert run_code("x = b'x' * (200 << 20)", sandbox=roomy).failure == "memory"
    assert run_code("x = b'x' * (200 << 20)").failure is None
    starts = "import threading\nt = threading.Thread(target=print)\nt.start()\nt.join()"
    assert run_code(starts, sandbox=roomy).failure == "too_many_processes"
    assert run_code(starts).failure is None


BEHIND_NO_WALLS = """
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
uid, gid = os.geteuid(), os.getegid()
assert not libc.unshare(0x10000000)
open("/proc/self/setgroups", "w").write("deny")
open("/proc/self/uid_map", "w").write(f"65534 {uid} 1")
open("/proc/self/gid_map", "w").write(f"65534 {gid} 1")
open("/proc/sys/user/max_user_namespaces", "w").write("0")
os.execv(sys.executable, [sys.executable, "-c", sys.argv[1]])
"""


def without_namespaces(code: str) -> Any:
    """What `code` prints as JSON, run by a user who may make no namespaces."""
    done = subprocess.run(
        [sys.executable, "-c", BEHIND_NO_WALLS, code],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout)


@walled
def test_missing_walls_are_refused_unless_allowed_by_name():
    told = without_namespaces(
        "import json\nfrom tasks.sandbox import *\nfrom tasks.types import TaskError\nsaid = []\n"
        "for allowed in ((), ('filesystem',), ('filesystem', 'processes')):\n"
        "  try:\n"
        "    found = run_code('print(1)', sandbox=Sandbox(allow_missing=allowed))\n"
        "    said.append([found.failure, found.output, found.walls])\n"
        "  except TaskError as error:\n    said.append(str(error))\n"
        "print(json.dumps(said))"
    )
    assert told[0].startswith("sandbox: cannot isolate processes (unshare: EPERM), filesystem")
    assert "sandbox: {allow_missing: [processes, filesystem]}" in told[0]
    assert told[1].startswith("sandbox: cannot isolate processes (unshare: EPERM)")
    assert told[2] == [None, "1\n", ["network", "syscalls"]]


@walled
def test_without_namespaces_limits_and_system_calls_still_hold():
    with adopted() as left:
        told = without_namespaces(
            "import json\nfrom tasks.sandbox import *\n"
            "box = Sandbox(Limits(seconds=2), ('filesystem', 'processes'))\n"
            "print(json.dumps([run_code(code, sandbox=box).failure for code in (\n"
            " 'import socket; socket.socket()', 'x = b\" \" * 10**10',\n"
            " 'import os, time\\nos.fork() or os.fork() or time.sleep(30)\\nwhile True: pass')]))"
        )
    assert told == ["forbidden", "memory", "timeout"]
    assert not left


LOOKS = f"""
import glob, os
script = {str(sandbox.CHECKER)!r}
for path in glob.glob('/proc/[0-9]*/cmdline'):
    if open(path).read().endswith(script + chr(0)) and str(os.getpid()) not in path:
        print(sum(os.access(file, os.W_OK) for file in glob.glob(path[:-7] + 'fd/*')))
"""


@walled
def test_without_namespaces_nobody_opens_the_checkers_files():
    told = without_namespaces(
        "import json\nfrom tasks.sandbox import *\n"
        "box = Sandbox(Limits(), ('filesystem', 'processes'))\n"
        f"print(json.dumps(run_code({LOOKS!r}, sandbox=box).output.split()))"
    )
    assert len(told) >= 3  # checker, keeper and guard
    assert set(told) == {"0"}


def test_a_wall_that_does_not_exist_and_a_task_without_code_are_told_so():
    with pytest.raises(TaskError, match=r'no wall "netwrok".*did you mean "network"'):
        Sandbox(allow_missing=("netwrok",))
    assert sandbox.settle(Inflection()) == {}
    with pytest.raises(TaskError, match='task "inflection" runs no code'):
        sandbox.settle(Inflection(), ["network"])


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
    | st.binary() | st.complex_numbers(allow_nan=False),
    lambda inner: st.lists(inner) | st.tuples(inner, inner)
    | st.dictionaries(st.text() | st.integers(), inner)
    | st.sets(st.integers() | st.text()) | st.frozensets(st.integers()),
    max_leaves=20,
)  # fmt: skip


def across(value: Any) -> Any:
    return decode(json.loads(json.dumps(encode(value))))


@given(PLAIN)
def test_plain_data_crosses_the_wire_unchanged(value: Any):
    assert repr(across(value)) == repr(value) or across(value) == value
    assert type(across(value)) is type(value)


def test_what_crosses_the_wire_is_of_pythons_own_types():
    class Sly(int):
        def __eq__(self, other: object) -> bool:
            return True

        __hash__ = int.__hash__

    assert type(across(Sly(3))) is int
    assert isinstance(across(object()), Opaque)
    assert across(object()) != across(object())
    assert math.isnan(across(math.nan))
    assert across(10**5000) == 10**5000
    assert list(across(x for x in "ab")) == ["a", "b"]
    assert across({1: 2}.keys()) == {1}
    assert across("\ud800") == "\ud800"


@pytest.mark.parametrize("data", [{"int": "x"}, {"os": "x"}, {}, {"set": [[1]]}, {"tuple": 3}])
def test_what_the_wire_never_writes_is_refused(data: Any):
    with pytest.raises((ValueError, TypeError, KeyError)):
        decode(data)
