"""Single-turn verifiers environments as ours: the scaffold of `vf-init`, filled in."""

from __future__ import annotations

import asyncio

import pytest

pytest.importorskip("verifiers")

from tasks.load import load_task
from tasks.types import TaskError
from tests.tasks.known.passing import assert_checks, assert_class, assert_survives

HEAD = """
import verifiers.v1 as vf

class SumData(vf.TaskData):
    answer: int
    terms: int
"""
TASK = """
class SumTask(vf.Task[SumData]):
    @vf.reward(weight=3.0)
    async def right(self, trace: vf.Trace) -> float:
        return float(trace.last_reply.strip().endswith(str(self.data.answer)))

    @vf.reward(weight=1.0)
    async def short(self, trace: vf.Trace) -> float:
        return float(len(trace.last_reply) < 9)
"""
TAIL = """
class SumConfig(vf.TasksetConfig):
    num_tasks: int = 30

class SumTaskset(vf.Taskset[SumTask, SumConfig]):
    def load(self) -> list[SumTask]:
        return [
            SumTask(
                SumData(prompt=f"What is {n} + {n * n}?", answer=n + n * n, terms=2 SYSTEM),
                self.config.task,
            )
            for n in range(10, 10 + self.config.num_tasks)
        ]
"""


@pytest.fixture(scope="module")
def write(tmp_path_factory):
    folder = tmp_path_factory.mktemp("verifiers")

    def save(name: str, task: str = TASK, system: str = "", tail: str = TAIL) -> str:
        text = HEAD + task + tail.replace(" SYSTEM", system)
        (folder / f"{name}.py").write_text(text)
        return f"verifiers:{folder / name}.py"

    return save


@pytest.fixture(scope="module")
def task(write):
    return assert_checks(write("sums", system=', system_prompt="Add up."'))


def test_prompt_answer_and_features_come_over(task):
    example = task.split("test")[0]
    assert task.instruction == "Add up."
    assert (example.inputs["question"], example.answer) == ("What is 11 + 121?", "132")
    assert example.meta == {"terms": 2}
    assert [len(task.split(name)) for name in ("train", "dev", "test")] == [18, 3, 9]


def test_value_is_the_weighted_sum_of_its_rewards(task):
    example = task.split("test")[0]
    for text, value in (
        ("132", 1.0),
        ("It must be 132", 0.75),
        ("133", 0.25),
        ("I do not know", 0),
    ):
        assert task.score(example, text).value == value


def test_right_wrong_and_malformed(task):
    example = task.split("test")[0]
    assert_class(task, example, "132", None)
    assert_class(task, example, "I think it is 132", "extra_text")
    assert_class(task, example, "I do not know", "wrong")
    assert_class(task, example, "7", "partial")
    assert_class(task, example, " ", "empty")


def test_hostile_texts(task):
    assert_survives(task, task.split("test")[0])


def test_it_scores_inside_a_running_loop(task):
    async def inside() -> float:
        return task.score(task.split("test")[0], "132").value

    assert asyncio.run(inside()) == 1.0


def test_a_reward_that_raises_is_data(write):
    task = load_task(
        write("raises", TASK.replace("return float(trace", "return 1 / 0 + float(trace"))
    )
    assert_class(task, task.split("test")[0], "132", "scorer_error")


def test_negative_rewards_are_data(write):
    task = load_task(write("negative", TASK.replace("float(len(", "-float(len(")))
    assert_class(task, task.split("test")[0], "7", "scorer_error")


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        ("runtime", ("trace: vf.Trace)", "trace: vf.Trace, runtime: vf.Runtime)"), "runtime"),
        (
            "box",
            ("    @vf.reward(weight=3.0)", "    NEEDS_CONTAINER = True\n\n    @vf.reward()"),
            "container",
        ),
        ("none", ("@vf.reward", "@vf.metric"), "no reward"),
    ],
)
def test_what_one_turn_of_text_cannot_do_is_refused(write, name, change, words):
    changed = (
        TASK.replace(*change)
        .replace("metric(weight=3.0)", "metric")
        .replace("metric(weight=1.0)", "metric")
    )
    with pytest.raises(TaskError) as error:
        load_task(write(name, changed))
    assert words in str(error.value) and "\n" not in str(error.value)


def test_an_environment_that_is_not_installed_is_one_line():
    with pytest.raises(TaskError, match="not found"):
        load_task("verifiers:no-such-environment")
