"""DSPy's bootstrap with Optuna: of the demos its teacher got right, which one helps the most?"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import optuna
from dspy.teleprompt import BootstrapFewShotWithOptuna, teleprompt_optuna

from prompt_opt.bench import THREADS, Bench
from prompt_opt.config_search import BootstrapOptunaConfig
from prompt_opt.prompt_method import PromptMethod
from prompt_opt.quiet import quiet


class BootstrapOptuna(PromptMethod):
    """One demo is what DSPy's search space holds: its trials choose a single demo's number."""

    name = "bootstrap_optuna"
    finalists = 0
    config: BootstrapOptunaConfig

    def search(self, bench: Bench) -> None:
        teacher = bench.teacher(self.config.max_labeled_demos)
        bench.rehearse(teacher)
        with quiet(), _seeded(bench.context.seed):
            search = BootstrapFewShotWithOptuna(
                metric=bench.metric,
                max_bootstrapped_demos=self.config.max_bootstrapped_demos,
                max_labeled_demos=self.config.max_labeled_demos,
                num_candidate_programs=self.config.candidates,
                num_threads=THREADS,
            )
            search.compile(
                bench.student(),
                teacher=teacher,
                max_demos=self.config.max_bootstrapped_demos,
                trainset=bench.pool,
                valset=bench.dev,
            )


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """DSPy makes its study without a seed."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)

    def create_study(direction: Any) -> optuna.Study:
        sampler = optuna.samplers.TPESampler(seed=seed)
        return optuna.create_study(direction=direction, sampler=sampler)

    own = teleprompt_optuna._import_optuna
    teleprompt_optuna._import_optuna = lambda: SimpleNamespace(create_study=create_study)  # type: ignore[reportAttributeAccessIssue]
    try:
        yield
    finally:
        teleprompt_optuna._import_optuna = own
