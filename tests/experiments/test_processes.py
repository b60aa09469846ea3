"""A run in two processes on the CPU: one model, each rollout once, and what one process would do.

`torchrun` and `accelerate launch --multi_gpu` start two processes with gloo between them; the
latter's `--cpu` starts one.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
import yaml

SMALL = {"prompts_per_step": 4, "group_size": 8, "eval_every": 1, "checkpoint_every": 2}
RATE = {"steps": 4, "learning_rate": 1e-2}
SPEC: dict[str, Any] = {
    "name": "pair",
    "task": "letters.py",
    "model": {"source": "tiny-random", "device": "cpu"},
    "splits": {"train": 24, "dev": 8, "test": 12},
    "sampling": {"max_tokens": 6},
    "methods": {
        "bootstrap": {"candidates": 1, "dev_examples": 4, "train_examples": 8},
        "grpo": {**SMALL, **RATE, "lora": {"r": 4}, "reward": "alnum.py:share"},
        "ppo": {**SMALL, **RATE, "lora": {"r": 4}},
        "full": {
            **SMALL,
            **{"method": "grpo", "weights": "full", "steps": 3, "learning_rate": 2e-3},
            **{"epochs": 2, "minibatches": 2, "resample": 2, "curriculum": "pass_rate"},
        },
    },
    "arms": {"prompt+grpo": ["bootstrap", "grpo"], "ppo": ["ppo"], "full": ["full"]},
}
EXACT = ("grpo", "ppo")  # whose updates take all rows of a step: how they are shared is no matter
REWARD = """
def share(prompts, completions, **columns):
    texts = [turns[0]["content"] for turns in completions]
    return [sum(c.isalnum() for c in text) / 6 for text in texts]
"""
TORCHRUN = ("torch.distributed.run", "--standalone", "--nproc-per-node", "2")
ACCELERATE = (
    *("accelerate.commands.launch", "--multi_gpu", "--num_processes", "2"),
    *("--main_process_port", "0", "--num_machines", "1"),
    *("--mixed_precision", "no", "--dynamo_backend", "no"),
)
# The command line, and what each process holds: weights at each mark, first gradients.
WITNESS = """
import hashlib, os, sys
import torch
import rl.callbacks, rl.data_parallel, rl.ppo, rl.weight_method
from experiments.cli import main

live, critics, methods = [], [], []
place = sys.argv[1] + os.environ.get("RANK", "0")
opened, make = rl.weight_method.open_trainable, rl.ppo.Critic
average = rl.data_parallel.average_gradients

def open_trainable(*a):
    methods.append(a[3])
    live.append(opened(*a))
    return live[-1]

def keeping(part):
    def averaged(parameters):
        parameters = list(parameters)
        average(parameters)
        file = f"{place}-{methods[-1]}-{part}.pt"
        if not os.path.exists(file):
            grads = [p.grad.flatten() for p in parameters if p.grad is not None]
            torch.save(torch.cat(grads), file)
    return averaged

rl.weight_method.open_trainable = open_trainable
rl.data_parallel.average_gradients, rl.ppo.average_gradients = keeping("policy"), keeping("critic")

class Seen(make):
    def __init__(self, *a):
        super().__init__(*a)
        critics.append(self)

rl.ppo.Critic = Seen
mark = rl.callbacks.StageCallback.mark

def witnessed(self, update):
    digest = hashlib.sha256()
    for module in (live[-1].model, *critics):
        for name, weight in module.named_parameters():
            digest.update(weight.detach().numpy().tobytes())
    with open(place, "a") as file:
        file.write(f"{update} {digest.hexdigest()}\\n")
    return mark(self, update)

rl.callbacks.StageCallback.mark = witnessed
sys.exit(main(sys.argv[2:]))
"""
KILLER = """
import os, signal, sys
import rl.journal
from experiments.cli import main

call, sealed = int(sys.argv[1]), sys.argv[2] == "1"
seal, calls = rl.journal.Journal.seal, []

def killed(self, *arguments):
    calls.append(1)
    now = len(calls) == call and os.environ["RANK"] == "0"
    if now and not sealed:
        os.kill(os.getpid(), signal.SIGKILL)
    seal(self, *arguments)
    if now:
        os.kill(os.getpid(), signal.SIGKILL)

rl.journal.Journal.seal = killed
sys.exit(main(sys.argv[3:]))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, kinds_task: str) -> Path:
    folder = tmp_path_factory.mktemp("pair")
    (folder / "letters.py").write_text(kinds_task)
    (folder / "alnum.py").write_text(REWARD)
    (folder / "spec.yaml").write_text(yaml.safe_dump(SPEC, sort_keys=False))
    (folder / "witness.py").write_text(WITNESS)
    return folder


def launch(
    root: Path, launcher: tuple[str, ...], *words: str, at: Path | None = None
) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", *launcher, *words],
        cwd=at,
        env={**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


@dataclass
class Pair:
    """Two processes that are through: the run, what they said, and each one's weights."""

    run: Path
    said: str
    weights: list[list[str]]


@pytest.fixture(scope="module")
def pair(folder: Path, root: Path) -> Pair:
    spec, out = str(folder / "spec.yaml"), str(folder / "two")
    words = (str(folder / "witness.py"), str(folder / "weights"), "run", spec, "--out", out)
    process = launch(root, TORCHRUN, *words)
    said, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors[-4000:]
    weights = [(folder / f"weights{rank}").read_text().splitlines() for rank in (0, 1)]
    return Pair(folder / "two/pair", said, weights)


@pytest.fixture(scope="module")
def alone(folder: Path, root: Path) -> Path:
    words = ("run", str(folder / "spec.yaml"), "--out", str(folder / "one"))
    process = launch(root, ("witness",), str(folder / "alone"), *words, at=folder)
    errors = process.communicate(timeout=300)[1]
    assert process.returncode == 0, errors[-4000:]
    return folder / "one/pair"


def stages(run: Path) -> dict[str, Path]:
    told = {path.parent: json.loads(path.read_text()) for path in run.glob("stages/*/stage.json")}
    return {stage["method"]: place for place, stage in told.items()}


def rows(stage: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (stage / "metrics.jsonl").read_text().splitlines()]


def counts(stage: Path) -> dict[str, Any]:
    """All that a stage has spent, but for time, memory and how it was put into calls."""
    ledger = json.loads((stage / "ledger.json").read_text())
    for usage in ledger["usage"].values():
        del usage["seconds"], usage["calls"]
    return {k: v for k, v in ledger.items() if not k.endswith(("_seconds", "peak_bytes"))}


pytestmark = pytest.mark.slow


def test_both_hold_the_same_weights_all_the_way(pair: Pair) -> None:
    """To the bit, critic included, at each checkpoint and at the end of grpo, ppo and full."""
    first, second = pair.weights
    assert first == second
    assert len(set(first)) >= 6


def test_each_rollout_is_there_and_counted_once(pair: Pair) -> None:
    for name, place in stages(pair.run).items():
        if name == "bootstrap":
            continue
        table = pd.read_parquet(place / "rollouts.parquet")
        per_step = table[table["advantage"].notna()].groupby("step").size()
        assert (per_step == 32).all() and len(per_step) == SPEC["methods"][name]["steps"]
        spent = counts(place)["usage"]["rollout"]
        assert spent["completions"] == len(table) == rows(place)[-1]["rollouts"]
        assert spent["completion_tokens"] == table["token_ids"].map(len).sum()


def test_the_processes_draw_different_answers(pair: Pair) -> None:
    """Prompts of one step differ anyway; equal draws would still show in the random numbers."""
    table = pd.read_parquet(stages(pair.run)["grpo"] / "rollouts.parquet")
    step = table[table["step"] == 1]
    halves = step["text"].to_list()[:16], step["text"].to_list()[16:]
    assert not set(halves[0]) & set(halves[1])


@pytest.mark.parametrize(
    ("method", "part"), [("grpo", "policy"), ("ppo", "policy"), ("ppo", "critic")]
)
def test_the_gradient_is_that_of_one_process(
    pair: Pair, alone: Path, folder: Path, method: str, part: str
) -> None:
    """On the same rollouts, those of step 1, and as it is before it is clipped."""
    kept = (folder / f"{who}-{method}-{part}.pt" for who in ("alone0", "weights0", "weights1"))
    one, first, second = (torch.load(path, weights_only=True) for path in kept)
    assert first.equal(second)
    assert one.norm() > 0 and (first - one).norm() / one.norm() < 1e-4


@pytest.mark.parametrize("method", EXACT)
def test_it_is_the_run_of_one_process(pair: Pair, alone: Path, method: str) -> None:
    """The same draws, and with them the same loss and gradient but for the order of sums."""
    one, two = stages(alone)[method], stages(pair.run)[method]
    assert one.name == two.name  # a stage is the same stage however it is launched
    before, after = (pd.read_parquet(place / "rollouts.parquet") for place in (one, two))
    tipped = before["step"][before["text"] != after["text"]]
    same_until = 99 if tipped.empty else int(tipped.min())  # rounding now and then tips a draw
    assert same_until > 1
    before, after = (table[table["step"] < same_until] for table in (before, after))
    assert list(before["reward"]) == list(after["reward"])
    assert before["advantage"].to_numpy() == pytest.approx(after["advantage"].to_numpy(), abs=1e-4)
    for row, same in zip(rows(one), rows(two), strict=True):
        assert row.keys() == same.keys()
        if row["step"] >= same_until:
            continue
        for name in row.keys() - {
            "seconds",
            "logprob_gap",
            "objective/clip_ratio",
            "phase",
            "spent",
        }:
            assert row[name] == pytest.approx(same[name], rel=2e-3, abs=1e-5), name
    if tipped.empty:
        assert counts(one) == counts(two)
    assert counts(one)["optimizer_steps"] == counts(two)["optimizer_steps"]


def test_only_the_first_speaks_and_writes(pair: Pair) -> None:
    lines = [line for line in pair.said.splitlines() if line.startswith("[")]
    assert lines and len(set(lines)) == len(lines)
    assert pair.said.count("report: ") == 1
    told = json.loads((pair.run / "run.json").read_text())
    assert told["complete"] and told["processes"] == 2 and told["test_opened"] == 1
    for path in pair.run.glob("stages/*/audits.json"):
        tripped = [f for f in json.loads(path.read_text()) if "astray" in json.dumps(f)]
        assert not tripped, tripped
    assert not list(pair.run.glob("stages/*/checkpoints"))


@pytest.mark.parametrize("call", [1, 4])
@pytest.mark.parametrize("sealed", [False, True], ids=["torn", "sealed"])
def test_killed_and_run_again_it_ends_the_same(
    pair: Pair, folder: Path, root: Path, tmp_path: Path, call: int, sealed: bool
) -> None:
    """kill -9 of the first process at a checkpoint of grpo or ppo, before or after it counts."""
    words = ("run", str(folder / "spec.yaml"), "--out", str(tmp_path))
    (tmp_path / "killer.py").write_text(KILLER)
    killer = (str(tmp_path / "killer.py"), str(call), str(int(sealed)))
    process = launch(root, TORCHRUN, *killer, *words)
    assert process.communicate(timeout=120) and process.returncode != 0
    assert len(list(tmp_path.glob("pair/stages/*/checkpoints"))) == 1
    process = launch(root, TORCHRUN, "-m", "experiments.cli", *words)
    errors = process.communicate(timeout=200)[1]
    assert process.returncode == 0, errors[-3000:]
    run = tmp_path / "pair"
    for path in sorted(pair.run.glob("stages/*/policy/**/*.safetensors")):
        assert path.read_bytes() == (run / path.relative_to(pair.run)).read_bytes(), path
    for path in sorted(pair.run.rglob("*.parquet")):
        tables = [pd.read_parquet(p) for p in (path, run / path.relative_to(pair.run))]
        before, after = (table.drop(columns="seconds", errors="ignore") for table in tables)
        assert before.equals(after), path


def test_accelerate_launches_two_as_well(folder: Path, root: Path) -> None:
    changes = ("--set", "name=launched", "--set", "arms={ppo: [ppo]}")
    words = ("-m", "experiments.cli", "run", str(folder / "spec.yaml"), *changes)
    process = launch(root, ACCELERATE, *words, "--out", str(folder))
    errors = process.communicate(timeout=200)[1]
    assert process.returncode == 0, errors[-3000:]
    assert json.loads((folder / "launched/run.json").read_text())["processes"] == 2


MISTAKES = {
    "prompts that cannot be shared": ("methods.grpo.prompts_per_step=3", "multiple of 2"),
    "minibatches that do not fit": ("methods.grpo.minibatches=32", "divisor of 16"),
    "a method for one process": ("arms={a: [sft]}", "sft: trains in one process"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_are_one_line(folder: Path, root: Path, tmp_path: Path, mistake: str) -> None:
    change, expected = MISTAKES[mistake]
    words = ("run", str(folder / "spec.yaml"), "--out", str(tmp_path), "--set", change)
    line = failed(launch(root, TORCHRUN, "-m", "experiments.cli", *words))
    assert expected in line


def test_other_verbs_are_for_one_process(folder: Path, root: Path) -> None:
    process = launch(root, TORCHRUN, "-m", "experiments.cli", "tasks")
    assert "tasks: is done in one process" in failed(process)


def test_when_one_fails_all_end_with_its_line(folder: Path, root: Path, tmp_path: Path) -> None:
    """The second process's reward breaks in step 2, while the first waits for its answers."""
    (tmp_path / "broken.py").write_text(
        "import os\ncalls = []\n"
        "def reward(prompts, completions, **columns):\n"
        "    calls.append(1)\n"
        "    if os.environ['RANK'] == '1' and columns['trainer_state'].global_step == 1:\n"
        "        raise OSError('no space')\n"
        "    return [len(turns[0]['content']) / 9 for turns in completions]\n"
    )
    change = f"methods.grpo.reward={tmp_path}/broken.py:reward"
    words = ("run", str(folder / "spec.yaml"), "--out", str(tmp_path), "--set", change)
    process = launch(root, TORCHRUN, "-m", "experiments.cli", *words)
    assert "no space" in failed(process)


def failed(process: subprocess.Popen[str]) -> str:
    """The one line that says why; all processes are gone, and soon."""
    _, errors = process.communicate(timeout=120)
    assert process.returncode != 0
    lines = [line for line in errors.splitlines() if "tasklift: " in line]
    assert len(lines) == 1, errors[-3000:]
    return lines[0]
