"""What prompts share is computed once, within and across calls, and never when weights changed."""

from __future__ import annotations

import random

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from peft import LoraConfig, get_peft_model
from peft.helpers import rescale_adapter_scale
from torch.fx.experimental.proxy_tensor import make_fx
from transformers import LlamaConfig, LlamaForCausalLM

import lm.asked
import lm.generation
import lm.graphed
import lm.packed_weights
import lm.prefill
import lm.row_cache
import lm.row_lines
from lm import Sampling
from lm.generation import decode
from lm.hf import load_model
from lm.prefix_cache import PrefixCache
from lm.tiny import write_tiny_model
from lm.token_tree import token_tree
from lm.weights_version import weights_version


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_tiny_model(tmp_path_factory.mktemp("tiny"))


@pytest.fixture
def model(folder):
    return load_model(str(folder)).model


@pytest.fixture
def computed(monkeypatch):
    """How many tokens each forward of the decoder ran."""
    seen: list[int] = []
    forward = lm.generation.hidden_states
    monkeypatch.setattr(
        lm.generation,
        "hidden_states",
        lambda model, ids, *rest: seen.append(len(ids)) or forward(model, ids, *rest),
    )
    return seen


def never(row):
    return False


def ids(count, seed):
    return random.Random(seed).choices(range(3, 200), k=count)


def assert_exact(model, prompts, rows, greedy):
    """Logprobs are those of a plain forward; greedy tokens its argmax, ties within rounding."""
    for row in rows:
        prompt = prompts[row.prompt]
        with torch.no_grad():
            logits = model(torch.tensor([[*prompt, *row.tokens]])).logits[0, len(prompt) - 1 : -1]
        table = logits.log_softmax(-1)
        chosen = table.gather(1, torch.tensor(row.tokens)[:, None])[:, 0]
        torch.testing.assert_close(torch.tensor(row.logprobs), chosen, atol=1e-4, rtol=0)
        if greedy:
            assert (table.max(-1).values - chosen).max() < 1e-4


def assert_no_gaps(cache):
    """No run whose keys are known follows one whose keys are not."""
    waiting = [(cache.root, True)]
    while waiting:
        node, known = waiting.pop()
        for child in node.children.values():
            assert known or not child.keys
            waiting.append((child, known and bool(child.keys)))


starts = st.lists(st.integers(3, 5), min_size=0, max_size=30)
prompt_trees = st.builds(
    lambda roots, picks: [
        [token for root in pick[0] for token in roots[root % len(roots)]] + pick[1]
        for pick in picks
    ],
    st.lists(starts, min_size=1, max_size=3),
    st.lists(
        st.tuples(
            st.lists(st.integers(0, 2), max_size=3),
            st.lists(st.integers(3, 6), min_size=1, max_size=12),
        ),
        min_size=1,
        max_size=9,
    ),
)


def refused(model, error):
    raise error


def traced(forward):
    """As a CUDA graph: whatever is no tensor stays as it was when the step was captured."""
    nothing = torch.zeros(1)
    graph = make_fx(lambda _: forward())(nothing)
    return lambda: graph(nothing)


def any_calls(examples):
    """Decorates a test of several calls, each of prompts that share what they may."""
    health = [HealthCheck.function_scoped_fixture]
    given_calls = given(
        calls=st.lists(prompt_trees, min_size=1, max_size=3),
        n=st.integers(1, 3),
        temperature=st.sampled_from([0.0, 1.0]),
        leave=st.integers(2, 9),
    )
    chosen = settings(max_examples=examples, deadline=None, suppress_health_check=health)
    return lambda test: chosen(given_calls(test))


@pytest.mark.parametrize("bounds", ["as shipped", "tight", "short blocks", "plain lines"])
@any_calls(40)
def test_random_prompt_trees_over_several_calls(model, bounds, calls, n, temperature, leave):
    check_calls(model, bounds, calls, Sampling(max_tokens=4, temperature=temperature, n=n), leave)


@pytest.mark.parametrize("bounds", ["frames", "tight frames"])
@any_calls(6)
def test_steps_captured_as_graphs(model, bounds, calls, n, temperature, leave):
    check_calls(model, bounds, calls, Sampling(max_tokens=8, temperature=temperature, n=n), leave)


def test_a_step_is_captured_once_and_replayed(model, monkeypatch):
    steps = []
    monkeypatch.setattr(lm.row_lines, "Bags", lm.row_lines.Lines)
    monkeypatch.setattr(lm.generation, "can_graph", lambda model: True)
    monkeypatch.setattr(
        lm.graphed, "captured", lambda forward: lambda: steps.append(0) or forward()
    )
    prompts = [[*ids(40, 0), *ids(5, seed)] for seed in range(1, 5)]
    sampling = Sampling(max_tokens=12, temperature=1.0, n=2)
    rows = decode(model, prompts, sampling, never)
    assert_exact(model, prompts, rows, False)
    assert len(steps) == 10  # the first token comes with the prompt, the second step warms up


def test_a_capture_that_fails(model, monkeypatch, capsys):
    def fails(forward):
        raise RuntimeError("operation not permitted when stream is capturing\nand more")

    monkeypatch.setattr(lm.row_lines, "Bags", lm.row_lines.Lines)
    monkeypatch.setattr(lm.generation, "can_graph", lambda m: m not in lm.graphed._refused)
    monkeypatch.setattr(lm.graphed, "captured", fails)
    prompts = [ids(20, seed) for seed in range(3)]
    rows = decode(model, prompts, Sampling(max_tokens=12), never)
    assert_exact(model, prompts, rows, True)
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1 and said[0].endswith("not permitted when stream is capturing")


def check_calls(model, bounds, calls, sampling, leave):
    n, temperature = sampling.n, sampling.temperature
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lm.asked, "WORTH_KEEPING", 8)
        if "tight" in bounds:
            patch.setattr(lm.generation, "ROWS_IN_FLIGHT", 3)
            patch.setattr(lm.generation, "TOKENS_IN_FLIGHT", 60)
            patch.setattr(lm.generation, "TOKENS_KEPT", 20)
            patch.setattr(lm.generation, "TOKENS_AT_ONCE", 30)
        if bounds == "short blocks":
            patch.setattr(lm.row_lines, "BLOCK", 3)
        if bounds == "plain lines" or "frames" in bounds:
            patch.setattr(lm.row_lines, "Bags", lm.row_lines.Lines)
        if "frames" in bounds:
            patch.setattr(lm.generation, "can_graph", lambda model: True)
            patch.setattr(lm.generation, "refuse", refused)
            patch.setattr(lm.generation, "WORTH", 1)
            patch.setattr(lm.graphed, "captured", traced)
        cache = PrefixCache()
        for prompts in calls:
            rows = decode(model, prompts, sampling, lambda row: row.tokens[-1] % leave == 0, cache)
            assert_no_gaps(cache)
            assert [row.index for row in rows] == list(range(n * len(prompts)))
            for row in rows:
                ends = [i for i, token in enumerate(row.tokens) if token % leave == 0]
                assert len(row.tokens) == (ends[0] + 1 if ends else sampling.max_tokens)
            assert_exact(model, prompts, rows, temperature == 0)


@pytest.mark.parametrize("queries, keys, size", [(6, 2, 8), (3, 1, 20), (4, 4, 12), (8, 2, 64)])
def test_every_shape_of_heads_at_the_borders_of_blocks(monkeypatch, queries, keys, size):
    monkeypatch.setattr(lm.packed_weights, "SMALLEST", 1)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=260, hidden_size=48, intermediate_size=80, num_hidden_layers=2,
        num_attention_heads=queries, num_key_value_heads=keys, head_dim=size,
        initializer_range=0.3, eos_token_id=2,
    )  # fmt: skip
    model = LlamaForCausalLM(config).eval()
    block = lm.row_lines.BLOCK
    lengths = [1, block - 1, block, block + 1, 2 * block, 2 * block + 1]
    prompts = [ids(length, length) for length in lengths]
    prompts += [[*ids(100, 0), *ids(length, length)] for length in lengths for _ in range(2)]
    rows = decode(model, prompts, Sampling(max_tokens=block + 2), lambda row: row.index % 3 == 2)
    assert_exact(model, prompts, rows, True)


def test_every_distinct_token_runs_once(model, computed):
    start, groups = ids(100, 0), [ids(20, i) for i in range(1, 5)]
    prompts = [start + group + [3 + i] for group in groups for i in range(10)]
    decode(model, prompts, Sampling(max_tokens=1, n=2), never)
    assert sum(computed) == len(token_tree(prompts)) < 100 + 4 * 20 + 4 * 10 + 1


def test_a_prefix_is_paid_once_over_calls(model, computed):
    start, cache = ids(300, 0), PrefixCache()
    for call in range(4):
        prompts = [[*start, 3 + i, 100 + call, 8] for i in range(10)]
        rows = decode(model, prompts, Sampling(max_tokens=1), never, cache)
        assert_exact(model, prompts, rows, True)
    assert computed == [330, 30, 30, 30]


def test_prompts_that_come_one_by_one_share_too(model, computed):
    start, cache = ids(600, 0), PrefixCache()
    for call in range(4):
        decode(model, [start + ids(5, call + 1)], Sampling(max_tokens=1), never, cache)
    assert computed == [605, 605, 5, 5]  # the second call finds out what they share


def test_a_run_is_split_where_a_new_prompt_leaves_it(model, computed):
    start, cache = ids(600, 0), PrefixCache()
    first = [[*start, i, 7] for i in range(3, 6)]
    second = [start[:400] + ids(100, 9) + [i, 7] for i in range(3, 6)]
    decode(model, first, Sampling(max_tokens=1), never, cache)
    rows = decode(model, second, Sampling(max_tokens=2), never, cache)
    assert_exact(model, second, rows, True)
    decode(model, first, Sampling(max_tokens=1), never, cache)
    assert computed == [606, 106, 3, 6]


def test_a_plan_that_splits_a_plan(model):
    cache, start, run, branch, long = PrefixCache(), ids(10, 0), ids(7, 1), ids(33, 2), ids(59, 3)
    base = start + run
    prompts = [[*base, 200 + i % 30, 201 + i] for i in range(30)]
    family = [*base, 5, *branch[:7], 9, *branch[7:]]
    prompts += [[*family, 4, *long, 100 + i] for i in range(12)]
    prompts += [[*family, 30 + i, 7] for i in range(6)]
    prompts += [[*base, 5, *branch[:7], 250, 3, 4], [*start, 250, 1, 2]]
    for _ in range(3):
        assert_exact(model, prompts, decode(model, prompts, Sampling(2), never, cache), True)
        assert_no_gaps(cache)


def test_an_interrupted_prefill_leaves_nothing_half_done(model, monkeypatch):
    prompts, cache = [[*ids(200, 0), i, 8] for i in range(3, 9)], PrefixCache()

    def interrupted(self, layer, *rest):
        if layer:
            raise KeyboardInterrupt
        return prefill(self, layer, *rest)

    prefill = lm.prefill.Prefill.__call__
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(lm.prefill.Prefill, "__call__", interrupted)
        decode(model, prompts, Sampling(max_tokens=2), never, cache)
    rows = decode(model, prompts, Sampling(max_tokens=2), never, cache)
    assert_exact(model, prompts, rows, True)


@pytest.mark.parametrize("change", ["optimizer", "in place", "load"])
def test_changed_weights_are_noticed(model, change):
    prompts, cache = [[*ids(200, 0), i, 8] for i in range(3, 9)], PrefixCache()
    decode(model, prompts, Sampling(max_tokens=1), never, cache)
    weight = model.model.layers[0].self_attn.v_proj.weight
    if change == "optimizer":
        model(torch.tensor([prompts[0]])).logits.logsumexp(-1).sum().backward()
        torch.optim.AdamW(model.parameters(), lr=0.05).step()
    elif change == "in place":
        with torch.no_grad():
            weight.mul_(3.0)
    else:
        model.load_state_dict({k: v * 1.5 for k, v in model.state_dict().items()})
    rows = decode(model, prompts, Sampling(max_tokens=3), never, cache)
    assert_exact(model, prompts, rows, True)


def test_a_switched_adapter_is_noticed(model):
    config = LoraConfig(r=4, target_modules="all-linear", init_lora_weights=False)
    adapted = get_peft_model(model, config).eval()
    prompts, cache = [[*ids(200, 0), i, 8] for i in range(3, 9)], PrefixCache()
    with_it = weights_version(adapted)
    first = decode(adapted, prompts, Sampling(max_tokens=3), never, cache)
    with adapted.disable_adapter():
        assert weights_version(adapted) != with_it
        rows = decode(adapted, prompts, Sampling(max_tokens=3), never, cache)
        assert_exact(adapted, prompts, rows, True)
    assert weights_version(adapted) == with_it
    again = decode(adapted, prompts, Sampling(max_tokens=3), never, cache)
    assert [row.logprobs for row in again] == [row.logprobs for row in first]
    assert [row.logprobs for row in again] != [row.logprobs for row in rows]
    with rescale_adapter_scale(adapted, 0.1):
        rows = decode(adapted, prompts, Sampling(max_tokens=3), never, cache)
        assert_exact(adapted, prompts, rows, True)


@pytest.mark.parametrize("penalty", [1.0, 1.3])
def test_rows_that_change_places_answer_as_they_do_alone(model, monkeypatch, penalty):
    monkeypatch.setattr(lm.generation, "ROWS_IN_FLIGHT", 12)
    moves = []
    move = lm.row_cache.RowCache.move
    monkeypatch.setattr(
        lm.row_cache.RowCache, "move", lambda self, *of: moves.append(of) or move(self, *of)
    )
    prompts = [ids(5 + 37 * i % 90, i) for i in range(30)]
    sampling = Sampling(max_tokens=24, temperature=1.0, n=2, seed=3, repetition_penalty=penalty)

    def finished(row):
        return len(row.tokens) >= 1 + 7 * row.index % 24

    rows = decode(model, prompts, sampling, finished)
    assert sum(len(source) for source, _ in moves) > 3
    assert_exact(model, prompts, rows, False)
    monkeypatch.setattr(lm.generation, "ROWS_IN_FLIGHT", 1)
    alone = decode(model, prompts, sampling, finished)
    assert [row.tokens for row in rows] == [row.tokens for row in alone]


def test_waiting_rows_fill_the_lines_as_soon_as_all_fit(model, monkeypatch, computed):
    monkeypatch.setattr(lm.generation, "TOKENS_AT_ONCE", 100)
    decode(model, [ids(40, i) for i in range(5)], Sampling(max_tokens=4), never)
    assert computed == [80, 80, 40, 5, 5, 5]


def test_memory_stays_within_its_bounds(model, monkeypatch):
    monkeypatch.setattr(lm.generation, "TOKENS_IN_FLIGHT", 900)
    monkeypatch.setattr(lm.generation, "TOKENS_KEPT", 300)
    monkeypatch.setattr(lm.generation, "TOKENS_AT_ONCE", 500)
    made, kept, forwards = [], [], []
    row_cache, forward = lm.generation.RowCache, lm.generation.hidden_states

    def noted(rows, room, device, spare):
        made.append((rows + spare) * room)
        return row_cache(rows, room, device, spare)

    def run(model, tokens, *rest):
        forwards.append(len(tokens))
        kept.append(cache.tokens)
        return forward(model, tokens, *rest)

    monkeypatch.setattr(lm.generation, "RowCache", noted)
    monkeypatch.setattr(lm.generation, "hidden_states", run)
    cache = PrefixCache()
    lengths = random.Random(0)
    prompts = [ids(100, i % 7) + ids(lengths.choice([5, 20, 200]), 100 + i) for i in range(120)]
    rows = decode(model, prompts, Sampling(max_tokens=3), never, cache)
    assert_exact(model, prompts, rows, True)
    assert max(made) <= 900 and max(kept) <= 300 and cache.tokens <= 300
    assert max(forwards) <= 500


def test_a_call_larger_than_every_bound_still_answers(model, monkeypatch):
    for name in ("TOKENS_IN_FLIGHT", "TOKENS_KEPT", "TOKENS_AT_ONCE", "ROWS_IN_FLIGHT"):
        monkeypatch.setattr(lm.generation, name, 1)
    prompts = [ids(40, 0) + ids(3, i) for i in range(5)]
    rows = decode(model, prompts, Sampling(max_tokens=3, n=3), never)
    assert_exact(model, prompts, rows, True)


def test_the_same_calls_after_forgetting_answer_bit_for_bit(folder):
    model = load_model(str(folder))
    sampling = Sampling(max_tokens=6, temperature=1.0, n=2)
    chats = [[{"role": "user", "content": "a" * 70 + str(i)}] for i in range(8)]
    fresh = model.generate(chats, sampling, "rollout")
    model.generate([*chats[::-1], [{"role": "user", "content": "a" * 50}]], sampling, "rollout")
    model.forget()
    assert model.generate(chats, sampling, "rollout") == fresh
