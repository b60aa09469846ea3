"""Answers with a score for `tasklift reward-train`: a run's rollouts, or drawn for the purpose."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow.parquet as pq

from evaluation.environment import refuse_tools
from evaluation.judge import judge
from evaluation.types import Policy
from experiments.errors import SpecError
from experiments.progress import Lines
from experiments.reading import read_mapping
from experiments.saved import Saved, policy_of_arm
from experiments.spec import ModelSpec, parse_spec
from experiments.store import RunFolder
from lm.ledger import Ledger
from lm.types import Completion, Sampling
from reward_models.pairs import Answer
from tasks.load import task_hash
from tasks.types import Example, Prompt, Task

AT_ONCE = 128  # answers in a part, which a kill may cost


@dataclass(frozen=True)
class Origin:
    """RUN or RUN:ARM of the command line; without an arm, all of them."""

    run: Path
    arm: str | None = None

    @classmethod
    def of(cls, text: str) -> Origin:
        """Raises SpecError when there is no such run."""
        run, colon, arm = text.rpartition(":")
        whole = not colon or (Path(text) / "arms.json").exists()
        found = cls(Path(text)) if whole else cls(Path(run), arm)
        if not (found.run / "arms.json").exists():
            raise SpecError(f"--from {text}: is no run folder; name one, such as runs/<name>[:ARM]")
        return found

    def arms(self) -> list[str]:
        """The arms meant, in the run's order. Raises SpecError when there is no such arm."""
        there = list(dict.fromkeys(entry["arm"] for entry in RunFolder(self.run).arms()))
        if self.arm is not None and self.arm not in there:
            raise SpecError(f"{self.run}: no arm {self.arm!r}; there is {', '.join(there)}")
        return [self.arm] if self.arm is not None else there

    def is_scored_by(self, task: Task) -> bool:
        """Whether the run's answers were scored by this task as it is now."""
        told = RunFolder(self.run).read("run.json")
        if told.get("task_hash") == task_hash(task):
            return True
        print(
            f"{self.run}: was of {told.get('task')!r}, which has changed; scoring anew", flush=True
        )
        return False


@dataclass(frozen=True)
class Gathered:
    """Answers, and the prompt that each policy among them was asked with."""

    answers: list[Answer]
    prompts: dict[str, Prompt]


def rollouts(origins: Sequence[Origin], task: Task, train: Sequence[Example]) -> Gathered:
    """The scored answers that the runs' methods drew for examples of `train`; the policy is the
    stage that drew them. Raises SpecError when there are none."""
    known = {example.id: example for example in train}
    answers: list[Answer] = []
    prompts: dict[str, Prompt] = {}
    for origin in origins:
        folder, wanted, trusted = (
            RunFolder(origin.run),
            set(origin.arms()),
            origin.is_scored_by(task),
        )
        model = parse_spec(read_mapping(origin.run / "spec.yaml"), str(origin.run)).model.source
        entries = [entry for entry in folder.arms() if entry["arm"] in wanted]
        keys = dict.fromkeys(key for entry in entries for key in entry["stages"])
        for key in (k for k in keys if (folder.stage(k) / "rollouts.parquet").is_file()):
            prompts[key] = folder.load_policy(key, model).prompt
            for example_id, text, score in _kept(folder.stage(key) / "rollouts.parquet"):
                if (example := known.get(example_id)) is None:
                    continue
                if not trusted:
                    score = _score(task, prompts[key], example, text)
                if score is not None:
                    answers.append(Answer(example_id, text, score, key))
    if not answers:
        raise SpecError(
            "reward-train: these runs keep no rollouts on train (prompt methods keep none); write "
            "--draw 8 to draw answers with their policies"
        )
    return Gathered(answers, prompts)


def _kept(path: Path) -> list[tuple[str, str, float | None]]:
    columns = pq.read_table(path, columns=["example_id", "text", "score"]).to_pydict()
    return list(zip(columns["example_id"], columns["text"], columns["score"], strict=True))


def _score(task: Task, prompt: Prompt, example: Example, text: str) -> float | None:
    """What the task says of a text, None where its scorer failed."""
    judged = judge(task.score, prompt, example, Completion(text, (), (), "stop", 0))
    return None if judged.failure == "error" else judged.value


def drawing(
    origins: Sequence[Origin],
    task: Task,
    model: str,
    device: str,
    max_tokens: int | None,
    who: str = "reward-train",
) -> dict[str, Saved]:
    """The policies to draw with, by name: those of the arms, or the bare model where none is named.
    `who` asks.

    Raises SpecError, ModelError, and TaskError for a program.
    """
    found: dict[str, Saved] = {}
    for origin in origins:
        for arm in origin.arms():
            found[f"{origin.run}:{arm}"] = policy_of_arm(origin.run, arm)
    if not origins:
        spec = ModelSpec(source=model, device=device)
        found[model] = Saved(Policy(model, Prompt.of(task)), spec, Sampling(max_tokens=32))
    for name, saved in found.items():
        saved.policy.refuse_program(who)
        if saved.policy.prompt.inputs != tuple(task.inputs):
            raise SpecError(f"{name}: was made for a task with other inputs; name its task")
        if max_tokens:
            sampling = replace(saved.sampling, max_tokens=max_tokens)
            found[name] = replace(saved, sampling=sampling)
    return found


def draw(
    policies: dict[str, Saved],
    task: Task,
    train: Sequence[Example],
    count: int,
    seed: int,
    folder: Path,
    ledger: Ledger,
) -> Gathered:
    """`count` answers of each policy to each example of `train`, at temperature 1, scored by the
    task. Parts are kept in `folder`, so that a kill costs one. Answers on which the scorer failed
    are left out."""
    answers: list[Answer] = []
    for number, (name, saved) in enumerate(policies.items()):
        answers += _draw_one(name, saved, task, train, count, seed, folder / str(number), ledger)
    return Gathered(answers, {name: saved.policy.prompt for name, saved in policies.items()})


def _draw_one(
    name: str,
    saved: Saved,
    task: Task,
    train: Sequence[Example],
    count: int,
    seed: int,
    folder: Path,
    ledger: Ledger,
) -> list[Answer]:
    folder.mkdir(parents=True, exist_ok=True)
    size, model = max(1, AT_ONCE // count), None
    answers: list[Answer] = []
    progress = Lines(f"draw {name}", ledger)
    for start in range(0, len(train), size):
        path = folder / f"{start:06d}.json"
        if not path.exists():
            model = model or _opened(saved, ledger)
            asked = train[start : start + size]
            sampling = replace(
                Sampling(max_tokens=saved.sampling.max_tokens, stop=saved.sampling.stop),
                temperature=1.0,
                n=count,
                seed=seed,
                first_row=start * count,
            )
            prompt = saved.policy.prompt
            refuse_tools(prompt, "reward-train: --draw", "an arm without tools")
            model.forget()  # a call that goes on after a kill must round as one that was not
            drawn = model.generate([prompt.messages(e.inputs) for e in asked], sampling, "rollout")
            rows = [
                (example.id, answer.text, score)
                for example, group in zip(asked, drawn, strict=True)
                for answer in group
                if (score := _score(task, prompt, example, answer.text)) is not None
            ]
            _write(path, rows)
        kept = json.loads(path.read_text(encoding="utf-8"))
        answers += [Answer(key, text, score, name) for key, text, score in kept]
        mean = sum(answer.score for answer in answers) / max(1, len(answers))
        progress(min(start + size, len(train)), len(train), score=mean)
    return answers


def _opened(saved: Saved, ledger: Ledger):
    from lm.hf import load_model

    policy = saved.policy
    return load_model(
        policy.source,
        adapter=policy.adapter,
        ledger=ledger,
        device=saved.model.device,
        dtype=policy.dtype(saved.model.dtype),
        quantization=policy.quantization,
    )


def _write(path: Path, rows: list[tuple[str, str, float]]) -> None:
    draft = path.with_suffix(".draft")
    draft.write_text(json.dumps(rows, ensure_ascii=False), encoding="utf-8")
    os.replace(draft, path)
