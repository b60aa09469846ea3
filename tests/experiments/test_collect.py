"""`tasklift collect`: what a new user types, and what lies in the folder then."""

from __future__ import annotations

import csv
import importlib.util
import json
import re
import shlex
from pathlib import Path

import pytest
import yaml

from experiments.cli import main
from experiments.collect import FILES
from experiments.spec import load_spec
from tasks.load import load_task
from tasks.types import SPLITS

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def tickets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The CSV of the example, in the current folder."""
    monkeypatch.chdir(tmp_path)
    path = ROOT / "examples/bring-your-data/make_tickets.py"
    spec = importlib.util.spec_from_file_location("make_tickets", path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    with open("tickets.csv", "w", encoding="utf-8-sig", newline="") as file:
        writer = csv.DictWriter(file, ["ticket", "received", "customer", "message", "queue"])
        writer.writeheader()
        writer.writerows(module.rows())
    return tmp_path / "tickets.csv"


def rows(path: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_two_commands_from_a_csv_to_a_table(
    tickets: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["collect", "tickets.csv", "--out", "my-task"]) == 0
    told = capsys.readouterr().out
    for part in ('input: "message"', 'answer: "queue"', "scorer: choice (5 ", "dropped"):
        assert part in told
    command = shlex.split(told.splitlines()[-1].removeprefix("next: tasklift "))
    tiny = ["model=tiny-random", "splits={train: 8, dev: 4, test: 6}", "sampling.max_tokens=3"]
    tiny += ["methods.bootstrap={candidates: 1, rollouts: 14, dev_examples: 4, train_examples: 6}"]
    tiny += ["methods.grpo={steps: 1, prompts_per_step: 2, group_size: 2}"]
    assert main([*command, *(word for t in tiny for word in ("--set", t))]) == 0
    table = capsys.readouterr().out
    assert all(arm in table for arm in ("zero-shot", "prompt", "prompt+grpo"))


def test_the_folder_is_a_task_that_passes_every_check(
    tickets: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["collect", "tickets.csv", "--out", "t", "--splits", "0.5,0.2,0.3"]) == 0
    assert sorted(path.name for path in Path("t").iterdir()) == sorted(FILES)
    assert main(["check", "t/task.yaml"]) == 0
    checked = capsys.readouterr().out
    assert "FAIL" not in checked and "warn" not in checked
    task = load_task("t/task.yaml")
    assert (task.name, task.inputs, task.output) == ("t", ("message",), "queue")
    labels = [{e.answer for e in task.split(split)} for split in SPLITS]
    assert (
        labels[0]
        == labels[1]
        == labels[2]
        == {*("billing", "delivery", "returns", "account", "repair")}
    )
    example = task.split("test")[0]
    assert task.score(example, f"It is {example.answer.upper()}.").correct
    wrong = next(label for label in labels[0] if label != example.answer)
    assert task.score(example, wrong).failure == "wrong_choice"
    assert task.score(example, "no idea").failure == "no_choice"
    assert task.score(example, "\ud800" * 100_000).failure == "no_choice"
    spec = load_spec(Path("t/spec.yaml"))
    assert list(spec.arms) == ["zero-shot", "prompt", "prompt+grpo"]
    assert spec.splits.test == len(task.split("test"))


def test_the_card_says_what_became_of_every_row(tickets: Path) -> None:
    assert main(["collect", "tickets.csv", "--out", "t", "--seed", "3"]) == 0
    card = Path("t/CARD.md").read_text()
    counts = [int(n.replace(",", "")) for n in re.findall(r"^### \w+: ([\d,]+)$", card, re.M)]
    kept = sum(len(rows(Path(f"t/{split}.jsonl"))) for split in SPLITS)
    assert kept + sum(counts) == 500 and f"| in the splits | {kept} |" in card
    for part in ("similarity 0.", "scores ", "#####", "| billing |", "## Lengths", "sha256"):
        assert part in card, part
    written = {name: Path("t", name).read_bytes() for name in FILES}
    [again] = re.findall(r"Again: `tasklift (.*)`", card)
    assert main([*shlex.split(again), "--force"]) == 0
    assert written == {name: Path("t", name).read_bytes() for name in FILES}


def test_a_group_or_a_time_is_never_in_two_splits(tickets: Path) -> None:
    with open(tickets, encoding="utf-8-sig") as file:
        where = {f"tickets.csv:{n}": row for n, row in enumerate(csv.DictReader(file), 2)}
    values: dict[str, list[set[str]]] = {}
    for kind, field in (("group", "customer"), ("time", "received")):
        assert main(["collect", "tickets.csv", "--out", kind, f"--{kind}", field]) == 0
        values[kind] = [
            {where[row["id"]][field] for row in rows(Path(kind, f"{split}.jsonl"))}
            for split in SPLITS
        ]
    train, dev, test = values["group"]
    assert not (train & dev or train & test or dev & test)
    train, dev, test = values["time"]
    assert max(train) < min(dev) and max(dev) < min(test)


def test_a_hub_dataset_keeps_test_and_gives_dev(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With hidden labels, a leak into train, and answers of several spellings."""
    from datasets import ClassLabel, Dataset, Features, Value

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TASKLIFT_DATA", "copies")
    Path("copies/some/set").mkdir(parents=True)
    kinds = Features({"text": Value("string"), "label": ClassLabel(names=["lost", "late"])})
    for split, count in (("train", 60), ("test", 20)):
        texts = [f"{split} card number {n}" for n in range(count)] + ["The same in both."]
        labels = [n % 2 for n in range(count)] + [0]
        data = Dataset.from_dict({"text": texts, "label": labels}, kinds)
        data.to_parquet(f"copies/some/set/{split}.parquet")
    assert main(["collect", "hub:some/set", "--out", "t"]) == 0
    assert {row["text"] for row in rows(Path("t/test.jsonl"))} > {"The same in both."}
    assert [len(rows(Path(f"t/{split}.jsonl"))) for split in SPLITS] == [45, 15, 21]
    hidden = Dataset.from_dict({"text": ["a b", "c d"], "label": [-1, -1]}, kinds)
    hidden.to_parquet("copies/some/other.parquet")
    Path("copies/some/glue").mkdir()
    Path("copies/some/other.parquet").rename("copies/some/glue/test.parquet")
    Path("copies/some/set/train.parquet").rename("copies/some/glue/train.parquet")
    assert main(["collect", "hub:some/glue", "--out", "glue"]) == 0
    assert all(row["label"] != "-1" for row in rows(Path("glue/test.jsonl")))


def test_max_split_field_and_several_sources(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("one", "two"):
        made = [
            {
                "text": f"{name} message {n}",
                "label": "ab"[n % 2] * 2,
                "split": ["train", "dev", "test"][n % 3],
            }
            for n in range(60)
        ]
        Path(f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in made))
    assert main(["collect", "one.jsonl", "two.jsonl", "--out", "a", "--max", "50"]) == 0
    assert sum(len(rows(Path(f"a/{split}.jsonl"))) for split in SPLITS) == 50
    assert main(["collect", "one.jsonl", "two.jsonl", "--out", "b"]) == 0
    assert [len(rows(Path(f"b/{split}.jsonl"))) for split in SPLITS] == [40, 40, 40]
    anew = ["--split-field", "none", "--name", "1e3", "--instruction", ""]
    assert main(["collect", "one.jsonl", "two.jsonl", "--out", "c", *anew]) == 0
    assert [len(rows(Path(f"c/{split}.jsonl"))) for split in SPLITS] == [72, 24, 24]
    told = yaml.safe_load(Path("c/task.yaml").read_text())
    assert (told["name"], told["instruction"]) == ("1e3", "")
    assert load_spec(Path("c/spec.yaml")).name == "1e3"


def test_force_replaces_a_task_and_nothing_else(
    tickets: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["collect", "tickets.csv", "--out"]
    assert main([*words, "t"]) == 0
    assert main([*words, "t"]) == 2 and "write --force" in capsys.readouterr().err
    assert main([*words, "t", "--force", "--seed", "1"]) == 0
    Path("t/notes.txt").write_text("mine")
    before = Path("t/test.jsonl").read_bytes()
    assert main([*words, "t", "--force"]) == 2
    assert "holds notes.txt, which is not ours" in capsys.readouterr().err
    assert main([*words, ".", "--force"]) == 2 and tickets.exists()
    assert Path("t/test.jsonl").read_bytes() == before
    assert not [path for path in Path().iterdir() if path.name.startswith(".t")]


@pytest.mark.parametrize("force", [[], ["--force"]])
def test_a_source_is_never_replaced(
    tickets: Path, capsys: pytest.CaptureFixture[str], force: list[str]
) -> None:
    """Files of the user's that are called as ours are."""
    Path("mine").mkdir()
    for split in ("train", "test"):
        made = [{"text": f"{split} note {n}", "label": "ab"[n % 2]} for n in range(40)]
        Path(f"mine/{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in made))
    Path("link").symlink_to("mine")
    Path("other.jsonl").symlink_to("mine/train.jsonl")
    before = {path: path.read_bytes() for path in Path("mine").iterdir()}
    for source in ("mine/train.jsonl", "link/train.jsonl", "other.jsonl", "mine"):
        for out in ("mine", "link"):
            assert main(["collect", source, "--out", out, *force]) == 2
            assert f"the source {source} lies there" in capsys.readouterr().err
    Path("mine/task.yaml").write_text("data: train.jsonl\n")
    assert main(["collect", "tickets.csv", "--out", "mine", *force]) == 2
    assert "holds task.yaml, which is not ours" in capsys.readouterr().err
    assert before == {path: path.read_bytes() for path in before}
    assert main(["collect", "tickets.csv", "--out", "t"]) == 0
    assert main(["collect", "t/train.jsonl", "--out", "t", *force]) == 2


def test_the_walk_through_shows_what_is_printed(
    tickets: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = (ROOT / "examples/README.md").read_text()
    [shown] = re.findall(r"\$ tasklift collect tickets.csv --out my-task\n(.*?)```", page, re.S)
    assert main(["collect", "tickets.csv", "--out", "my-task"]) == 0
    assert capsys.readouterr().out == shown
    for line in tickets.read_text(encoding="utf-8-sig").splitlines()[:4]:
        assert line in page or "T-1001" in line or "T-1002" in line


def test_a_folder_whose_names_are_not_utf_8(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    for n in range(30):
        folder = Path("texts", "ab"[n % 2] + "\udcff")
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{n}.txt").write_text(f"text number {n}")
    assert main(["collect", "texts", "--out", "t"]) == 0
    assert main(["check", "t/task.yaml"]) == 0


def test_an_answer_column_of_all_kinds(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    values = [-1, [1], {"a": 2}, None, True, "x", 2.5, "\ud800", float("nan"), []]
    made = [{"text": f"text {n}", "answer": values[n % len(values)]} for n in range(100)]
    Path("odd.jsonl").write_text("".join(json.dumps(row) + "\n" for row in made))
    assert main(["collect", "odd.jsonl", "--out", "t"]) == 0
    assert main(["check", "t/task.yaml"]) == 0
