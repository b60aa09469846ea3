"""The peak is that of a stage, not of what the process did before it."""

from __future__ import annotations

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
