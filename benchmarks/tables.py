"""How long every table of a large run takes, and how much memory: a million answers by default.

Writes a run folder of six arms (two of them cells of the last one's attribution) that are
planted, not drawn from a model, then loads it in a process of its own, makes every table of
`reports.TABLES` and report.md, and prints seconds and that process's peak memory, start of Python
and imports included.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from evaluation.records import SCHEMA, write_columns
from lm.ledger import Ledger

# arm -> its chain of stages and the share of examples it answers right
ARMS = {
    "zero-shot": ((), 0.40),
    "bootstrap": (("S1",), 0.55),
    "grpo": (("S2",), 0.60),
    "bootstrap+sft": (("S1", "S3"), 0.62),
    "bootstrap+ppo": (("S1", "S4"), 0.63),
    "bootstrap+grpo": (("S1", "S5"), 0.65),
}
CELLS = {"base": "E0", "prompt": "E1", "weights": "E2", "both": "E5"}
CLASSES = ("tense", "stem", "empty", "repetition", "truncated")
TEXT = "the past tense of a verb is walked or went and which one it is nobody can tell for sure"


@dataclass(frozen=True)
class Size:
    """Answers are arms x examples x samples. `graded` scores lie between 0 and 1."""

    examples: int
    samples: int = 1
    graded: bool = False


CASES = {
    "examples": Size(166_667),
    "graded": Size(166_667, graded=True),
    "samples": Size(1_667, samples=100),
}
STEPS = 500  # of each stage that trains


@dataclass(frozen=True)
class Took:
    """Seconds from start to end of the process, its peak memory in MB, seconds by part."""

    wall: float
    cpu: float
    peak_mb: float
    parts: dict[str, float]


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="+", choices=CASES, default=list(CASES), metavar="CASE")
    parser.add_argument("--quick", action="store_true", help="tiny sizes: does it run at all?")
    parser.add_argument("--inside", type=Path, help=argparse.SUPPRESS)
    chosen = parser.parse_args(argv)
    if chosen.inside:
        print(json.dumps(make_all(chosen.inside)))
        return
    for name in chosen.only:
        size = Size(60, CASES[name].samples // 10 or 1) if chosen.quick else CASES[name]
        with tempfile.TemporaryDirectory() as folder:
            say(name, size, took(write_run(Path(folder) / name, size)))


def say(name: str, size: Size, found: Took) -> None:
    answers = len(ARMS) * size.examples * size.samples
    print(f"{name}: {answers:,} answers ({size})")
    for part, seconds in found.parts.items():
        print(f"  {part:<16}{seconds:8.2f} s")
    print(f"tables {name} {found.wall:.2f} s, {found.cpu:.2f} s of CPU, {found.peak_mb:.0f} MB")


def took(folder: Path) -> Took:
    """Load and report a run folder in a fresh process."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.tables", "--inside", str(folder)],
        stdout=subprocess.PIPE, text=True, check=True,
    )  # fmt: skip
    wall = time.perf_counter() - start
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = sum(getattr(after, f) - getattr(before, f) for f in ("ru_utime", "ru_stime"))
    parts = json.loads(done.stdout)
    return Took(wall, cpu, parts.pop("peak_mb"), parts)


def make_all(folder: Path) -> dict[str, float]:
    """Seconds of every part, in order, and the peak memory of this process in MB."""
    parts: dict[str, float] = {}
    last = time.perf_counter()

    def lap(name: str) -> None:
        nonlocal last
        now = time.perf_counter()
        parts[name], last = now - last, now

    from reports import TABLES, load_run, report_markdown
    from reports.render import render

    lap("import")
    run = load_run(folder)
    lap("load")
    for name, table in TABLES.items():
        render(table(run), "csv")
        lap(name)
    report_markdown(run)
    lap("report.md")
    return parts | {"peak_mb": peak_mb()}


def peak_mb() -> float:
    """The highest memory of this process. (On Linux `getrusage` counts in its parent's, too.)"""
    status = Path("/proc/self/status")
    if status.exists():
        lines = status.read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # macOS: bytes


def write_run(folder: Path, size: Size, seed: int = 0) -> Path:
    """A run folder as `experiments` writes one. Its answers are drawn with the seed; all runs of
    one size are asked the same."""
    draw = np.random.default_rng(0)
    shared = _examples(draw, size)
    draw = np.random.default_rng(seed) if seed else draw
    for i, (stages, rate) in enumerate(ARMS.values()):
        _write(folder / "evals" / f"E{i}", {"ledger.json": Ledger().to_json(), "DONE": ""})
        answers = shared | _answers(draw, size, rate)
        answers["transcript"] = pa.nulls(len(answers["score"]))  # no tools
        columns = pa.table([answers[name] for name in SCHEMA.names], schema=SCHEMA)
        write_columns(folder / "evals" / f"E{i}" / "records.parquet", columns)
        for key in stages:
            if not (folder / "stages" / key).exists():
                _write_stage(folder / "stages" / key)
    arms: list[dict[str, Any]] = [
        {"arm": arm, "seed": 0, "stages": stages, "eval": f"E{i}", "test_reads": 1}
        for i, (arm, (stages, _)) in enumerate(ARMS.items())
    ]
    arms[-1]["cells"] = CELLS
    facts = ("task", "task_hash", "git_commit", "device", "dtype", "model", "model_fingerprint")
    info = dict.fromkeys(facts, "planted") | {"name": "large", "baseline": "zero-shot"}
    info |= {"test_opened": 1, "failure_classes": {"tense": "Another tense.", "stem": "No stem."}}
    _write(folder, {"run.json": json.dumps(info), "arms.json": json.dumps(arms)})
    return folder


def _write(folder: Path, files: dict[str, str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name).write_text(text, encoding="utf-8")


def _write_stage(folder: Path) -> None:
    rows = [{"step": i, "rollouts": 64 * i, "reward": 0.5, "loss": 0.1} for i in range(STEPS)]
    stage = {"stage.json": '{"method": "planted", "kind": "grpo"}', "DONE": ""}
    ledger = Ledger()
    ledger.add("rollout", completions=64, prompt_tokens=9, completion_tokens=9, seconds=1.0)
    metrics = "".join(json.dumps(row) + "\n" for row in rows)
    _write(folder, stage | {"ledger.json": ledger.to_json(), "metrics.jsonl": metrics})


def _texts(draw: np.random.Generator, count: int, longest: int) -> list[str]:
    """Texts of words; each is cut from one long text at a random place."""
    book = " ".join(draw.choice(TEXT.split(), size=200_000))
    starts = draw.integers(0, len(book) - longest, size=count)
    lengths = draw.integers(longest * 2 // 3, longest + 1, size=count)
    return [book[i : i + n] for i, n in zip(starts.tolist(), lengths.tolist(), strict=True)]


def _examples(draw: np.random.Generator, size: Size) -> dict[str, Any]:
    """The columns that all arms share: what was asked."""
    inputs = [json.dumps({"question": text}) for text in _texts(draw, size.examples, 120)]
    lengths, kinds = draw.integers(3, 12, size.examples), draw.integers(0, 8, size.examples)
    meta = [
        f'{{"regular": {"true" if i % 3 else "false"}, "length": {n}, "kind": "k{k}", "id": {i}}}'
        for i, (n, k) in enumerate(zip(lengths.tolist(), kinds.tolist(), strict=True))
    ]
    ids = [f"test-{i:06}" for i in range(size.examples)]
    columns = {"example_id": ids, "inputs": inputs, "meta": meta}
    columns["gold"] = _texts(draw, size.examples, 20)
    rows = np.repeat(np.arange(size.examples), size.samples)
    return {name: pa.array(values).take(pa.array(rows)) for name, values in columns.items()}


def _answers(draw: np.random.Generator, size: Size, rate: float) -> dict[str, Any]:
    """The columns of one arm: what it answered."""
    n = size.examples * size.samples
    score = draw.beta(4 * rate, 4 * (1 - rate), n) if size.graded else draw.random(n) < rate
    correct = score > 0.5
    failure = pd.Series(draw.choice(CLASSES, size=n)).mask(correct, None)
    texts = _texts(draw, n, 120)
    return {
        "split": pa.array(["test"] * n),
        "sample": pa.array(np.tile(np.arange(size.samples), size.examples)),
        "score": pa.array(np.asarray(score, dtype=float)),
        "correct": pa.array(correct),
        "failure": pa.array(failure, pa.string(), from_pandas=True),
        "answer": pa.array([text[:20] for text in texts]),
        "text": pa.array(texts),
        "feedback": pa.array(["right" if ok else "wrong, look again" for ok in correct]),
        "finish": pa.array(["stop"] * n),
        "prompt_tokens": pa.array(draw.integers(20, 40, n)),
        "completion_tokens": pa.array(draw.integers(1, 32, n)),
        "seconds": pa.array(draw.random(n)),
    }


if __name__ == "__main__":
    main()
