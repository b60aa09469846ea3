"""A Policy is what answers examples; a Method turns one into a better one.

A policy has two coordinates: weights (base model and adapter) and prompt. Prompt optimizers move
the prompt, RL moves the weights, and the evaluator sees policies only, so every arm is measured
the same way.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, Protocol

from lm.ledger import Ledger
from lm.source import weights_fingerprint
from lm.types import LanguageModel, Sampling
from tasks.types import Example, Prompt, Score, TaskError

ScoreFunction = Callable[[Example, str], Score]


@dataclass(frozen=True)
class BestOf:
    """Decoding by choice: `n` answers are drawn at `temperature`, and `reward` picks one of them.

    `reward` is JSON as a spec writes it, its files as found on this machine; `digest` stands for
    their content, so that a reward that has changed is another policy. `seed` sets the draws apart
    from those of the same arm with another seed.
    """

    n: int
    temperature: float
    reward: str
    digest: str
    seed: int = 0

    def sampling(self, exam: Sampling) -> Sampling:
        """How answers are drawn where the evaluator asks as `exam`: `n` for each one it wants."""
        mixed = hashlib.sha256(f"best_of/{exam.seed}/{self.seed}".encode()).digest()
        seed = int.from_bytes(mixed[:4], "big")
        return replace(exam, n=exam.n * self.n, temperature=self.temperature, seed=seed)


@dataclass(frozen=True)
class Policy:
    """`model` is a source for `lm.source` (Hub id, folder, alias).

    `weights` is a model folder that full training wrote, loaded in the place of `model`; `adapter`
    a PEFT folder, put on top of either; `quantization` how the weights below it are held.
    `program` is a folder with a DSPy program of several steps, source and state: it asks in the
    place of `prompt`, of which only the field names count then. With `best_of` an answer is the
    best of several.
    """

    model: str
    prompt: Prompt
    adapter: Path | None = None
    weights: Path | None = None
    quantization: Literal["nf4"] | None = None
    program: Path | None = None
    best_of: BestOf | None = None

    @property
    def source(self) -> str:
        """What to load: the weights trained here, else the model."""
        return self.model if self.weights is None else str(self.weights)

    def fingerprint(self) -> str:
        """16 hex digits over model name, *contents* of weights, adapter, program and reward, and
        prompt."""
        digest = hashlib.sha256(f"{self.model}\0{self.prompt.to_json()}".encode())
        if self.adapter is not None:
            for path in sorted(self.adapter.glob("adapter_*")):
                digest.update(path.name.encode() + b"\0" + path.read_bytes())
        if self.weights is not None:
            digest.update(f"weights\0{weights_fingerprint(self.weights)}".encode())
        if self.quantization is not None:
            digest.update(self.quantization.encode())
        if self.program is not None:
            for path in sorted(self.program.rglob("*")):
                if path.suffix in (".py", ".json"):
                    name = path.relative_to(self.program).as_posix()
                    digest.update(f"program\0{name}\0".encode() + path.read_bytes())
        if self.best_of is not None:
            best = self.best_of
            told = f"best_of\0{best.n}\0{best.temperature}\0{best.digest}\0{best.seed}"
            digest.update(told.encode())
        return digest.hexdigest()[:16]

    def dtype(self, chosen: str) -> str:
        """How to load it where `chosen` is left open: weights trained here in fp32, as they were
        trained and measured, since bf16 rounds most of a small step away."""
        own = chosen == "auto" and self.weights is not None and self.quantization is None
        return "float32" if own else chosen

    def refuse_program(self, who: str) -> None:
        """Raises TaskError, one line, on behalf of `who`, which can work with a prompt only."""
        if self.program is not None:
            raise TaskError(
                f"{who}: needs a prompt, and {self.program.name!r} is a program of several steps; "
                "write an arm without it, or give the program a single predictor"
            )

    def with_prompt(self, prompt: Prompt) -> Policy:
        return replace(self, prompt=prompt)

    def with_adapter(self, adapter: Path) -> Policy:
        return replace(self, adapter=adapter)

    def with_weights(self, weights: Path) -> Policy:
        """The policy after full training: what an adapter had learned is in the weights now."""
        return replace(self, weights=weights, adapter=None, quantization=None)


class Progress(Protocol):
    """Where long work reports. `total` may be 0 when unknown; figures are shown by name."""

    def __call__(self, step: int, total: int, **figures: float | str) -> None: ...


PASS_RATES_FILE = "pass_rates.json"  # {example id: [answers, total]}


@dataclass(frozen=True)
class PassRate:
    """How many answers to an example were scored, and the sum of their scores."""

    answers: float
    total: float


@dataclass(frozen=True)
class Reporting:
    """The trackers (names transformers knows) that a trainer reports to besides the stage's own
    files, and what it goes by there."""

    to: tuple[str, ...] = ()
    project: str = ""
    run: str = ""


@dataclass(frozen=True)
class Context:
    """What a method may use besides its examples. The task's splits are deliberately not here.

    `score` is the task's scorer. `open` loads a policy's weights as a `LanguageModel` that counts
    into `ledger`. `folder` is the stage's own folder: what is written there survives a kill, and
    the method finds it again when it is run once more. `sampling` is how the evaluator will ask
    (greedy, max_tokens), `seed` the seed of this stage. `pass_rates` tells, by example id, how the
    answers were scored that earlier methods of the chain have drawn.
    """

    score: ScoreFunction
    open: Callable[[Policy], LanguageModel]
    ledger: Ledger
    folder: Path
    sampling: Sampling
    seed: int
    progress: Progress
    pass_rates: Mapping[str, PassRate] = field(default_factory=dict)
    reporting: Reporting = Reporting()


class Unfinished(BaseException):
    """How a method leaves `improve` at a pause of its ledger; `policy` is its best so far."""

    def __init__(self, policy: Policy):
        super().__init__("paused")
        self.policy = policy


class Method(Protocol):
    """Maps a policy to a better one.

    `check` raises a one-line error for whatever `improve` could not work with; it is called before
    anything is spent, with the policy of the chain's start.
    `improve` gets example lists, never the task's test split. It may be killed at any moment and
    called again with the same arguments and folder; it then goes on, and ends as if undisturbed.
    At a pause of `context.ledger` it raises `Unfinished`, and goes on likewise when called again.
    Whatever the returned policy refers to (an adapter) lies below `context.folder`.
    """

    config: Any

    def check(
        self,
        policy: Policy,
        train: Sequence[Example],
        dev: Sequence[Example],
        score: ScoreFunction,
    ) -> None: ...

    def improve(
        self,
        policy: Policy,
        train: Sequence[Example],
        dev: Sequence[Example],
        context: Context,
    ) -> Policy: ...


@dataclass(frozen=True)
class EvalRecord:
    """One answer to one example, as stored in records.parquet (one column a field).

    `inputs` and `meta` are JSON text, and so is `transcript`, the turns of an answer that could
    call tools (docs/tools.md). `score` is in [0, 1]. `seconds` is the batch's time shared equally
    among its rows, the only field that differs between two runs of the same spec. Which run, arm
    and seed a record belongs to is the run folder's knowledge: arms may share one.
    """

    split: str
    example_id: str
    sample: int
    score: float
    correct: bool
    failure: str | None
    answer: str
    gold: str
    text: str
    feedback: str
    finish: str
    prompt_tokens: int
    completion_tokens: int
    seconds: float
    inputs: str
    meta: str
    transcript: str | None = None


Enough = Callable[[Sequence[EvalRecord], int], bool]
"""Whether the answers so far, to the first of so many examples, are enough to know."""
