"""DSPy's COPRO: instructions are proposed and scored, and the best lead to the next round's."""

from __future__ import annotations

from dspy.teleprompt import COPRO as DSPyCOPRO

from prompt_opt.bench import THREADS, Bench
from prompt_opt.config_search import COPROConfig
from prompt_opt.instruction_search import InstructionSearch
from prompt_opt.quiet import quiet


class COPRO(InstructionSearch):
    """Moves the instruction; incoming demos stay. Its proposals see scores, never dev examples."""

    name = "copro"
    config: COPROConfig

    def seek(self, bench: Bench) -> None:
        with quiet():
            search = DSPyCOPRO(
                metric=bench.metric,
                breadth=self.config.breadth,
                depth=self.config.depth,
                init_temperature=self.config.temperature,
            )
            search.compile(
                bench.student(demos=True),
                trainset=bench.dev,
                eval_kwargs={"num_threads": THREADS, "display_progress": False},
            )
