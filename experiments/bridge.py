"""A local model as DSPy's LM, with weights that DSPy's own optimizers can train.

    lm = local_lm("smollm2-135m", folder="runs/dspy")
    program = dspy.Predict("verb -> past")
    program.set_lm(lm)
    tuned = dspy.BootstrapFinetune(metric=metric).compile(program, trainset=trainset)

`lm` goes on answering with the weights it had; `tuned` holds an LM of another name. DSPy's `GRPO`
(`dspy.teleprompt.grpo`) gives the LM it trains a new name at each step. `policy_of(lm)` tells where
its weights lie: an adapter that a spec, `tasklift export` or PEFT can take up.

Three things to know of DSPy 3.4. Its weight optimizers write training chats with the `adapter` they
are given, not with the one the program asks with: give them the same. `GRPO`'s default is another
one, and is refused here. Its bootstrap optimizers take the LM out of a program and ask
`dspy.settings.lm`: inside `BetterTogether` wrap them with `prompt_opt.bridge.with_own_lm`, or the
second `p` of "p -> w -> p" asks the weights from before `w`. And `BetterTogether` hands its teacher
on as a list, which they cannot take: use `optimizer_compile_args={"w": {"teacher": teacher}}`.
"""

from __future__ import annotations

from pathlib import Path

import dspy

from evaluation.types import Policy
from lm.hf import load_model
from lm.ledger import Caps, Ledger
from lm.types import LanguageModel, ModelError, Sampling
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


def policy_of(lm: dspy.LM) -> Policy:
    """Model and adapter that answer as `lm`; the prompt is empty, DSPy holds it.

    Raises ModelError while the weights are in training, and for an LM that is not of `local_lm`.
    """
    if not isinstance(lm.provider, LocalProvider):
        raise ModelError(f"model: {lm.model!r} is not of local_lm, its weights are elsewhere")
    return lm.provider.policy(lm)
