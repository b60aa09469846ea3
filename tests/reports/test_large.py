"""A million answers: every table in under ten seconds, in under two gigabytes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from time import process_time

import pytest

from benchmarks.tables import ARMS, CASES, Size, took, write_run
from reports import failures, flow_links, load_run, slices, summary
from reports.answers import _features

TRIES = 2  # more


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_a_million_answers(tmp_path: Path, case: str) -> None:
    size = CASES[case]
    assert len(ARMS) * size.examples * size.samples >= 1_000_000
    folder = write_run(tmp_path / case, size)
    found = took(folder)
    # where others use the machine, too, it is the processor's time that says what it takes alone,
    # and who shares caches and memory with them is slower even then: the best of a few counts
    for _ in range(TRIES):
        if min(found.wall, found.cpu) < 10:
            break
        found = took(folder)
    assert min(found.wall, found.cpu) < 10, found
    assert found.peak_mb < 2000, found


MANY = """
import json, sys, time
from reports import load
from reports.runs import ALL_TABLES

def took(make):
    wall, cpu = time.perf_counter(), time.process_time()
    found = make()
    return min(time.perf_counter() - wall, time.process_time() - cpu), len(found)

runs = load(sys.argv[1])
told = {"read": took(lambda: runs.runs)}
print(json.dumps(told | {name: took(lambda: runs.table(name)) for name in ALL_TABLES}))
"""


@pytest.mark.slow
def test_a_million_answers_over_twenty_runs(tmp_path: Path) -> None:
    """All tables of all runs together, reading included, take as long as those of one."""
    for i in range(20):
        write_run(tmp_path / f"run{i:02}", Size(8_334), seed=i)
    found = _timed(tmp_path)
    for _ in range(TRIES):
        if _together(found) < 10:
            break
        found = _timed(tmp_path)
    assert found["records"][1] == 20 * len(ARMS) * 8_334 > 1_000_000
    assert found["summary"][1] == 20 * len(ARMS)
    assert _together(found) < 10, found


def _timed(folder: Path) -> dict[str, tuple[float, int]]:
    words = [sys.executable, "-c", MANY, str(folder / "*")]
    return json.loads(subprocess.run(words, capture_output=True, text=True, check=True).stdout)


def _together(found: dict[str, tuple[float, int]]) -> float:
    return sum(seconds for seconds, _ in found.values())


def test_features_of_their_own_cost_no_more_than_shared_ones() -> None:
    """As many of them as examples: looking for each in every one took 29 s. 0.05 s now."""
    metas = [json.dumps({f"own{i}": 1, "shared": i % 3}) for i in range(6_000)]
    start = process_time()
    features = _features(metas)
    assert process_time() - start < 3
    assert len(features) == 6_001
    assert features["shared"][1].tolist() == [i % 3 + 1 for i in range(6_000)]


def test_what_is_timed_holds_something(tmp_path: Path) -> None:
    """Tables of nothing would be fast, too."""
    run = load_run(write_run(tmp_path / "small", Size(400, samples=3)))
    assert set(slices(run)["feature"]) == {"regular", "length", "kind"}
    assert len(failures(run)) == 5 * len(ARMS) and set(run.answers) == {f"E{i}" for i in range(6)}
    planted = [rate for _, rate in ARMS.values()]
    assert summary(run)["score"].tolist() == pytest.approx(planted, abs=0.06)
    assert flow_links(run, *run.arm_names[:2]).links["count"].sum() == 1200
    assert run.answers["E1"]["text"].str.len().between(80, 120).all()
    assert run.answers["E1"]["text"].nunique() > 1000
