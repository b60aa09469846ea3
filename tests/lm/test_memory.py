"""The peak is that of a stage, not of what the process did before it."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from lm.memory import RESET, peak_bytes, peak_gpu_bytes, reset_peaks

MUCH = 200 * 2**20


def test_a_large_array_shows_and_is_forgotten() -> None:
    reset_peaks()
    before = peak_bytes()
    held = np.ones(MUCH // 8)
    assert peak_bytes() - before > 0.9 * MUCH
    del held
    assert peak_bytes() - before > 0.9 * MUCH  # a peak, not what is held now
    if RESET.exists():
        reset_peaks()
        assert peak_bytes() - before < 0.5 * MUCH


def test_without_a_gpu_in_use_its_peak_is_0() -> None:
    if "torch" in sys.modules and sys.modules["torch"].cuda.is_initialized():
        pytest.skip("a GPU is in use")
    assert peak_gpu_bytes() == 0


@pytest.mark.skipif(sys.platform != "linux", reason="other C libraries give back by themselves")
def test_what_is_free_goes_back_to_the_system() -> None:
    """A hole in the heap, below a block that is still held, stays with the process until asked."""
    script = (
        "import resource; from pathlib import Path; from lm.memory import give_back\n"
        "def held(): return int(Path('/proc/self/statm').read_text().split()[1]) * 4096\n"
        "blocks = [bytearray(100_000) for _ in range(2000)]; last = bytearray(100_000)\n"
        "full = held(); del blocks[:]; kept = held(); give_back(); after = held()\n"
        "print(full, kept, after)"
    )
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    full, kept, after = map(int, ran.stdout.split())
    assert full - kept < 100 * 2**20 and kept - after > 100 * 2**20
