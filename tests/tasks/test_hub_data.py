"""`data: hub:owner/name` in a task.yaml, on copies with the columns of the real datasets."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tasks import SPLITS, TaskError
from tasks.files import from_file
from tasks.hub import _load
from tasks.load import load_task, task_hash

BANKING = [{"text": f"where is card {n}", "label": n % 3} for n in range(40)]
SQUAD = [
    {"id": f"q{n}", "context": f"c {n}", "question": f"q {n}", "title": "t",
     "answers": {"text": [f"a {n}", f"the a {n}"], "answer_start": [1, 2]}}
    for n in range(20)
]  # fmt: skip


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("TASKLIFT_DATA", str(tmp_path / "copies"))

    def write(name: str, rows: list[dict[str, Any]]) -> None:
        path = tmp_path / "copies" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        _load.cache_clear()

    return write


@pytest.fixture
def declare(tmp_path: Path):
    def write(text: str) -> Path:
        path = tmp_path / "task.yaml"
        path.write_text(text)
        return path

    return write


def refuse(path: Path) -> str:
    with pytest.raises(TaskError) as error:
        from_file(path)
    assert "\n" not in str(error.value)
    return str(error.value)


def labels(folder: Path, name: str, rows: list[dict[str, Any]]) -> None:
    """A Parquet file with a ClassLabel column, as the Hub has it."""
    from datasets import ClassLabel, Dataset, Features, Value

    kinds = Features({"text": Value("string"), "label": ClassLabel(names=["lost", "late", "pin"])})
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    Dataset.from_list(rows, kinds).to_parquet(str(folder / name))


def test_class_labels_are_texts_and_dev_is_cut_from_train(tmp_path, hub, declare) -> None:
    labels(tmp_path / "copies", "some/bank/train.parquet", BANKING)
    labels(tmp_path / "copies", "some/bank/test.parquet", [{"text": "my pin", "label": 2}])
    task = from_file(declare("data: hub:some/bank\nanswer: label\nscorer: choice\n"))
    assert [len(task.split(split)) for split in SPLITS] == [32, 8, 1]
    [example] = task.split("test")
    assert (example.inputs, example.answer) == ({"text": "my pin"}, "pin")
    assert task.score(example, "late").failure == "wrong_choice"
    train, dev = ({e.id for e in task.split(split)} for split in ("train", "dev"))
    assert not train & dev and all(key.startswith("train-") for key in train | dev)


def test_splits_config_revision_and_parts_of_a_column(hub, declare) -> None:
    hub("some/squad/plain/train.jsonl", SQUAD)
    hub("some/squad/plain/validation.jsonl", SQUAD[:5])
    text = (
        "data: hub:some/squad\nconfig: plain\nrevision: abc\ninputs: [context, question]\n"
        "answer: answers.text\nmeta: title\nscorer: f1\nsplits: {train: train, test: validation}\n"
    )
    task = from_file(declare(text))
    assert [len(task.split(split)) for split in SPLITS] == [16, 4, 5]
    example = task.split("test")[0]
    assert (example.id, example.answer, task.output) == ("validation-1", "a 0", "answers")
    assert example.meta == {"title": "t", "accepted": ["a 0", "the a 0"]}
    spelled = text.replace("config: plain\nrevision: abc\n", "").replace("squad", "squad:plain@abc")
    assert from_file(declare(spelled)).split("dev") == task.split("dev")


def test_a_dataset_of_one_split_is_cut_as_a_whole(hub, declare) -> None:
    hub("some/math/test.jsonl", [{"problem": f"p {n}", "answer": n} for n in range(20)])
    task = from_file(declare("data: hub:some/math\ninputs: problem\nscorer: number\n"))
    assert [len(task.split(split)) for split in SPLITS] == [10, 4, 6]


def test_the_hash_of_the_task_knows_the_rows(hub, declare) -> None:
    path = declare("data: hub:some/set\n")
    rows = [{"q": f"p {n}", "answer": "x"} for n in range(9)]
    hub("some/set/train.jsonl", rows)
    first = task_hash(load_task(str(path)))
    assert task_hash(load_task(str(path))) == first
    hub("some/set/train.jsonl", [*rows[:-1], {"q": "p 8", "answer": "y"}])
    assert task_hash(load_task(str(path))) != first


BAD = {
    "data: hub:no/set": 'dataset "no/set"',
    "data: hub:a": 'dataset "a"',
    "data: hub:a b": "write hub:owner/name",
    "data: hub:some/set\nsplits: {train: trian}": (
        'task.yaml: splits: train: the dataset has no split "trian" (did you mean "train"?); it has'
    ),
    "data: hub:some/set\nsplits: {test: test}": "splits must name the dataset's",
    "data: hub:some/set\nanswer: labl": 'no column "labl"',
    "data: hub:some/set\nanswer: label": '"label" is empty; tasklift collect hub:some/set --out',
    "data: rows.jsonl\nconfig: main": "config is for Hub datasets",
}


@pytest.mark.parametrize("text", BAD)
def test_what_is_wrong_is_one_line(text, hub, declare, monkeypatch) -> None:
    monkeypatch.setattr("datasets.config.HF_ENDPOINT", "http://127.0.0.1:9")
    hub("some/set/train.jsonl", [{"q": f"p {n}", "label": "x" if n else ""} for n in range(9)])
    assert BAD[text] in refuse(declare(text))


def test_labels_that_are_not_published(tmp_path, hub, declare) -> None:
    labels(tmp_path / "copies", "some/glue/train.parquet", BANKING)
    labels(tmp_path / "copies", "some/glue/test.parquet", [{"text": "x", "label": -1}])
    assert "a label that is not published" in refuse(declare("data: hub:some/glue\nanswer: label"))


def test_splits_of_other_names(hub, declare) -> None:
    for name in ("main", "extra"):
        hub(
            f"some/odd/data/{name}-00000-of-00001.jsonl",
            [{"q": f"{name} {n}", "answer": "x"} for n in range(9)],
        )
    assert "is train? Write splits: {train: " in refuse(declare("data: hub:some/odd"))
