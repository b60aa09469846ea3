"""A `generate_until` task of lm-eval as ours: `lm-eval:gsm8k`, `lm-eval:my.yaml`.

The documents, the prompt (`doc_to_text`), the filters and the metric are lm-eval's; few-shot
examples are not taken over, since demos are what our prompts move. A reply is cut at the first of
the task's `until` strings, as lm-eval cuts it. `lm-eval:NAME,filter=flexible-extract,
metric=exact_match` chooses; otherwise the first filter and the first metric count.

Test is the split lm-eval evaluates. Dev is its validation split where that is another one, else
cut from its training documents; a task that has neither is dealt in tens (`tasks.dealt`).
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from tasks.adapters.scoring import FAILURES, FORMAT_FAILURES, as_score, judged, require
from tasks.dealt import cut, deal
from tasks.hub import offline_first
from tasks.overlap import set_apart
from tasks.text import nearest, shorten
from tasks.types import Example, Score, SplitName, Task, TaskError

PREFIX = "lm-eval:"
INVALID = "[invalid]"  # what lm-eval's regex filter gives when nothing matches
DEV_SIZE, DEV_SHARE = 500, 0.2


class LMEvalTask(Task):
    """The documents of one task of lm-eval, scored by lm-eval."""

    inputs = ("question",)
    output = "answer"
    failure_classes = FAILURES
    format_failures = FORMAT_FAILURES

    def __init__(self, name: str):
        require("lm_eval", "lm-eval", name)
        spelled, *options = name.removeprefix(PREFIX).split(",")
        split = [option.partition("=") for option in options]
        chosen: dict[str, str] = {key: value for key, _, value in split}
        if odd := sorted(set(chosen) - {"filter", "metric"}):
            raise TaskError(f'{name}: no option "{odd[0]}"; there are filter= and metric=')
        self.name = name
        self._spelled, self._filter, self._metric = (
            spelled,
            chosen.get("filter"),
            chosen.get("metric"),
        )
        path = Path(spelled).expanduser()
        self.files = (path,) if spelled.endswith((".yaml", ".yml")) else ()
        config = _read_config(spelled, name)
        if (kind := config.get("output_type", "generate_until")) != "generate_until":
            raise TaskError(f"{name}: output_type is {kind}; only generate_until tasks run as ours")
        if config.get("unsafe_code"):
            raise TaskError(f"{name}: runs code outside a sandbox; use the built-in humaneval")
        description = config.get("description") or ""
        self.instruction = description.strip() if isinstance(description, str) else ""

    def split(self, name: SplitName) -> Sequence[Example]:
        _choose(self.name, "filter", self._filter, {f.name: f for f in self._task._filters})
        if self._task.config.process_results is None:
            _choose(self.name, "metric", self._metric, self._task._metric_fn_list)
        return self._splits[0][name]

    @property
    def generation(self) -> Mapping[str, Any]:
        """lm-eval's `generation_kwargs`: `until`, and sampling our spec decides on instead."""
        return self._task.config.generation_kwargs or {}

    def score(self, example: Example, text: str) -> Score:
        def judge(text: str) -> Score:
            answer, value = self._judge(self._splits[1][example.id], text)
            unread = "unreadable" if answer.strip() in ("", INVALID) else ""
            return as_score(example, answer, value, failure=unread)

        return judged(example, text, judge)

    def _judge(self, doc: Any, text: str) -> tuple[str, float]:
        """What the filter leaves of a reply, and what the metric gives for it."""
        from lm_eval.api.instance import Instance

        until = self.generation.get("until") or []
        for stop in [until] if isinstance(until, str) else until:
            text = text.split(stop)[0] if stop else text
        task, arguments = self._task, (example_prompt(self._task, doc), dict(self.generation))
        asked = Instance("generate_until", doc, arguments, 0, resps=[text])
        chosen = _choose(self.name, "filter", self._filter, {f.name: f for f in task._filters})
        chosen.apply([asked])
        answer = asked.filtered_resps[chosen.name]
        given = task.process_results(doc, [answer])
        value = _choose(self.name, "metric", self._metric, given)
        return str(answer), float(value)

    @property
    def _task(self) -> Any:
        return _load(self._spelled)

    @property
    def _splits(self) -> tuple[Mapping[str, Sequence[Example]], Mapping[str, Any]]:
        return _read_splits(self._spelled)


def example_prompt(task: Any, doc: Any) -> str:
    """`doc_to_text`, as one text."""
    text = task.doc_to_text(doc)
    if not isinstance(text, str):
        raise TaskError(f"{task.task_name}: doc_to_text gives no text but {text!r}")
    return text


def _choose(name: str, what: str, wanted: str | None, known: Mapping[str, Any]) -> Any:
    if wanted is not None and wanted not in known:
        raise TaskError(f'{name}: no {what} "{wanted}"{nearest(wanted, known)}: {", ".join(known)}')
    return known[wanted or next(iter(known))]


@cache
def _manager() -> Any:
    from lm_eval.tasks import TaskManager

    with _quiet():
        return TaskManager()


def _read_config(spelled: str, name: str) -> Mapping[str, Any]:
    """The task's configuration, its `include` files followed; no data is read for it."""
    from lm_eval.tasks._yaml_loader import load_yaml

    if spelled.endswith((".yaml", ".yml")):
        path = Path(spelled).expanduser()
        if not path.is_file():
            raise TaskError(f"{name}: no such file; write lm-eval:path/task.yaml")
    else:
        known = _manager().all_subtasks
        if spelled not in known:
            raise TaskError(
                f'lm-eval has no task "{shorten(spelled, 60)}"{nearest(spelled, known)}'
            )
        path = _manager().task_index[spelled].yaml_path
    try:
        return load_yaml(path, resolve_func=False)
    except Exception as error:  # YAML and includes of any kind
        raise TaskError(f"{name}: {shorten(' '.join(str(error).split()), 200)}") from error


@cache
def _load(spelled: str) -> Any:
    def load() -> Any:
        with _quiet():
            return next(iter(_manager().load(spelled)["tasks"].values()))

    return offline_first(f"lm-eval:{spelled}", load)


@cache
def _read_splits(spelled: str) -> tuple[Mapping[str, Sequence[Example]], Mapping[str, Any]]:
    task, docs = _load(spelled), {}

    def read(split: str, found: Any) -> list[Example]:
        examples = []
        for number, doc in enumerate(found):
            example = Example(
                f"{split}-{number}", {"question": example_prompt(task, doc)}, _gold(task, doc)
            )
            examples.append(example)
            docs[example.id] = doc
        return examples

    test = read("test" if task.has_test_docs() else "validation", task.eval_docs)
    train = read("train", task.training_docs()) if task.has_training_docs() else []
    other = task.has_test_docs() and task.has_validation_docs()
    dev = read("validation", task.validation_docs()) if other else cut(train, DEV_SIZE, DEV_SHARE)
    if not train and dev:
        train, dev = dev, cut(dev, DEV_SIZE, DEV_SHARE)
    if not train:
        return deal(test), docs
    kept = {example.id for example in dev}
    train = [example for example in train if example.id not in kept]
    return set_apart({"test": test, "dev": dev, "train": train}), docs


def _gold(task: Any, doc: Any) -> str:
    gold = task.doc_to_target(doc)
    if task.config.doc_to_choice is not None:
        gold = task.doc_to_choice(doc)[gold]
    if isinstance(gold, list | tuple):
        gold = gold[0] if gold else ""
    return str(gold).strip()


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """lm-eval tells at length what it reads."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)
