"""Training is TRL's, learns, can be killed, and leaves a folder that plain transformers loads."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForSequenceClassification, AutoTokenizer
from trl.trainer.reward_config import RewardConfig
from trl.trainer.reward_trainer import RewardTrainer

from lm.classifier import new_classifier
from lm.types import ModelError
from reward_models.card import read_card
from reward_models.learned import load_learned
from reward_models.training import (
    Training,
    _prepared,
    _rows,
    held_out_figures,
    train_reward,
    work_folder,
)
from reward_models.trl_reward import PairTrainer, aggregated
from tests.reward_models.vowels import PROMPT, vowel_pairs

SETTINGS = {"bf16": False, "use_cpu": True, "report_to": "none", "gradient_checkpointing": False}


def test_it_learns_what_the_pairs_prefer(vowels):
    card = read_card(vowels)
    found = held_out_figures(card)
    assert found.accuracy > 0.9 and found.log_loss < 0.5
    assert found.low < found.accuracy <= found.high
    assert card.told["train_pairs"] == 64 and card.prompt == PROMPT


def test_plain_transformers_says_the_same(vowels):
    reward = load_learned(vowels, PROMPT, {}, device="cpu")
    chat = PROMPT.messages({"word": "apple"})
    ours = reward([chat] * 2, ["aei", "bcd"])
    tokenizer = AutoTokenizer.from_pretrained(vowels)
    model = AutoModelForSequenceClassification.from_pretrained(vowels)
    turns = [[*chat, {"role": "assistant", "content": text}] for text in ("aei", "bcd")]
    texts = [tokenizer.apply_chat_template(turn, tokenize=False) for turn in turns]
    batch = tokenizer(texts, padding=True, add_special_tokens=False, return_tensors="pt")
    with torch.no_grad():
        plain = model(**batch).logits[:, 0] - reward.card.center
    assert ours == pytest.approx(plain.tolist(), abs=1e-4) and ours[0] > ours[1]


def test_the_folder_holds_safetensors_and_no_pickle(vowels):
    names = {path.name for path in vowels.iterdir()}
    assert {"config.json", "model.safetensors", "tokenizer.json", "tasklift.json"} <= names
    assert not any(name.endswith((".bin", ".pt", ".pth")) for name in names)
    assert not work_folder(vowels).exists()


def test_loss_and_gradient_are_stock_trls(tiny, training, tmp_path):
    pairs = vowel_pairs(0, 8)
    ours = _prepared(new_classifier(tiny, "cpu"), training)
    torch.nn.init.normal_(ours.model.base_model.model.score.modules_to_save["default"].weight)
    for name, weight in ours.model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.05)
    settings = {"output_dir": str(tmp_path), "per_device_train_batch_size": 8, **SETTINGS}
    trainer = PairTrainer(ours, _rows(ours, pairs, ""), settings, "")
    mine = trainer.compute_loss(trainer.model, {"place": torch.arange(8)})
    mine.backward()
    gradients = {n: w.grad.clone() for n, w in ours.model.named_parameters() if w.requires_grad}
    ours.model.zero_grad()

    rows = [
        {
            "chosen": [*pair.chat, {"role": "assistant", "content": pair.chosen}],
            "rejected": [*pair.chat, {"role": "assistant", "content": pair.rejected}],
        }
        for pair in pairs
    ]
    from datasets import Dataset

    stock = RewardTrainer(
        model=ours.model,
        args=RewardConfig(**settings),
        train_dataset=Dataset.from_list(rows),
        processing_class=ours.tokenizer,
    )
    batch = stock.data_collator([stock.train_dataset[i] for i in range(8)])
    theirs = stock.compute_loss(stock.model, batch)
    theirs.backward()
    assert mine.item() == pytest.approx(theirs.item(), rel=1e-4)
    for name, weight in ours.model.named_parameters():
        if weight.requires_grad:
            assert torch.allclose(gradients[name], weight.grad, rtol=1e-2, atol=1e-4), name
    assert any(g.abs().max() > 1e-3 for n, g in gradients.items() if "lora_A" in n)


class Killed(Exception):
    pass


def test_a_killed_training_ends_as_an_undisturbed_one(vowels, tiny, training, tmp_path):
    out = tmp_path / "vowels"

    def kill(step: int, total: int, loss: float) -> None:
        if step == 13:
            raise Killed

    train = (str(tiny), vowel_pairs(0, 64), vowel_pairs(64, 96), out)
    options = {"prompt": PROMPT, "training": training, "device": "cpu"}
    with pytest.raises(Killed):
        train_reward(*train, **options, report=kill)
    assert not out.exists() and work_folder(out).exists()
    steps = []
    train_reward(*train, **options, report=lambda step, *_: steps.append(step))
    assert steps[0] == 13  # the newest checkpoint was of 12
    for name, weight in load_file(vowels / "model.safetensors").items():
        assert torch.equal(weight, load_file(out / "model.safetensors")[name]), name


def test_checkpoints_of_another_training_are_no_start(vowels, tiny, training, tmp_path):
    out = tmp_path / "vowels"

    def kill(step: int, total: int, loss: float) -> None:
        if step == 13:
            raise Killed

    options = {"prompt": PROMPT, "training": training, "device": "cpu"}
    other = vowel_pairs(100, 164)
    with pytest.raises(Killed):
        train_reward(str(tiny), other, other, out, **options, report=kill)
    train_reward(str(tiny), vowel_pairs(0, 64), vowel_pairs(64, 96), out, **options)
    assert (out / "model.safetensors").read_bytes() == (vowels / "model.safetensors").read_bytes()


def test_the_seed_decides_it_all(tiny, training, tmp_path, vowels):
    for seed, same in ((0, True), (1, False)):
        out = tmp_path / str(seed)
        train_reward(
            str(tiny), vowel_pairs(0, 64), vowel_pairs(64, 96), out,
            prompt=PROMPT, training=replace(training, seed=seed), device="cpu",
        )  # fmt: skip
        files = [(f / "model.safetensors").read_bytes() for f in (out, vowels)]
        assert (files[0] == files[1]) == same


def test_a_head_alone_leaves_the_trunk(tiny, tmp_path):
    training = Training(passes=8, batch=8, learning_rate=0.05, head_only=True)
    card = train_reward(
        str(tiny), vowel_pairs(0, 64), vowel_pairs(64, 96), tmp_path / "head",
        prompt=PROMPT, training=training, device="cpu",
    )  # fmt: skip
    base = load_file(tiny / "model.safetensors")
    saved = load_file(tmp_path / "head/model.safetensors")
    assert all(torch.equal(saved[n], w) for n, w in base.items() if n != "lm_head.weight")
    assert saved["score.weight"].abs().max() > 0
    assert held_out_figures(card).log_loss < 0.693


@pytest.mark.parametrize("steps", ["min", "mean", "last"])
def test_steps_are_learned_as_they_are_read(tiny, training, tmp_path, steps):
    def lined(pair):
        return replace(
            pair, chosen="\n".join(pair.chosen), rejected="\n".join([*pair.rejected, pair.chosen])
        )

    train, held_out = ([lined(p) for p in vowel_pairs(*r)] for r in ((0, 64), (64, 96)))
    card = train_reward(
        str(tiny), train, held_out, tmp_path / steps,
        prompt=PROMPT, steps=steps, training=training, device="cpu",
    )  # fmt: skip
    assert card.steps == steps and held_out_figures(card).log_loss < 0.693
    reward = load_learned(tmp_path / steps, PROMPT, {}, device="cpu")
    chat = PROMPT.messages({"word": "x"})
    [each] = reward.step_scores([chat], ["a\nb\ne"])
    whole = {"min": min(each), "mean": sum(each) / 3, "last": each[-1]}[steps]
    assert len(each) == 3 and reward([chat], ["a\nb\ne"]) == [pytest.approx(whole)]


def test_aggregates_by_hand():
    scores = torch.tensor([1.0, -2.0, 4.0])
    assert [aggregated(scores, s).item() for s in ("", "last", "min", "mean")] == [4, 4, -2, 1]


def test_a_pair_beyond_the_window_is_refused_before_training(tiny, tmp_path):
    long = [replace(pair, rejected="x" * 3000) for pair in vowel_pairs(0, 2)]
    with pytest.raises(ModelError, match="exceeds the context window of 2048"):
        train_reward(str(tiny), long, long, tmp_path / "out", prompt=PROMPT, device="cpu")


def test_so_is_a_held_out_one(tiny, tmp_path):
    long = [replace(pair, rejected="x" * 3000) for pair in vowel_pairs(4, 6)]
    steps: list[int] = []
    with pytest.raises(ModelError, match="exceeds the context window of 2048"):
        train_reward(
            str(tiny), vowel_pairs(0, 4), long, tmp_path / "out", prompt=PROMPT, device="cpu",
            report=lambda step, *_: steps.append(step),
        )  # fmt: skip
    assert not steps


def test_the_held_out_mean_is_the_zero(vowels):
    reward = load_learned(vowels, PROMPT, {}, device="cpu")
    pairs = vowel_pairs(64, 96)
    values = reward(
        [p.chat for p in pairs for _ in range(2)],
        [t for p in pairs for t in (p.chosen, p.rejected)],
    )
    assert sum(values) / len(values) == pytest.approx(0, abs=1e-4)  # type: ignore[arg-type]


def test_the_card_names_no_home(vowels):
    told = json.loads(Path(vowels / "tasklift.json").read_text())["told"]
    assert str(Path.home()) not in json.dumps({k: v for k, v in told.items() if k != "base"})
