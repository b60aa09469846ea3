"""Rows of Hub datasets, read from local copies; no network."""

from __future__ import annotations

import json
import time

import pytest

from tasks.hub import hub_rows, hub_splits
from tasks.types import TaskError

ROWS = [{"text": f"row {n}", "label": n % 2} for n in range(4)]


@pytest.fixture
def copy(tmp_path, monkeypatch):
    """Writes rows where the copy of a dataset is looked for."""
    monkeypatch.setenv("TASKLIFT_DATA", str(tmp_path))

    def write(dataset, rows, config="", split="train"):
        folder = tmp_path / dataset / config
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))

    return write


@pytest.fixture
def no_network(monkeypatch):
    """Nobody answers at this address."""
    monkeypatch.setattr("datasets.config.HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", False)


def refuse(*asked):
    with pytest.raises(TaskError) as error:
        hub_rows(*asked)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_a_copy_is_read_in_its_order_with_and_without_configs(copy):
    copy("some/set", ROWS)
    copy("some/set", ROWS[:1], split="test")
    assert hub_rows("some/set", None, "train") == ROWS
    assert hub_splits("some/set", None) == ["train", "test"]
    copy("some/other", ROWS[1:], "main")
    assert hub_rows("some/other", "main", "train") == ROWS[1:]
    assert hub_rows("some/other", "main", "train", columns=("label",))[0] == {"label": 1}


def test_class_labels_come_as_their_names(tmp_path, monkeypatch):
    from datasets import ClassLabel, Dataset, Features, Value

    features = Features({"text": Value("string"), "label": ClassLabel(names=["no", "yes"])})
    folder = tmp_path / "some" / "labels"
    folder.mkdir(parents=True)
    rows = {"text": ["a", "b", "c", "d"], "label": [1, 0, -1, None]}
    Dataset.from_dict(rows, features).to_parquet(str(folder / "train.parquet"))
    monkeypatch.setenv("TASKLIFT_DATA", str(tmp_path))
    got = [row["label"] for row in hub_rows("some/labels", None, "train")]
    assert got == ["yes", "no", -1, None]


def test_each_mistake_gets_one_line(copy, tmp_path):
    copy("some/set", ROWS)
    assert 'no split "dev"; it has train' in refuse("some/set", None, "dev")
    asked = ("some/set", None, "train", None, ("lable",))
    assert 'no column "lable" (did you mean "label"?)' in refuse(*asked)
    (tmp_path / "some" / "bad").mkdir()
    assert "some/bad" in refuse("some/bad", None, "train")
    (tmp_path / "some" / "bad" / "train.jsonl").write_text('{"a": ')
    assert "some/bad" in refuse("some/bad", None, "train")


def test_without_network_one_line_says_what_to_do_and_soon(no_network):
    start = time.perf_counter()
    line = refuse("nobody/nothing-of-the-kind", "main", "train")
    assert time.perf_counter() - start < 5
    assert "cannot be reached" in line and "$TASKLIFT_DATA/nobody/nothing-of-the-kind/main" in line


def test_what_the_cache_holds_needs_no_network(tmp_path, monkeypatch, no_network):
    """The cache is laid out by `datasets` itself: an old builder's output under the Hub's name."""
    from datasets import Dataset

    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", str(tmp_path))
    kept = tmp_path / "some___kept" / "default" / "0.0.0" / "abc123"
    kept.mkdir(parents=True)
    Dataset.from_list(ROWS).to_parquet(str(tmp_path / "rows.parquet"))
    from datasets import load_dataset_builder

    builder = load_dataset_builder("parquet", data_files={"train": str(tmp_path / "rows.parquet")})
    builder.download_and_prepare(str(kept))
    info = json.loads((kept / "dataset_info.json").read_text())
    info |= {"builder_name": "parquet", "dataset_name": "kept", "config_name": "default"}
    (kept / "dataset_info.json").write_text(json.dumps(info))
    for file in kept.glob("*.arrow"):
        file.rename(kept / file.name.replace("parquet-", "kept-"))
    assert hub_rows("some/kept", None, "train") == ROWS
    assert hub_rows("some/kept", None, "train", "abc") == ROWS
    assert "cannot be reached" in refuse("some/kept", None, "train", "fff")
