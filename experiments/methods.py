"""The methods a spec may name: where each one's config and code live.

A plain table, so that reading a spec imports neither torch nor dspy: code is loaded when a stage
runs.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import Literal

from evaluation.types import Method
from prompt_opt.config import BootstrapConfig, PromptConfig
from prompt_opt.config_search import (
    BootstrapOptunaConfig,
    COPROConfig,
    GEPAConfig,
    InferRulesConfig,
    KNNConfig,
    LabeledConfig,
    MIPROConfig,
    SIMBAConfig,
)
from reward_models.best_of_config import BestOfConfig
from rl.config import GRPOConfig, PPOConfig
from rl.config_supervised import DPOConfig, RFTConfig, SFTConfig

MethodConfig = (
    PromptConfig | GRPOConfig | PPOConfig | SFTConfig | RFTConfig | DPOConfig | BestOfConfig
)


@dataclass(frozen=True)
class Kind:
    """One kind of method. `code` is `module:Class`; the class takes the config."""

    config: type[MethodConfig]
    code: str
    moves: Literal["prompt", "weights", "decoding"]

    def build(self, config: MethodConfig) -> Method:
        module, name = self.code.split(":")
        return getattr(import_module(module), name)(config)


KINDS: dict[str, Kind] = {
    "bootstrap": Kind(BootstrapConfig, "prompt_opt.bootstrap:Bootstrap", "prompt"),
    "labeled": Kind(LabeledConfig, "prompt_opt.labeled:Labeled", "prompt"),
    "bootstrap_optuna": Kind(
        BootstrapOptunaConfig, "prompt_opt.bootstrap_optuna:BootstrapOptuna", "prompt"
    ),
    "knn": Kind(KNNConfig, "prompt_opt.knn:KNN", "prompt"),
    "copro": Kind(COPROConfig, "prompt_opt.copro:COPRO", "prompt"),
    "mipro": Kind(MIPROConfig, "prompt_opt.mipro:MIPRO", "prompt"),
    "simba": Kind(SIMBAConfig, "prompt_opt.simba:SIMBA", "prompt"),
    "gepa": Kind(GEPAConfig, "prompt_opt.gepa:GEPA", "prompt"),
    "infer_rules": Kind(InferRulesConfig, "prompt_opt.infer_rules:InferRules", "prompt"),
    "grpo": Kind(GRPOConfig, "rl.grpo:GRPO", "weights"),
    "ppo": Kind(PPOConfig, "rl.ppo:PPO", "weights"),
    "sft": Kind(SFTConfig, "rl.sft:SFT", "weights"),
    "rft": Kind(RFTConfig, "rl.rft:RFT", "weights"),
    "dpo": Kind(DPOConfig, "rl.dpo:DPO", "weights"),
    "best_of": Kind(BestOfConfig, "reward_models.best_of:ChooseBest", "decoding"),
}
