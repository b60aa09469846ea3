"""DSPy's weight optimizers on the real 135M model, on CPU: what they train must answer better."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import dspy
import pytest
from dspy.teleprompt import BetterTogether, BootstrapFewShot, BootstrapFinetune
from dspy.teleprompt.grpo import GRPO

from experiments.bridge import local_lm
from lm.ledger import Ledger
from lm.types import Sampling
from prompt_opt.adapter import PlainPredict
from prompt_opt.bridge import with_own_lm
from prompt_opt.quiet import quiet
from tasks.load import load_task
from tasks.types import Prompt

pytestmark = pytest.mark.slow
TASK = load_task("inflection")
PROMPT = Prompt.of(TASK)
THREADS = 32


def cases(split: Any, start: int, end: int) -> list[dspy.Example]:
    rows = list(TASK.split(split))[start:end]
    return [
        dspy.Example({**row.inputs, TASK.output: row.answer}).with_inputs(*TASK.inputs)
        for row in rows
    ]


TRAIN, DEMOS = cases("train", 0, 32), cases("train", 100, 104)
VALID, DEV = cases("dev", 0, 16), cases("dev", 16, 48)


def exact(example: Any, prediction: Any, trace: Any = None) -> float:
    return float(prediction[TASK.output] == example[TASK.output])


def program(lm: dspy.LM, demos: Sequence[Any] = ()) -> PlainPredict:
    asked = PlainPredict(PROMPT)
    asked.demos = list(demos)
    asked.set_lm(lm)
    return asked


def score(asked: Any) -> float:
    """Percent right on held-out verbs, greedily."""
    greedy = asked.deepcopy()
    greedy.set_lm(asked.lm.copy(temperature=0.0))
    with quiet():
        return float(dspy.Evaluate(devset=DEV, metric=exact, num_threads=THREADS)(greedy).score)


@pytest.fixture(scope="module")
def lm(tmp_path_factory: pytest.TempPathFactory):
    folder = tmp_path_factory.mktemp("bridge")
    opened = local_lm(folder=folder, sampling=Sampling(max_tokens=8), ledger=Ledger())
    yield opened
    opened.provider.close()  # type: ignore[reportAttributeAccessIssue]


@pytest.fixture(scope="module")
def untuned(lm: dspy.LM) -> dict[str, float]:
    return {"zero-shot": score(program(lm)), "four demos": score(program(lm, DEMOS))}


def finetune(steps: int) -> BootstrapFinetune:
    return BootstrapFinetune(
        metric=exact,
        adapter=PlainPredict(PROMPT).adapter,
        exclude_demos=True,
        num_threads=THREADS,
        train_kwargs={"steps": steps, "rows_per_step": 16, "learning_rate": 1e-3},
    )


def test_bootstrap_finetune_puts_the_demos_into_the_weights(
    lm: dspy.LM, untuned: dict[str, float]
) -> None:
    with quiet():
        tuned: Any = finetune(8).compile(program(lm), trainset=TRAIN, teacher=program(lm, DEMOS))
    after = score(tuned)
    print(f"BootstrapFinetune: {untuned['zero-shot']} to {after}")
    assert not tuned.demos and tuned.lm.model != lm.model
    assert after >= untuned["zero-shot"] + 15
    assert score(program(lm)) == untuned["zero-shot"]  # the old name, the old weights


def test_better_together_moves_prompt_and_weights(lm: dspy.LM, untuned: dict[str, float]) -> None:
    prompts = BootstrapFewShot(metric=exact, max_bootstrapped_demos=2, max_labeled_demos=4)
    together = BetterTogether(metric=exact, p=with_own_lm(prompts), w=finetune(6))
    # `teacher=` of compile goes to `p` as a list, which BootstrapFewShot cannot take
    teacher = {"w": {"teacher": program(lm, DEMOS)}}
    with quiet():
        best: Any = together.compile(
            program(lm),
            trainset=TRAIN,
            valset=VALID,
            num_threads=THREADS,
            seed=0,
            strategy="p -> w -> p",
            optimizer_compile_args=teacher,
        )
    tried = {row["strategy"]: row for row in best.candidate_programs}
    assert not best.flag_compilation_error_occurred
    assert set(tried) == {"", "p", "p -> w", "p -> w -> p"}
    assert tried["p"]["program"].lm.model == lm.model
    assert tried["p -> w"]["program"].lm.model != lm.model
    assert tried["p -> w -> p"]["program"].lm.model == tried["p -> w"]["program"].lm.model
    after = score(best)
    print(f"BetterTogether: {untuned['zero-shot']} to {after}, on its own valset:")
    print({name: row["score"] for name, row in tried.items()})
    assert after >= untuned["zero-shot"] + 15
    assert tried["p -> w"]["score"] > tried[""]["score"]


def test_grpo_reinforces_in_place(lm: dspy.LM, untuned: dict[str, float]) -> None:
    student = program(lm.copy(temperature=1.0), DEMOS)
    before = student.lm.model
    optimizer = GRPO(
        metric=exact,
        exclude_demos=True,
        adapter=student.adapter,
        num_train_steps=6,
        num_dspy_examples_per_grpo_step=4,
        num_rollouts_per_grpo_step=8,
        num_threads=THREADS,
        train_kwargs={"learning_rate": 1e-3},
    )
    with quiet():
        tuned: Any = optimizer.compile(student, trainset=TRAIN)
    after = score(tuned)
    print(f"GRPO: {untuned['four demos']} to {after}")
    assert tuned.lm is student.lm and student.lm.model != before
    assert after > untuned["four demos"]
    policy = lm.provider.policy(student.lm)  # type: ignore[reportAttributeAccessIssue]
    assert (Path(policy.adapter) / "adapter_model.safetensors").is_file()
