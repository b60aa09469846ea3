"""A local model as DSPy's LM, with weights that DSPy's own optimizers can train.

    from experiments.bridge import local_lm

    lm = local_lm("smollm2-135m", folder="runs/dspy")
    program = dspy.Predict("verb -> past")
    program.set_lm(lm)
    tuned = dspy.BootstrapFinetune(metric=metric).compile(program, trainset=trainset)

`lm` goes on answering with the weights it had; `tuned` holds an LM of another name. DSPy's `GRPO`
changes the name of the LM it is given. `lm.provider.policy(tuned.lm)` tells where weights lie.
"""

from __future__ import annotations

from pathlib import Path

import dspy

from evaluation.types import Policy
from lm.hf import load_model
from lm.ledger import Caps, Ledger
from lm.types import LanguageModel, Sampling
from prompt_opt.bridge import LocalProvider
from rl.lessons import Lessons
from tasks.types import Prompt


def local_lm(
    model: str = "smollm2-135m",
    *,
    folder: str | Path,
    sampling: Sampling | None = None,
    adapter: Path | None = None,
    seed: int = 0,
    device: str = "auto",
    dtype: str = "auto",
    cache: bool = False,
    ledger: Ledger | None = None,
) -> dspy.LM:
    """`model` (as in a spec), with a PEFT adapter when given, in this process, on CPU or one GPU.

    Answers, adapters and checkpoints go to `folder`; another process with the same folder is
    answered from it, and a fine-tuning that was asked for before is read from it. `sampling` says
    how to ask (greedy, 64 tokens); DSPy's `GRPO` needs a temperature. Options of training are
    DSPy's `train_kwargs`: those of `rl.config_lessons.FinetuneConfig` for `BootstrapFinetune`, of
    `ReinforceConfig` for `GRPO`. `cache` switches DSPy's own cache on. `ledger` counts what it all
    costs, and its caps end it. Raises ModelError when the model cannot be loaded.
    """
    counts = ledger or Ledger(Caps())
    sampling = sampling or Sampling()

    def load(policy: Policy) -> LanguageModel:
        return load_model(
            policy.source,
            adapter=policy.adapter,
            ledger=counts,
            device=device,
            dtype=policy.dtype(dtype),
            quantization=policy.quantization,
        )

    policy = Policy(model, Prompt(""), adapter=adapter)
    trainer = Lessons(load, counts, seed, sampling.max_tokens)
    where = Path(folder)
    return LocalProvider(policy, load, trainer, sampling, where, seed=seed, cache=cache).lm
