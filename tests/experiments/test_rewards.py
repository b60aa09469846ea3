"""A composed reward with a judge in whole runs: logged apart, counted, and no key on disk."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from experiments.cli import main
from reports.cost import cost
from reports.load import load_run
from tests.lm.conftest import server
from tests.lm.endpoint_server import KEY, VARIABLE, Reply, Served, completion

__all__ = ["server"]
STEPS = 3


def reward(url: str) -> dict[str, Any]:
    judge = {"model": "big", "endpoint": url, "key_env": VARIABLE, "rubric": "polite.md"}
    return {
        "parts": [
            {"reward": "task", "weight": 2},
            {"reward": {"judge": judge}, "optional": True},
            {"reward": "alnum.py:share", "name": "alnum", "weight": 0.5},
        ],
        "gate": {"reward": {"format": "length", "min": 1, "unit": "chars"}, "at_least": 0.5},
        "repetition": {"ngram": 1, "weight": 0.1},
    }


def spec(task: str, folder: Path, url: str, **methods: Any) -> Path:
    (folder / "letters.py").write_text(task)
    (folder / "polite.md").write_text("More letters are more polite.")
    (folder / "alnum.py").write_text(
        "def share(completions, **_):\n"
        "    return [sum(c.isalnum() for c in t[0]['content']) / 6 for t in completions]\n"
    )
    small = {"steps": STEPS, "eval_every": 1, "checkpoint_every": 1, "learning_rate": 1e-2}
    grpo = {**small, "prompts_per_step": 2, "group_size": 4, "reward": reward(url)}
    rft = {
        **small, "rounds": 1, "prompts_per_round": 4, "samples_per_prompt": 4, "accept": 0.5,
        "reward": reward(url),
    }  # fmt: skip
    told = {
        "name": "composed",
        "task": "letters.py",
        "model": "tiny-random",
        "splits": {"train": 8, "dev": 4, "test": 4},
        "sampling": {"max_tokens": 6},
        "methods": {"grpo": grpo, "rft": rft},
        "arms": {"as-is": [], "grpo": ["grpo"], "rft": ["rft"]},
        **methods,
    }
    path = folder / "spec.yaml"
    path.write_text(yaml.safe_dump(told, sort_keys=False))
    return path


def polite(body: dict[str, Any]) -> Reply:
    """A judge that counts letters, and is lost for words where there are none."""
    answer = body["messages"][-1]["content"].split("The answer to grade:\n")[1].split("\n\n")[0]
    letters = sum(c.isalpha() for c in answer)
    text = str(min(1 + letters, 5)) if letters else "hm"
    return completion(text, usage={"prompt_tokens": 50, "completion_tokens": 1})


@pytest.fixture
def run(tmp_path: Path, kinds_task: str, server: Served, monkeypatch: Any) -> Path:
    monkeypatch.setenv("TASKLIFT_CACHE", str(tmp_path / "cache"))
    server.reply = polite
    path = spec(kinds_task, tmp_path, server.url)
    assert main(["run", str(path), "--out", str(tmp_path / "runs")]) == 0
    return tmp_path / "runs/composed"


def of_arm(run: Path, arm: str) -> Path:
    entries = json.loads((run / "arms.json").read_text())
    return run / "stages" / next(e["stages"][0] for e in entries if e["arm"] == arm)


def test_parts_are_logged_apart_and_the_judge_is_paid(run: Path, server: Served) -> None:
    names = {"length", "task", "judge", "judge/malformed", "judge/unanswered", "alnum"}
    for arm in ("grpo", "rft"):
        stage = of_arm(run, arm)
        drawn = pd.read_parquet(stage / "rollouts.parquet")
        parts = pd.DataFrame([json.loads(text) for text in drawn["parts"]])
        assert set(parts.columns) == {*names, "repetition"}
        content = 2 * parts["task"] + parts["judge"].fillna(0) + 0.5 * parts["alnum"]
        whole = content.where(parts["length"] >= 0.5, 0.0) + parts["repetition"]
        assert list(drawn["reward"]) == pytest.approx(list(whole), abs=1e-6)
        assert (parts["judge"].isna() == (parts["judge/malformed"] == 1)).all()
        rows = [json.loads(line) for line in (stage / "metrics.jsonl").read_text().splitlines()]
        figures = [row for row in rows if "reward/judge" in row]
        assert figures and {f"reward/{name}" for name in names} <= figures[0].keys()
        used = json.loads((stage / "ledger.json").read_text())["usage"]["judge"]
        assert 0 < used["completions"] <= len(drawn) and used["prompt_tokens"] % 50 == 0
        assert used["prompt_tokens"] == 50 * used["completions"]
    assert 0 < parts["judge"].isna().mean() < 1


def test_what_a_judged_run_leaves_behind(run: Path, server: Served) -> None:
    """No key anywhere; rubric and code; nothing to ask when it is run again; honest costs."""
    files = [path for path in run.parent.parent.rglob("*") if path.is_file()]
    assert any(path.suffix == ".sqlite" for path in files)
    assert not [path for path in files if KEY.encode() in path.read_bytes()]
    assert {"polite.md", "alnum.py"} <= {path.name for path in (run / "task").rglob("*")}
    asked = len(server.asked)
    assert main(["run", str(run.parent.parent / "spec.yaml"), "--out", str(run.parent)]) == 0
    assert len(server.asked) == asked
    table = cost(load_run(run)).set_index(["arm", "purpose"])
    assert pd.isna(table.loc[("grpo", "judge"), "flops"])  # nobody knows its size
    assert table.loc[("grpo", "rollout"), "flops"] > 0
