"""The rows a trainer learns from, asked for one optimizer step at a time.

TRL reads its whole data set in advance. Here rows may depend on the weights as they are when a
step begins (`rft` samples from them), so a trainer (rl/trl_supervised.py) has a data set of mere
places and asks its feed what stands there.
"""

from __future__ import annotations

import os
import random
from collections.abc import Sequence
from typing import Any, Protocol, TypeVar

from lm.ledger import BudgetExhausted, Ledger
from lm.types import ModelError
from rl.callbacks import StepRecord
from rl.config import WeightsConfig

Row = dict[str, Any]
T = TypeVar("T")


class NothingToLearn(BudgetExhausted):
    """Sampling brought nothing to train on, so a stage ends as with a spent budget: with the best
    policy so far. Carries one line that says what was looked for."""


class Feed(StepRecord, Protocol):
    """Also the record of the newest step."""

    def rows(self, step: int) -> list[Row]:
        """All rows of optimizer step `step` (from 1), the same at each call during the step.

        Raises BudgetExhausted when there is no time left, or nothing to learn from.
        """
        ...


def picked(items: Sequence[T], step: int, size: int, seed: str) -> list[T]:
    """The `size` items of step `step` (from 1): all are passed through, in a new order each time.

    Depends on its arguments alone, so a run that goes on from a checkpoint sees the same.
    """
    orders: dict[int, list[int]] = {}
    chosen = []
    for place in range((step - 1) * size, step * size):
        number, index = divmod(place, len(items))
        if number not in orders:
            every = range(len(items))
            orders[number] = random.Random(f"{seed}/{number}").sample(every, len(items))
        chosen.append(items[orders[number][index]])
    return chosen


def check_time(ledger: Ledger) -> None:
    """Raises BudgetExhausted when the cap on seconds is reached: all that training itself spends.

    Sampling checks every cap; the answers it has drawn may still be learned from.
    """
    ledger.check_time()


def check_one_process(method: str) -> None:
    """Raises ModelError under a launcher of several processes: gradients would not be summed, as
    the shared forward (rl/trl_supervised.py) passes by the wrapper that sums them."""
    processes = os.environ.get("WORLD_SIZE", "1")
    if processes != "1":
        raise ModelError(
            f"{method}: trains in one process, this run has {processes}; start it without "
            "accelerate launch"
        )


def per_forward(rows: int, limit: int) -> int:
    """The largest equal part of `rows` that is at most `limit`, at least 1."""
    return max(n for n in range(1, max(1, min(rows, limit)) + 1) if rows % n == 0)


def supervised_settings(
    settings: dict[str, Any], config: WeightsConfig, *, steps: int, rows: int, rows_a_place: int = 1
) -> dict[str, Any]:
    """`settings` of a trainer that takes `steps` steps of `rows` places each, in order."""
    part = per_forward(rows, config.rows_per_forward // rows_a_place)
    return {
        **settings,
        "max_steps": steps,
        "per_device_train_batch_size": part,
        "gradient_accumulation_steps": rows // part,
        "train_sampling_strategy": "sequential",
        "remove_unused_columns": False,
        "max_length": None,  # nothing is ever cut
        "router_aux_loss_coef": 0.0,
    }
