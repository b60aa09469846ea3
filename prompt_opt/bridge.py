"""DSPy's weight optimizers on weights of this process: a `Provider` for its LM.

`BootstrapFinetune`, `GRPO` and `BetterTogether` ask an LM's provider to fine-tune it (`finetune`)
or to take policy-gradient steps (`ReinforceJob`). DSPy's own `LocalProvider` needs SGLang and a TRL
of long ago; this one hands the work to an `evaluation.training.Trainer`. What is trained on are the
bytes that were sampled: chats as the engine sends them, and for a rollout the very tokens drawn.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import wraps
from itertools import count
from pathlib import Path
from typing import Any

import dspy
from dspy.clients.provider import Provider, ReinforceJob, TrainingJob
from dspy.clients.utils_finetune import TrainDataFormat, TrainingStatus
from dspy.teleprompt.teleprompt import Teleprompter

from evaluation.training import Graded, Learner, Lesson, Trainer
from evaluation.types import Policy
from lm.types import ModelError, Sampling
from prompt_opt.versions import AsyncVersions, Open, Version, Versions, ends_of, key_of

_batch_ids = count()  # DSPy's GRPO remembers those of all its jobs
log = logging.getLogger(__name__)


class LocalProvider(Provider):
    """Launches, kills and trains the versions of one model. `provider.lm` is the first of them.

    `folder` keeps answers and trained weights; fine-tuning asked for once more with the same rows,
    settings and weights is read from there. Close it, or use it as a context manager.
    """

    def __init__(
        self,
        policy: Policy,
        open: Open,
        trainer: Trainer,
        sampling: Sampling,
        folder: Path,
        *,
        seed: int = 0,
        cache: bool = False,
    ):
        super().__init__()
        self.finetunable = self.reinforceable = True
        self.TrainingJob, self.ReinforceJob = FinetuneJob, LocalReinforceJob
        self.trainer, self.folder, self.seed = trainer, folder, seed
        self.versions = Versions(open, sampling, folder, seed)
        self.lm = dspy.LM(
            self.versions.add(policy),
            temperature=sampling.temperature,
            max_tokens=sampling.max_tokens,
            cache=cache,
            num_retries=0,
            provider=self,
            engine=self.versions,
            async_engine=AsyncVersions(self.versions),
        )

    def policy(self, lm: dspy.LM) -> Policy:
        """Where the weights that answer as `lm` lie. Raises ModelError while they are trained."""
        return self.versions.policy(lm.model)

    # DSPy declares these static, and calls them on the instance.

    def launch(self, lm: dspy.LM, launch_kwargs: Any = None) -> None:  # type: ignore[override]
        """Nothing to do: weights are loaded when they are asked."""

    def kill(self, lm: dspy.LM, launch_kwargs: Any = None) -> None:  # type: ignore[override]
        """Frees the memory; the next question loads the weights again."""
        self.versions.put_away(lm.model)

    def finetune(  # type: ignore[override]
        self,
        job: FinetuneJob,
        model: str,
        train_data: list[dict[str, Any]],
        train_data_format: TrainDataFormat | str | None,
        train_kwargs: dict[str, Any] | None = None,
    ) -> str:
        """The name of the new weights. DSPy runs this in a thread and looks for `Exception` only,
        so anything else is left with the job, or its caller would wait for ever."""
        try:
            return self._finetune(model, train_data, train_data_format, train_kwargs or {})
        except BaseException as error:
            job.failure = error
            raise RuntimeError(f"finetune: {error}") from error

    def _finetune(
        self, model: str, data: Sequence[dict[str, Any]], kind: Any, settings: Mapping[str, Any]
    ) -> str:
        lessons = lessons_of(data, kind)
        self._check_format(self.versions[model], lessons)
        policy = self.versions.policy(model)
        told = [model, [asdict(lesson) for lesson in lessons], settings, self.seed]
        key = hashlib.sha256(json.dumps(told, sort_keys=True, default=str).encode()).hexdigest()
        folder = self.folder / "finetuned" / key[:16]
        return self.versions.add(self.trainer.finetune(policy, lessons, settings, folder))

    def _check_format(self, version: Version, lessons: Sequence[Lesson]) -> None:
        """A program that is asked through an adapter of its own must be trained through it."""
        if version.asked and not any(ends_of(row.chat) in version.chats for row in lessons):
            log.warning(
                "finetune: none of the questions in the training data was asked of %s in these "
                "words; give the optimizer the adapter that the program asks with",
                version.lm.model,
            )

    def close(self) -> None:
        self.versions.close()

    def __enter__(self) -> LocalProvider:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __deepcopy__(self, _: Any) -> LocalProvider:
        """DSPy copies programs with all they hold; weights are shared."""
        return self


class FinetuneJob(TrainingJob):
    """DSPy's job. What ended it is raised where its result is asked for, as it was raised."""

    failure: BaseException | None = None

    def result(self, timeout: float | None = None) -> Any:
        found = super().result(timeout)
        if self.failure is not None:
            raise self.failure
        return found

    def status(self) -> TrainingStatus:
        if not self.done():
            return TrainingStatus.running
        return TrainingStatus.succeeded if self.failure is None else TrainingStatus.failed


class LocalReinforceJob(ReinforceJob):
    """Policy-gradient steps for DSPy's GRPO, which changes `lm` in place: its name, at each step.

    `train_kwargs` are settings of the trainer, and `groups_per_step` where this job cannot tell by
    itself how many groups DSPy is going to hand over: DSPy keeps what it is not asked for and hands
    it over a step late, and repeats groups where it is asked for more. A group that comes twice or
    late is left out.
    """

    lm: dspy.LM

    def initialize(self) -> None:
        """Raises ModelError for an LM that always says the same."""
        provider = self.lm.provider
        assert isinstance(provider, LocalProvider)
        heat = self.lm.kwargs.get("temperature")
        if not heat:
            raise ModelError(
                "reinforce: at temperature 0 all answers to a question are the same; give the "
                "program an LM that samples: program.set_lm(lm.copy(temperature=1.0))"
            )
        told = {"temperature": heat, **self.train_kwargs}
        self.size = told.pop("num_generations", 1)
        self.groups_per_step = told.pop("groups_per_step", None)
        self.versions, self.folder = provider.versions, provider.folder / "reinforced"
        policy = self.versions.policy(self.lm.model)
        self.versions.put_away(self.lm.model)
        self.learner: Learner = provider.trainer.reinforce(policy, told, self.folder)
        self.figures: list[Mapping[str, float]] = []
        self._pending: list[int] = []
        self._asked, self._earlier = 0, set[tuple[tuple[str, str], str]]()
        self.lm.model = self.versions.add_live(self.learner.model(), self.size)

    def get_status(self) -> dict[str, Any]:
        """What DSPy asks before rollouts, and after them: then so many batches are wanted as there
        are groups."""
        asked = self.versions[self.lm.model].asked
        groups = self.groups_per_step or max(1, round((asked - self._asked) / self.size))
        self._asked = asked
        fresh = (next(_batch_ids) for _ in range(groups - len(self._pending)))
        self._pending = [*self._pending[:groups], *fresh]
        return {
            "job_id": self.lm.model,
            "status": TrainingStatus.running,
            "current_model": self.lm.model,
            "checkpoints": self.checkpoints,
            "last_checkpoint": self.last_checkpoint,
            "pending_batch_ids": [*self._pending],
        }

    def status(self) -> dict[str, Any]:
        return self.get_status()

    def step(self, train_data: list[Any], train_data_format: Any = None) -> None:
        """One optimizer step. Raises ModelError for chats that the LM was never asked."""
        if train_data_format not in (TrainDataFormat.GRPO_CHAT, "grpo_chat"):
            raise ModelError(f"reinforce: data format {train_data_format!r}; hand over grpo_chat")
        version = self.versions[self.lm.model]
        different = {repr(batch["group"]): batch["group"] for batch in train_data}
        groups = [
            sorted((graded(version, row) for row in group), key=lambda row: (row.text, row.reward))
            for group in different.values()
            if not any(self._is_late(version, row) for row in group)
        ]
        self._pending = []
        if groups:
            self.figures.append(self.learner.step(groups))
            self._move_on(version)

    def _is_late(self, version: Version, row: Mapping[str, Any]) -> bool:
        """Whether earlier weights said this, and those of now did not."""
        ends, text = ends_of(row["messages"]), row["completion"]["content"]
        now = {said for chat in version.chats.get(ends, ()) for said in version.texts[chat]}
        return text not in now and (ends, text) in self._earlier

    def _move_on(self, before: Version) -> None:
        for ends, chats in before.chats.items():
            self._earlier |= {(ends, text) for chat in chats for text in before.texts[chat]}
        old = self.lm.model
        self.lm.model = self.versions.add_live(self.learner.model(), self.size)
        if self.lm.model != old:
            self.versions.leave(old)
        self._asked = self.versions[self.lm.model].asked

    def save_checkpoint(self, checkpoint_name: str) -> None:
        """Keep the weights of now: an LM of this name goes on answering with them."""
        name = self.lm.model
        folder = self.folder / name.removeprefix("local/")
        self.versions[name].policy = self.learner.save(folder)
        self.checkpoints[checkpoint_name] = name
        self.last_checkpoint = checkpoint_name

    def terminate(self) -> None:
        """Save the weights and let go of the learner's; `lm` answers with the saved ones."""
        self.save_checkpoint("last")
        self.versions.leave(self.lm.model)
        del self.learner

    def cancel(self) -> None:
        self.terminate()


def lessons_of(data: Sequence[Mapping[str, Any]], kind: Any) -> list[Lesson]:
    """DSPy's rows: chats whose last message is the answer. Raises ModelError for others."""
    if kind not in (TrainDataFormat.CHAT, "chat"):
        raise ModelError(f"finetune: data format {kind!r}; hand over chats")
    odd = next((row for row in data if row["messages"][-1]["role"] != "assistant"), None)
    if odd is not None:
        raise ModelError(f"finetune: a chat ends without an answer: {str(odd)[:100]}")
    return [Lesson(row["messages"][:-1], row["messages"][-1]["content"]) for row in data]


def graded(version: Version, row: Mapping[str, Any]) -> Graded:
    """A row of DSPy's GRPO, as it was asked and answered.

    DSPy leaves the demos out and writes the answer anew from its fields. Both are put right here,
    from what the version remembers; an answer it does not remember is taken as it stands.
    """
    messages, text = row["messages"], row["completion"]["content"]
    asked = version.chats.get(ends_of(messages), {})
    chats = [messages] if key_of(messages) in asked else list(asked.values())
    if not chats:
        raise ModelError(
            "reinforce: the training data holds a chat that the LM was never asked; DSPy writes it "
            "with GRPO(adapter=…), else dspy.settings.adapter, else XMLAdapter: give GRPO the "
            "adapter that the program asks with"
        )
    for chat in chats:
        said = _said(version.texts[key_of(chat)], text)
        if said is not None:
            drawn = version.weights.drawn.get((key_of(chat), said))
            return Graded(chat, said, float(row["reward"]), drawn)
    return Graded(chats[0], text, float(row["reward"]))


def _said(texts: Sequence[str], text: str) -> str | None:
    same = (said for said in texts if said.strip() == text.strip())
    return text if text in texts else next(same, None)


def with_own_lm(optimizer: Teleprompter) -> Any:
    """`optimizer`, asking the student's own LM throughout.

    DSPy's bootstrap optimizers take the LM out of the programs they try, so that these ask
    `dspy.settings.lm`: after a fine-tuning the weights from before it. Changed in place.
    """
    compile = optimizer.compile

    @wraps(compile)  # BetterTogether reads the signature
    def anchored(student: Any, **arguments: Any) -> Any:
        lms = [predictor.lm for predictor in student.predictors()]
        with dspy.context(lm=lms[0]):
            program: Any = compile(student, **arguments)
        for predictor, lm in zip(program.predictors(), lms, strict=True):
            predictor.lm = predictor.lm or lm
        return program

    optimizer.compile = anchored
    return optimizer
