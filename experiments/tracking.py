"""`report_to` in a spec: a run's figures in TensorBoard, Trackio, MLflow or Weights & Biases, too.

Weight methods report live, through the callbacks of transformers that TRL's trainers carry; what a
prompt method found and the test scores follow when they are known. Where a tracker writes, and who
one is there, is the tracker's own business (its environment variables, its login): no key is read
or kept here. All of it stands in the run folder anyway; a tracker that fails at the end is told.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, get_args

from evaluation.types import Reporting
from experiments.errors import SpecError

Tracker = Literal["tensorboard", "trackio", "mlflow", "wandb"]
TRACKERS: tuple[str, ...] = get_args(Tracker)
ALSO = {"tensorboard": "tensorboardX"}  # which does as well
FOLDER = "tensorboard"  # in the run folder
Values = Mapping[str, float]
Row = tuple[int, Values]  # step, figures


def check_trackers(names: Sequence[str]) -> None:
    """Raises SpecError for one that is not installed."""
    for name in names:
        if not (_installed(name) or (name in ALSO and _installed(ALSO[name]))):
            raise SpecError(
                f"report_to: {name} is not installed; pip install {name}, or leave it out"
            )


def _installed(module: str) -> bool:
    """Not a mere folder of that name, as wandb leaves behind where a run was started."""
    found = find_spec(module)
    return found is not None and found.origin is not None


@contextmanager
def reporting(told: Reporting, run: Path) -> Iterator[None]:
    """While a trainer of transformers is at work: where its callbacks report to.

    What the user has set in the environment wins. Its run is ended here, so that the next stage
    begins one of its own.
    """
    base = os.environ.get("TENSORBOARD_LOGGING_DIR", str(run / FOLDER))
    wanted = {
        "WANDB_PROJECT": os.environ.get("WANDB_PROJECT", told.project),
        "MLFLOW_EXPERIMENT_NAME": os.environ.get("MLFLOW_EXPERIMENT_NAME", told.project),
        "TENSORBOARD_LOGGING_DIR": os.path.join(base, told.run),
    }
    wanted = wanted if told.to else {}
    before = {name: os.environ.get(name) for name in wanted}
    os.environ.update(wanted)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})
        for name in told.to:
            try:
                _end(name)
            except Exception as error:
                _tell_failure(name, error)


def _end(name: str) -> None:
    """End the run that a tracker still holds open in this process, if any."""
    module: Any = sys.modules.get(name)
    if module is None:
        return
    if (name == "wandb" and module.run is not None) or (
        name == "trackio" and module.context_vars.current_run.get() is not None
    ):
        module.finish()
    elif name == "mlflow" and module.active_run() is not None:
        module.end_run()


def report_metrics(told: Reporting, run: Path, metrics: Path) -> None:
    """The dev scores of a method that has no trainer, out of its metrics.jsonl."""
    if not told.to or not metrics.exists():
        return
    rows = [json.loads(text) for text in metrics.read_text("utf-8").splitlines()]
    names = {"dev_score": "eval/dev_score", "rollouts": "train/tasklift/rollouts"}
    report(
        told,
        run,
        [
            (
                row["step"],
                {to: row[name] for name, to in names.items() if row.get(name) is not None},
            )
            for row in rows
        ],
    )


def report(told: Reporting, run: Path, rows: Sequence[Row]) -> None:
    """Write figures to every tracker; one that fails is told in a line, and the run goes on."""
    for name in told.to:
        try:
            WRITERS[name](told, run, rows)
        except Exception as error:
            _tell_failure(name, error)


def _tell_failure(name: str, error: Exception) -> None:
    what = " ".join(f"{type(error).__name__}: {error}".split())
    print(f"report_to: {name}: {what}; the run folder has it all", flush=True)


def _tensorboard(told: Reporting, run: Path, rows: Sequence[Row]) -> None:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        from tensorboardX import SummaryWriter  # pyright: ignore[reportMissingImports]

    base = Path(os.environ.get("TENSORBOARD_LOGGING_DIR", str(run / FOLDER)))
    with SummaryWriter(str(base / told.run)) as writer:
        for step, values in rows:
            for name, value in values.items():
                writer.add_scalar(name, value, step)


def _trackio(told: Reporting, run: Path, rows: Sequence[Row]) -> None:
    import trackio  # pyright: ignore[reportMissingImports]

    opened: Any = trackio.init(project=told.project, name=told.run, resume="allow")
    for step, values in rows:
        opened.log(dict(values), step=step)
    trackio.finish()


def _wandb(told: Reporting, run: Path, rows: Sequence[Row]) -> None:
    import wandb  # pyright: ignore[reportMissingImports]

    project = os.environ.get("WANDB_PROJECT", told.project)
    with wandb.init(project=project, name=told.run) as opened:
        for step, values in rows:
            opened.log(dict(values), step=step)


def _mlflow(told: Reporting, run: Path, rows: Sequence[Row]) -> None:
    import mlflow  # pyright: ignore[reportMissingImports]

    mlflow.set_experiment(os.environ.get("MLFLOW_EXPERIMENT_NAME", told.project))
    with mlflow.start_run(run_name=told.run):
        for step, values in rows:
            mlflow.log_metrics(dict(values), step=step)


WRITERS: dict[str, Callable[[Reporting, Path, Sequence[Row]], None]] = {
    "tensorboard": _tensorboard,
    "trackio": _trackio,
    "wandb": _wandb,
    "mlflow": _mlflow,
}
