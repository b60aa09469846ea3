"""Data files and task.yaml: 30 rows are enough, and every slip is one line with file and line."""

from __future__ import annotations

import json

import pytest

from tasks import SPLITS, TaskError
from tasks.files import from_file
from tasks.scorers import SCORERS, build_scorer

ROWS = [{"input": f"{n} + 1", "answer": str(n + 1)} for n in range(30)]


@pytest.fixture
def write(tmp_path):
    def save(name, content):
        path = tmp_path / name
        if not isinstance(content, str):
            content = "\n".join(json.dumps(row) for row in content)
        path.write_text(content, encoding="utf-8")
        return path

    return save


def refuse(path, **options):
    with pytest.raises(TaskError) as error:
        from_file(path, **options)
    message = str(error.value)
    assert "\n" not in message
    return message.replace(f"{path.parent}/", "")


def test_thirty_bare_lines_are_a_task(write):
    task = from_file(write("sums.jsonl", ROWS))
    assert (task.name, task.inputs, task.output) == ("sums", ("input",), "answer")
    assert task.instruction == "Answer with the answer only."
    assert [len(task.split(name)) for name in SPLITS] == [15, 6, 9]
    ids = [example.id for name in SPLITS for example in task.split(name)]
    assert len(set(ids)) == 30
    example = task.split("dev")[0]
    assert task.score(example, example.answer).correct
    assert not task.score(example, "seven").correct


def test_data_may_lie_in_the_home_folder(write, tmp_path, monkeypatch):
    (tmp_path / "home").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    write("home/rows.jsonl", ROWS)
    one = from_file(write("one.yaml", "data: ~/rows.jsonl"))
    assert len(one.split("test")) == 9
    for n, name in enumerate(SPLITS):
        write(f"home/{name}.jsonl", [{"id": n, **ROWS[n]}])
    parts = ", ".join(f"{name}: ~/{name}.jsonl" for name in SPLITS)
    three = from_file(write("three.yaml", f"data: {{{parts}}}"))
    assert three.split("dev")[0].answer == ROWS[1]["answer"]


def test_csv_and_jsonl_with_the_same_rows_are_the_same_task(write):
    lines = ["input,answer", *(f'"{row["input"]}",{row["answer"]}' for row in ROWS)]
    csv = from_file(write("a.csv", "\n".join(lines)), name="a")
    jsonl = from_file(write("a.jsonl", ROWS))
    assert all(csv.split(name) == jsonl.split(name) for name in SPLITS)


def test_dealing_depends_on_the_inputs_and_the_seed_not_on_the_order(write):
    forward = from_file(write("a.jsonl", ROWS))
    backward = from_file(write("b.jsonl", ROWS[::-1]))
    other = from_file(write("c.jsonl", ROWS), seed=1)
    test = [{e.inputs["input"] for e in task.split("test")} for task in (forward, backward, other)]
    assert test[0] == test[1] != test[2]


def test_rows_that_ask_the_same_land_in_one_split(write):
    rows = [dict(row, input=text) for row in ROWS for text in (row["input"], f" {row['input']}  ")]
    task = from_file(write("a.jsonl", rows))
    seen = [{e.inputs["input"].strip() for e in task.split(name)} for name in SPLITS]
    assert not (seen[0] & seen[1] or seen[0] & seen[2] or seen[1] & seen[2])
    assert sum(map(len, seen)) == 30


def test_id_split_meta_and_a_list_of_answers_are_understood(write):
    rows = [
        {"id": s, "split": s, "q": 1, "ctx": "c", "answer": ["Kyiv", "Kiev"], "meta": {"k": 2}}
        for s in SPLITS
    ]
    task = from_file(write("a.jsonl", rows))
    (example,) = task.split("dev")
    assert (example.id, task.inputs, example.inputs) == (
        "dev",
        ("q", "ctx"),
        {"q": "1", "ctx": "c"},
    )
    assert example.answer == "Kyiv"
    assert example.meta == {"k": 2, "accepted": ["Kyiv", "Kiev"]}
    assert task.score(example, "kiev").correct


def test_unusual_line_breaks_inside_text_are_kept(write):
    rows = [dict(row, input=f"a\u2028{row['input']}") for row in ROWS]
    text = "\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    assert "\u2028" in from_file(write("a.jsonl", text)).split("test")[0].inputs["input"]
    lines = "".join(f'"line\n{n}",\u2028{n}\n' for n in range(9))
    example = from_file(write("a.csv", "q,answer\n" + lines)).split("test")[0]
    assert "\n" in example.inputs["q"] and "\u2028" in example.answer


def test_a_file_sorted_by_label_gives_mixed_beginnings(write):
    rows = [{"input": f"q{n}", "answer": "yes" if n < 100 else "no"} for n in range(200)]
    task = from_file(write("a.jsonl", rows))
    assert {e.answer for e in task.split("test")[:15]} == {"yes", "no"}


def test_yaml_names_columns_scorer_and_choices(write):
    write("rows.csv", "text,label,topic\n" + "".join(f"t{n},{'yn'[n % 2]},x\n" for n in range(9)))
    yaml = "data: rows.csv\ninputs: text\nanswer: label\nmeta: [topic]\nscorer: choice\n"
    task = from_file(write("mood.yaml", yaml + "instruction: y or n?\n"))
    example = task.split("test")[0]
    assert (task.name, task.inputs, task.output) == ("mood", ("text",), "label")
    assert (task.instruction, example.meta) == ("y or n?", {"topic": "x"})
    assert task.score(example, "z").failure == "no_choice"


def test_format_failures_are_the_scorers_unless_the_yaml_names_others(write):
    write("rows.jsonl", ROWS)
    yaml = "data: rows.jsonl\n"
    assert from_file(write("a.yaml", yaml)).format_failures == ("extra_text", "empty")
    own = from_file(write("b.yaml", f"{yaml}format_failures: [empty]\n"))
    assert own.format_failures == ("empty",)
    assert from_file(write("c.yaml", f"{yaml}format_failures: []\n")).format_failures == ()
    for scorer in SCORERS:
        built = build_scorer(scorer, ("1", "2"), "x")
        assert set(built.format_failures) <= set(built.failures)


def test_yaml_takes_one_file_a_split(write):
    for n, name in enumerate(SPLITS):
        write(f"{name}.jsonl", ROWS[n * 10 : n * 10 + 10])
    data = "data: {train: train.jsonl, dev: dev.jsonl, test: test.jsonl}"
    task = from_file(write("task.yaml", data))
    assert [e.inputs["input"] for e in task.split("dev")] == [r["input"] for r in ROWS[10:20]]
    assert task.name == task.files[0].parent.name
    assert len({e.id for name in SPLITS for e in task.split(name)}) == 30


GOOD = json.dumps(ROWS[0])
BAD_FILES = [
    ("a.jsonl", "", "a.jsonl: empty; write one row a line"),
    ("a.jsonl", f"{GOOD}\n{{oops", "a.jsonl:2: not JSON ("),
    ("a.jsonl", "[1, 2]", "a.jsonl:1: a list, not an object; write {"),
    ("a.jsonl", "[" * 100_000, "a.jsonl:1: not JSON ("),
    (
        "a.jsonl",
        '{"input": "x", "anser": "y"}',
        'a.jsonl:1: no column "answer" (did you mean "anser',
    ),
    ("a.jsonl", '{"answer": "y"}', 'a.jsonl:1: no input column beside "answer"'),
    (
        "a.jsonl",
        f'{GOOD}\n\n{{"input": "x"}}',
        'a.jsonl:3: no column "answer", which a.jsonl:1 has',
    ),
    ("a.jsonl", '{"input": null, "answer": "y"}', 'a.jsonl:1: "input" is null, not text'),
    ("a.jsonl", '{"input": "x", "answer": true}', 'a.jsonl:1: "answer" is bool, not text'),
    ("a.jsonl", '{"input": " ", "answer": "y"}', 'a.jsonl:1: "input" is empty'),
    ("a.jsonl", '{"input": "x", "answer": []}', 'a.jsonl:1: "answer" is an empty list'),
    ("a.jsonl", '{"input": "\\ud800", "answer": "y"}', 'a.jsonl:1: "input" holds half a surrogate'),
    ("a.jsonl", '{"input": "x", "answer": "y", "meta": {"accepted": 1}}', 'a.jsonl:1: meta "acc'),
    ("a.jsonl", GOOD, 'a.jsonl: no row for the split "train"; give three or more'),
    (
        "a.jsonl",
        '{"id": 1, "input": "x", "answer": "y"}\n' * 2,
        'a.jsonl:2: id "1" is already at a.jsonl:1',
    ),
    (
        "a.jsonl",
        '{"split": "val", "input": "x", "answer": "y"}',
        "a.jsonl:1: \"split\" is 'val'; write train, dev or test",
    ),
    (
        "a.jsonl",
        '{"split": "train", "input": "x", "answer": "y"}',
        'a.jsonl: no row for the split "dev"',
    ),
    ("a.csv", "", "a.csv: empty"),
    ("a.csv", "input,answer\na,b,c", "a.csv:2: 3 cells where the header has 2"),
    ("a.csv", "input,input\na,b", "a.csv:1: a column name occurs twice"),
    ("a.csv", 'input,answer\n"a,b', "a.csv:2: not CSV ("),
]


@pytest.mark.parametrize(("name", "content", "message"), BAD_FILES)
def test_a_bad_file_is_said_with_its_line(write, name, content, message):
    assert refuse(write(name, content)).startswith(message)


BAD_YAML = [
    ("scorer: exact", "t.yaml: no data; write data: rows.jsonl"),
    ("data: rows.jsonl\nscoer: exact", 't.yaml: unknown key "scoer" (did you mean "scorer"?)'),
    ("data: rows.jsonl\nscorer: exat", 't.yaml: unknown scorer "exat" (did you mean "exact"?)'),
    ("data: gone.jsonl", "gone.jsonl: no such file"),
    ("data: rows.txt", "rows.txt: no such file"),
    ("data: {train: a.jsonl}", "t.yaml: data must be one file, hub:owner/name, or {train:"),
    ("data: rows.jsonl\nchoices: [yes, no]", "t.yaml: choices holds True, YAML's reading"),
    ("data: rows.jsonl\nseed: one", "t.yaml: seed must be a whole number"),
    ("data: rows.jsonl\nmeta: {a: 1}", "t.yaml: meta must be a list"),
    ("data: rows.jsonl\nname:", "t.yaml: name must be text, not None"),
    ("data: rows.jsonl\nscorer: regex", 't.yaml: scorer "regex" needs a pattern'),
    ("data: rows.jsonl\ninputs: inptu", 'rows.jsonl:1: no column "inptu" (did you mean "input"?)'),
    (
        "data: rows.jsonl\nscorer: choice\nchoices: ['1', '2']",
        'rows.jsonl:3: the answer "3" is no choice; the choices are 1, 2',
    ),
    ("a: [", "t.yaml:1: not YAML"),
    (
        "data: rows.jsonl\nformat_failures: [extra_txt]",
        't.yaml: format_failures names "extra_txt" (did you mean "extra_text"?): write some of',
    ),
    ("just words", "t.yaml: must hold keys"),
]


@pytest.mark.parametrize(("yaml", "message"), BAD_YAML)
def test_a_bad_yaml_is_said_in_one_line(write, yaml, message):
    write("rows.jsonl", ROWS)
    assert refuse(write("t.yaml", yaml)).startswith(message)


def test_options_are_checked_like_a_yaml(write):
    path = write("a.jsonl", ROWS)
    assert 'unknown key "scorrer" (did you mean "scorer"?)' in refuse(path, scorrer="exact")
    words = write("b.jsonl", [dict(row, answer="x") for row in ROWS])
    assert refuse(words, scorer="number").startswith('b.jsonl:1: the answer "x" holds no number')


def test_text_that_is_not_utf8_is_said(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"input": "\xff", "answer": "x"}')
    assert "save it as UTF-8" in refuse(path)
