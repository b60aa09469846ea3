"""Tasks that show pictures: who can work with them, and one copy of each in the run's folder.

Records name a picture by its hash (tasks/images.py); `images/<hash>.png` has it.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from experiments.errors import SpecError
from experiments.spec import ExperimentSpec
from lm.pictures import reads_pictures
from lm.types import ModelError
from tasks.images import images_of, shows_images
from tasks.types import Example, Task

FOLDER = "images"


def check_model(source: str, folder: Path, task: Task, examples: Sequence[Example]) -> bool:
    """Whether the examples show pictures. Raises ModelError when the model in `folder` is to look
    at some and cannot."""
    if not shows_images(examples):
        return False
    if not reads_pictures(folder):
        raise ModelError(
            f'model: {source!r} reads text only, and task "{task.name}" shows pictures; name a '
            "vision-language model"
        )
    return True


def check_spec(spec: ExperimentSpec, task: Task) -> None:
    """Raises SpecError for what cannot be done with pictures yet: all but asking."""
    for name, chain in spec.arms.items():
        if chain:
            raise SpecError(
                f"arm {name}: {chain[0].name} cannot work with pictures yet, and task "
                f'"{task.name}" shows some; write an arm without methods, []'
            )
    if getattr(task, "tools", ()):
        raise SpecError(f'task "{task.name}": shows pictures and has tools; take one of them out')


def keep_pictures(folder: Path, examples: Iterable[Example]) -> None:
    """Every picture of the examples as a file, once."""
    for example in examples:
        for image in images_of(example.inputs):
            target = folder / FOLDER / image.file_name
            if not target.exists():
                target.parent.mkdir(parents=True, exist_ok=True)
                draft = target.with_name(f".{target.name}.tmp")
                draft.write_bytes(image.png)
                os.replace(draft, target)
