"""Bad input: one clear line on stderr (what, where, what instead), exit code 2, nothing lost."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from evaluation.types import Policy
from experiments.cli import main
from lm.tiny import write_tiny_model
from prompt_opt.bootstrap import Bootstrap
from tasks.inflection import Inflection
from tasks.load import load_task
from tasks.types import Demo, Prompt

SPEC: dict[str, Any] = {
    "name": "bad",
    "task": "rows.jsonl",
    "model": "tiny-random",
    "methods": {"grpo": {"steps": 1, "prompts_per_step": 2, "group_size": 2}},
    "arms": {"zero-shot": [], "rl": ["grpo"]},
}
ROWS = [{"input": f"word {i}", "answer": f"answer {i}"} for i in range(40)]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write_rows(tmp_path / "rows.jsonl", ROWS)
    return tmp_path


def write_rows(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def write_spec(folder: Path, **changes: Any) -> Path:
    path = folder / "spec.yaml"
    path.write_text(yaml.safe_dump({**SPEC, **changes}, sort_keys=False))
    return path


def grpo(**options: Any) -> dict[str, Any]:
    return {"methods": {"grpo": {**SPEC["methods"]["grpo"], **options}}}


def refused(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """Run the command; it must exit with 2 and one line on stderr, which is returned."""
    assert main([*map(str, words)]) == 2
    shown = capsys.readouterr()
    line = shown.err.strip()
    assert "\n" not in line and line.startswith("tasklift: ") and "Traceback" not in line
    return line


SPEC_MISTAKES: dict[str, tuple[dict[str, Any], list[str]]] = {
    "unknown key": ({"modle": "x"}, ["modle", "did you mean 'model'"]),
    "unknown nested key": ({"splits": {"tset": 3}}, ["splits.tset", "did you mean 'test'"]),
    "unknown option of a method": (grpo(stepz=3), ["methods.grpo.stepz", "did you mean 'steps'"]),
    "misspelt method": ({"arms": {"a": ["gpro"]}}, ["arms.a", "'gpro'", "did you mean 'grpo'"]),
    "method of unknown kind": ({"methods": {"mine": {"method": "sft9"}}}, ["methods.mine", "sft9"]),
    "negative steps": (grpo(steps=-5), ["methods.grpo.steps", "-5"]),
    "group size 1": (grpo(group_size=1), ["methods.grpo.group_size", "2"]),
    "no arms": ({"arms": {}}, ["arms"]),
    "attribution is no switch": ({"attribution": "maybe"}, ["attribution", "'maybe'", "true or"]),
    "attribution is a number": ({"attribution": 1}, ["attribution: 1 is no switch"]),
    "overlap is no switch": ({"allow_overlap": "yes"}, ["allow_overlap", "'yes'", "true or false"]),
    "a wall nobody knows": ({"sandbox": {"allow_missing": ["netwrok"]}}, ["sandbox", "network"]),
    "a sandbox for no code": (
        {"sandbox": {"allow_missing": ["network"]}},
        ["sandbox", "runs no code", "leave sandbox out"],
    ),
    "nothing to attribute": ({"attribution": True}, ["no arm moves both", "[bootstrap, grpo]"]),
    "arm is no list": ({"arms": {"a": "grpo"}}, ["arms.a", "[bootstrap]"]),
    "unknown part of an arm": ({"arms": {"a": {"chian": []}}}, ["arms.a", "mean 'chain'"]),
    "tools are no switch": ({"arms": {"a": {"tools": "off"}}}, ["arms.a.tools", "true or false"]),
    "a chain that is none": ({"arms": {"a": {"chain": "grpo"}}}, ["arms.a", "[bootstrap]"]),
    "no such arm to be bare": ({"without_tools": ["rll"]}, ["without_tools", "did you mean 'rl'"]),
    "no tools to switch off": ({"without_tools": ["rl"]}, ["arm rl switches off", "does not have"]),
    "unknown baseline": ({"baseline": "zeroshot"}, ["baseline", "did you mean 'zero-shot'"]),
    "same seed twice": ({"seeds": [1, 1]}, ["seeds"]),
    "a seed that is a word for yes": ({"seeds": [True]}, ["seeds.0"]),
    "a seed too large": ({"seeds": [2**40]}, ["seeds.0"]),
    "options that are a number": ({"arms": {"a": [{"grpo": 5}]}}, ["arms.a.grpo", "{steps: 25}"]),
    "a kind that is a list": ({"methods": {"x": {"method": ["grpo"]}}}, ["methods.x"]),
    "a resolved step of no kind": (
        {"arms": {"a": [{"name": "x", "kind": "nope", "config": {}}]}},
        ["arms.a", "nope"],
    ),
    "a method named by a number": ({"methods": {1: {}}, "arms": {"a": ["gpro"]}}, ["1"]),
    "a task name without end": ({"task": "x" * 5000}, ["xxx"]),
    "a model name without end": ({"model": "x" * 5000}, ["xxx"]),
    "an empty stop string": ({"sampling": {"stop": [""]}}, ["stop"]),
    "more examples than there are": ({"splits": {"test": 1000}}, ["test", "1000"]),
    "a name that is a path": ({"name": "../up"}, ["name", "../up"]),
    "steps that are a word": (grpo(steps="many"), ["methods.grpo.steps", "many"]),
    "unknown built-in task": ({"task": "inflexion"}, ["inflexion", "inflection"]),
    "task file missing": ({"task": "none.py"}, ["none.py"]),
    "unknown model": ({"model": "smollm2-135M-x"}, ["smollm2-135M-x", "smollm2-135m"]),
    "unknown device": ({"model": {"source": "tiny-random", "device": "tpu9"}}, ["tpu9", "cpu"]),
    "unknown reward": (grpo(reward="tsak"), ["tsak", "task"]),
    "a reward that is a number": (grpo(reward=3), ["methods.grpo.reward", "3 is no reward"]),
    "an unknown part": (grpo(reward={"parts": ["tsak"]}), ["tsak", "task"]),
    "a misspelt option of a part": (
        grpo(reward={"parts": [{"reward": "task", "wieght": 2}]}),
        ["methods.grpo.reward.parts.0.wieght", "did you mean 'weight'"],
    ),
    "two parts of one name": (grpo(reward={"parts": ["task", "task"]}), ["reward", "'task'"]),
    "a composition within a composition": (
        grpo(reward={"parts": [{"parts": ["task"]}]}),
        ["methods.grpo.reward.parts.0", "write its parts here"],
    ),
    "an unknown format": (grpo(reward={"format": "tag"}), ["'tag'", '"tags"']),
    "a schema that is none": (
        grpo(reward={"format": "json", "json_schema": {"type": "strng"}}),
        ["json_schema", "strng"],
    ),
    "a judge without a rubric": (
        grpo(reward={"judge": {"model": "tiny-random"}}),
        ["methods.grpo.reward.judge.rubric", "is missing"],
    ),
    "a judge nobody finds": (
        grpo(reward={"judge": {"model": "no-such-model", "rubric": "Is it short?"}}),
        ["no-such-model"],
    ),
    "a rubric nobody finds": (
        grpo(reward={"judge": {"model": "tiny-random", "rubric": "polite.md"}}),
        ["judge: rubric 'polite.md'", "name a text file"],
    ),
    "a judge without its key": (
        grpo(
            reward={
                "judge": {
                    "model": "m",
                    "rubric": "r",
                    "endpoint": "http://localhost/v1",
                    "key_env": "TASKLIFT_NO_SUCH_KEY",
                },
            }
        ),
        ["TASKLIFT_NO_SUCH_KEY is not set"],
    ),
    "a folder that holds no reward model": (
        grpo(reward="."),
        ["holds no config.json", "tasklift reward-train"],
    ),
    "full training of weights in 4 bits": (
        {"arms": {"a": [{"grpo": {"weights": "qlora"}}, {"grpo": {"weights": "full"}}]}},
        ["arms.a", "weights: qlora or lora"],
    ),
    "too few examples for a step": (grpo(prompts_per_step=500), ["500"]),
    "an engine that nobody knows": (grpo(engine="vlm"), ["methods.grpo.engine", "'vllm'"]),
    "vllm and weights in 4 bits": (
        grpo(engine="vllm", weights="qlora"),
        ["methods.grpo", "write engine: ours, or weights: lora"],
    ),
}


@pytest.mark.parametrize("mistake", SPEC_MISTAKES)
def test_spec_mistakes(folder: Path, capsys: pytest.CaptureFixture[str], mistake: str) -> None:
    changes, expected = SPEC_MISTAKES[mistake]
    line = refused(capsys, "run", write_spec(folder, **changes))
    for part in expected:
        assert part in line, line


def test_vllm_without_a_gpu(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    line = refused(capsys, "run", write_spec(folder, **grpo(engine="vllm")))
    assert "grpo: engine: vllm needs a CUDA GPU" in line and "write engine: ours" in line
    assert not list(folder.glob("runs/*/stages/*"))


def test_missing_key(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = folder / "spec.yaml"
    path.write_text(yaml.safe_dump({k: v for k, v in SPEC.items() if k != "model"}))
    assert "model: is missing" in refused(capsys, "run", path)


def test_a_key_that_stands_twice(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_spec(folder)
    path.write_text(path.read_text() + "arms: {a: [], a: [grpo]}\n")
    line = refused(capsys, "run", path)
    assert "spec.yaml:" in line and "stands twice" in line


@pytest.mark.parametrize("text", ["name: [unclosed", "just words", "\x00", "- a\n- b"])
def test_spec_that_is_no_yaml_mapping(
    folder: Path, capsys: pytest.CaptureFixture[str], text: str
) -> None:
    (folder / "spec.yaml").write_text(text)
    assert "spec.yaml" in refused(capsys, "run", folder / "spec.yaml")


def test_spec_missing(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "no such file" in refused(capsys, "run", "nowhere.yaml")


@pytest.mark.parametrize("override", ["steps", "=3", "name.x=1", "a: [=2", "methods.grpo.steps=[1"])
def test_override_mistakes(folder: Path, capsys: pytest.CaptureFixture[str], override: str) -> None:
    refused(capsys, "run", write_spec(folder), "--set", override)


DATA_MISTAKES: dict[str, tuple[Callable[[], str], list[str]]] = {
    "duplicate ids": (
        lambda: "".join(json.dumps({"id": "same", **row}) + "\n" for row in ROWS),
        ["same"],
    ),
    "missing answer column": (
        lambda: "".join(json.dumps({"input": row["input"]}) + "\n" for row in ROWS),
        ["answer"],
    ),
    "a row that is no JSON": (lambda: json.dumps(ROWS[0]) + "\n{broken\n", ["rows.jsonl", "2"]),
    "no rows": (lambda: "", ["rows.jsonl"]),
    "empty split": (
        lambda: "".join(json.dumps({"split": "train", **row}) + "\n" for row in ROWS),
        ["dev"],
    ),
    "train/test overlap": (
        lambda: "".join(
            json.dumps({"split": split, "input": text, "answer": "a"}) + "\n"
            for split, text in [("train", "one"), ("dev", "two"), ("test", " ONE")]
        ),
        ["train", "test"],
    ),
}


@pytest.mark.parametrize("mistake", DATA_MISTAKES)
def test_data_mistakes(folder: Path, capsys: pytest.CaptureFixture[str], mistake: str) -> None:
    text, expected = DATA_MISTAKES[mistake]
    (folder / "rows.jsonl").write_text(text())
    line = refused(capsys, "run", write_spec(folder))
    for part in expected:
        assert part in line, line


def test_task_file_that_raises(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "mine.py").write_text("x = 1\nraise RuntimeError('my own\\nfault')\n")
    line = refused(capsys, "run", write_spec(folder, task="mine.py"))
    assert "mine.py:2" in line and "RuntimeError: my own fault" in line


def test_model_folder_without_weights(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_tiny_model(folder / "model")
    (folder / "model/model.safetensors").unlink()
    (folder / "model/pytorch_model.bin").write_bytes(b"pickle")
    assert "safetensors" in refused(capsys, "run", write_spec(folder, model="./model"))


def test_model_folder_with_torn_weights(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_tiny_model(folder / "model")
    weights = folder / "model/model.safetensors"
    weights.write_bytes(weights.read_bytes()[:999])
    assert "model" in refused(capsys, "run", write_spec(folder, model="./model"))


def test_corrupt_gguf(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "m.gguf").write_bytes(b"GGUF" + bytes(range(200)))
    assert "m.gguf" in refused(capsys, "run", write_spec(folder, model="m.gguf"))


def test_unwritable_run_folder(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "out").write_text("a file where a folder should be")
    line = refused(capsys, "run", write_spec(folder), "--out", "out")
    assert "cannot be written" in line and "--out" in line


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_read_only_run_folder(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "out").mkdir(mode=0o500)
    assert "cannot be written" in refused(capsys, "run", write_spec(folder), "--out", "out")


def test_run_folder_of_another_spec(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    only_baseline = {"arms": {"zero-shot": []}, "sampling": {"max_tokens": 4}}
    assert main(["run", str(write_spec(folder, **only_baseline))]) == 0
    before = {p: p.read_bytes() for p in (folder / "runs").rglob("*") if p.is_file()}
    capsys.readouterr()
    changed = {**only_baseline, "sampling": {"max_tokens": 5}}
    line = refused(capsys, "run", write_spec(folder, **changed))
    assert "results of another experiment" in line and "sampling.max_tokens" in line
    assert before == {p: p.read_bytes() for p in (folder / "runs").rglob("*") if p.is_file()}


STORY = (
    "My brother left his blue rucksack in the basket of a bike at the harbour last night, and "
    "nobody at the kiosk has seen it."
)
COPIES = [
    (STORY, "the same inputs"),
    (STORY.upper().replace(",", " -"), "the same but for case or punctuation"),
    (STORY.replace("blue", "green"), "nearly the same"),
]


@pytest.mark.parametrize(("copy", "how"), COPIES, ids=["exact", "normalized", "near"])
def test_a_test_question_that_stands_in_train(
    folder: Path, capsys: pytest.CaptureFixture[str], copy: str, how: str
) -> None:
    """Refused, unless the spec allows it: then run.json says which ones they are."""
    rows = [{**row, "id": f"r{n}"} for n, row in enumerate(ROWS)]
    for n, row in enumerate(rows):
        row["split"] = ("train", "train", "dev", "test")[n % 4]
    rows[1]["input"], rows[3]["input"] = STORY, copy
    write_rows(folder / "rows.jsonl", rows)
    spec = {"arms": {"zero-shot": []}, "sampling": {"max_tokens": 4}}
    line = refused(capsys, "run", write_spec(folder, **spec))
    for part in ("1 of 10 test", 'test "r3" is train "r1"', how, "allow_overlap: true"):
        assert part in line
    assert not list(folder.glob("runs/bad/evals/*"))
    assert main(["check", "rows.jsonl"]) == 1
    assert f'       test "r3" is train "r1" ({how}' in capsys.readouterr().out
    assert main(["run", str(write_spec(folder, **spec, allow_overlap=True))]) == 0
    assert json.loads((folder / "runs/bad/run.json").read_text())["overlapping"] == ["r3"]
    said = "1 of the 10 test examples stand in train or dev too"
    assert said in " ".join(capsys.readouterr().out.split())
    assert main(["answer", "runs/bad"]) == 0
    assert said in " ".join(capsys.readouterr().out.split())


def test_few_shot_text_that_holds_a_test_question(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    task = load_task("rows.jsonl")
    secret = task.split("test")[0]
    prompt = Prompt.of(task).with_demos([Demo(secret.inputs, secret.answer)])
    (folder / "prompt.json").write_text(prompt.to_json())
    assert main(["check", "rows.jsonl", "--prompt", "prompt.json"]) == 1
    assert f'test "{secret.id}" is prompt "demo 1" (the same inputs)' in capsys.readouterr().out
    (folder / "prompt.json").write_text("{}")
    assert "no prompt.json" in refused(capsys, "check", "rows.jsonl", "--prompt", "prompt.json")


@pytest.mark.parametrize(
    "words", [["report", "none"], ["answer", "none"], ["compare", "none", "a", "b"]]
)
def test_reports_of_nothing(
    folder: Path, capsys: pytest.CaptureFixture[str], words: list[str]
) -> None:
    assert "none" in refused(capsys, *words)


def test_export_mistakes(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "no run folder" in refused(capsys, "export", "none", "a", "--out", "out")
    only_baseline = {"arms": {"zero-shot": []}, "sampling": {"max_tokens": 4}}
    assert main(["run", str(write_spec(folder, **only_baseline))]) == 0
    capsys.readouterr()
    run = ["export", "runs/bad"]
    assert "there is zero-shot" in refused(capsys, *run, "rl", "--out", "out")
    seed = [*run, "zero-shot", "--seed", "7"]
    assert "seed 7; there is 0" in refused(capsys, *seed, "--out", "out")
    assert "something already" in refused(capsys, *run, "zero-shot", "--out", ".")
    assert "something already" in refused(capsys, *run, "zero-shot", "--out", "rows.jsonl")
    assert "cannot be written" in refused(capsys, *run, "zero-shot", "--out", "rows.jsonl/out")
    (folder / "runs/bad/prompt.json").unlink()
    assert "is damaged" in refused(capsys, *run, "zero-shot", "--out", "out")
    assert not (folder / "out").exists()


def test_eval_of_an_arm_needs_its_run(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "--run and --arm" in refused(capsys, "eval", "rows.jsonl", "--arm", "a")


LEAKY = {
    "task": "inflection",
    "splits": {"train": 8, "dev": 4, "test": 4},
    "sampling": {"max_tokens": 4},
    "methods": {"bootstrap": {"candidates": 0, "train_examples": 4, "dev_examples": 2}},
    "arms": {"leaky": ["bootstrap"]},
}


@pytest.mark.parametrize("place", ["instruction", "demo"])
def test_a_method_that_leaks(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    """Refused after its stage and again on the next try; an honest method then goes on."""
    secret = Inflection().split("test")[1]
    honest = Bootstrap.improve

    def leak(self: Bootstrap, policy: Policy, *given: Any) -> Policy:
        prompt = honest(self, policy, *given).prompt
        if place == "demo":
            shown = Demo(secret.inputs, secret.answer)
            return policy.with_prompt(prompt.with_demos([shown]))
        told = f"Give the past tense, like {secret.id} -> {secret.answer}."
        return policy.with_prompt(replace(prompt, instruction=told))

    monkeypatch.setattr(Bootstrap, "improve", leak)
    spec = write_spec(folder, **LEAKY)
    for _ in range(2):
        line = refused(capsys, "run", spec)
        assert place in line and f'test example "{secret.id}"' in line and "bootstrap" in line
        assert place == "demo" or f'"{secret.id} -> {secret.answer}"' in line
        assert len(list(folder.glob("runs/bad/stages/*"))) == 1
        for never in ("stages/*/DONE", "stages/*/policy", "evals/*"):
            assert not list(folder.glob(f"runs/bad/{never}"))
    monkeypatch.setattr(Bootstrap, "improve", honest)
    assert main(["run", str(spec)]) == 0
    assert list(folder.glob("runs/bad/stages/*/DONE"))


def test_names_of_known_tasks_that_cannot_be_run(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("reasoning_gym")
    assert "one of chain_sum" in refused(capsys, "check", "reasoning:chain_sums")
    assert "max_terms" in refused(capsys, "check", "reasoning:chain_sum,max_term=3")
    pytest.importorskip("lm_eval")
    assert "only generate_until" in refused(capsys, "check", "lm-eval:hellaswag")


def test_a_known_task_without_its_data(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TASKLIFT_DATA", str(folder))
    line = refused(capsys, "run", write_spec(folder, task="gsm8k"))
    assert "openai/gsm8k" in line and "$TASKLIFT_DATA/openai/gsm8k/main" in line


def test_a_task_of_another_suite_is_found_beside_the_spec(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("lm_eval")
    (folder / "sub").mkdir()
    (folder / "sub" / "mine.yaml").write_text("task: mine\noutput_type: multiple_choice\n")
    path = write_spec(folder / "sub", task="lm-eval:mine.yaml")
    assert "only generate_until" in refused(capsys, "run", path)


COLLECT_MISTAKES: dict[str, tuple[list[str], list[str]]] = {
    "no such source": (["none.csv"], ["none.csv: no such file", "hub:owner/name"]),
    "no such kind": (["book.xlsx"], ["book.xlsx", ".parquet"]),
    "no such field": (["rows.jsonl", "--answer", "anser"], ["anser", 'did you mean "answer"']),
    "no such scorer": (["rows.jsonl", "--scorer", "exat"], ["exat", 'did you mean "exact"']),
    "two shares": (["rows.jsonl", "--splits", "1,2"], ["write 0.6,0.2,0.2"]),
    "group and time": (["rows.jsonl", "--group", "g", "--time", "t"], ["leave one out"]),
    "strata in time": (["rows.jsonl", "--time", "t", "--stratify", "g"], ["leave one out"]),
    "several answers": (["unclear.jsonl"], ['could be the answer: "label", "topic"', "--answer"]),
    "a hub id that is none": (["hub:a/b/c"], ["write hub:owner/name"]),
    "too few rows": (["two.jsonl"], ["no row is left for the split"]),
    "no header": (["bare.csv"], ["bare.csv:1: no header?", "such as text,label"]),
    "two readings": (["days.csv", "--time", "when"], ["the day or the month first", "2026-03-01"]),
    "a comma": (["days.csv", "--answer", "sum", "--scorer", "number"], ["decimal comma"]),
    "an odd name": (["rows.jsonl", "--name", "../up"], ["--name", "../up"]),
}


@pytest.mark.parametrize("mistake", COLLECT_MISTAKES)
def test_collect_mistakes(folder: Path, capsys: pytest.CaptureFixture[str], mistake: str) -> None:
    (folder / "book.xlsx").write_bytes(b"PK")
    labels = [
        {"text": f"some words {n}", "label": "ab"[n % 2], "topic": "cd"[n // 20]} for n in range(40)
    ]
    write_rows(folder / "unclear.jsonl", labels)
    write_rows(folder / "two.jsonl", ROWS[:2])
    bare = [f"some words {n},{'ab'[n % 2]}\n" for n in range(30)]
    (folder / "bare.csv").write_text("".join(bare))
    days = [f'some words {n},{1 + n % 12}/{1 + n % 7}/2026,"{n},50"\n' for n in range(30)]
    (folder / "days.csv").write_text("".join(["text,when,sum\n", *days]))
    words, expected = COLLECT_MISTAKES[mistake]
    line = refused(capsys, "collect", *words, "--out", "out")
    for part in expected:
        assert part in line, line
    assert not (folder / "out").exists()


def test_collect_where_the_hub_cannot_be_reached(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("datasets.config.HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", False)
    line = refused(capsys, "collect", "hub:nobody/nothing", "--out", "out")
    assert "the Hub cannot be reached" in line and "$TASKLIFT_DATA/nobody/nothing" in line
    (folder / "task.yaml").write_text("data: hub:nobody/nothing\n")
    assert "the Hub cannot be reached" in refused(capsys, "check", "task.yaml")
