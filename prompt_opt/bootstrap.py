"""DSPy's bootstrap with random search: which worked examples, shown first, help the most?

DSPy does the optimizing, one candidate a call (`restrict=[seed]`). What differs from plain DSPy:
demos come from a seeded sample of train, whose teacher answers are asked in one batch beforehand
and then read from the engine's memory; and the incoming prompt competes.
"""

from __future__ import annotations

import random
from typing import Any

from dspy.teleprompt import BootstrapFewShotWithRandomSearch

from prompt_opt.bench import THREADS, Bench
from prompt_opt.config import BootstrapConfig
from prompt_opt.forms import Student, form_of
from prompt_opt.prompt_method import PromptMethod
from prompt_opt.quiet import quiet

NO_DEMOS, LABELED_ONLY, UNSHUFFLED = -3, -2, -1  # DSPy's seeds for its three fixed candidates


class Bootstrap(PromptMethod):
    """Picks demos for the policy's prompt; the instruction stays as it is.

    Demos the incoming prompt already has are not extended but compete: that prompt is the teacher
    and the first candidate, and candidates show examples it does not. Without any, the teacher
    shows `max_labeled_demos` labeled examples, as DSPy's does.
    """

    name = "bootstrap"
    finalists = 0  # each candidate is measured in full before the next is made
    config: BootstrapConfig

    def search(self, bench: Bench) -> None:
        teacher = bench.teacher(self.config.max_labeled_demos)
        # A prompt without demos is DSPy's first candidate already.
        first = NO_DEMOS if bench.incoming != form_of(bench.student()) else LABELED_ONLY
        for seed in range(first, self.config.candidates):
            if seed == UNSHUFFLED and self.config.max_bootstrapped_demos:
                bench.rehearse(teacher)
            self._compile(bench, teacher, seed)

    def _compile(self, bench: Bench, teacher: Student, seed: int) -> None:
        config, pool, restrict = self.config, list(bench.pool), seed
        if seed >= 0 and not config.max_bootstrapped_demos:
            # DSPy draws from 1 to max_bootstrapped_demos and fails on 0: vary the labeled ones.
            random.Random(f"labeled/{seed}").shuffle(pool)
            restrict = LABELED_ONLY
        with quiet():
            search: Any = BootstrapFewShotWithRandomSearch(
                metric=bench.metric,
                max_bootstrapped_demos=config.max_bootstrapped_demos,
                max_labeled_demos=config.max_labeled_demos,
                num_candidate_programs=config.candidates,
                num_threads=THREADS,
            )
            search.compile(
                bench.student(),
                teacher=teacher,
                trainset=pool,
                valset=bench.dev,
                restrict=[restrict],
            )
