"""DSPy's optimizers on the tiny random model through the whole bridge; and the README's words."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dspy
import pytest
import torch
import yaml
from dspy.teleprompt.grpo import GRPO

from experiments.bridge import local_lm, policy_of
from experiments.cli import main
from lm.hf import load_model
from lm.ledger import BudgetExhausted, Caps, Ledger
from lm.types import ModelError, Sampling
from prompt_opt.adapter import PlainPredict
from prompt_opt.quiet import quiet
from tasks.types import Prompt

PROMPT = Prompt("Answer in letters.")
CASES = [
    dspy.Example(input="say " + "w" * i, answer="abc"[i % 3] * 3).with_inputs("input")
    for i in range(8)
]


@pytest.fixture(autouse=True)
def surroundings(tmp_path: Path) -> Iterator[None]:
    """DSPy's cache empty, in memory and on disk; one thread, the tiny model gains from no more."""
    before, threads = dspy.cache, torch.get_num_threads()
    dspy.configure_cache(enable_disk_cache=True, disk_cache_dir=str(tmp_path / "dspy"))
    torch.set_num_threads(1)
    yield
    dspy.cache = before
    torch.set_num_threads(threads)


def letters(example: Any, prediction: Any, trace: Any = None) -> float:
    return sum(c.isascii() and c.isalpha() for c in prediction.answer) / 4


def program(lm: dspy.LM) -> PlainPredict:
    made = PlainPredict(PROMPT)
    made.set_lm(lm)
    return made


def greedy(lm: dspy.LM, question: str) -> str:
    """What the weights that `policy_of` names say to it, loaded anew."""
    policy = policy_of(lm)
    model = load_model(policy.source, adapter=policy.adapter)
    chat = PROMPT.messages({"input": question})
    return model.generate([chat], Sampling(max_tokens=4), "eval")[0][0].text.strip()


def test_after_fine_tuning_the_new_weights_answer_the_same_question(tmp_path: Path) -> None:
    lm = local_lm("tiny-random", folder=tmp_path, sampling=Sampling(max_tokens=4), cache=True)
    student = program(lm)
    before = student(input="say w").answer
    assert before == greedy(lm, "say w")
    data = [
        {"messages": [*PROMPT.messages(dict(c.inputs())), {"role": "assistant", "content": "yes"}]}
        for c in CASES
    ]
    settings = {"steps": 12, "rows_per_step": 8, "learning_rate": 1e-2}
    tuned: Any = lm.finetune(data, "chat", settings).result()  # type: ignore[arg-type]
    student.set_lm(tuned)
    assert tuned.cache and before != "yes" and student(input="say w").answer == "yes"
    assert greedy(tuned, "say w") == "yes" and program(lm)(input="say w").answer == before


def reinforced(student: PlainPredict) -> str:
    """The name of the weights after a few steps of DSPy's GRPO."""
    optimizer = GRPO(
        metric=letters,
        exclude_demos=True,
        adapter=student.adapter,
        num_train_steps=3,
        num_dspy_examples_per_grpo_step=4,
        num_rollouts_per_grpo_step=4,
        num_threads=8,
        train_kwargs={"learning_rate": 3e-2},
    )
    with quiet():
        optimizer.compile(student, trainset=CASES)
    return student.lm.model  # type: ignore[union-attr]


def test_grpo_ends_alike_however_its_threads_run(tmp_path: Path) -> None:
    sampling = Sampling(max_tokens=4, temperature=1.0)
    lms = [local_lm("tiny-random", folder=tmp_path / run, sampling=sampling) for run in "ab"]
    assert lms[0].model == lms[1].model != reinforced(program(lms[0]))
    assert reinforced(program(lms[1])) == lms[0].model


def test_after_grpo_the_new_weights_answer_the_same_question(tmp_path: Path) -> None:
    sampling = Sampling(max_tokens=4, temperature=1.0)
    lm = local_lm("tiny-random", folder=tmp_path, sampling=sampling, cache=True)
    student = program(lm)

    def asked() -> str:
        """Through DSPy's cache, under the name that the LM has now."""
        twin = program(student.lm.copy(temperature=0.0))
        assert twin.lm.cache
        return twin(input="say w").answer

    before, name = asked(), lm.model
    reinforced(student)
    assert lm.model != name and asked() == greedy(lm, "say w") != before


def test_the_same_training_is_not_done_twice(tmp_path: Path) -> None:
    data = [{"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]}]
    names, ledger = set(), Ledger()
    for _ in range(2):
        lm = local_lm("tiny-random", folder=tmp_path, ledger=ledger)
        tuned: Any = lm.finetune(data, "chat", {"steps": 2}).result()  # type: ignore[arg-type]
        names.add(tuned.model)
    assert len(names) == 1 and ledger.optimizer_steps == 2


def test_caps_end_it(tmp_path: Path) -> None:
    lm = local_lm("tiny-random", folder=tmp_path, ledger=Ledger(Caps(rollouts=2)))
    assert lm("a") and lm("b")
    with pytest.raises(BudgetExhausted):
        lm("c")


def test_where_a_foreign_lm_has_its_weights_is_not_known() -> None:
    with pytest.raises(ModelError, match="elsewhere"):
        policy_of(dspy.LM("openai/none"))


def test_the_readmes_lines_run(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    [code] = [
        block
        for block in re.findall(r"```python\n(.*?)```", (root / "README.md").read_text(), re.S)
        if "local_lm" in block
    ]
    small = code.replace("smollm2-135m", "tiny-random").replace('"steps": 25', '"steps": 1')
    trainset = [dspy.Example(verb="go", past="went").with_inputs("verb")]
    names: dict[str, Any] = {
        "dspy": dspy, "PlainPredict": PlainPredict, "Prompt": Prompt, "local_lm": local_lm,
        "trainset": trainset, "metric": lambda *_: 1.0,
    }  # fmt: skip
    with quiet():
        exec(small, names)
    assert policy_of(names["tuned"].lm).adapter is not None
    assert isinstance(names["tuned"](verb="go").past, str)


def test_a_chain_in_a_spec_moves_prompt_weights_prompt(tmp_path: Path) -> None:
    spec = {
        "name": "chain",
        "task": "inflection",
        "model": "tiny-random",
        "splits": {"train": 8, "dev": 4, "test": 4},
        "sampling": {"max_tokens": 3},
        "methods": {
            "bootstrap": {"candidates": 1, "dev_examples": 4},
            "grpo": {"steps": 1, "prompts_per_step": 2, "group_size": 2, "audits": False},
        },
        "arms": {"zero": [], "pwp": ["bootstrap", "grpo", "bootstrap"]},
    }
    path = tmp_path / "spec.yaml"
    path.write_text(yaml.safe_dump(spec))
    assert main(["run", str(path), "--out", str(tmp_path / "runs")]) == 0
    assert len(list((tmp_path / "runs" / "chain" / "stages").iterdir())) == 3
