"""DSPy's InferRules: rules induced from train, written behind the instruction."""

from __future__ import annotations

from dspy.teleprompt import InferRules as DSPyInferRules

from prompt_opt.bench import THREADS, Bench
from prompt_opt.config_search import InferRulesConfig
from prompt_opt.instruction_search import InstructionSearch
from prompt_opt.quiet import quiet


class InferRules(InstructionSearch):
    """Moves instruction and demos. DSPy writes the rules of all candidates into one signature and
    so returns the last one's; the board has seen each as it was asked."""

    name = "infer_rules"
    config: InferRulesConfig

    def rules(self) -> int:
        return self.config.rules

    def seek(self, bench: Bench) -> None:
        teacher = bench.teacher(self.config.max_labeled_demos)
        if self.config.max_bootstrapped_demos:
            bench.rehearse(teacher)
        with quiet():
            search = DSPyInferRules(
                metric=bench.metric,
                num_candidates=self.config.candidates,
                num_rules=self.config.rules,
                num_threads=THREADS,
                max_bootstrapped_demos=self.config.max_bootstrapped_demos,
                max_labeled_demos=self.config.max_labeled_demos,
            )
            search.compile(bench.student(), teacher=teacher, trainset=bench.pool, valset=bench.dev)
