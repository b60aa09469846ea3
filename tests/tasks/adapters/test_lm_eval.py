"""lm-eval's tasks as ours: the scores are lm-eval's own on the same outputs."""

from __future__ import annotations

import json

import pytest

pytest.importorskip("lm_eval")

from tasks.load import load_task, task_files
from tasks.types import TaskError
from tests.tasks.known.passing import assert_checks, assert_class, assert_survives

COUNTRIES = {
    "France": "Paris",
    "Italy": "Rome",
    "Spain": "Madrid",
    "Peru": "Lima",
    "Norway": "Oslo",
    "Kenya": "Nairobi",
    "Japan": "Tokyo",
    "Cuba": "Havana",
}
YAML = """
task: capitals
dataset_path: json
dataset_kwargs: {{data_files: {{{files}}}}}
{splits}
test_split: test
output_type: generate_until
description: "Name the capital.\\n"
doc_to_text: "Country: {{{{country}}}}\\nCapital:"
doc_to_target: "{{{{capital}}}}"
generation_kwargs: {{until: ["\\n", "Country:"]}}
filter_list:
  - name: word
    filter:
      - {{function: regex, regex_pattern: "([A-Z]\\\\w+)"}}
      - {{function: take_first}}
  - name: whole
    filter:
      - {{function: take_first}}
metric_list:
  - {{metric: exact_match, aggregation: mean, higher_is_better: true, ignore_case: true}}
"""
REPLIES = [
    "Paris",
    "rome\nCountry: Chad",
    "It is Madrid.",
    "Lima, of course\nCountry: Chad",
    "Oslo Country: Chad",
    "nobody knows",
    "",
    "HAVANA",
]


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    """A YAML task on local JSON."""
    folder = tmp_path_factory.mktemp("lm_eval")
    for split, mark in (("train", "Old "), ("test", "")):
        rows = [{"country": mark + c, "capital": capital} for c, capital in COUNTRIES.items()]
        (folder / f"{split}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    files = f"train: {folder}/train.jsonl, test: {folder}/test.jsonl"
    (folder / "capitals.yaml").write_text(YAML.format(files=files, splits="training_split: train"))
    only = f"test: {folder}/test.jsonl"
    (folder / "only.yaml").write_text(YAML.format(files=only, splits=""))
    return folder / "capitals.yaml"


@pytest.fixture(scope="module")
def task(path):
    return assert_checks(f"lm-eval:{path}")


def test_it_is_asked_as_lm_eval_asks(task, path):
    first = task.split("test")[0]
    assert (first.inputs["question"], first.answer) == ("Country: France\nCapital:", "Paris")
    assert task.instruction == "Name the capital."
    assert [len(task.split(name)) for name in ("train", "dev", "test")] == [7, 1, 8]
    assert task.generation["until"] == ["\n", "Country:"]
    assert path in task_files(task)


@pytest.mark.parametrize("filter_name", ["word", "whole"])
def test_scores_equal_those_of_lm_eval_on_the_same_outputs(path, filter_name):
    ours = load_task(f"lm-eval:{path},filter={filter_name}")
    scores = [
        ours.score(e, text).value for e, text in zip(ours.split("test"), REPLIES, strict=True)
    ]
    assert scores == theirs(path)[filter_name]
    assert 0 < sum(scores) < len(scores)


def theirs(path) -> dict[str, list[float]]:
    """lm-eval's evaluator on a model that says REPLIES: the score of each document, by filter."""
    from lm_eval import simple_evaluate
    from lm_eval.api.model import LM
    from lm_eval.tasks import TaskManager

    class Scripted(LM):
        def generate_until(self, requests, disable_tqdm=False):
            return [cut(REPLIES[request.doc_id], request.args[1]["until"]) for request in requests]

        def loglikelihood(self, requests, disable_tqdm=False):
            raise NotImplementedError

        def loglikelihood_rolling(self, requests, disable_tqdm=False):
            raise NotImplementedError

    found = simple_evaluate(
        model=Scripted(),
        tasks=[str(path)],
        task_manager=TaskManager(include_defaults=False),
        bootstrap_iters=0,
    )
    assert found is not None
    scores: dict[str, dict[int, float]] = {}
    for sample in found["samples"]["capitals"]:
        by_doc = scores.setdefault(sample["filter"], {})
        by_doc[sample["doc_id"]] = float(sample["exact_match"])
    return {name: [by_doc[n] for n in sorted(by_doc)] for name, by_doc in scores.items()}


def cut(text: str, until: list[str]) -> str:
    """What every model class of lm-eval does with its stop strings."""
    for stop in until:
        text = text.split(stop)[0]
    return text


@pytest.mark.parametrize(
    ("text", "failure"),
    [
        ("Paris", None),
        ("paris", "unreadable"),
        ("Rome", "wrong"),
        ("It is Paris", "wrong"),
        ("...", "unreadable"),
        ("", "empty"),
    ],
)
def test_right_wrong_and_malformed(task, text, failure):
    assert_class(task, task.split("test")[0], text, failure)


def test_hostile_texts(task):
    assert_survives(task, task.split("test")[0])


def test_a_task_with_a_test_split_alone_is_dealt(path):
    task = load_task(f"lm-eval:{path.parent / 'only.yaml'}")
    assert [len(task.split(name)) for name in ("train", "dev", "test")] == [5, 1, 2]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("lm-eval:hellaswag", "output_type is multiple_choice"),
        ("lm-eval:gsm9k", 'did you mean "gsm8k"'),
        ("lm-eval:humaneval", "use the built-in humaneval"),
        ("lm-eval:none.yaml", "no such file"),
        ("lm-eval:gsm8k,shots=5", 'no option "shots"'),
    ],
)
def test_what_cannot_run_as_ours_is_one_line(name, words):
    with pytest.raises(TaskError) as error:
        load_task(name)
    assert words in str(error.value) and "\n" not in str(error.value)


def test_an_unknown_filter_and_data_out_of_reach_are_one_line(path):
    with pytest.raises(TaskError, match='no filter "words"'):
        load_task(f"lm-eval:{path},filter=words").split("test")
    with pytest.raises(TaskError, match=r"lm-eval:gsm8k: .*connect once"):
        load_task("lm-eval:gsm8k").split("test")
