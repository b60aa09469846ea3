"""Finding and checking everything a run needs, before it costs anything."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from evaluation.environment import scoring
from evaluation.judge import judge_hash
from evaluation.types import Policy, ScoreFunction
from experiments.budget import arm_caps, check_budget
from experiments.environment import surroundings
from experiments.errors import SpecError
from experiments.locate import locate_model, locate_task
from experiments.pictures import check_model, check_spec
from experiments.plan import Plan, digest, make_plan
from experiments.spec import ExperimentSpec
from experiments.tracking import check_trackers
from lm.flops import count_parameters
from lm.ledger import Ledger
from lm.source import resolve, weights_fingerprint
from lm.types import LanguageModel, Sampling
from tasks.leaks import check_prompt
from tasks.load import load_task, task_hash
from tasks.sandbox import settle
from tasks.splits import check_disjoint, required_split
from tasks.types import Example, Prompt, Task, TaskError


@dataclass(frozen=True)
class Experiment:
    """A spec with what it names found and checked: ready to run.

    `base` is the spec's folder, where files it names are looked for first. `exam` is a digest of
    all that an evaluation depends on besides the policy: task, test examples, scoring, sampling;
    `tested` is how many test examples there are. `parameters` is the model's size as `lm.flops`
    counts it.
    `overlapping` are the ids of test examples that stand in train or dev too, where it is allowed.
    `refuse_leaks` raises TaskError for a prompt that gives dev or test examples away, made from
    `before`; it alone knows the test examples, and no method gets to see it.
    """

    spec: ExperimentSpec
    base: Path
    task: Task
    train: Sequence[Example]
    dev: Sequence[Example]
    plan: Plan
    exam: str
    tested: int
    weights: str
    parameters: int
    sampling: Sampling
    surroundings: dict[str, Any]
    pictures: bool  # whether examples show some
    overlapping: tuple[str, ...]
    refuse_leaks: Callable[..., None] = field(repr=False)

    @property
    def start(self) -> Policy:
        """What every arm starts from that does not switch the task's tools off."""
        return self.start_of(tools=True)

    def start_of(self, *, tools: bool) -> Policy:
        """What an arm starts from."""
        prompt = Prompt.of(self.task)
        return Policy(self.spec.model.source, prompt if tools else replace(prompt, tools=()))

    @property
    def score(self) -> ScoreFunction:
        """How the task scores, with its tools where it has some."""
        return scoring(self.task)

    def open(self, policy: Policy, ledger: Ledger) -> LanguageModel:
        """Load a policy's weights."""
        model = self.spec.model
        if self.pictures:
            from lm.vision import load_vision_model

            source = locate_model(policy.source, self.base)
            return load_vision_model(
                source, ledger=ledger, device=model.device, dtype=policy.dtype(model.dtype)
            )
        from lm.hf import load_model

        return load_model(
            locate_model(policy.source, self.base),
            adapter=policy.adapter,
            ledger=ledger,
            device=model.device,
            dtype=policy.dtype(model.dtype),
            quantization=policy.quantization,
        )


def prepare(spec: ExperimentSpec, base: Path) -> Experiment:
    """Find what `spec` (from the folder `base`) names. Raises TaskError and ModelError.

    The splits are compared here: a test example that is in train too would void the result, and a
    test input too long for the model would end the run after hours of training. Both are refused
    now. Nothing else sees test yet but the guard over optimized prompts; methods get the train and
    dev lists alone.
    """
    check_trackers(spec.report_to)
    sampling = spec.sampling.build()
    around = surroundings(spec.model.device, spec.model.dtype)
    task = load_task(locate_task(spec.task, base))
    walls = settle(task, spec.sandbox.allow_missing if spec.sandbox else ())
    splits: dict[Any, list[Example]] = {
        "train": required_split(task, "train", spec.splits.train),
        "dev": required_split(task, "dev", spec.splits.dev),
        "test": required_split(task, "test", spec.splits.test),
    }
    if spec.without_tools and not getattr(task, "tools", ()):
        names = ", ".join(spec.without_tools)
        raise SpecError(f'tools: arm {names} switches off what task "{task.name}" does not have')
    overlaps = check_disjoint(splits, allow_overlap=spec.allow_overlap)
    first = [rung.caps for rung in spec.rungs()[:1]] or [arm_caps(spec)]
    check_budget(spec, first[0].rollouts, len(splits["dev"]))
    folder = resolve(locate_model(spec.model.source, base))
    everything = [example for examples in splits.values() for example in examples]
    pictures = check_model(spec.model.source, folder, task, everything)
    if pictures:
        check_spec(spec, task)
    for name, examples in splits.items():
        _check_room(folder, task, name, examples, sampling.max_tokens)
    weights = weights_fingerprint(folder)
    seen = {name: _digest_examples(examples) for name, examples in splits.items()}
    kind = [around["device_type"], around["dtype"]]
    world = digest(task_hash(task), judge_hash(), seen["train"], seen["dev"], weights, kind)
    other_order = [spec.stop_early.model_dump()] if spec.stop_early else []
    exam = digest(world, seen["test"], spec.sampling.model_dump(), *other_order)
    return Experiment(
        spec=spec,
        base=base,
        task=task,
        train=splits["train"],
        dev=splits["dev"],
        plan=make_plan(spec, world, base),
        exam=exam,
        tested=len(splits["test"]),
        weights=weights,
        parameters=count_parameters(folder),
        sampling=sampling,
        surroundings={**around, "sandbox": walls} if walls else around,
        pictures=pictures,
        overlapping=tuple(overlap.id for overlap in overlaps if overlap.split == "test"),
        refuse_leaks=partial(
            check_prompt,
            train=splits["train"],
            held_out={"dev": splits["dev"], "test": splits["test"]},
        ),
    )


def _digest_examples(examples: Sequence[Example]) -> str:
    """The examples count themselves, too: a task may read files its hash knows nothing of."""
    return digest([[e.id, dict(e.inputs), e.answer, dict(e.meta)] for e in examples])


def _check_room(
    folder: Path, task: Task, split: str, examples: Sequence[Example], max_tokens: int
) -> None:
    """Refuse inputs that fill the context window before any demo is added."""
    window = json.loads((folder / "config.json").read_text()).get("max_position_embeddings")
    if window is None or not (folder / "tokenizer.json").is_file():
        return

    def text(example: Example) -> str:
        return task.instruction + "".join(example.inputs[name] for name in task.inputs)

    longest = max(examples, key=lambda example: len(text(example)))
    if len(text(longest)) + max_tokens <= window:
        return  # a token is a character or more
    from tokenizers import Tokenizer

    tokens = len(Tokenizer.from_file(str(folder / "tokenizer.json")).encode(text(longest)).ids)
    if tokens + max_tokens > window:
        raise TaskError(
            f'task "{task.name}", split "{split}", example "{longest.id}": {tokens} tokens and '
            f"max_tokens {max_tokens} exceed the model's window of {window}; shorten it"
        )
