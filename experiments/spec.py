"""What an experiment is, as a user writes it: task, model, methods, arms. Loads no torch.

name: inflection
task: inflection
model: smollm2-135m
methods:
  grpo: {steps: 25}                        # options of a method
  grpo-long: {method: grpo, steps: 100}    # the same method under another name
arms:
  zero-shot: []
  prompt+grpo: [bootstrap, grpo]           # a chain, applied from left to right
  best-of-8: [bootstrap, {best_of: {n: 8}}]  # how it answers comes last
  bare: {chain: [grpo], tools: false}      # of a task with tools: as if it had none
attribution: true                          # what of an arm's gain is weights, what is prompt?
price_per_hour: 2.5                        # of the machine, in $: the cost table then has dollars
budget: {rollouts: 5000}                   # what each arm may spend along its chain, at most
allocate: halving                          # cheap rungs first; the best half on dev goes on
report_to: [tensorboard]                   # or trackio, mlflow, wandb; the run folder has it all
sandbox: {allow_missing: [network]}        # a task that runs code may do without this wall
stop_early: true                           # on test, who is clearly worse is asked no further
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from experiments.allocation import (
    AllocateSpec,
    BudgetSpec,
    Rung,
    StopEarlySpec,
    rungs,
    share,
)
from experiments.chains import chain_of, resolve_step, step_of
from experiments.errors import SpecError
from experiments.explain import explain, nearest
from experiments.methods import KINDS
from experiments.reading import apply_override, read_mapping
from experiments.tracking import Tracker
from lm.types import Sampling

Seed = Annotated[int, Field(strict=True, ge=0, le=2**31 - 1)]
NAME = r"^[A-Za-z0-9][A-Za-z0-9._+-]*$"


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ModelSpec(_Section):
    """`source` as in `lm.source.resolve`; device and dtype choose themselves by default."""

    source: str = Field(min_length=1)
    device: str = "auto"
    dtype: str = "auto"


class SplitSizes(_Section):
    """How many examples of each split are used, from its start; null means all."""

    train: int | None = Field(default=None, ge=1)
    dev: int | None = Field(default=None, ge=1)
    test: int | None = Field(default=None, ge=1)


class SamplingSpec(_Section):
    """How the evaluator asks: greedy by default, `n` answers an example."""

    max_tokens: int = Field(default=32, ge=1)
    temperature: float = Field(default=0.0, ge=0)
    top_k: int = Field(default=0, ge=0)
    top_p: float = Field(default=1.0, gt=0, le=1)
    n: int = Field(default=1, ge=1)
    stop: list[str] = []
    seed: int = Field(default=0, ge=0)
    min_p: float = Field(default=0.0, ge=0, le=1)
    repetition_penalty: float = Field(default=1.0, gt=0, allow_inf_nan=False)

    def build(self) -> Sampling:
        return Sampling(**{**self.model_dump(), "stop": tuple(self.stop)})


class SandboxSpec(_Section):
    """For tasks that run what a model writes: walls (`tasks.sandbox.WALLS`) that may be missing."""

    allow_missing: list[Literal["network", "filesystem", "processes", "syscalls"]] = []


class Step(_Section):
    """One method of an arm's chain, resolved: its name in the spec, its kind, all its options."""

    name: str
    kind: str
    config: dict[str, Any]


class ExperimentSpec(_Section):
    """A whole experiment. `baseline` (the first arm by default) is what others are held against.

    With `attribution`, arms that move both prompt and weights are also evaluated with either alone.
    With `allow_overlap`, examples of test may stand in train or dev, which the report then says.
    `without_tools` are the arms of a task with tools that answer without them; an arm written as
    `{chain: [...], tools: false}` is one.
    """

    name: str = Field(pattern=NAME)
    task: str = Field(min_length=1)
    model: ModelSpec
    seeds: list[Seed] = Field(default=[0], min_length=1)
    splits: SplitSizes = SplitSizes()
    sampling: SamplingSpec = SamplingSpec()
    methods: dict[str, dict[str, Any]] = {}
    arms: dict[str, list[Step]] = Field(min_length=1)
    without_tools: list[str] | None = None
    baseline: str = ""
    attribution: bool = False
    price_per_hour: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    budget: BudgetSpec | None = None
    allocate: AllocateSpec | None = None
    stop_early: StopEarlySpec | None = None
    allow_overlap: bool = False
    sandbox: SandboxSpec | None = None
    report_to: list[Tracker] = []

    @field_validator("report_to", mode="before")
    @classmethod
    def _one_or_several(cls, value: Any) -> Any:
        return [value] if isinstance(value, str) else value or []

    @field_validator("model", mode="before")
    @classmethod
    def _model_by_name(cls, value: Any) -> Any:
        return {"source": value} if isinstance(value, str) else value

    @field_validator("seeds")
    @classmethod
    def _distinct(cls, seeds: list[int]) -> list[int]:
        if len(set(seeds)) < len(seeds):
            raise ValueError("seeds must be distinct; write e.g. [0, 1, 2]")
        return seeds

    @field_validator("attribution", "allow_overlap", mode="before")
    @classmethod
    def _switch(cls, value: Any) -> bool:
        if not isinstance(value, bool):
            raise ValueError(f"{value!r} is no switch; write true or false")
        return value

    @field_validator("stop_early", mode="before")
    @classmethod
    def _by_default(cls, value: Any) -> Any:
        return {True: {}, False: None}[value] if isinstance(value, bool) else value

    @model_validator(mode="after")
    def _stopped_as_a_whole(self) -> ExperimentSpec:
        if self.stop_early is not None and len(self.seeds) > 1:
            raise ValueError(
                "stop_early: an arm stopped at one seed would be judged by its other seeds; write "
                "one seed"
            )
        if self.stop_early is not None and self.attribution:
            raise ValueError(
                "stop_early: an arm that is stopped cannot be taken apart; write attribution: "
                "false, or leave stop_early out"
            )
        return self

    @model_validator(mode="before")
    @classmethod
    def _resolve_arms(cls, raw: Any) -> Any:
        if not isinstance(raw, dict) or not isinstance(raw.get("arms"), dict):
            return raw
        methods = raw.get("methods") or {}
        if not isinstance(methods, dict):
            return raw
        for name in [*methods, *raw["arms"]]:
            if not isinstance(name, str):
                raise ValueError(f"{name!r} is no name; put it into quotes")
        methods = {name: options or {} for name, options in methods.items()}
        for name, options in methods.items():
            resolve_step(name, options, f"methods.{name}")
        arms, without = {}, raw.get("without_tools")
        for arm, written in raw["arms"].items():
            chain, tools = chain_of(written, f"arms.{arm}")
            without = without if tools else [*(without or []), arm]
            if not isinstance(chain, list):
                raise ValueError(f"arms.{arm}: must be a list of methods; write e.g. [bootstrap]")
            arms[arm] = [step_of(item, methods, f"arms.{arm}") for item in chain]
        return {**raw, "methods": methods, "arms": arms, "without_tools": without}

    @model_validator(mode="after")
    def _known_arms(self) -> ExperimentSpec:
        for name in self.without_tools or ():
            if name not in self.arms:
                raise ValueError(
                    f"without_tools: no arm {name!r}; {nearest(name, list(self.arms))}"
                )
        return self

    def has_tools(self, arm: str) -> bool:
        """Whether the arm answers with the task's tools, if it has any."""
        return arm not in (self.without_tools or ())

    @model_validator(mode="after")
    def _known_baseline(self) -> ExperimentSpec:
        if not self.baseline:
            object.__setattr__(self, "baseline", next(iter(self.arms)))
        if self.baseline not in self.arms:
            known = nearest(self.baseline, list(self.arms))
            raise ValueError(f"baseline: no arm {self.baseline!r}; {known}")
        return self

    @model_validator(mode="after")
    def _something_to_halve(self) -> ExperimentSpec:
        if self.allocate is None:
            return self
        if self.arms[self.baseline]:
            raise ValueError("allocate: needs a baseline that costs nothing; add zero-shot: []")
        if len(self.contenders()) < 2:
            raise ValueError("allocate: takes two arms with methods or more; add one, or leave it")
        halving = self.allocate.halving
        if halving.rollouts is not None:
            each = BudgetSpec(rollouts=share(halving, len(self.contenders())) or None)
            if each.rollouts is None:
                raise ValueError(
                    f"allocate: {halving.rollouts} rollouts are less than one an arm; write more"
                )
            if self.budget not in (None, each):
                raise ValueError("allocate: write halving: {rollouts: …}, or a budget, not both")
            object.__setattr__(self, "budget", each)
        if self.budget is None:
            raise ValueError("allocate: of what? write budget: {rollouts: 5000}")
        if self.attribution:
            raise ValueError(
                "attribution: its cells may be arms that allocate dropped, and test is not opened "
                "for those; write attribution: false, and take the winner apart in another run"
            )
        return self

    def contenders(self) -> list[str]:
        """The arms that have methods."""
        return [name for name, chain in self.arms.items() if chain]

    def rungs(self) -> list[Rung]:
        """Those of successive halving, none where the spec does not ask for it."""
        if self.allocate is None or self.budget is None:
            return []
        return rungs(self.allocate.halving, self.budget, len(self.contenders()))

    @model_validator(mode="after")
    def _programs_come_first(self) -> ExperimentSpec:
        for arm, chain in self.arms.items():
            prompts = [step for step in chain if KINDS[step.kind].moves == "prompt"]
            for step in prompts[1:]:
                if step.config.get("program") is not None:
                    raise ValueError(
                        f"arms.{arm}: {step.name} brings a program, and would drop what "
                        f"{prompts[0].name} has found; give the program to {prompts[0].name}"
                    )
        return self

    @model_validator(mode="after")
    def _decoding_comes_last(self) -> ExperimentSpec:
        for arm, chain in self.arms.items():
            early = next(
                (step for step in chain[:-1] if KINDS[step.kind].moves == "decoding"), None
            )
            if early is not None:
                raise ValueError(
                    f"arms.{arm}: {early.name} says how the finished policy answers, and "
                    f"{chain[-1].name} comes after it; write {early.name} once, as the last one"
                )
        return self

    @model_validator(mode="after")
    def _something_to_attribute(self) -> ExperimentSpec:
        if self.attribution and not any(map(moves_both, self.arms.values())):
            raise ValueError(
                "attribution: no arm moves both prompt and weights, and nothing else; add one such "
                "as [bootstrap, grpo], or write attribution: false"
            )
        return self

    @model_validator(mode="after")
    def _full_weights_after_4_bits(self) -> ExperimentSpec:
        for arm, chain in self.arms.items():
            kinds = [step.config.get("weights") for step in chain]
            if "qlora" in kinds and "full" in kinds[kinds.index("qlora") :]:
                raise ValueError(
                    f"arms.{arm}: weights: full cannot train what weights: qlora leaves in 4 bits; "
                    "write weights: qlora or lora after it"
                )
        return self


def moves_both(chain: Iterable[Step]) -> bool:
    """Whether the chain has methods for the prompt and methods for the weights, and no others:
    what choosing among answers adds would be taken for the prompt's or the weights'."""
    return {KINDS[step.kind].moves for step in chain} == {"prompt", "weights"}


def load_spec(path: Path, overrides: list[str] | None = None) -> ExperimentSpec:
    """Read a spec file, apply `a.b=c` overrides, check everything. Raises SpecError."""
    raw = read_mapping(path)
    for override in overrides or []:
        apply_override(raw, override)
    return parse_spec(raw, str(path))


def parse_spec(raw: dict[str, Any], where: str) -> ExperimentSpec:
    """Check a spec given as a mapping; `where` begins the message of the SpecError raised."""
    try:
        return ExperimentSpec.model_validate(raw)
    except ValidationError as error:
        raise SpecError(f"{where}: {explain(error, ExperimentSpec)}") from None
