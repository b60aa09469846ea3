"""What is drawn: the same as transformers where it must be, and never a matter of batching."""

from __future__ import annotations

import random

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    GPT2Config,
    GPT2LMHeadModel,
    MistralConfig,
    MistralForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
)

import lm.generation
from lm import ModelError, Sampling
from lm.hf import HFModel, load_model
from lm.packed_forward import shares_prefixes
from lm.tiny import write_tiny_model

ENDS = [2, *range(100, 116)]  # enough of them that rows finish at different steps
INSTRUCTION = {"role": "system", "content": "Give the past tense of the verb. walk -> walked"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_tiny_model(tmp_path_factory.mktemp("tiny"))


@pytest.fixture
def model(folder):
    return load_model(str(folder))


def _chats(count, shared=True):
    draw = random.Random(0)
    words = ["".join(draw.choices("abcdefgh -é", k=draw.randint(1, 60))) for _ in range(count)]
    users = [{"role": "user", "content": word} for word in words]
    # without a system message the chats part within the first MIN_SHARED tokens
    return [
        [INSTRUCTION, user] if shared else [{**user, "role": user["content"][:3]}] for user in users
    ]


def _with_ends(model, ends):
    model.model.generation_config.eos_token_id = ends
    return HFModel(model.model, model.tokenizer, name="tiny")


def _reference(model, chat, max_tokens, **options):
    ids = torch.tensor([model.encode(chat)])
    with torch.no_grad():
        out = model.model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            do_sample=False,
            max_new_tokens=max_tokens,
            pad_token_id=0,
            **options,
        )
    return tuple(out[0, ids.shape[1] :].tolist())


def _plain_logprobs(model, chat, tokens):
    """One row, one forward, no cache, no padding."""
    prompt = model.encode(chat)
    with torch.no_grad():
        logits = model.model(torch.tensor([[*prompt, *tokens]])).logits[0, len(prompt) - 1 : -1]
    return logits.float().log_softmax(-1).gather(1, torch.tensor(tokens)[:, None])[:, 0].tolist()


def _assert_greedy_equals_generate(model, chats, max_tokens=12):
    rows = model.generate(chats, Sampling(max_tokens=max_tokens), "eval")
    for chat, row in zip(chats, rows, strict=True):
        assert row[0].token_ids == _reference(model, chat, max_tokens)


@pytest.mark.parametrize("shared", [True, False])
def test_greedy_equals_transformers_token_for_token(model, shared):
    model = _with_ends(model, ENDS)
    chats = _chats(50, shared)
    _assert_greedy_equals_generate(model, chats)
    rows = model.generate(chats, Sampling(max_tokens=12), "eval")
    assert len({len(row[0].token_ids) for row in rows}) > 3  # rows did leave at different steps


def _size(model):
    return dict(
        vocab_size=len(model.tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        initializer_range=0.3,
        bos_token_id=0,
        eos_token_id=2,
        pad_token_id=0,
    )


def _mistral(size):
    return MistralForCausalLM(MistralConfig(**size, sliding_window=8))


def _gemma(size):
    kinds = ["sliding_attention", "full_attention"]
    config = Gemma3TextConfig(**size, sliding_window=8, layer_types=kinds, head_dim=8)
    return Gemma3ForCausalLM(config)


def _qwen(size):
    return Qwen2ForCausalLM(Qwen2Config(**size, sliding_window=8, use_sliding_window=False))


def _gpt2(size):
    config = GPT2Config(vocab_size=size["vocab_size"], n_embd=32, n_layer=2, n_head=4)
    return GPT2LMHeadModel(config)


@pytest.mark.parametrize(
    ("build", "shares"), [(_mistral, False), (_gemma, False), (_qwen, True), (_gpt2, True)]
)
def test_other_architectures_equal_transformers(model, capsys, build, shares):
    torch.manual_seed(0)
    other = _with_ends(HFModel(build(_size(model)), model.tokenizer, name="other"), ENDS)
    assert shares_prefixes(other.model) == shares
    assert shares_prefixes(other.model) == shares
    announced = capsys.readouterr().err
    assert announced.count("through transformers alone") == (not shares)
    chats = _chats(12)
    _assert_greedy_equals_generate(other, chats)
    rows = other.generate(chats, Sampling(max_tokens=8, temperature=1.0, n=2), "eval")
    for chat, row in zip(chats, rows, strict=True):
        for answer in row:
            assert answer.logprobs == pytest.approx(
                _plain_logprobs(other, chat, answer.token_ids), abs=1e-4
            )


def test_sampling_defaults_of_the_model_folder_do_not_matter(model):
    chats = _chats(6)
    before = model.generate(chats, Sampling(max_tokens=16), "eval")
    config = model.model.generation_config
    config.repetition_penalty, config.do_sample, config.top_k, config.temperature = (
        1.5,
        True,
        2,
        9.0,
    )
    assert model.generate(chats, Sampling(max_tokens=16), "eval") == before


SAMPLED = Sampling(max_tokens=10, temperature=1.0, n=3, seed=5)


@pytest.mark.parametrize(("rows", "tokens"), [(1, 32768), (7, 32768), (128, 600), (128, 1)])
def test_draws_do_not_depend_on_batching(model, monkeypatch, rows, tokens):
    model = _with_ends(model, ENDS)
    chats = _chats(11)
    whole = model.generate(chats, SAMPLED, "rollout")
    monkeypatch.setattr(lm.generation, "ROWS_IN_FLIGHT", rows)
    monkeypatch.setattr(lm.generation, "TOKENS_IN_FLIGHT", tokens)
    for row, other in zip(whole, model.generate(chats, SAMPLED, "rollout"), strict=True):
        for a, b in zip(row, other, strict=True):
            assert a.token_ids == b.token_ids
            assert a.logprobs == pytest.approx(b.logprobs, abs=1e-4)


def test_a_row_does_not_depend_on_its_neighbours(model):
    chats = _chats(9)
    others = [*_chats(9, shared=False)[:8], chats[8]]
    mixed = [chats[0], *others[1:]]
    alone = model.generate(chats[:1], SAMPLED, "rollout")[0]
    assert [a.token_ids for a in model.generate(mixed, SAMPLED, "rollout")[0]] == [
        a.token_ids for a in alone
    ]
    last = model.generate(chats, SAMPLED, "rollout")[8]
    assert [a.token_ids for a in model.generate(mixed, SAMPLED, "rollout")[8]] == [
        a.token_ids for a in last
    ]


def test_samples_of_one_chat_differ_and_seeds_count(model):
    row = model.generate(_chats(1), SAMPLED, "rollout")[0]
    assert len({a.token_ids for a in row}) == 3
    again = model.generate(_chats(1), Sampling(10, 1.0, n=3, seed=6), "rollout")[0]
    assert {a.token_ids for a in row}.isdisjoint({a.token_ids for a in again})


@pytest.mark.parametrize("shared", [True, False])
def test_logprobs_are_those_of_a_plain_forward(model, shared):
    model = _with_ends(model, ENDS)
    chats = _chats(10, shared)
    warped = Sampling(max_tokens=10, temperature=0.7, top_k=50, top_p=0.9, n=3)
    rows = model.generate(chats, warped, "rollout")
    pairs = [(chat, a) for chat, row in zip(chats, rows, strict=True) for a in row]
    scored = model.logprobs([c for c, _ in pairs], [a.token_ids for _, a in pairs])
    for (chat, answer), again in zip(pairs, scored, strict=True):
        plain = _plain_logprobs(model, chat, answer.token_ids)
        assert answer.logprobs == pytest.approx(plain, abs=1e-4)  # unwarped
        assert again == pytest.approx(plain, abs=1e-4)


def test_logprobs_of_nothing(model):
    assert model.logprobs([], []) == []
    chat = _chats(1)[0]
    assert model.logprobs([chat, chat], [[], []]) == [[], []]
    assert list(map(len, model.logprobs([chat, chat], [[], [5, 6]]))) == [0, 2]


def test_scoring_switches_dropout_off(folder):
    live = AutoModelForCausalLM.from_pretrained(folder, attention_dropout=0.5)
    model = HFModel(live, load_model(str(folder)).tokenizer, name="live")
    chat, tokens = _chats(1)[0], [10, 11, 12]
    expected = _plain_logprobs(model, chat, tokens)
    live.train()  # a trainer has gone on since
    assert model.logprobs([chat], [tokens])[0] == pytest.approx(expected, abs=1e-4)


def test_equal_chats_and_a_prompt_that_begins_another(model):
    short = [{"role": "user", "content": "ab"}]
    chats = [short, short, _chats(1)[0], short]
    _assert_greedy_equals_generate(model, chats)
    _assert_greedy_equals_generate(model, [short, short])
    ids = model.encode(_chats(1)[0])
    prompts = [ids, ids[:-7], ids[:12], ids]
    rows = lm.generation.decode(model.model, prompts, Sampling(max_tokens=6), lambda row: False)
    for prompt, row in zip(prompts, rows, strict=True):
        alone = lm.generation.decode(model.model, [prompt], Sampling(max_tokens=6), lambda t: False)
        assert row.tokens == alone[0].tokens


def test_no_chats_cost_nothing(model):
    assert model.generate([], Sampling(), "eval") == []
    assert model.ledger.usage == {}


def test_max_tokens_truncates(model):
    answer = model.generate(_chats(1), Sampling(max_tokens=5), "eval")[0][0]
    assert (answer.finish_reason, len(answer.token_ids), len(answer.logprobs)) == ("length", 5, 5)
    one = model.generate(_chats(1), Sampling(max_tokens=1), "eval")[0][0]
    assert one.token_ids == answer.token_ids[:1]


def test_an_answer_may_be_empty(model):
    first = model.generate(_chats(1), Sampling(max_tokens=1), "eval")[0][0].token_ids[0]
    answer = _with_ends(model, [2, first]).generate(_chats(1), Sampling(), "eval")[0][0]
    assert (answer.text, answer.token_ids, answer.finish_reason) == ("", (first,), "stop")


def test_the_end_token_on_the_last_step_is_a_stop(model):
    free = model.generate(_chats(1), Sampling(max_tokens=6), "eval")[0][0].token_ids
    end = next(i for i in range(1, 6) if free[i] not in free[:i])
    answer = _with_ends(model, free[end]).generate(_chats(1), Sampling(end + 1), "eval")[0][0]
    assert answer.token_ids == free[: end + 1]
    assert answer.finish_reason == "stop"


def test_stop_strings_cut_the_text(model):
    chat = _chats(3)[2]
    free = model.generate([chat], Sampling(max_tokens=40), "eval")[0][0]
    mark = next(c for c in free.text[5:] if c.isascii() and c not in free.text[:5])
    cut = model.generate([chat], Sampling(max_tokens=40, stop=("nowhere", mark)), "eval")[0][0]
    assert cut.text == free.text[: free.text.index(mark)]
    assert cut.finish_reason == "stop"
    assert cut.token_ids == free.token_ids[: len(cut.token_ids)]
    assert len(cut.token_ids) < 40
    assert mark in model.tokenizer.decode(list(cut.token_ids))


def test_a_prompt_too_long_for_the_window_is_refused(model):
    long = [{"role": "user", "content": "x" * 2040}]
    with pytest.raises(ModelError, match="context window of 2048") as caught:
        model.generate([long], Sampling(max_tokens=8), "eval")
    assert "\n" not in str(caught.value)
    assert model.ledger.usage == {}
    with pytest.raises(ModelError, match="context window"):
        model.logprobs([long], [[5] * 50])


@pytest.mark.parametrize("build", [None, _gemma])
def test_the_repetition_penalty_is_that_of_transformers(model, build):
    if build:
        torch.manual_seed(0)
        model = HFModel(build(_size(model)), model.tokenizer, name="other")
    chats = _chats(9)
    sampling = Sampling(max_tokens=12, repetition_penalty=1.3)
    rows = model.generate(chats, sampling, "eval")
    assert rows != model.generate(chats, Sampling(max_tokens=12), "eval")
    for chat, row in zip(chats, rows, strict=True):
        assert row[0].token_ids == _reference(model, chat, 12, repetition_penalty=1.3)
        assert row[0].logprobs == pytest.approx(
            _plain_logprobs(model, chat, row[0].token_ids), abs=1e-4
        )


def test_diverged_weights_are_reported(model):
    with torch.no_grad():
        model.model.model.norm.weight.fill_(float("nan"))
    with pytest.raises(ModelError, match="not numbers"):
        model.generate(_chats(1), Sampling(temperature=1.0), "rollout")


def test_bfloat16_on_cpu(folder):
    model = load_model(str(folder), dtype="bfloat16")
    chats = _chats(6)
    rows = model.generate(chats, Sampling(max_tokens=6, temperature=1.0, n=2), "rollout")
    pairs = [(chat, a) for chat, row in zip(chats, rows, strict=True) for a in row]
    scored = model.logprobs([c for c, _ in pairs], [a.token_ids for _, a in pairs])
    for (_, answer), again in zip(pairs, scored, strict=True):
        assert answer.logprobs == pytest.approx(again, abs=0.5)  # eight bits of mantissa


@pytest.mark.parametrize(
    ("wrong", "name"),
    [
        (dict(max_tokens=0), "max_tokens"),
        (dict(temperature=-1.0), "temperature"),
        (dict(temperature=float("nan")), "temperature"),
        (dict(top_p=0.0), "top_p"),
        (dict(top_k=-1), "top_k"),
        (dict(min_p=1.5), "min_p"),
        (dict(repetition_penalty=0.0), "repetition_penalty"),
        (dict(repetition_penalty=float("nan")), "repetition_penalty"),
        (dict(n=0), "n"),
        (dict(stop="\n"), "stop"),
        (dict(stop=("",)), "stop"),
    ],
)
def test_sampling_that_means_nothing_is_refused(wrong, name):
    with pytest.raises(ModelError, match=f"sampling: {name} is"):
        Sampling(**wrong)
