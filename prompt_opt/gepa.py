"""GEPA: instructions that evolve by reflection on failures, the Pareto front of dev surviving."""

from __future__ import annotations

import dspy
from dspy.teleprompt.gepa.gepa import GEPA as DSPyGEPA

from prompt_opt.bench import THREADS, Bench
from prompt_opt.config_search import GEPAConfig
from prompt_opt.instruction_search import InstructionSearch
from prompt_opt.proposals import PlainProposals, PlainReflection
from prompt_opt.quiet import quiet


class GEPA(InstructionSearch):
    """Moves the instruction; incoming demos stay. Reflects on train, with the task's feedback."""

    name = "gepa"
    purpose = "reflection"
    config: GEPAConfig

    def seek(self, bench: Bench) -> None:
        adapter = dspy.settings.adapter
        plain = PlainReflection(adapter) if isinstance(adapter, PlainProposals) else None
        with quiet():
            search = DSPyGEPA(
                metric=bench.graded,  # type: ignore[reportArgumentType]
                auto=self.config.auto,
                max_metric_calls=self.config.metric_calls,
                reflection_minibatch_size=self.config.reflection_batch,
                reflection_lm=dspy.settings.lm,
                instruction_proposer=plain,
                num_threads=THREADS,
                seed=bench.context.seed,
            )
            search.compile(bench.student(demos=True), trainset=bench.pool, valset=bench.dev)
