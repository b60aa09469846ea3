"""What the rows of metrics.jsonl say about the health of a stage. No torch here.

Each audit is a function of the rows alone, so it can be asked again at any time: after a kill the
rows are those of an undisturbed run, and so are the findings. Only `parity` can trip; the others
are notes, since a group without signal or a long answer may be just what a task is like.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from statistics import fmean
from typing import Any

from rl.findings import Finding, Level

WINDOW = 5  # steps; one step's batch says little

# Sampler and trainer add the same numbers in another order. The largest difference on one of about
# 300 tokens of SmolLM2-135M was 4e-5 nats in fp32, 0.3 in bf16 (8 bits of mantissa on logits of
# 10 to 30), 0.1 with nf4 in fp32 (its kernel rounds by batch shape) and 0.5 with nf4 in bf16; in
# fp32 on the 58,000 tokens of examples/policy-gradient it was 1.2e-4. A wire that trips on clean
# runs is not read, hence some times the worst of these. Weights that are one LoRA step (rate 3e-4)
# behind differed by 3.3.
EXACT, COARSE = 5e-4, 1.0  # nats

Rows = Sequence[Mapping[str, Any]]


def tolerance(dtype: str, *, quantized: bool = False) -> float:
    """The largest difference of a token's log-probability, in nats, that rounding explains.

    `dtype` is what the model computes in, such as "float32" or "torch.bfloat16".
    """
    return EXACT if dtype.endswith("float32") and not quantized else COARSE


def parity(rows: Rows, dtype: str, *, quantized: bool = False) -> list[Finding]:
    """Whether each step's answers were drawn with the weights that step then trained.

    No finding where no row has a `logprob_gap`. A gap that is no number trips.
    """
    name, most = "sampler parity", tolerance(dtype, quantized=quantized)
    gaps = [(row["step"], row["logprob_gap"]) for row in rows if _known(row, "logprob_gap")]
    over = [(step, gap) for step, gap in gaps if not gap <= most]
    if not gaps:
        return []
    if not over:
        worst = max(gap for _, gap in gaps)
        return [Finding(name, "ok", None, f"at most {worst:.2g} nats apart in {len(gaps)} steps")]
    step, gap = over[0]
    said = (
        f"sampler and trainer are {gap:.3g} nats apart at step {step}, rounding explains "
        f"{most:.3g}; so at {len(over)} of {len(gaps)} steps"
    )
    return [Finding(name, "tripped", step, said)]


def health(rows: Rows) -> list[Finding]:
    """Dead groups, clipped answers, entropy, KL divergence and length, each over `WINDOW` steps.

    A finding for each figure that the rows hold for at least one window: a note that names the
    last step of the first window that is out of bounds, else ok. Bounds are in `_BOUNDS`.
    """
    found = []
    for name, column, is_odd, said in _BOUNDS:
        train = [row for row in rows if row["phase"] == "train" and _known(row, column)]
        windows = [train[i - WINDOW : i] for i in range(WINDOW, len(train) + 1)]
        if not windows:
            continue
        means = [fmean(row[column] for row in window) for window in windows]
        scores = [_score(window) for window in windows]
        odd = [i for i, mean in enumerate(means) if is_odd(mean, means[0], scores[i])]
        at = odd[0] if odd else len(means) - 1
        level: Level = "note" if odd else "ok"
        step = windows[at][-1]["step"] if odd else None
        found.append(Finding(name, level, step, said.format(now=means[at], first=means[0])))
    return found


# name, column, whether (mean now, mean of the first window, score now) is odd, what to say
_BOUNDS: tuple[tuple[str, str, Callable[[float, float, float], bool], str], ...] = (
    (
        "dead groups",
        "dead_groups",
        lambda now, first, score: now > 0.8,
        "{now:.0%} of groups got one and the same reward, so taught nothing",
    ),
    (
        "clipped answers",
        "clipped",
        lambda now, first, score: now > 0.5,
        "{now:.0%} of answers were cut at max_tokens",
    ),
    (
        "entropy",
        "entropy",
        # a policy that is right may be sure; one that is sure and wrong explores no more
        lambda now, first, score: now < 0.1 * first and now < 0.1 and score < 0.8,
        "{now:.3g} nats per token, {first:.3g} in the first steps",
    ),
    (
        "kl",
        "kl",
        lambda now, first, score: now > 1.0,
        "{now:.3g} nats per token away from the policy the stage began with",
    ),
    (
        "length",
        "completion_tokens",
        lambda now, first, score: now > 2 * first and now > first + 8,
        "{now:.1f} tokens per answer, {first:.1f} in the first steps",
    ),
)


def _known(row: Mapping[str, Any], column: str) -> bool:
    return row.get(column) is not None


def _score(window: Rows) -> float:
    """The task's score where the rows have it, else 0: no reason to be at rest."""
    known = [row["score"] for row in window if _known(row, "score")]
    return fmean(known) if known else 0.0
