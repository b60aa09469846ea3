"""One prompt, one sequence of tokens: what DSPy's program asks, what the evaluator asks, what RL
samples from and trains on, and what SFT trains on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dspy
import pytest

import rl.trl_seam
from evaluation.evaluate import evaluate
from evaluation.types import Context, Policy
from lm.hf import HFModel, load_model
from lm.ledger import Ledger
from lm.tiny import write_tiny_model
from lm.types import Sampling
from prompt_opt.adapter import PlainPredict
from prompt_opt.engine import Engine
from rl.config import GRPOConfig, LoraConfig
from rl.grpo import GRPO
from rl.sft import gold_row
from tasks.types import Demo, Example, Prompt, Score

Ids = list[tuple[int, ...]]
FIELDS = ("verb", "person")
DEMOS = (
    Demo({"verb": "go", "person": "I"}, "went"),
    Demo({"verb": "naïve — 食べる\n\t ", "person": " 🙂 "}, " ate \n", "odd.\n  So: past: ate"),
    Demo({"verb": "", "person": "<|im_start|>system"}, "<|im_end|>"),
)
ONE = tuple(Demo({"verb": d.inputs["verb"]}, d.output, d.reasoning) for d in DEMOS)
PROMPTS = [
    Prompt("Give the past.", ("verb",), "past"),
    Prompt("", ("verb",), "past", ONE),
    Prompt("  Zwei Felder: “ä” 🙂 <|im_end|>\n ", FIELDS, "past", DEMOS),
    Prompt("Think.", ("verb",), "past", ONE, "cot"),
    Prompt("Think <|endoftext|>", FIELDS, "past", DEMOS, "cot"),
    Prompt("Like these.", FIELDS, "past", DEMOS, nearest=2),
]
EXAMPLES = [
    Example(f"e{i}", {"verb": verb, "person": f"person {i}"}, "past")
    for i, verb in enumerate(("sing", " 食\n", "<|im_end|>\n<|im_start|>user", "é\u0301 🙂"))
]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(write_tiny_model(tmp_path_factory.mktemp("tiny")))


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> Iterator[Ids]:
    """The token ids of every prompt a model is made to continue."""
    seen: Ids = []
    draw = HFModel._draw

    def noted(self: HFModel, prompts: list[list[int]], *rest: Any) -> Any:
        seen.extend(map(tuple, prompts))
        return draw(self, prompts, *rest)

    monkeypatch.setattr(HFModel, "_draw", noted)
    yield seen


@pytest.mark.parametrize("prompt", PROMPTS)
def test_all_send_the_same_tokens(
    prompt: Prompt, tiny: str, tmp_path: Path, drawn: Ids, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = load_model(tiny)
    expected = {tuple(model.encode(prompt.messages(e.inputs))) for e in EXAMPLES}
    assert len(expected) == len(EXAMPLES)

    with Engine(model, Sampling(max_tokens=2), tmp_path) as engine, dspy.context(lm=engine.lm):
        for example in EXAMPLES:
            PlainPredict(prompt)(**{name: example.inputs[name] for name in prompt.inputs})
    if prompt.nearest is None:  # a `dspy.Predict` shows all its demos
        assert set(drawn) == expected
    drawn.clear()
    score = lambda example, text: Score(float(len(text) % 2), False)  # noqa: E731
    evaluate(model, prompt, EXAMPLES, score, Sampling(max_tokens=2), split="dev")
    assert set(drawn) == expected
    drawn.clear()

    trained: Ids = []
    logprobs = rl.trl_seam.completion_logprobs

    def noted(model: Any, prompts: Any, *rest: Any, **more: Any) -> Any:
        trained.extend(map(tuple, prompts))
        return logprobs(model, prompts, *rest, **more)

    monkeypatch.setattr(rl.trl_seam, "completion_logprobs", noted)
    ledger = Ledger()
    (tmp_path / "luck.py").write_text(
        "def luck(prompts, completions, **_):\n    return [i % 2.0 for i in range(len(prompts))]\n"
    )
    config = GRPOConfig(
        steps=1,
        prompts_per_step=4,
        group_size=4,
        lora=LoraConfig(r=2),
        audits=False,
        reward=f"{tmp_path / 'luck.py'}:luck",
    )
    context = Context(score, lambda p: load_model(tiny, ledger=ledger), ledger, tmp_path / "grpo",
                      Sampling(max_tokens=4), 0, lambda *_, **__: None)  # fmt: skip
    GRPO(config).improve(Policy(tiny, prompt), EXAMPLES, EXAMPLES, context)
    assert set(drawn) == expected  # rollouts, and dev
    assert set(trained) == expected

    for example in EXAMPLES:
        row = gold_row(model, prompt, example)
        asked = tuple(i for i, label in zip(row["input_ids"], row["labels"], strict=True)
                      if label == -100)  # fmt: skip
        assert asked == tuple(model.encode(prompt.messages(example.inputs)))
