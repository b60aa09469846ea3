"""One stage of one run of sft, rft or dpo on the tiny random model, and how to kill it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from evaluation.types import Context, Policy, ScoreFunction
from lm.hf import load_model
from lm.ledger import Caps, Ledger
from lm.types import Sampling
from rl.config import LoraConfig
from rl.config_supervised import SFTConfig
from rl.journal import Journal, Mark
from rl.sft import SFT
from rl.weight_method import Stage, WeightMethod, open_trainable
from tasks.load import load_task
from tasks.types import Demo, Example, Prompt, Score

EXAMPLES = [Example(f"e{i}", {"input": "say " + "w" * i}, "abc"[i % 3] * 3) for i in range(8)]
PROMPT = Prompt("Answer in letters.")
LORA = {"learning_rate": 1e-2, "lora": LoraConfig(r=4), "audits": False}
FULL = {"weights": "full", "learning_rate": 1e-3, "audits": False}


class Killed(BaseException):
    pass


def letters(example: Example, text: str) -> Score:
    """The share of letters: half of all bytes are none. Correct from half of them on."""
    value = sum(c.isascii() and c.isalpha() for c in text) / 6
    return Score(min(1.0, value), value >= 0.5)


def kill_at(patch: Any, owner: type, name: str, call: int) -> None:
    """The process dies in the `call`-th call of that method."""
    work, calls = getattr(owner, name), []

    def killed(self: Any, *arguments: Any, **named: Any) -> Any:
        calls.append(1)
        if len(calls) == call:
            raise Killed
        return work(self, *arguments, **named)

    patch.setattr(owner, name, killed)


def kill_at_seal(patch: Any, step: int) -> None:
    """The process dies after TRL's save at `step`, before the mark: a torn checkpoint."""
    seal = Journal.seal

    def killed(self: Journal, mark: Mark, update: int) -> None:
        if mark.step == step:
            raise Killed
        seal(self, mark, update)

    patch.setattr(Journal, "seal", killed)


@dataclass
class Run:
    method: type[WeightMethod]
    model: Path
    path: Path
    config: Any
    score: ScoreFunction = letters
    caps: Caps = field(default_factory=Caps)
    adapter: Path | None = None
    prompt: Prompt = PROMPT
    train: Sequence[Example] = tuple(EXAMPLES)
    lines: list[dict[str, Any]] = field(default_factory=list)

    def improve(self) -> Policy:
        return self.method(self.config).improve(
            self.policy(), self.train, self.train[:4], self.context()
        )

    def policy(self) -> Policy:
        return Policy(str(self.model), self.prompt, self.adapter)

    def context(self) -> Context:
        self.ledger = Ledger(caps=self.caps)
        return Context(
            score=self.score,
            open=lambda p: load_model(
                p.source, adapter=p.adapter, ledger=self.ledger, quantization=p.quantization
            ),
            ledger=self.ledger,
            folder=self.path,
            sampling=Sampling(max_tokens=6),
            seed=3,
            progress=lambda step, total, **figures: self.lines.append({"step": step, **figures}),
        )

    def trainer(self) -> Any:
        """The method's trainer, before its first step."""
        context, policy = self.context(), self.policy()
        live = open_trainable(policy, self.config, context, self.method.name)
        stage = Stage(policy, self.train, self.train[:4], context, Journal(self.path), live)
        trainer = self.method(self.config).course(stage).trainer
        trainer.model.train()
        trainer.current_gradient_accumulation_steps = 1
        return trainer

    def rows(self, phase: str) -> list[dict[str, Any]]:
        lines = (self.path / "metrics.jsonl").read_text().splitlines()
        return [row for row in map(json.loads, lines) if row["phase"] == phase]

    def rollouts(self) -> list[dict[str, Any]]:
        path = self.path / "rollouts.parquet"
        return pq.read_table(path).to_pylist() if path.exists() else []

    def outcome(self) -> dict[str, Any]:
        """Runs; what must not differ between an undisturbed run and a resumed one."""
        policy = self.improve()
        ledger = json.loads(self.ledger.to_json())
        for usage in ledger["usage"].values():
            usage["seconds"] = 0
        dev = [{**row, "spent": {**row["spent"], "seconds": 0}} for row in self.rows("dev")]
        return {
            "weights": weights_of(policy),
            "rollouts": self.rollouts(),
            "train": [{**row, "seconds": 0} for row in self.rows("train")],
            "others": [dev, self.rows("draw")],
            "ledger": {**ledger, "train_seconds": 0},
            "files": sorted(str(path.relative_to(self.path)) for path in self.path.rglob("*")),
        }


def weights_of(policy: Policy) -> bytes | None:
    if policy.weights is not None:
        return (policy.weights / "model.safetensors").read_bytes()
    return policy.adapter and (policy.adapter / "adapter_model.safetensors").read_bytes()


def half_taught(model: Path, path: Path, answer: str) -> Path:
    """An adapter that has begun to learn to say `answer`, and to end there."""
    same = [Example(e.id, e.inputs, answer) for e in EXAMPLES]
    settings = {**LORA, "steps": 6, "rows_per_step": 8, "eval_every": 6, "checkpoint_every": 99}
    stage = Run(SFT, model, path, SFTConfig(**settings), counted(), train=same)
    adapter = stage.improve().adapter
    assert adapter is not None
    return adapter


def counted() -> ScoreFunction:
    """Each answer scores more than the one before, so the newest weights are the best."""
    calls = count(1)
    return lambda example, text: Score(1 - 1 / next(calls), True)


def on_the_real_model(method: WeightMethod, path: Path) -> tuple[Policy, Run]:
    """A few steps on inflection, behind a prompt of four demos."""
    task = load_task("inflection")
    train = list(task.split("train"))
    demos = [Demo(example.inputs, example.answer) for example in train[:4]]
    run = Run(type(method), Path("smollm2-135m"), path, method.config, task.score)
    run.prompt = Prompt.of(task).with_demos(demos)
    context = replace(run.context(), sampling=Sampling(max_tokens=16))
    dev = list(task.split("dev"))[:48]
    return method.improve(run.policy(), train[4:260], dev, context), run
