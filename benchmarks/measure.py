"""Timing two sides in turn, and saying what came out."""

from __future__ import annotations

import argparse
import gc
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch


@dataclass(frozen=True)
class Timed:
    """Seconds of every repeat, and the highest memory of the process (or GPU) in MB."""

    seconds: list[float]
    peak_mb: float

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)

    def __str__(self) -> str:
        every = ", ".join(f"{s:.2f}" for s in self.seconds)
        return f"median {self.median:8.2f} s  peak {self.peak_mb:6.0f} MB  (all: {every})"


def race(
    case: str,
    sides: Mapping[str, Callable[[], Any]],
    device: str,
    repeats: Mapping[str, int],
    tokens: int | None = None,
) -> float:
    """Run the sides in turn until each has had its repeats; print all and the ratio line.

    The first side is the one the ratio sets against "ours". `tokens` are those one run produces.
    """
    found: dict[str, list[float]] = {name: [] for name in sides}
    peaks = dict.fromkeys(sides, 0.0)
    for turn in range(max(repeats[name] for name in sides)):
        for name, side in sides.items():
            if turn < repeats[name]:
                seconds, peak = timed(side, device)
                found[name].append(seconds)
                peaks[name] = max(peaks[name], peak)
                say(f"{case}: {name} took {seconds:.2f} s")
    results = {name: Timed(found[name], peaks[name]) for name in sides}
    print(f"\n{case}")
    for name, result in results.items():
        rate = f"  {tokens / result.median:7.1f} tok/s" if tokens else ""
        print(f"  {name:<22}{result}{rate}")
    value = results[next(iter(sides))].median / results["ours"].median
    print(f"ratio {case} {value:.2f}", flush=True)
    return value


def timed(side: Callable[[], Any], device: str) -> tuple[float, float]:
    """Seconds and peak memory in MB of one call."""
    gc.collect()
    reset_peak(device)
    start = time.perf_counter()
    side()
    if device.startswith("cuda"):
        torch.cuda.synchronize()
    return time.perf_counter() - start, peak_mb(device)


def reset_peak(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.reset_peak_memory_stats()
    else:  # Linux: the process's high-water mark starts over
        Path("/proc/self/clear_refs").write_text("5")


def peak_mb(device: str) -> float:
    if device.startswith("cuda"):
        return torch.cuda.max_memory_allocated() / 2**20
    status = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) / 1024


def options(description: str, cases: Sequence[str], argv: Sequence[str] | None) -> Any:
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--only", nargs="*", choices=cases, default=list(cases))
    parser.add_argument("--repeats", type=int, default=3, help="of our side")
    parser.add_argument("--peer-repeats", type=int, default=2)
    parser.add_argument("--quick", action="store_true", help="tiny sizes: does it run at all?")
    return parser.parse_args(argv)


def print_setting(chosen: Any) -> None:
    """One line that says what ran where."""
    packages = []
    for name in ("torch", "transformers", "trl", "lm_eval", "vllm"):
        try:
            packages.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            continue
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    ).stdout.strip()
    device = torch.cuda.get_device_name() if chosen.device.startswith("cuda") else "cpu"
    print(
        f"# {device}, {torch.get_num_threads()} threads, {chosen.model}, {chosen.dtype}, "
        f"{', '.join(packages)}, commit {commit or 'unknown'}",
        flush=True,
    )


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
