"""Answers with known causes of failure, beside many features that have nothing to do with it."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd

WORDS = [a + b + c for a in "bdgklmnprst" for b in ("a", "e", "i", "o") for c in ("n", "l", "sh")]


def questions(n: int, seed: int, share: float = 0.08) -> pd.DataFrame:
    """`n` examples of 15 words on average, six features in `meta` beside one of `share`."""
    rng = np.random.default_rng(seed)
    weights = 1 / np.arange(3, len(WORDS) + 3)
    rows = []
    for i in range(n):
        words = rng.choice(WORDS, size=rng.poisson(15) + 1, p=weights / weights.sum())
        meta = {
            "source": "abcde"[rng.integers(5)],
            "level": int(rng.integers(1, 6)),
            "negated": bool(rng.random() < share),
            "formal": bool(rng.random() < 0.5),
            "year": int(rng.normal(2000, 8)),
            "tags": [t for t in ("x", "y", "z") if rng.random() < 0.3],
        }
        row = {"example_id": f"q{i}", "sample": 0, "text": "", "gold": WORDS[rng.integers(40)]}
        rows.append({**row, "inputs": json.dumps({"question": " ".join(words)}), "meta": meta})
    return pd.DataFrame(rows)


def answered(
    examples: pd.DataFrame, rate_E: np.ndarray | float, seed: int, samples: int = 1
) -> pd.DataFrame:
    """Each example answered `samples` times, wrong with its own chance; classes at random."""
    rng = np.random.default_rng(seed + 10_000)
    parts = []
    for sample in range(samples):
        wrong = rng.random(len(examples)) < rate_E
        failure = rng.choice(["slip", "other", "odd"], size=len(examples), p=[0.5, 0.3, 0.2])
        said = rng.choice(WORDS, size=len(examples))
        parts.append(
            examples.assign(
                sample=sample,
                correct=~wrong,
                score=(~wrong).astype(float),
                failure=np.where(wrong, failure, None),
                answer=np.where(wrong, said, examples["gold"]),
                meta=examples["meta"].map(json.dumps),
            )
        )
    return pd.concat(parts, ignore_index=True)
