"""`check_task` finds what would make later figures wrong, and passes what is fine."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tasks import SPLITS, Demo, Example, Prompt, Score, Task, TaskError
from tasks.check import check_prompt_file, check_task, digest_splits
from tasks.load import load_task
from tasks.splits import check_disjoint, required_split

EXAMPLES = Path(__file__).parents[2] / "examples" / "your-own-task"


class Sums(Task):
    name = "sums"
    instruction = "Add the numbers."
    failure_classes = {"wrong": "Another number."}  # noqa: RUF012

    def split(self, name):
        start = SPLITS.index(name) * 100
        return [
            Example(f"{n}", {"input": f"{n} + 1"}, str(n + 1)) for n in range(start, start + 100)
        ]

    def score(self, example, text):
        right = text.strip() == example.answer
        return Score(1.0, True) if right else Score(0.0, False, "wrong", "Count again.")


def broken(**changes) -> Task:
    return type("Broken", (Sums,), changes)()


def failed(task, spelling=None):
    return {f.check: f.detail for f in check_task(task, spelling) if not f.ok}


@pytest.mark.parametrize("name", ["reverse.py", "capitals.jsonl", "task.yaml"])
def test_the_examples_pass(name):
    path = str(EXAMPLES / name)
    findings = check_task(load_task(path))
    assert all(f.ok or f.severity == "warning" for f in findings)
    assert len(findings) == 9


def test_the_built_in_task_passes_in_a_new_process_too():
    findings = check_task(load_task("inflection"), "inflection")
    assert all(f.ok for f in findings), findings
    assert [f.detail for f in findings if f.check == "repeatable"] == [
        "the same examples in a new process"
    ]


def test_a_sound_task_has_no_findings():
    assert failed(Sums()) == {}


def once_again(self, name):
    self.calls = getattr(self, "calls", 0) + 1
    return [Example(f"{name}{n}{self.calls}", {"input": f"{name}{n}"}, "x") for n in range(3)]


BROKEN = [
    (
        "gold answers",
        {"score": lambda s, e, t: Score(0.0, False, "wrong", "No.")},
        "its own answer",
    ),
    ("scores", {"score": lambda s, e, t: Score(1.0, True)}, "is correct"),
    (
        "scores",
        {"score": lambda s, e, t: Score(float(t == e.answer), t == e.answer, None, "No.")},
        "the failure None is not declared in failure_classes (wrong)",
    ),
    (
        "scores",
        {"score": lambda s, e, t: Score(2.0, False, "wrong", "No.")},
        "the value 2.0 is not in [0, 1]",
    ),
    (
        "scores",
        {"score": lambda s, e, t: Score(1.0, t == e.answer, "wrong", "No.")},
        'correct, but the failure is "wrong" and not None',
    ),
    ("scores", {"score": lambda s, e, t: int(t)}, "raised ValueError"),
    ("scores", {"score": lambda s, e, t: sys.exit(0)}, "raised SystemExit: 0"),
    ("scores", {"score": lambda s, e, t: Score("x", False)}, "a Score whose value is 'x'"),
    ("gold answers", {"score": lambda s, e, t: Score([1.0], True)}, "a Score whose value is [1.0]"),
    ("scores", {"score": lambda s, e, t: Score(0, False, [])}, "a Score whose failure is []"),
    ("scores", {"score": lambda s, e, t: Score(0, False, "wrong", 1)}, "whose feedback is 1"),
    ("scores", {"score": lambda s, e, t: Score(0, [1, 2])}, "a Score whose correct is [1, 2]"),
    ("gold answers", {"score": lambda s, e, t: 1.0}, "score returned a float"),
    (
        "feedback",
        {"score": lambda s, e, t: Score(float(t == e.answer), t == e.answer, "wrong")},
        "feedback is empty",
    ),
    ("repeatable", {"split": once_again}, 'split("train") differs at its second call'),
    (
        "instruction",
        {"instruction": "1 + 1"},
        'train: the inputs of "1" hold the instruction',
    ),
    (
        "disjoint",
        {"split": lambda s, name: [Example(name, {"input": "same"}, "x")]},
        '1 of 1 test examples stand in train too: test "test" is train "train" (the same inputs)',
    ),
    (
        "duplicates",
        {"split": lambda s, name: [Example(name + i, {"input": name}, "x") for i in "ab"]},
        'train: "traina" and "trainb" ask the same',
    ),
    (
        "size",
        {"split": lambda s, name: Sums.split(s, name)[:9]},
        "9 test examples: only large differences",
    ),
    ("splits", {"split": lambda s, name: []}, 'task "sums", split "train": no examples'),
]


@pytest.mark.parametrize(("check", "changes", "detail"), BROKEN)
def test_a_broken_task_is_found_out(check, changes, detail):
    found = failed(broken(**changes))
    assert detail in found[check]
    assert "\n" not in found[check]


def test_an_order_that_depends_on_the_process_is_found_out(tmp_path):
    source = (
        "from tasks import Example, Score, Task\n"
        "class Sets(Task):\n"
        "    name, instruction = 'sets', ''\n"
        "    def split(self, name):\n"
        "        words = {f'{name}{n}' for n in range(40)}\n"
        "        return [Example(w, {'input': w}, w) for w in words]\n"
        "    def score(self, example, text):\n"
        "        return Score(1.0, True) if text == example.answer else Score(0.0, False)\n"
    )
    path = tmp_path / "sets.py"
    path.write_text(source)
    found = failed(load_task(str(path)), str(path))
    assert "other examples in a new process; sort sets" in found["repeatable"]


GOOD = Example("a", {"input": "x"}, "y")


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (None, "split() raised TypeError: 'NoneType' object is not iterable"),
        ([], "no examples"),
        ([("x", "y")], "example 0: a tuple, not a tasks.Example"),
        ([GOOD, GOOD], 'the id "a" occurs twice'),
        ([GOOD, Example("", {"input": "x"}, "y")], "example 1: the id is ''"),
        ([Example("a", {"inptu": "x"}, "y")], 'example 0 ("a"): no input "input"'),
        ([Example("a", {"input": 3}, "y")], 'input "input" is 3, not text'),  # type: ignore[dict-item]
        ([Example("a", {"input": "x"}, 3)], "the answer is 3, not text"),  # type: ignore[arg-type]
        ([Example("a", ["x"], "y")], 'example 0 ("a"): inputs is no mapping'),  # type: ignore[arg-type]
        ([Example("a", {"input": "x"}, "y", None)], "meta is no mapping"),  # type: ignore[arg-type]
        ([Example("a", {"input": "x", 1: "z"}, "y")], "input \"1\" is 'z', not text"),  # type: ignore[dict-item]
        ([Example("a", {"input": "x"}, "y", {"tags": {"s"}})], '("a"): meta is no JSON'),
        ([Example("a", {"input": "x"}, "y", {(1, 2): 3})], '("a"): meta is no JSON'),
        ([Example("a", {"input": "x"}, "y", {"o": object()})], '("a"): meta is no JSON'),
        ([Example("a", {"input": "x"}, "y", {"o": "\ud800"})], '("a"): holds half a surrogate'),
        ([Example("a", {"input": "\udc00"}, "y")], '("a"): holds half a surrogate pair'),
        ([Example("a", {"input": "x"}, "\udc00")], '("a"): holds half a surrogate pair'),
        ([Example("\udc00", {"input": "x"}, "y")], "holds half a surrogate pair"),
    ],
)
def test_a_bad_split_is_refused_in_one_line(rows, message):
    with pytest.raises(TaskError) as error:
        required_split(broken(split=lambda self, name: rows), "dev", limit=1)
    assert str(error.value).startswith('task "sums", split "dev"')
    assert message in str(error.value)


def test_a_split_that_exits_or_is_too_small_is_refused():
    with pytest.raises(TaskError, match="raised SystemExit: 0"):
        required_split(broken(split=lambda self, name: sys.exit(0)), "dev")
    with pytest.raises(TaskError, match="100 examples, the spec wants 101; write 100 or null"):
        required_split(Sums(), "dev", limit=101)
    assert len(required_split(Sums(), "dev", limit=100)) == 100


def test_the_digest_of_the_splits_covers_meta():
    def split(self, name):
        return [Example(e.id, e.inputs, e.answer, {"n": 1}) for e in Sums.split(self, name)]

    assert digest_splits(broken(split=split)) != digest_splits(Sums())


@pytest.mark.parametrize("call", [2, 3])
def test_a_split_that_raises_at_a_later_call_is_a_finding(call):
    def split(self, name):
        opened.append(name)
        if opened.count(name) == call:
            raise RuntimeError("the file is gone")
        return Sums.split(self, name)

    opened: list[str] = []
    found = failed(broken(split=split))
    assert ("the file is gone" in found.get("repeatable", "")) is (call == 2)


def test_limit_takes_the_first_examples_and_opens_one_split_only():
    opened = []

    def split(self, name):
        opened.append(name)
        return Sums.split(self, name)

    examples = required_split(broken(split=split), "dev", limit=2)
    assert [e.id for e in examples] == ["100", "101"]
    assert opened == ["dev"]


def test_disjoint_sees_ids_and_inputs_that_differ_in_case_or_spaces():
    one = Example("a", {"input": "What  IS it?"}, "y")
    check_disjoint({"train": [one, one], "test": [Example("b", {"input": "What is that?"}, "y")]})
    for other, kind in (
        (Example("a", {"input": "z"}, "y"), "same id"),
        (Example("b", {"input": "what is it?"}, "y"), "the same but for case"),
    ):
        with pytest.raises(TaskError, match=kind):
            check_disjoint({"train": [one], "test": [other]})


LONG = (
    "The chain came off twice on the hill behind the station, and the second time the whole "
    "gear fell apart in my hands."
)
NEARLY = Example("b", {"input": LONG.replace("second", "third").replace(",", " -").upper()}, "y")


def test_nearly_the_same_is_refused_in_test_and_mentioned_in_dev():
    splits = {"train": [Example("a", {"input": LONG}, "y")], "test": [NEARLY]}
    with pytest.raises(TaskError, match=r'1 of 1 test .* test "b" is train "a" \(nearly'):
        check_disjoint(splits)
    [allowed] = check_disjoint(splits, allow_overlap=True)
    assert (allowed.id, allowed.other_id, allowed.kind) == ("b", "a", "near")
    [harmless] = check_disjoint({"train": splits["train"], "dev": [NEARLY]})
    assert harmless.split == "dev"


@pytest.mark.parametrize(("split", "severity"), [("dev", "warning"), ("test", "error")])
def test_check_names_the_pairs(split, severity):
    def leaky(self, name):
        more = {"train": [Example("a", {"input": LONG}, "y")], split: [NEARLY]}
        return [*Sums.split(self, name), *more.get(name, [])]

    scored = {"score": lambda s, e, t: Score(1.0, True)}
    [found] = [f for f in check_task(broken(split=leaky, **scored)) if f.check == "disjoint"]
    assert (found.ok, found.severity) == (False, severity)
    [pair] = found.named
    assert pair.startswith(f'{split} "b" is train "a" (nearly the same, similarity 0.8')


PROMPTS = [
    (Prompt("Add.", demos=(Demo({"input": "5 + 1"}, "6"),)), ""),
    (Prompt("Add.", demos=(Demo({"input": "1000 + 1"}, "1001"),)), ""),
    (
        Prompt("Add.", demos=(Demo({"input": "5 + 1"}, "6"), Demo({"input": "201 +  1"}, "9"))),
        'test "201" is prompt "demo 2" (the same but for case or punctuation)',
    ),
    (Prompt("Add, like 150 + 1 = 151."), 'the instruction holds dev example "150" with its answer'),
]


@pytest.mark.parametrize(("prompt", "told"), PROMPTS)
def test_few_shot_text_must_not_hold_dev_or_test(prompt, told):
    found = check_prompt_file(Sums(), prompt)
    assert found.ok is (told == "")
    assert told in "\n".join(found.named)
