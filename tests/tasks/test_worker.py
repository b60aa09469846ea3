"""The killable process: answers, errors, ends and endless loops of the function it asks."""

from __future__ import annotations

import os
import threading
import time

import pytest

from tasks.worker import Worker, WorkerFailed


def answer(question):
    """What the child runs."""
    match question:
        case "raise":
            raise KeyError("x")
        case "end":
            os._exit(0)
        case "loop":
            while True:
                pass
        case "memory":
            return len(bytes(20 << 30))
        case "print":
            print("noise")
    return question


@pytest.fixture
def worker():
    found = Worker("tests.tasks.test_worker:answer")
    yield found
    found.stop()


def test_it_answers_and_what_it_prints_is_no_answer(worker):
    assert worker.ask({"a": [1, "\ud800"]}, 30) == {"a": [1, "\ud800"]}
    assert worker.ask("print", 30) == "print"


def test_what_it_raises_comes_back_by_name(worker):
    assert worker.ask("raise", 30) == {"raised": "KeyError"}
    assert worker.ask("memory", 30) == {"raised": "MemoryError"}
    assert worker.ask(1, 30) == 1


def test_one_that_ends_or_hangs_is_replaced(worker):
    assert worker.ask(1, 30) == 1
    with pytest.raises(WorkerFailed) as ended:
        worker.ask("end", 30)
    start = time.perf_counter()
    assert worker.ask(2, 30) == 2
    with pytest.raises(WorkerFailed) as hung:
        worker.ask("loop", 0.5)
    assert time.perf_counter() - start < 10
    assert (ended.value.timed_out, hung.value.timed_out) == (False, True)
    assert worker.ask(3, 30) == 3


def test_threads_take_turns(worker):
    got = []
    threads = [threading.Thread(target=lambda n=n: got.append(worker.ask(n, 30))) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(got) == [*range(8)]


def test_a_forked_process_has_a_child_of_its_own(worker):
    assert worker.ask("parent", 30) == "parent"
    pid = os.fork()
    if pid == 0:
        right = worker.ask("child", 30) == "child"
        worker.stop()
        os._exit(0 if right else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert worker.ask("still", 30) == "still"


def test_a_child_does_not_outlive_its_parent_for_long():
    worker = Worker("tests.tasks.test_worker:answer")
    worker.ask(1, 30)
    process = worker._process
    assert process is not None
    process.stdin.close()  # type: ignore[union-attr]  what a killed parent leaves behind
    assert process.wait(10) == 0
