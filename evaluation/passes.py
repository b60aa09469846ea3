"""pass@k: the chance that at least one of k answers to an example is right."""

from __future__ import annotations

import numpy as np
from scipy.special import gammaln


def pass_at_k(right_E: np.ndarray, samples_E: np.ndarray, k: int) -> np.ndarray:
    """An unbiased estimate for each example, from `right_E` correct ones of `samples_E` answers.

    1 - C(samples - right, k) / C(samples, k): of all ways to draw k of the answers, the share that
    holds a right one (Chen et al. 2021, arXiv:2107.03374). Raises ValueError when k < 1, or when an
    example has fewer answers than k.
    """
    if k < 1 or k > samples_E.min(initial=k):
        fewest = samples_E.min(initial=k)
        raise ValueError(f"pass@{k} of {fewest} answers; write k between 1 and {fewest}")
    wrong_E = samples_E - right_E
    enough_E = np.maximum(wrong_E, k)  # where fewer are wrong, every draw holds a right one
    ways_E = gammaln(enough_E + 1) - gammaln(enough_E - k + 1)
    ways_E = ways_E - gammaln(samples_E + 1) + gammaln(samples_E - k + 1)
    return np.where(wrong_E < k, 1.0, 1 - np.exp(ways_E))
