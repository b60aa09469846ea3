"""Any reward as a metric of DSPy's: called with an example and a prediction, it gives a number.

Needs no dspy: its examples and predictions are read by name.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from reward_models.types import RewardError, RewardModel
from tasks.types import Demo, Prompt


def as_metric(
    reward: RewardModel, prompt: Prompt, *, least: float | None = None
) -> Callable[..., float | bool]:
    """`metric(example, prediction, trace=None, ...)`, for `dspy.Evaluate` and the optimizers.

    The example holds the fields of `prompt.inputs` and `example_id`, the prediction
    `prompt.output` (and `reasoning`, in the style `cot`). No reward (None) is worth 0. With `least`
    the metric says, while demos are bootstrapped (DSPy then gives a trace), whether the answer is
    worth that much; without it any value but 0 passes there.
    Raises RewardError for an example or a prediction without these fields.
    """

    def metric(example: Any, prediction: Any, trace: Any = None, *_: Any) -> float | bool:
        inputs = {name: str(_field(example, name, "example")) for name in prompt.inputs}
        said = str(_field(prediction, prompt.output, "prediction"))
        reasoning = str(getattr(prediction, "reasoning", None) or "")
        completion = [{"role": "assistant", "content": prompt.reply(Demo(inputs, said, reasoning))}]
        key = str(_field(example, "example_id", "example"))
        [value] = reward([prompt.messages(inputs)], [completion], example_id=[key])
        value = 0.0 if value is None else value
        return value >= least if least is not None and trace is not None else value

    return metric


def _field(holder: Any, name: str, what: str) -> Any:
    value = getattr(holder, name, None)
    if value is None:
        raise RewardError(f"metric: the {what} has no field {name!r}; give it one")
    return value
