"""`engine: vllm` without vLLM: TRL's own engine and its handing over of weights, over a model that
answers in vLLM's place. What vLLM itself does is not tested here."""

from __future__ import annotations

import importlib.util
import inspect
import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pyarrow.parquet as pq
import pytest
import torch
import trl.generation.vllm_generation as trl_vllm
from pydantic import ValidationError
from trl.trainer.grpo_trainer import GRPOTrainer

import rl.grpo
import rl.ppo
import rl.trl_seam
import rl.vllm_engine
from evaluation.types import Context, Policy
from lm.hf import HFModel, load_model
from lm.ledger import Ledger
from lm.scoring import completion_logprobs
from lm.tiny import write_tiny_model
from lm.types import ModelError, Sampling
from rl.config import GRPOConfig, LoraConfig, PPOConfig
from rl.grpo import GRPO, trainer_arguments
from rl.ppo import PPO
from rl.vllm_engine import check_engine, left_as_they_are
from rl.weights import with_adapter
from tasks.types import Example, Prompt, Score

WORDS = [Example(f"e{i}", {"input": "abcdefgh"[i] * 9}, "m") for i in range(8)]
PROMPT = Prompt("Answer in letters.")


class Answering(trl_vllm.VLLMGeneration):
    """TRL's engine with a second copy of the model where vLLM would be.

    `seen` holds, for each draw, its number of rows, their options, and the gap between the weights
    that answered and the live ones with their adapter added.
    """

    made: ClassVar[list[Answering]] = []

    def _init_vllm(self) -> None:
        Answering.made.append(self)
        self.twin = load_model(str(self.model.name_or_path))
        self.seen: list[tuple[int, dict[str, Any], float]] = []
        self.loads = 0
        runner = SimpleNamespace(model=self)
        worker = SimpleNamespace(model_runner=runner)
        executor = SimpleNamespace(driver_worker=worker)
        engine = SimpleNamespace(model_executor=executor)
        self.llm = SimpleNamespace(llm_engine=engine, reset_prefix_cache=self.count_load)

    def count_load(self) -> None:
        self.loads += 1

    @torch.no_grad()
    def load_weights(self, pairs: list[tuple[str, torch.Tensor]]) -> None:
        for name, value in pairs:
            self.twin.model.get_parameter(name).copy_(value)

    def gap(self) -> float:
        ids = torch.arange(3, 40)[None]
        was = self.model.training
        self.model.eval()
        with torch.no_grad():
            gap = (self.model(ids).logits - self.twin.model(ids).logits).abs().max().item()
        self.model.train(was)
        return gap

    def generate(self, prompts, images, num_generations, profiler=None):
        assert images is None
        self.seen.append((len(prompts), self.generation_kwargs, self.gap()))
        sampling = Sampling(max_tokens=self.max_completion_length, temperature=self.temperature,
                            seed=len(self.seen))  # fmt: skip
        rows = self.twin._draw([list(ids) for ids in prompts], sampling)
        tokens = [row.tokens for row in rows]
        table = completion_logprobs(
            self.twin.model, prompts, tokens, temperature=self.temperature
        ).logprobs_BT.tolist()
        told = [[[x] for x in row[: len(ids)]] for row, ids in zip(table, tokens, strict=True)]
        return prompts, tokens, told, None


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("tiny"))


@pytest.fixture
def engines(monkeypatch: pytest.MonkeyPatch) -> list[Answering]:
    monkeypatch.setattr("trl.trainer.grpo_trainer.VLLMGeneration", Answering)
    monkeypatch.setattr(rl.vllm_engine, "DEVICE", "cpu")
    monkeypatch.setattr(rl.grpo, "check_engine", lambda *_: None)
    monkeypatch.setattr(Answering, "made", [])
    return Answering.made


def letters(example: Example, text: str) -> Score:
    value = min(1.0, sum(c.isascii() and c.isalpha() for c in text) / 6)
    return Score(value, value == 1)


def settings(**changes: Any) -> dict[str, Any]:
    return {
        "steps": 3,
        "prompts_per_step": 2,
        "group_size": 4,
        "learning_rate": 1e-2,
        "lora": LoraConfig(r=4),
        "audits": False,
        "engine": "vllm",
        **changes,
    }


def improve(method: Any, folder: Path, out: Path, stop: tuple[str, ...] = ()) -> Ledger:
    ledger = Ledger()
    context = Context(
        score=letters,
        open=lambda p: load_model(p.source, adapter=p.adapter, ledger=ledger),
        ledger=ledger,
        folder=out,
        sampling=Sampling(max_tokens=6, stop=stop),
        seed=3,
        progress=lambda *_, **__: None,
    )
    method.improve(Policy(str(folder), PROMPT), WORDS, WORDS[:4], context)
    return ledger


def metrics(out: Path) -> list[dict[str, Any]]:
    rows = map(json.loads, (out / "metrics.jsonl").read_text().splitlines())
    return [row for row in rows if row["phase"] == "train"]


@pytest.mark.parametrize("kind", [GRPOConfig, PPOConfig])
def test_trl_is_told(folder: Path, tmp_path: Path, monkeypatch: Any, kind: Any) -> None:
    monkeypatch.setattr(rl.vllm_engine, "DEVICE", "cpu")
    live, context = load_model(str(folder)), Context(
        letters, lambda _: live, Ledger(), tmp_path, Sampling(), 0, lambda *_, **__: None
    )  # fmt: skip
    told = trainer_arguments(kind(**settings()), context, live)
    assert told.use_vllm and told.vllm_mode == "colocate"
    assert not told.vllm_importance_sampling_correction
    assert not trainer_arguments(kind(**settings(engine="ours")), context, live).use_vllm


@pytest.mark.parametrize("weights", ["lora", "full"])
def test_the_engine_draws_with_the_weights_of_the_step(
    folder: Path, tmp_path: Path, engines: list[Answering], weights: str
) -> None:
    changes = {} if weights == "lora" else {"lora": LoraConfig(), "learning_rate": 1e-3}
    config = GRPOConfig(**settings(weights=weights, epochs=2, **changes))
    ledger = improve(GRPO(config), folder, tmp_path, stop=("zz",))
    (engine,) = engines
    assert [rows for rows, _, _ in engine.seen] == [8, 8, 8]
    assert engine.loads == 3  # once a step: not by TRL as well
    assert all(gap < 1e-4 for _, _, gap in engine.seen)
    ends = sorted(load_model(str(folder)).ends)
    assert all(o == {"stop_token_ids": ends, "stop": ["zz"]} for _, o, _ in engine.seen)
    first, last = load_model(str(folder)).model, engine.twin.model
    assert any(not a.equal(b) for a, b in zip(first.parameters(), last.parameters(), strict=True))
    kept = pq.read_table(tmp_path / "rollouts.parquet")
    assert len(kept) == ledger.usage["rollout"].completions == 24
    tokens = sum(map(len, kept["token_ids"].to_pylist()))
    assert ledger.usage["rollout"].completion_tokens == tokens
    assert ledger.usage["eval"].completions > 0  # dev is asked as the evaluator asks


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_log_probabilities_are_compared_where_the_engine_has_them(
    folder: Path, tmp_path: Path, engines: list[Answering], temperature: float
) -> None:
    improve(GRPO(GRPOConfig(**settings(temperature=temperature))), folder, tmp_path)
    gaps = [row["logprob_gap"] for row in metrics(tmp_path)]
    assert all(gap is not None and 0 <= gap < 1e-4 for gap in gaps)


def test_stale_weights_in_the_engine_show(
    folder: Path, tmp_path: Path, engines: list[Answering], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Answering, "sync_weights", lambda self: None)
    improve(GRPO(GRPOConfig(**settings(learning_rate=5e-2))), folder, tmp_path)
    assert max(row["logprob_gap"] for row in metrics(tmp_path)) > 1e-2


def test_ppo_draws_with_it_too(folder: Path, tmp_path: Path, engines: list[Answering]) -> None:
    improve(PPO(PPOConfig(**settings(epochs=2, minibatches=2))), folder, tmp_path)
    (engine,) = engines
    assert engine.loads == len(engine.seen) == 3
    assert all(gap < 1e-4 for _, _, gap in engine.seen)
    assert all(math.isfinite(row["objective/value_loss"]) for row in metrics(tmp_path))


def test_prompts_are_replaced_with_it_too(
    folder: Path, tmp_path: Path, engines: list[Answering], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Dynamic sampling asks the engine again, and the weights are not loaded anew for it."""
    monkeypatch.setattr(rl.grpo, "load_reward", lambda *_, **__: lambda *_, **__: None)
    dead = GRPOConfig(**settings(steps=1, resample=2))
    monkeypatch.setattr("rl.rollouts.Group.is_dead", True)
    improve(GRPO(dead), folder, tmp_path)
    (engine,) = engines
    assert [rows for rows, _, _ in engine.seen] == [8, 8, 8] and engine.loads == 1


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_handing_an_adapter_over_leaves_the_weights_alone(folder: Path, dtype: torch.dtype) -> None:
    """To the bit, where merging it and taking it out again would not."""
    model = with_adapter(load_model(str(folder)).model.to(dtype), LoraConfig(r=4), 0)
    torch.manual_seed(0)
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            weight.data.normal_(std=0.1)
    before = {name: weight.detach().clone() for name, weight in model.named_parameters()}

    def moved() -> list[str]:
        return [n for n, weight in model.named_parameters() if not weight.equal(before[n])]

    with left_as_they_are(model):
        model.merge_adapter()
        model.unmerge_adapter()
        assert moved()
    assert not moved()


def test_without_a_gpu_it_is_refused_before_anything_is_spent(tmp_path: Path) -> None:
    method = GRPO(GRPOConfig(**settings()))
    with pytest.raises(ModelError, match="grpo: engine: vllm needs a CUDA GPU"):
        method.check(Policy("tiny-random", PROMPT), WORDS, WORDS[:4], letters)


def test_without_vllm_it_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ModelError, match="ppo: engine: vllm needs vllm"):
        check_engine("ppo", PPOConfig(engine="vllm"))
    check_engine("ppo", PPOConfig())


def test_a_model_on_the_cpu_is_refused(folder: Path, tmp_path: Path) -> None:
    live: HFModel = load_model(str(folder), device="cpu")
    context = Context(
        letters, lambda _: live, Ledger(), tmp_path, Sampling(), 0, lambda *_, **__: None
    )
    with pytest.raises(ModelError, match=r"write model: \{device: cuda\}"):
        trainer_arguments(GRPOConfig(**settings()), context, live)


def test_weights_in_4_bits_are_refused() -> None:
    with pytest.raises(ValidationError, match="engine: vllm would round"):
        GRPOConfig(engine="vllm", weights="qlora")


def test_no_other_engine_is_known() -> None:
    with pytest.raises(ValidationError, match="'ours' or 'vllm'"):
        GRPOConfig(engine="sglang")  # type: ignore[arg-type]


def test_trl_starts_and_asks_the_engine_as_expected_here() -> None:
    """What `EngineModel` relies on in TRL 1.16."""
    asked = list(inspect.signature(trl_vllm.VLLMGeneration.generate).parameters)
    assert asked == ["self", "prompts", "images", "num_generations", "profiler"]
    source = inspect.getsource(GRPOTrainer)
    assert "self.state.global_step != self._last_loaded_step" in source
    assert "self.vllm_generation.sync_weights()" in source
    assert "generation_kwargs.update(self.generation_kwargs)" in inspect.getsource(trl_vllm)
    assert 'logprobs_mode="processed_logprobs"' in inspect.getsource(trl_vllm)
