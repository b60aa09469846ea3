"""Goodhart's curve of a run: rollouts of an arm's last training, held against where it began."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq

from evaluation.environment import refuse_tools
from evaluation.types import Policy
from experiments.errors import SpecError
from experiments.locate import locate_model
from experiments.reading import read_mapping
from experiments.reward_answers import Origin
from experiments.spec import ExperimentSpec, parse_spec
from experiments.store import RunFolder
from lm.types import LanguageModel
from reward_models.overoptimization import Rollout, rl_curve
from reward_models.subject import Answer, Subject
from tasks.types import Prompt

COLUMNS = ["step", "example_id", "text", "token_ids", "logprobs", "sample"]


@dataclass(frozen=True)
class Training:
    """A stage that has kept its rollouts: `prompt` is what they were asked with, `start` the policy
    it began with."""

    folder: Path
    method: str
    prompt: Prompt
    start: Policy
    spec: ExperimentSpec

    def rollouts(self) -> list[dict[str, Any]]:
        """Those that the stage kept, in the order in which they were drawn."""
        return pq.read_table(self.folder / "rollouts.parquet", columns=COLUMNS).to_pylist()

    def dev(self) -> list[tuple[int, float]]:
        """Steps and scores on dev, by the task's own score."""
        path = self.folder / "metrics.jsonl"
        rows = [json.loads(line) for line in path.read_text("utf-8").splitlines() if line.strip()]
        return [(row["step"], row["dev_score"]) for row in rows if "dev_score" in row]


def trainings(origin: Origin) -> list[Training]:
    """The stages of the origin's arms that have kept rollouts, each once, in the order of the run.

    Raises SpecError for a run folder that cannot be read.
    """
    folder, wanted = RunFolder(origin.run), set(origin.arms())
    spec = parse_spec(read_mapping(origin.run / "spec.yaml"), str(origin.run / "spec.yaml"))
    base = origin.run / folder.read("run.json").get("base", ".")
    source = locate_model(spec.model.source, base)
    first = Policy(source, Prompt.from_json((origin.run / "prompt.json").read_text("utf-8")))
    found: dict[str, Training] = {}
    for entry in folder.arms():
        start = first
        for key in entry["stages"] if entry["arm"] in wanted else []:
            after = folder.load_policy(key, source)
            if (folder.stage(key) / "rollouts.parquet").is_file():
                told = json.loads((folder.stage(key) / "stage.json").read_text("utf-8"))
                made = Training(folder.stage(key), told["method"], start.prompt, start, spec)
                found.setdefault(key, made)
            start = after
    return list(found.values())


def curve_of(training: Training, subject: Subject, model: LanguageModel) -> pd.DataFrame:
    """The curve along the stage; `model` holds the weights it began with.

    Raises SpecError when none of its rollouts belongs to an example of the task, or when none has
    both a reward and a score.
    """
    rows = [row for row in training.rollouts() if row["example_id"] in subject.examples]
    if not rows:
        raise SpecError(f"--curve: no rollout of {training.folder} is of an example of this task")
    answers = [answer_of(training, subject, row, "") for row in rows]
    refuse_tools(training.prompt, "reward-check: the KL to the start", "an arm without tools")
    chats = [training.prompt.messages(answer.example.inputs) for answer in answers]
    start = model.logprobs(chats, [row["token_ids"] for row in rows])
    paid, scores = subject.paid(answers), subject.worth(answers)
    rollouts = [
        Rollout(row["step"], row["example_id"], reward, score.value, row["logprobs"], before)
        for row, before, reward, score in zip(rows, start, paid, scores, strict=True)
        if reward is not None and score.failure != "error"
    ]
    if not rollouts:
        raise SpecError(
            f"--curve: no rollout of {training.folder} has both a reward and a score; see what the "
            "reward says of them with --from"
        )
    return rl_curve(rollouts, training.dev())


def answer_of(training: Training, subject: Subject, row: dict[str, Any], source: str) -> Answer:
    """A row of rollouts.parquet as an answer."""
    example = subject.examples[row["example_id"]]
    return Answer(source, training.prompt, example, row["text"], tuple(row["token_ids"]))
