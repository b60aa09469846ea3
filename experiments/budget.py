"""Matched budgets: what an arm may spend along its whole chain, and what is left for a stage.

Methods know nothing of arms. A stage's ledger has for its caps what the stages before it have left,
and a method's own caps hold besides, so that the smaller one counts. What a shared stage has spent
counts for every arm that goes on from it.
"""

from __future__ import annotations

from experiments.errors import SpecError
from experiments.methods import KINDS
from experiments.plan import Stage
from experiments.spec import ExperimentSpec, Step
from experiments.store import RunFolder, damaged
from lm.ledger import Caps, Ledger


def arm_caps(spec: ExperimentSpec) -> Caps:
    """What each arm may spend; nothing is capped where the spec has no budget."""
    return spec.budget.caps() if spec.budget is not None else Caps()


def left(folder: RunFolder, stage: Stage, caps: Caps) -> Caps:
    """What the finished stages before `stage` leave of what an arm may spend."""
    return caps.less(read_ledger(folder, key) for key in stage.ancestors())


def read_ledger(folder: RunFolder, key: str) -> Ledger:
    """What a stage has spent. Raises SpecError when that cannot be read."""
    path = folder.stage(key) / "ledger.json"
    try:
        return Ledger.from_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise damaged(folder.stage(key), str(error)) from None


def check_budget(spec: ExperimentSpec, rollouts: int | None, dev: int) -> None:
    """Raises SpecError where `rollouts` for an arm let its first method measure nothing: a prompt
    method needs all its examples of dev (which has `dev`) for the incoming prompt and for one more,
    a weight method in the first rung of `allocate` its steps up to the first look at dev.
    """
    for chain in spec.arms.values():
        if rollouts is not None and chain and spec.rungs():
            _check_rung(chain[0], rollouts)
        if rollouts is None or not chain or KINDS[chain[0].kind].moves != "prompt":
            continue
        needed = 2 * min(chain[0].config["dev_examples"], dev)
        if rollouts < needed:
            raise SpecError(
                f"budget: {rollouts} rollouts let {chain[0].name} measure nothing beside the "
                f"incoming prompt on {needed // 2} dev examples; write {needed} or more, or fewer "
                "dev_examples"
            )


def _check_rung(step: Step, rollouts: int) -> None:
    config = KINDS[step.kind].config.model_validate(step.config)
    steps, every = step.config.get("steps"), step.config.get("eval_every")
    if KINDS[step.kind].moves != "weights" or not steps or not every:
        return
    needed = min(every, steps) * (config.expected_rollouts() // steps)
    if rollouts < needed:
        raise SpecError(
            f"allocate: the first rung gives {rollouts} rollouts, and {step.name} looks at dev "
            f"after {needed} only; write a larger budget, or a smaller eval_every"
        )
