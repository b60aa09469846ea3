"""DSPy's MIPROv2: bootstrapped demo sets and proposed instructions, paired by Bayesian search."""

from __future__ import annotations

from dspy.teleprompt import MIPROv2

from prompt_opt.bench import THREADS, Bench
from prompt_opt.config_search import MIPROConfig
from prompt_opt.instruction_search import InstructionSearch
from prompt_opt.quiet import quiet


class MIPRO(InstructionSearch):
    """Moves instruction and demos. With plain proposals the data set and the program are not
    described first: a small model's descriptions mislead it."""

    name = "mipro"
    config: MIPROConfig

    def seek(self, bench: Bench) -> None:
        config, aware = self.config, not self.config.plain()
        sets, instructions, trials = config.sets()
        teacher = bench.teacher(config.max_labeled_demos)
        if config.max_bootstrapped_demos:
            bench.rehearse(teacher)
        with quiet():
            search = MIPROv2(
                metric=bench.metric,
                task_model=bench.engine.lm,
                auto=None,
                num_candidates=sets,
                max_bootstrapped_demos=config.max_bootstrapped_demos,
                max_labeled_demos=config.max_labeled_demos,
                num_threads=THREADS,
                seed=bench.context.seed + 1,  # 0 is none to DSPy
                track_stats=False,
            )
            search.num_instruct_candidates = instructions
            search.compile(
                bench.student(),  # to DSPy its first pair is no demos
                teacher=teacher,
                trainset=bench.pool,
                valset=bench.dev,
                num_trials=trials,
                minibatch=len(bench.dev) > config.minibatch_size,
                minibatch_size=min(config.minibatch_size, len(bench.dev)),
                program_aware_proposer=aware,
                data_aware_proposer=aware,
            )
