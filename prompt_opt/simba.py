"""DSPy's SIMBA: where a model's answers differ most, it learns from its own better ones."""

from __future__ import annotations

from dspy.teleprompt import SIMBA as DSPySIMBA

from prompt_opt.ahead import simba_asks_ahead
from prompt_opt.bench import THREADS, Bench
from prompt_opt.config_search import SIMBAConfig
from prompt_opt.instruction_search import InstructionSearch
from prompt_opt.quiet import quiet


class SIMBA(InstructionSearch):
    """Adds demos and rules. It scores on train alone, so its most promising programs are measured
    on dev at the end, out of what was held back for them."""

    name = "simba"
    finalists = 4
    purpose = "reflection"
    config: SIMBAConfig

    def seek(self, bench: Bench) -> None:
        with quiet(), simba_asks_ahead(bench):
            search = DSPySIMBA(
                metric=bench.metric,  # type: ignore[reportArgumentType]
                bsize=min(self.config.batch_size, len(bench.pool)),
                num_candidates=self.config.candidates,
                max_steps=self.config.steps,
                max_demos=self.config.max_demos,
                num_threads=THREADS,
            )
            search.compile(bench.student(demos=True), trainset=bench.pool, seed=bench.context.seed)
