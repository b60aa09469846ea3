"""What must hold on an accelerator too, checked there: `python -m benchmarks.gpu --device cuda`.

Greedy answers against `transformers.generate`, log-probabilities of rollouts against the trainer's
forward, steps captured as CUDA graphs against plain ones, the same spec twice, and a whole
experiment, timed. Each check prints what it found; one that raises is printed, the others go on,
and the exit code is 1, as it is where a bar is missed. What holds token for token is asked of
float32 alone: bfloat16 rounds by the shape of a batch. `--device cpu --quick` runs the same on a
tiny random model.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch

import lm.generation
from benchmarks.measure import options, print_setting, say
from benchmarks.workload import ROOT, chats, few_shot, open_model
from lm.generation import decode
from lm.hf import HFModel
from lm.tiny import write_tiny_model
from lm.types import Sampling

GAP = 1e-4  # nats, in float32; bfloat16 keeps 8 bits, and is only said
DEMO = "examples/inflection/spec.yaml"


def main(argv: Sequence[str] | None = None) -> None:
    cases: dict[str, Callable[[Any], tuple[str, bool]]] = {
        "greedy": _greedy,
        "logprobs": _logprobs,
        "graph": _graph,
        "same_records": _same_records,
        "demo": _demo,
    }
    chosen = options(__doc__ or "", list(cases), argv)
    torch.backends.cuda.matmul.allow_tf32 = False
    print_setting(chosen)
    failed = 0
    for name in chosen.only:
        say(name)
        start = time.perf_counter()
        try:
            found, met = cases[name](chosen)
        except Exception:
            found, met = f"RAISED\n{traceback.format_exc(limit=-6)}", False
        failed += not met
        told = "" if met else "NOT MET "
        seconds = time.perf_counter() - start
        print(f"{name} ({chosen.dtype}, {seconds:.1f} s): {told}{found}", flush=True)
    sys.exit(1 if failed else 0)


def _greedy(chosen: Any) -> tuple[str, bool]:
    """Answers to single questions and to a batch, token for token against `generate`."""
    model = open_model(chosen)
    asked = chats(few_shot(model, 91), 8 if chosen.quick else 48)
    sampling = Sampling(max_tokens=16)
    batch = [row[0].token_ids for row in model.generate(asked, sampling, "eval")]
    alone = []
    for chat in asked:
        model.forget()
        alone.append(model.generate([chat], sampling, "eval")[0][0].token_ids)
    theirs = [_generate(model, chat, 16) for chat in asked]
    same = [sum(a == b for a, b in zip(some, theirs, strict=True)) for some in (alone, batch)]
    found = f"of {len(asked)} answers {same[0]} equal generate's asked alone, {same[1]} in a batch"
    return found, min(same) == len(asked) or chosen.dtype != "float32"


@torch.inference_mode()
def _generate(model: HFModel, chat: Any, tokens: int) -> tuple[int, ...]:
    ids = torch.tensor([model.encode(chat)], device=model.device)
    found: Any = model.model
    out = found.generate(
        ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=tokens,
        pad_token_id=0, eos_token_id=sorted(model.ends),
    )  # fmt: skip
    return tuple(out[0, ids.shape[1] :].tolist())


def _logprobs(chosen: Any) -> tuple[str, bool]:
    """Of sampled tokens: as drawn, as scored in groups, and by one plain forward a row."""
    model = open_model(chosen)
    asked = chats(few_shot(model, 91), 2 if chosen.quick else 8)
    drawn = model.generate(asked, Sampling(max_tokens=24, temperature=1.0, n=8), "rollout")
    each = [(chat, answer) for chat, row in zip(asked, drawn, strict=True) for answer in row]
    scored = model.logprobs([chat for chat, _ in each], [answer.token_ids for _, answer in each])
    plain = [_forward(model, chat, answer.token_ids) for chat, answer in each]
    as_drawn = [answer.logprobs for _, answer in each]
    sides = {"drawn/scored": (as_drawn, scored), "drawn/plain": (as_drawn, plain)}
    gaps = {name: _gaps(*both) for name, both in {**sides, "scored/plain": (scored, plain)}.items()}
    said = [f"{name} {sum(g) / len(g):.1e} and {max(g):.1e}" for name, g in gaps.items()]
    bar = f"; bar {GAP:g}" if chosen.dtype == "float32" else ""
    count = sum(map(len, plain))
    found = f"{count} tokens, mean and largest gap in nats {', '.join(said)}{bar}"
    return found, not bar or max(map(max, gaps.values())) <= GAP


def _graph(chosen: Any) -> tuple[str, bool]:
    """Decoding with steps captured as CUDA graphs against decoding without."""
    model = open_model(chosen)
    prompts = [model.encode(chat) for chat in chats(few_shot(model, 91), 8)]
    said, met = [], True
    for tokens in (16, 24 if chosen.quick else 128):
        sampling = Sampling(max_tokens=tokens, n=8)
        seconds, found = {}, {}
        for kind in ("eager", "graph", "eager", "graph"):  # the first turn warms up
            with _without_graphs() if kind == "eager" else nullcontext():
                start = time.perf_counter()
                rows = decode(model.model, prompts, sampling, lambda row: False)
                seconds[kind] = time.perf_counter() - start
            found[kind] = [row.tokens for row in rows]
        same = sum(a == b for a, b in zip(*found.values(), strict=True))
        met &= same == len(rows) or chosen.dtype != "float32"
        ratio = seconds["eager"] / seconds["graph"]
        said.append(
            f"64 rows of {tokens} tokens {seconds['eager']:.2f} s and {seconds['graph']:.2f} s, "
            f"ratio {ratio:.2f}, {same} greedy rows equal"
        )
    return "eager and graph: " + "; ".join(said), met


@contextmanager
def _without_graphs() -> Iterator[None]:
    before = lm.generation.can_graph
    lm.generation.can_graph = lambda model: False
    try:
        yield
    finally:
        lm.generation.can_graph = before


@torch.inference_mode()
def _forward(model: HFModel, chat: Any, tokens: Sequence[int]) -> list[float]:
    prompt = model.encode(chat)
    found: Any = model.model
    logits = found(torch.tensor([[*prompt, *tokens]], device=model.device)).logits[0]
    chances = logits[len(prompt) - 1 : -1].float().log_softmax(-1).cpu()
    return chances.gather(1, torch.tensor(list(tokens))[:, None])[:, 0].tolist()


def _gaps(some: Sequence[Sequence[float]], others: Sequence[Sequence[float]]) -> list[float]:
    rows = zip(some, others, strict=True)
    return [abs(a - b) for row, other in rows for a, b in zip(row, other, strict=True)]


SHORT = """name: short
task: inflection
model: {{source: {model}, device: {device}, dtype: {dtype}}}
splits: {{train: 64, dev: 32, test: 32}}
sampling: {{max_tokens: 12}}
methods:
  grpo: {{steps: 4, eval_every: 2, reward: contains}}
arms: {{zero-shot: [], grpo: [grpo]}}
"""


def _same_records(chosen: Any) -> tuple[str, bool]:
    """The same spec twice in two folders: records, `seconds` apart, and the rollouts."""
    import pandas as pd

    with tempfile.TemporaryDirectory(prefix="tasklift-gpu-") as name:
        folder = Path(name)
        spec = folder / "spec.yaml"
        source = str(write_tiny_model(folder / "tiny")) if chosen.quick else chosen.model
        spec.write_text(
            SHORT.format(model=source, device=chosen.device, dtype=chosen.dtype), encoding="utf-8"
        )
        tables = []
        for turn in ("one", "two"):
            _tasklift("run", str(spec), "--out", str(folder / turn))
            found = sorted((folder / turn).rglob("*.parquet"))
            tables.append([pd.read_parquet(path) for path in found])
        same = [
            a.drop(columns="seconds", errors="ignore").equals(
                b.drop(columns="seconds", errors="ignore")
            )
            for a, b in zip(*tables, strict=True)
        ]
    return f"{sum(same)} of {len(same)} parquet files equal", all(same) and bool(same)


def _demo(chosen: Any) -> tuple[str, bool]:
    """The demo's experiment from start to end, as `make demo` runs it, on this device."""
    with tempfile.TemporaryDirectory(prefix="tasklift-gpu-") as name:
        changes = [f"model.device={chosen.device}", f"model.dtype={chosen.dtype}"]
        if chosen.quick:
            source = str(write_tiny_model(Path(name) / "tiny"))
            changes += [f"model.source={source}", "methods.grpo.steps=2", "splits.test=32"]
            changes += ["methods.bootstrap.dev_examples=8", "splits.dev=16", "splits.train=64"]
        start = time.perf_counter()
        sets = [word for change in changes for word in ("--set", change)]
        said = _tasklift("run", DEMO, *sets, "--out", f"{name}/run")
        seconds = time.perf_counter() - start
    table = [line for line in said.splitlines() if line.strip()]
    return f"{seconds:.0f} s in all\n" + "\n".join(table[-60:]), True


def _tasklift(*arguments: str) -> str:
    command = [sys.executable, "-m", "experiments.cli", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"exit code {done.returncode}: {(done.stderr or done.stdout)[-1500:]}")
    return done.stdout


if __name__ == "__main__":
    main()
