"""What a spec may say of the prompt methods beside `bootstrap`. No dspy here either."""

from __future__ import annotations

import math
from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from lm.choice import ModelChoice
from prompt_opt.config import DemoConfig, PromptConfig


class LabeledConfig(PromptConfig):
    """DSPy's LabeledFewShot: `demos` train examples as they are, `candidates` draws of them."""

    demos: int = Field(default=4, ge=1)
    candidates: int = Field(default=6, ge=1)

    def candidates_at_most(self) -> int:
        return self.candidates + 1


class BootstrapOptunaConfig(DemoConfig):
    """DSPy's BootstrapFewShotWithOptuna: of the bootstrapped demos, which single one helps most?

    Optuna's TPE (Bergstra et al., 2011) picks it in `candidates` trials.
    """

    candidates: int = Field(default=16, ge=1)

    def candidates_at_most(self) -> int:
        return self.candidates + 1

    @model_validator(mode="after")
    def _some_demos(self) -> Self:
        if not self.max_bootstrapped_demos or not self.max_labeled_demos:
            raise ValueError("max_bootstrapped_demos and max_labeled_demos must be 1 or more")
        return self


class KNNConfig(PromptConfig):
    """DSPy's KNNFewShot: each question is shown the train examples that are most like it.

    `neighbours` are the numbers of demos that compete. In the `cot` style only examples are shown
    whose reasoning the model has found by itself.
    """

    neighbours: tuple[int, ...] = Field(default=(2, 4, 8), min_length=1)
    train_examples: int = Field(default=512, ge=1)

    def candidates_at_most(self) -> int:
        return len(self.neighbours) + 1

    @field_validator("neighbours")
    @classmethod
    def _positive(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if min(value) < 1 or len(set(value)) < len(value):
            raise ValueError("neighbours must be different numbers, 1 or more; write [2, 4, 8]")
        return value


class ReflectionConfig(ModelChoice):
    """Who writes proposals."""

    max_tokens: int = Field(default=1024, ge=1)


class ProposerConfig(PromptConfig):
    """What the methods that write instructions share.

    The policy's own model proposes unless `reflection` names another. DSPy's requests for
    proposals are long and want an exact format back, which a small model cannot follow: with
    `proposals: plain` they are put in a few plain words, answers that are no instruction are
    dropped before they cost a rollout, and a menu of edits fills their places
    (prompt_opt/proposals.py). `auto` is `dspy` for an endpoint and `plain` for a local model.
    COPRO's `temperature` and the `max_tokens` of `reflection` are for `dspy`; plain requests have
    their own.
    """

    reflection: ReflectionConfig | None = None
    proposals: Literal["auto", "plain", "dspy"] = "auto"

    @field_validator("reflection", mode="before")
    @classmethod
    def _by_name(cls, value: Any) -> Any:
        return {"model": value} if isinstance(value, str) else value

    def plain(self) -> bool:
        remote = self.reflection is not None and self.reflection.endpoint is not None
        return self.proposals == "plain" or (self.proposals == "auto" and not remote)


class COPROConfig(ProposerConfig):
    """DSPy's COPRO: `breadth` instructions are tried in each of `depth` rounds, every round's
    proposals made from what has scored best (Khattab et al., 2023, arXiv:2310.03714)."""

    breadth: int = Field(default=6, ge=2)
    depth: int = Field(default=2, ge=1)
    temperature: float = Field(default=1.0, gt=0)

    def candidates_at_most(self) -> int:
        return self.breadth * self.depth + 1


AUTO_CANDIDATES = {"light": 6, "medium": 12, "heavy": 18}


class MIPROConfig(ProposerConfig):
    """DSPy's MIPROv2 (Opsahl-Ong et al., 2024, arXiv:2406.11695): demo sets are bootstrapped,
    instructions proposed, and TPE looks for the best pair of them.

    `auto` sets `candidates` and `trials` as DSPy does, or write both; how much of dev is used
    stays `dev_examples`. Trials are scored on `minibatch_size` of them where they are more, the
    best of these on all.
    """

    auto: Literal["light", "medium", "heavy"] | None = "light"
    candidates: int | None = Field(default=None, ge=1)
    trials: int | None = Field(default=None, ge=1)
    max_bootstrapped_demos: int = Field(default=4, ge=0)
    max_labeled_demos: int = Field(default=4, ge=0)
    minibatch_size: int = Field(default=35, ge=1)

    @model_validator(mode="before")
    @classmethod
    def _numbers_instead_of_auto(cls, raw: Any) -> Any:
        """Who writes numbers does not want DSPy's."""
        if isinstance(raw, dict) and "auto" not in raw and {"candidates", "trials"} & raw.keys():
            return {**raw, "auto": None}
        return raw

    @model_validator(mode="after")
    def _one_or_the_other(self) -> Self:
        numbers = [self.candidates, self.trials]
        if self.auto is None and None in numbers:
            raise ValueError("candidates and trials: write both, or auto: light")
        if self.auto is not None and numbers != [None, None]:
            raise ValueError("auto: sets candidates and trials itself; write one or the other")
        if self.max_labeled_demos and not self.max_bootstrapped_demos:
            raise ValueError("max_bootstrapped_demos: 0 needs max_labeled_demos: 0; write both")
        return self

    def sets(self) -> tuple[int, int, int]:
        """Demo sets, instructions and trials; for `auto` as DSPy 3.4 resolves it for a program of
        one predictor."""
        if self.auto is None:
            assert self.candidates is not None and self.trials is not None
            return self.candidates, self.candidates, self.trials
        n, few_shot = AUTO_CANDIDATES[self.auto], bool(self.max_bootstrapped_demos)
        trials = max(2 * (1 + few_shot) * math.log2(n), 1.5 * n)
        return n, n // 2 if few_shot else n, int(trials)

    def candidates_at_most(self) -> int:
        return self.sets()[2] + 2


class SIMBAConfig(ProposerConfig):
    """DSPy's SIMBA: in each of `steps` mini-batches of train, answers are sampled, and where they
    differ most a right one becomes a demo or a rule is written from the contrast."""

    steps: int = Field(default=8, ge=1)
    batch_size: int = Field(default=32, ge=1)
    candidates: int = Field(default=6, ge=2)
    max_demos: int = Field(default=4, ge=0)

    def candidates_at_most(self) -> int:
        return 1 + 4

    def asked_besides(self) -> int:
        tried = self.steps * self.batch_size * (2 * self.candidates + 1)
        return tried + (self.candidates + 1) * self.train_examples

    @model_validator(mode="after")
    def _batch_fits(self) -> Self:
        if self.batch_size > self.train_examples:
            raise ValueError(
                f"batch_size: {self.batch_size} is more than train_examples {self.train_examples}"
            )
        return self


class GEPAConfig(ProposerConfig):
    """GEPA (Agrawal et al., 2025, arXiv:2507.19457): instructions evolve by reflection on what
    went wrong, with a Pareto front over dev.

    `metric_calls` is GEPA's own budget, or `auto` sets it as DSPy does.
    """

    auto: Literal["light", "medium", "heavy"] | None = "light"
    metric_calls: int | None = Field(default=None, ge=1)
    reflection_batch: int = Field(default=3, ge=1)

    @model_validator(mode="before")
    @classmethod
    def _number_instead_of_auto(cls, raw: Any) -> Any:
        if isinstance(raw, dict) and "auto" not in raw and raw.get("metric_calls") is not None:
            return {**raw, "auto": None}
        return raw

    @model_validator(mode="after")
    def _one_or_the_other(self) -> Self:
        if (self.auto is None) == (self.metric_calls is None):
            raise ValueError("metric_calls: write it or auto, one of the two")
        return self

    def candidates_at_most(self) -> int:
        """A guess: GEPA measures on all of dev what got better on its small batches."""
        return 8

    def asked_besides(self) -> int:
        return self.metric_calls or {"light": 400, "medium": 800, "heavy": 1400}[self.auto or ""]


class InferRulesConfig(ProposerConfig):
    """DSPy's InferRules: `candidates` times rules are induced from train and put behind the
    instruction, with bootstrapped demos in front of the question."""

    candidates: int = Field(default=6, ge=1)
    rules: int = Field(default=5, ge=1)
    max_bootstrapped_demos: int = Field(default=4, ge=0)
    max_labeled_demos: int = Field(default=4, ge=0)

    def candidates_at_most(self) -> int:
        return self.candidates + 1
