"""Inspect's tasks as ours: the scores are Inspect's own on the same outputs."""

from __future__ import annotations

import asyncio

import pytest

pytest.importorskip("inspect_ai")

from tasks.load import load_task
from tasks.types import TaskError
from tests.tasks.known.passing import assert_checks, assert_class, assert_survives

SOURCE = """
from inspect_ai import Task, task
from inspect_ai.dataset import FieldSpec, Sample, example_dataset
from inspect_ai.scorer import choice, f1, includes, match, model_graded_fact, pattern
from inspect_ai.solver import (
    generate, multiple_choice, prompt_template, self_critique, system_message,
)

ANIMALS = "ape bat cat dog eel fox gnu hen ibex jay kiwi lynx".split()

@task
def popularity():  # Inspect's documentation has this one, on data in its wheel
    fields = FieldSpec(
        input="question", target="answer_matching_behavior", metadata=["label_confidence"]
    )
    return Task(
        dataset=example_dataset("popularity", fields),
        solver=[system_message("Answer Yes or No."), generate()],
        scorer=match(),
    )

@task
def biology():
    return Task(
        dataset=example_dataset("biology_qa", FieldSpec(input="question", target="answer")),
        scorer=includes(),
    )

@task
def letters():
    return Task(
        dataset=[
            Sample(input=f"Where is the {a}?", choices=["in", "out", "up"], target="ABC"[n % 3])
            for n, a in enumerate(ANIMALS)
        ],
        solver=multiple_choice(),
        scorer=choice(),
    )

@task
def overlap():
    return Task(
        dataset=[Sample(input=f"Say {a}.", target=f"one {a}") for a in ANIMALS],
        solver=[prompt_template("Q: {prompt}"), generate()],
        scorer=f1(),
    )

@task
def numbers():
    return Task(
        dataset=[Sample(input=f"Count the {a}.", target=str(n)) for n, a in enumerate(ANIMALS)],
        scorer=pattern(r"ANSWER: (\\d+)"),
    )

@task
def graded():
    return Task(dataset=example_dataset("theory_of_mind"), scorer=model_graded_fact())

@task
def twice():
    return Task(
        dataset=[Sample(input="x", target="y")], solver=[generate(), generate()], scorer=match()
    )

@task
def boxed():
    return Task(dataset=[Sample(input="x", target="y")], scorer=match(), sandbox="local")
"""
REPLIES = {
    "popularity": ("Yes", "No", "yes.", "I think No", "", "Maybe"),
    "biology": ("Plants", "It is leprosy.", "", "plants and more"),
    "letters": ("ANSWER: A", "ANSWER: B", "ANSWER: C", "B", "answer: b", ""),
    "overlap": ("one bat", "bat", "an ape", "", "one"),
    "numbers": ("ANSWER: 1", "1", "ANSWER: 1 or ANSWER: 2", ""),
}


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    file = tmp_path_factory.mktemp("inspect") / "mine.py"
    file.write_text(SOURCE)
    return file


@pytest.fixture(scope="module")
def popularity(path):
    return assert_checks(f"inspect:{path}@popularity")


def test_prompt_answer_and_features_come_over(popularity):
    example = popularity.split("test")[0]
    assert popularity.instruction == "Answer Yes or No."
    assert example.inputs["question"].startswith("Is the following statement")
    assert example.answer == "No" and 0.8 < example.meta["label_confidence"] < 1
    assert [len(popularity.split(name)) for name in ("train", "dev", "test")] == [60, 10, 30]


@pytest.mark.parametrize("name", REPLIES)
def test_scores_equal_those_of_inspect_on_the_same_outputs(path, name, tmp_path, monkeypatch):
    # its mock model counts tokens with a vocabulary that it would have to download
    monkeypatch.setattr("inspect_ai.model._model.count_text_tokens", len)
    ours = load_task(f"inspect:{path}@{name}")
    examples = {e.id: e for split in ("train", "dev", "test") for e in ours.split(split)}
    count = 0.0
    for text in REPLIES[name]:
        scores = theirs(path, name, text, tmp_path)
        assert set(examples) <= set(scores)
        for id, example in examples.items():
            assert ours.score(example, text).value == scores[id], (id, text)
            count += scores[id]
    assert count > 0


def theirs(path, name: str, text: str, folder) -> dict[str, float]:
    """Inspect's own evaluation with a model that always says `text`: score by sample."""
    from inspect_ai import eval as evaluate
    from inspect_ai.model import ModelOutput, get_model
    from inspect_ai.scorer import value_to_float

    outputs = [ModelOutput.from_content("mockllm/model", text) for _ in range(200)]
    model = get_model("mockllm/model", custom_outputs=outputs)
    (log,) = evaluate(f"{path}@{name}", model=model, display="none", log_dir=str(folder))
    assert log.status == "success" and log.samples
    read = value_to_float()
    return {str(s.id): read(next(iter(s.scores.values())).value) for s in log.samples}


@pytest.mark.parametrize(
    ("name", "text", "failure"),
    [
        ("letters", "ANSWER: B", None),
        ("letters", "ANSWER: A", "wrong"),
        ("letters", "B", "unreadable"),
        ("overlap", "one bat", None),
        ("overlap", "bat", "partial"),
        ("overlap", "sea", "wrong"),
        ("overlap", "", "empty"),
    ],
)
def test_right_wrong_and_malformed(path, name, text, failure):
    task = load_task(f"inspect:{path}@{name}")
    assert_class(task, task.split("test")[0], text, failure)


def test_hostile_texts(popularity):
    assert_survives(popularity, popularity.split("test")[0])


def test_it_scores_inside_a_running_loop(popularity):
    async def inside() -> float:
        example = popularity.split("test")[0]
        return popularity.score(example, example.answer).value

    assert asyncio.run(inside()) == 1.0


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("graded", "asks a model"),
        ("twice", "generate more than once"),
        ("boxed", "sandbox"),
        ("popularty", 'did you mean "popularity"'),
    ],
)
def test_what_cannot_run_as_ours_is_one_line(path, name, words):
    with pytest.raises(TaskError) as error:
        load_task(f"inspect:{path}@{name}")
    assert words in str(error.value) and "\n" not in str(error.value)
