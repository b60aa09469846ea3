"""Answers and rollouts: our decoding against `transformers.generate`.

The peer gets what a careful user gives it: batches, left padding, the KV cache, inference mode, no
processors it does not need. All sides produce the same number of tokens for every row. vLLM runs
too where it is installed, or in the interpreter that `--vllm` names.
"""

from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

import torch
from transformers import GenerationConfig, StoppingCriteria

from benchmarks.measure import (
    OURS,
    options,
    peak_mb,
    print_setting,
    race,
    reset_peak,
    say,
    timed,
)
from benchmarks.vllm_peer import VLLM, VLLMPeer, vllm_peer
from benchmarks.workload import ROOT, chats, few_shot, mixed_prompts, open_model
from lm.generation import decode
from lm.hf import HFModel
from lm.source import resolve
from lm.types import Row, Sampling

# prompts, rows for each, tokens for each row, temperature
FIXED = {
    "answers_64x8": (64, 1, 8, 0.0),
    "groups_8x8": (8, 8, 8, 1.0),
    "sampled_64x48": (64, 1, 48, 1.0),
}
CASES = [*FIXED, "mixed_256", "curves", "memory"]


def main(argv: Sequence[str] | None = None) -> None:
    chosen = options(__doc__ or "", CASES, argv, hidden=[f"memory_{n}" for n in (40, 400, 4000)])
    if chosen.only[0].startswith("memory_"):  # one side of the case `memory`
        return _memory_of(chosen, int(chosen.only[0].removeprefix("memory_")))
    print_setting(chosen)
    model = open_model(chosen)
    with vllm_peer(chosen.vllm, str(resolve(model.name)), chosen.dtype) as vllm:
        for case in FIXED:
            if case in chosen.only:
                _fixed(chosen, model, vllm, case)
        if "mixed_256" in chosen.only:
            _mixed(chosen, model, vllm)
    if "curves" in chosen.only:
        _curves(chosen, model)
    if "memory" in chosen.only:
        _memory(chosen)


def _fixed(chosen: Any, model: HFModel, vllm: VLLMPeer | None, case: str) -> None:
    """`n` answers of exactly `tokens` tokens to each few-shot prompt, in one batch."""
    prompts, n, tokens, temperature = FIXED[case]
    if chosen.quick:
        prompts, tokens = max(2, prompts // 8), 4
    ids = [model.encode(chat) for chat in chats(few_shot(model, 91), prompts)]
    sampling = Sampling(max_tokens=tokens, temperature=temperature, n=n)
    say(f"{case}: prompts of {min(map(len, ids))} to {max(map(len, ids))} tokens")

    def ours() -> list[list[int]]:
        return [row.tokens for row in decode(model.model, ids, sampling, lambda row: False)]

    def peer(**kind: Any) -> list[list[int]]:
        return generate(model, ids, [tokens] * prompts, temperature, n, **kind)

    found, theirs = ours(), peer()
    assert [len(row) for row in found] == [len(row) for row in theirs] == [tokens] * (prompts * n)
    if temperature == 0:
        same = sum(a == b for a, b in zip(found, theirs, strict=True))
        print(f"\n{case}: {same} of {len(found)} greedy answers equal generate's, batch against")
        print("  batch (padding rounds; alone they all do, which tests/lm holds)")
    sides: dict[str, Any] = {"generate": peer, OURS: ours}
    if chosen.device.startswith("cuda"):
        sides["generate, static cache"] = lambda: peer(cache_implementation="static")
    if vllm:
        sides[VLLM] = lambda: vllm(ids, [tokens] * prompts, temperature, n)
    race(case, sides, chosen.device, chosen.repeats, chosen.peer_repeats, prompts * n * tokens)


def _mixed(chosen: Any, model: HFModel, vllm: VLLMPeer | None) -> None:
    """Prompts of 10 to 200 tokens, answers of 1 to 200 tokens; every row stops at its own length.

    `generate` has no queue: its batches run until their longest answer is done. It may sort by
    prompt length, as evaluation harnesses do, and the better of two batch sizes counts (on two
    cores 128 rows were slower than 64).
    """
    count, longest = (12, 8) if chosen.quick else (256, 200)
    ids = sorted(mixed_prompts(model, count), key=len)
    wanted = [random.Random(i).randint(1, longest) for i in range(count)]
    sampling = Sampling(max_tokens=longest, temperature=1.0)

    def finished(row: Row) -> bool:
        return len(row.tokens) >= wanted[row.prompt]

    def ours() -> None:
        found = decode(model.model, ids, sampling, finished)
        assert [len(row.tokens) for row in found] == wanted

    def peer(size: int) -> None:
        found: list[list[int]] = []
        for start in range(0, count, size):
            part = slice(start, start + size)
            found += generate(model, ids[part], wanted[part], 1.0, 1)
            say(f"mixed_256: generate, batches of {size}: {len(found)} of {count}")
        assert list(map(len, found)) == wanted

    sizes = [4, 8] if chosen.quick else [32, 64] if chosen.device == "cpu" else [128, 256]
    sides: dict[str, Any] = {OURS: ours}
    sides |= {f"generate, {size} rows": lambda size=size: peer(size) for size in sizes}
    if vllm:
        sides[VLLM] = lambda: vllm(ids, wanted, 1.0, 1)
    race("mixed_256", sides, chosen.device, chosen.repeats, 1, sum(wanted))


def _curves(chosen: Any, model: HFModel) -> None:
    """Our time against group size and against the length of the shared prefix."""
    sizes = [1, 2, 4] if chosen.quick else [1, 2, 4, 8, 16, 32]
    one = [model.encode(chats(few_shot(model, 91), 1)[0])]
    groups = {n: _time_ours(chosen, model, one, 16, n) for n in sizes}
    print(f"\ncurves: one prompt of {len(one[0])} tokens, 16 tokens, by group size: "
          + _listed(groups))  # fmt: skip
    print(f"ratio curve_group_{sizes[-1]}_over_1 {groups[sizes[-1]] / groups[1]:.2f}")

    lengths = [0, 50, 100] if chosen.quick else [0, 100, 250, 500, 1000]
    text = max(mixed_prompts(model, 200, longest=1100), key=len)
    tails = [prompt[:10] for prompt in mixed_prompts(model, 32)]
    prefixes = {
        n: _time_ours(chosen, model, [text[:n] + tail for tail in tails], 8, 1) for n in lengths
    }
    print("\ncurves: 32 prompts, 8 tokens, by shared tokens ahead of 10 own ones: "
          + _listed(prefixes))  # fmt: skip
    last = lengths[-1]
    print(f"ratio curve_prefix_{last}_over_0 {prefixes[last] / prefixes[0]:.2f}", flush=True)


def _time_ours(
    chosen: Any, model: HFModel, ids: Sequence[Sequence[int]], tokens: int, n: int
) -> float:
    sampling = Sampling(max_tokens=tokens, temperature=1.0, n=n)
    runs = [
        timed(lambda: decode(model.model, ids, sampling, lambda row: False), chosen.device)[0]
        for _ in range(chosen.repeats + 1)
    ]
    return sorted(runs[1:])[chosen.repeats // 2]


def _memory(chosen: Any) -> None:
    """Peak memory of a call with 400 and with 4,000 few-shot prompts, each in its own process."""
    counts = (40, 400) if chosen.quick else (400, 4000)
    peaks = {}
    for count in counts:
        command = [sys.executable, "-m", "benchmarks.rollout", "--only", f"memory_{count}"]
        command += ["--model", chosen.model, "--device", chosen.device, "--dtype", chosen.dtype]
        command += ["--quick"] if chosen.quick else []
        said = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, cwd=ROOT)
        peaks[count] = float(said.stdout.split()[-1])
        say(f"memory: {count} prompts peak at {peaks[count]:.0f} MB")
    few, many = counts
    print(f"\nmemory: peak MB by prompts in one call: {peaks[few]:.0f} ({few}), {peaks[many]:.0f}"
          f" ({many})")  # fmt: skip
    print(f"ratio memory_{many}_over_{few} {peaks[many] / peaks[few]:.2f}", flush=True)


def _memory_of(chosen: Any, count: int) -> None:
    model = open_model(chosen)
    draw = random.Random(0)
    prompt = few_shot(model, 91)
    words = ["".join(draw.choices("abcdefghijklmnopqrstuvwxyz", k=8)) for _ in range(count)]
    asked = [prompt.messages({"verb": word}) for word in words]
    reset_peak(chosen.device)
    model.generate(asked, Sampling(max_tokens=4, temperature=1.0), "eval")
    print(f"{peak_mb(chosen.device):.1f}")


class _Lengths(StoppingCriteria):
    """Ends row i after `wanted[i]` new tokens."""

    def __init__(self, wanted: torch.Tensor, prompt: int):
        self.wanted, self.prompt = wanted, prompt

    def __call__(self, input_ids: Any, scores: Any, **_: Any) -> Any:
        return input_ids.shape[1] - self.prompt >= self.wanted


@torch.inference_mode()
def generate(
    model: HFModel,
    ids: Sequence[Sequence[int]],
    wanted: Sequence[int],
    temperature: float,
    n: int,
    **kind: Any,
) -> list[list[int]]:
    """What transformers makes of one batch: `n` rows for each prompt, `wanted` tokens each."""
    width = max(map(len, ids))
    device = model.device
    padded = torch.tensor([[0] * (width - len(row)) + list(row) for row in ids], device=device)
    mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in ids], device=device)
    sampled = dict(do_sample=True, temperature=temperature, top_k=0, top_p=1.0)
    config = GenerationConfig(
        max_new_tokens=max(wanted),
        num_return_sequences=n,
        pad_token_id=0,
        eos_token_id=None,
        **(sampled if temperature else dict(do_sample=False)),
        **kind,
    )
    own, model.model.generation_config = model.model.generation_config, config
    lengths = torch.tensor([each for each in wanted for _ in range(n)], device=device)
    stopping = [_Lengths(lengths, width)] if len(set(wanted)) > 1 else []
    try:
        out = model.model.generate(
            padded, attention_mask=mask, generation_config=config, stopping_criteria=stopping
        )
    finally:
        model.model.generation_config = own
    rows = out[:, width:].tolist()
    return [row[:length] for row, length in zip(rows, lengths.tolist(), strict=True)]


def _listed(seconds: dict[int, float]) -> str:
    first = next(iter(seconds.values()))
    return ", ".join(f"{k}: {v:.2f} s ({v / first:.2f}x)" for k, v in seconds.items())


if __name__ == "__main__":
    main()
