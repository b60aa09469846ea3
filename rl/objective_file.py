"""From the name in a spec to an objective; one from a user's file is checked on the spot."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rl.objectives import OBJECTIVES, Advantage, Batch, Loss, Metrics, Objective, group_normalized
from tasks.source import import_file, own_names
from tasks.text import nearest, shorten
from tasks.types import TaskError


def load_objective(name: str) -> Objective:
    """One of `OBJECTIVES`, or "path.py:function" with an `advantage` from the same file, if any.

    Raises TaskError when there is none of that name or its file cannot be run.
    """
    if name in OBJECTIVES:
        return OBJECTIVES[name]
    match = re.fullmatch(r"(.+\.py):(\w+)", name)
    if match is None:
        raise TaskError(
            f"objective: unknown {name!r}{nearest(name, OBJECTIVES)}; "
            f"write {', '.join(OBJECTIVES)} or path.py:function"
        )
    path = Path(match[1]).expanduser()
    module = import_file(path)
    function = getattr(module, match[2], None)
    if not callable(function):
        hint = nearest(match[2], own_names(module))
        raise TaskError(
            f"objective {name}: {path.name} defines no function {match[2]!r}{hint}; "
            "write def loss(batch): ... return loss, {}"
        )
    advantage = getattr(module, "advantage", None)
    if advantage is not None and not callable(advantage):
        raise TaskError(f"objective {name}: advantage is {_shape(advantage)}, not a function")
    return Objective(
        _checked_loss(name, function),
        group_normalized if advantage is None else _checked_advantage(name, advantage),
        skips=False,  # who knows
    )


def _checked_loss(name: str, function: Any) -> Loss:
    """Asked on a copy of the log-probabilities, so that its gradient is seen before it acts."""

    def loss(batch: Batch) -> tuple[Tensor, Metrics]:
        leaf_BT = batch.logps_BT.detach().requires_grad_()
        found = _call(name, function, replace(batch, logps_BT=leaf_BT))
        if not (isinstance(found, tuple) and len(found) == 2 and isinstance(found[1], dict)):
            raise TaskError(
                f"objective {name}: returned {_shape(found)}; return (loss, metrics), the metrics "
                "a dict, {} for none"
            )
        value, metrics = found
        if not isinstance(value, Tensor) or value.dim() or not value.requires_grad:
            raise TaskError(
                f"objective {name}: the loss is {_shape(value)}; return one number with a "
                "gradient, made of batch.logps_BT and summed up"
            )
        (gradient_BT,) = _call(name, lambda v: torch.autograd.grad(v, leaf_BT), value)
        for what, numbers in (("loss", value), ("gradient", gradient_BT)):
            if not numbers.isfinite().all():
                raise TaskError(f"objective {name}: its {what} is not finite")
        same_BT = gradient_BT * batch.logps_BT  # summed up, it has the loss's gradient
        total = same_BT.sum() + (value.detach() - same_BT.detach().sum())
        return total, {key: _number(name, key, v) for key, v in metrics.items()}

    return loss


def _checked_advantage(name: str, function: Any) -> Advantage:
    def advantage(rewards_GN: Tensor) -> Tensor:
        found = _call(f"{name}, advantage", function, rewards_GN)
        if not isinstance(found, Tensor) or found.shape != rewards_GN.shape:
            raise TaskError(
                f"objective {name}, advantage: returned {_shape(found)} for rewards of shape "
                f"{tuple(rewards_GN.shape)}; return one number for each"
            )
        if found.isinf().any():
            raise TaskError(f"objective {name}, advantage: returned an infinite number")
        return found.detach().to(rewards_GN)

    return advantage


def _call(name: str, function: Any, argument: Any) -> Any:
    try:
        return function(argument)
    except (Exception, SystemExit) as error:
        what = shorten(" ".join(f"{type(error).__name__}: {error}".split()))
        raise TaskError(f"objective {name}: raised {what}") from error


def _number(name: str, key: Any, value: Any) -> Tensor:
    try:
        number = torch.as_tensor(value).detach().float().reshape(())
        return number.where(number.isfinite(), torch.nan)  # which a log leaves out
    except (TypeError, ValueError, RuntimeError) as error:
        raise TaskError(
            f"objective {name}: metric {key!r} is {_shape(value)}; give one number"
        ) from error


def _shape(value: Any) -> str:
    if isinstance(value, Tensor):
        gradient = "" if value.requires_grad else " without a gradient"
        return f"a tensor of shape {tuple(value.shape)}{gradient}"
    return f"a {type(value).__name__}"
