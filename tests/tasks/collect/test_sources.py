"""The same rows from every kind of source, and odd files that end in a result or in one line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tasks import TaskError
from tasks.collect.sources import read_source

PAIRS = [("my parcel is late", "delivery"), ("two\nlines, twice", "billing"), ("spät ☂", "repair")]
ROWS = [{"text": text, "label": label} for text, label in PAIRS]


def write(path: Path, content: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def table(delimiter: str) -> str:
    lines = [f'"{text}"{delimiter}{label}' for text, label in PAIRS]
    return "\n".join([f"text{delimiter}label", *lines]) + "\n"


def rows_of(path: Path) -> list[dict[str, object]]:
    return [dict(record.columns) for record in read_source(str(path)).records]


def refuse(path: Path | str) -> str:
    with pytest.raises(TaskError) as error:
        read_source(str(path))
    assert "\n" not in str(error.value)
    return str(error.value)


KINDS: dict[str, str | bytes] = {
    "a.csv": table(","),
    "bom.csv": "\ufeff" + table(";"),
    "bar.csv": table("|"),
    "a.tsv": table("\t"),
    "utf16.csv": table("\t").encode("utf-16"),
    "crlf.csv": table(",").replace("label\n", "label\r\n"),
    "tail.csv": table(",").replace("label\n", "label,,\n").replace("delivery", "delivery,,"),
    "a.jsonl": "\n".join(json.dumps(row) for row in ROWS),
    "a.ndjson": "\n\n".join(json.dumps(row, ensure_ascii=False) for row in ROWS) + "\n",
    "a.json": json.dumps(ROWS),
    "within.json": json.dumps({"version": "1", "data": ROWS}),
}


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_of_file_gives_the_same_rows(tmp_path: Path, name: str) -> None:
    path = write(tmp_path / name, KINDS[name])
    assert rows_of(path) == ROWS
    source = read_source(str(path))
    assert len(source.sha256) == 64 and source.records[0].where.startswith(f"{name}:")


def test_parquet_with_class_labels(tmp_path: Path) -> None:
    from datasets import ClassLabel, Dataset, Features, Value

    features = Features({"text": Value("string"), "label": ClassLabel(names=["no", "yes"])})
    rows = {"text": ["a", "b", "c"], "label": [1, 0, -1]}
    Dataset.from_dict(rows, features).to_parquet(str(tmp_path / "a.parquet"))
    found = rows_of(tmp_path / "a.parquet")
    assert [row["label"] for row in found] == ["yes", "no", None]


def test_a_folder_of_texts(tmp_path: Path) -> None:
    write(tmp_path / "billing/1.txt", "twice")
    write(tmp_path / "repair/a/2.txt", "broken")
    write(tmp_path / "README.md", "not a text")
    write(tmp_path / ".git/x.txt", "hidden")
    assert rows_of(tmp_path) == [
        {"text": "twice", "label": "billing"},
        {"text": "broken", "label": "repair"},
    ]


def test_a_folder_of_texts_with_splits(tmp_path: Path) -> None:
    for split in ("train", "valid", "test"):
        write(tmp_path / split / "pos/1.txt", split)
    records = read_source(str(tmp_path)).records
    assert {r.columns["text"]: r.split for r in records} == {
        "train": "train",
        "valid": "dev",
        "test": "test",
    }
    assert {r.columns["label"] for r in records} == {"pos"}


def test_a_file_called_like_a_split_is_one(tmp_path: Path) -> None:
    records = read_source(str(write(tmp_path / "Validation.csv", table(",")))).records
    assert {record.split for record in records} == {"dev"}


def test_a_hub_dataset_keeps_its_splits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TASKLIFT_DATA", str(tmp_path))
    for split in ("train", "validation"):
        write(tmp_path / f"some/set/{split}.jsonl", "\n".join(json.dumps(row) for row in ROWS))
    source = read_source("hub:some/set")
    assert [record.split for record in source.records] == ["train"] * 3 + ["dev"] * 3
    assert dict(source.records[3].columns) == ROWS[0] and source.records[3].where == "validation:1"


def test_a_latin_1_file_and_columns_of_one_name(tmp_path: Path) -> None:
    text = "text,text\nspät,früh\n".encode("cp1252")
    source = read_source(str(write(tmp_path / "a.csv", text)))
    assert dict(source.records[0].columns) == {"text": "spät", "text 2": "früh"}
    assert "cp1252" in source.said and '"text 2"' in source.said


def test_a_few_ragged_rows_are_left_out_and_told(tmp_path: Path) -> None:
    body = "".join(f"text {n},a\n" for n in range(30))
    source = read_source(str(write(tmp_path / "a.csv", f"text,label\n{body}one,two,three\nfour\n")))
    assert len(source.records) == 30
    assert "left out 2 lines" in source.said and "line 32, 33" in source.said


def test_a_quote_that_is_never_closed_is_not_a_small_loss(tmp_path: Path) -> None:
    body = "".join(f"text {n},a\n" for n in range(30))
    path = write(tmp_path / "a.csv", f'text,label\n{body}"open,a\n{body}')
    assert "a.csv:32" in refuse(path) and "31 of 61 lines" in refuse(path)


def lines(count: int, delimiter: str) -> list[str]:
    return [f"text number {n}{delimiter}{'ab'[n % 2]}{delimiter}c{n}" for n in range(count)]


def joined(delimiter: str, body: list[str]) -> str:
    return "\n".join([delimiter.join(("text", "label", "n")), *body]) + "\n"


def test_quotes_that_mean_nothing_between_tabs_are_text(tmp_path: Path) -> None:
    body = lines(100, "\t")
    body[20], body[40], body[80] = '"' + body[20], '"Hi" she said\tb\tx', '"' + body[80]
    path = write(tmp_path / "a.tsv", joined("\t", body))
    assert [list(row.values()) for row in rows_of(path)] == [line.split("\t") for line in body]
    assert "quotes as they stand" in read_source(str(path)).said


def test_a_cell_of_several_lines_between_tabs_stays_one(tmp_path: Path) -> None:
    body = [*lines(9, "\t"), '"one\ntwo ""three"""\tb\tx', '"a ""b"""\ta\ty']
    rows = rows_of(write(tmp_path / "a.tsv", joined("\t", body)))
    assert rows[-2:] == [
        {"text": 'one\ntwo "three"', "label": "b", "n": "x"},
        {"text": 'a "b"', "label": "a", "n": "y"},
    ]


@pytest.mark.parametrize("delimiter", [",", ";", "|"])
@pytest.mark.parametrize("closed", ["start", "end"])
def test_rows_that_a_quote_swallows_are_no_small_loss(
    tmp_path: Path, delimiter: str, closed: str
) -> None:
    body = lines(1000, delimiter)
    body[20] = '"' + body[20]
    body[80] = (
        '"' + body[80] if closed == "start" else body[80].replace(delimiter, f'"{delimiter}', 1)
    )
    source = read_source(str(write(tmp_path / "a.csv", joined(delimiter, body))))
    assert len(source.records) == 939
    assert "left out 61 lines" in source.said and "(at line 22)" in source.said
    path = write(tmp_path / "b.csv", joined(delimiter, body[:100]))
    assert "b.csv:22: the row here" in refuse(path) and "61 of 100 lines are lost" in refuse(path)


def test_a_long_text_with_commas_is_one_cell(tmp_path: Path) -> None:
    letter = '"Dear Anna,\nthanks, and bye,\nfor the tea, the cake, the rest,\nso long,\nBob"'
    rows = rows_of(write(tmp_path / "a.csv", f"text,label\n{letter},a\nshort,b\n"))
    assert len(rows) == 2 and rows[0]["text"] == letter.strip('"')


def test_a_table_without_a_header_is_refused(tmp_path: Path) -> None:
    body = "".join(f"some words {n},{['pos', 'neg'][n % 2]}\n" for n in range(30))
    assert 'a.csv:1: no header? "pos"' in refuse(write(tmp_path / "a.csv", body))
    for header in ("text,pos", "words,kind"):  # a usual name, or no such value
        assert len(rows_of(write(tmp_path / "a.csv", f"{header}\n{body}"))) == 30


def test_a_header_that_may_be_data_is_told(tmp_path: Path) -> None:
    pair = "the cat sat on the mat {0} times or more,le chat {0}\n"
    said = read_source(str(write(tmp_path / "a.csv", "".join(map(pair.format, range(9)))))).said
    assert 'line 1, "the cat sat' in said and "is it one?" in said
    numbers = "".join(f"{n},{n * n}\n" for n in range(1, 9))
    assert 'line 1, "1"' in read_source(str(write(tmp_path / "a.csv", numbers))).said
    assert "is it one?" not in read_source(str(write(tmp_path / "a.csv", f"x,y\n{numbers}"))).said


def test_a_header_in_the_middle_is_no_row(tmp_path: Path) -> None:
    source = read_source(str(write(tmp_path / "a.csv", table(",") + table(","))))
    assert len(source.records) == 6 and "left out 1 lines: the header again" in source.said


BAD = {
    "empty.csv": ("", "empty; write a header"),
    "header.csv": ("text,label\n", "no rows"),
    "one.csv": ("text\na\n", 'one column, "text"'),
    "ragged.csv": ("a,b\n1,2,3\n1,2,3\n1,2\n", "a.csv".replace("a", "ragged") + ":2: the row here"),
    "nul.csv": (b"\0" * 99, "no text that can be read"),
    "list.jsonl": ("[1]", "list.jsonl:1: a list, not an object"),
    "deep.jsonl": ("[" * 100_000, "deep.jsonl:1: not JSON"),
    "broken.jsonl": ('{"a": 1}\n{oops', "broken.jsonl:2: not JSON"),
    "object.json": ('{"a": {}}', "no list of objects"),
    "numbers.json": ("[1, 2]", "numbers.json:1: a int, not an object"),
    "no.parquet": ("PAR1", "not Parquet"),
    "book.xlsx": ("PK", "no kind of file that is known"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_file_is_one_line(tmp_path: Path, name: str) -> None:
    content, told = BAD[name]
    assert told in refuse(write(tmp_path / name, content))


def test_a_folder_without_texts_says_what_to_name(tmp_path: Path) -> None:
    write(tmp_path / "data/a.csv", table(","))
    assert "name its files, such as" in refuse(tmp_path) and "a.csv" in refuse(tmp_path)


@pytest.mark.parametrize("name", ["hub:", "hub:./x", "hub:a/b/c", "hub:a b", "hub:a/b:c:d"])
def test_a_hub_spelling_that_is_none(name: str) -> None:
    assert "write hub:owner/name" in refuse(name)


def test_a_missing_file() -> None:
    assert "no such file" in refuse("nowhere.csv") and "no such file" in refuse("x" * 5000)
