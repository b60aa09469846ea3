"""What both sides are asked: real prompts of the inflection task, never from its test split."""

from __future__ import annotations

import random
import tempfile
from pathlib import Path
from typing import Any

from lm.hf import HFModel, load_model
from lm.tiny import write_tiny_model
from tasks.inflection import Inflection
from tasks.types import Demo, Example, Prompt

ROOT = Path(__file__).resolve().parent.parent
TASK = Inflection()


def open_model(chosen: Any) -> HFModel:
    """The model under test; with --quick a tiny random one."""
    source = chosen.model
    if chosen.quick:
        source = str(write_tiny_model(Path(tempfile.mkdtemp(prefix="tasklift-bench-"))))
    return load_model(source, device=chosen.device, dtype=chosen.dtype)


def examples(count: int, skip: int = 0) -> list[Example]:
    """Train and dev examples, the first `skip` left out; they start over when there are no more."""
    known = [*TASK.split("train"), *TASK.split("dev")][skip:]
    return [known[i % len(known)] for i in range(count)]


def few_shot(model: HFModel, tokens: int) -> Prompt:
    """The task's prompt with as many train demos as make at least `tokens` shared tokens."""
    prompt, demos = Prompt.of(TASK), []
    for example in TASK.split("train"):
        if len(model.encode(prompt.with_demos(demos).messages({"verb": ""}))) >= tokens:
            break
        demos.append(Demo(example.inputs, example.answer))
    return prompt.with_demos(demos)


def chats(prompt: Prompt, count: int) -> list[Any]:
    """Questions about verbs that are not among the prompt's demos."""
    return [prompt.messages(e.inputs) for e in examples(count, skip=len(prompt.demos))]


def mixed_prompts(model: HFModel, count: int, longest: int = 200) -> list[list[int]]:
    """Token ids of prompts of 10 to `longest` tokens, cut from this repository's own prose."""
    draw = random.Random(0)
    text = "".join(path.read_text() for path in sorted(ROOT.glob("*/*.py")))
    ids = model.tokenizer(text[:200_000]).input_ids
    lengths = [draw.randint(10, longest) for _ in range(count)]
    starts = [draw.randrange(len(ids) - length) for length in lengths]
    return [ids[start : start + n] for start, n in zip(starts, lengths, strict=True)]
