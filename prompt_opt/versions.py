"""Weights by name, for DSPy: the name in a request says which weights answer it.

DSPy copies LMs, compares their names and keeps answers under them. So a version of the weights has
one name for good, `local/<fingerprint>`, and whoever holds the name is answered by those weights or
by none: no cache, DSPy's or ours, can answer from before a training.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import threading
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import dspy
from dspy.lm15 import Request, Response

from evaluation.types import Policy
from lm.ledger import Ledger, Purpose
from lm.types import Chat, Completion, LanguageModel, ModelError, Sampling
from prompt_opt.engine import Engine, ModelStopped
from prompt_opt.speaker import chat_of

Open = Callable[[Policy], LanguageModel]


class Weights:
    """One version of the weights as a `LanguageModel`: loaded when asked, put away when told.

    Remembers the tokens of what it drew. With `ahead` above 1, so many answers to a sampled
    question are drawn at once, as a group of rollouts will want them, and handed out one by one:
    what the engine would batch with it is chance, and rounding follows the batch.
    """

    def __init__(self, load: Callable[[], LanguageModel], seed: int, ahead: int = 1):
        self._load, self._model = load, load()
        self.ledger: Ledger = self._model.ledger
        self.name, self._fingerprint = self._model.name, self._model.fingerprint()
        self._seed, self._ahead = seed, ahead
        self._stock: dict[str, list[Completion]] = {}
        self._rounds: Counter[str] = Counter()
        self.drawn: dict[tuple[str, str], Completion] = {}  # by chat and text

    def fingerprint(self) -> str:
        return self._fingerprint

    def reload(self, load: Callable[[], LanguageModel]) -> None:
        """Put away what is loaded, and use `load` from now on."""
        self._load, self._model = load, None

    def put_away(self) -> None:
        """Free the memory; the next question loads the weights again."""
        self._model = None

    def generate(
        self, chats: Sequence[Chat], sampling: Sampling, purpose: Purpose
    ) -> list[list[Completion]]:
        if sampling.temperature == 0 or self._ahead == 1:
            rows = self._present().generate(chats, sampling, purpose)
        else:
            rows = [[self._next(chat, sampling, purpose)] for chat in chats]
        for chat, row in zip(chats, rows, strict=True):
            self.drawn |= {(key_of(chat), answer.text): answer for answer in row}
        return rows

    def _next(self, chat: Chat, sampling: Sampling, purpose: Purpose) -> Completion:
        """The seed is made from the question and the round, and nothing of the calls before is
        kept: which question comes first is chance."""
        asked = replace(sampling, seed=self._seed, n=self._ahead, draws=())
        key = hashlib.sha256(f"{key_of(chat)}\0{asked}".encode()).hexdigest()
        if not self._stock.get(key):
            seed = hashlib.sha256(f"{key}/{self._rounds[key]}".encode()).hexdigest()
            self._rounds[key] += 1
            wanted = replace(asked, seed=int(seed[:15], 16))
            self._present().forget()
            self._stock[key] = self._present().generate([chat], wanted, purpose)[0]
        return self._stock[key].pop(0)

    def logprobs(
        self, chats: Sequence[Chat], completions: Sequence[Sequence[int]]
    ) -> list[list[float]]:
        return self._present().logprobs(chats, completions)

    def forget(self) -> None:
        if self._model is not None:
            self._model.forget()

    def _present(self) -> LanguageModel:
        model = self._model
        if model is None:
            model = self._model = self._load()
        return model


@dataclass
class Version:
    """Weights, the engine that asks them, and what they were asked."""

    weights: Weights
    engine: Engine
    policy: Policy | None  # None: only in memory, in training
    failures: int = 0
    lm: dspy.LM = field(init=False)
    texts: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))  # by chat
    chats: dict[tuple[str, str], dict[str, Chat]] = field(default_factory=lambda: defaultdict(dict))

    def __post_init__(self) -> None:
        self.use(self.engine)

    def use(self, engine: Engine) -> None:
        self.engine, self.lm = engine, engine.lm

    @property
    def asked(self) -> int:
        """How many answers were given under this name."""
        return sum(map(len, self.texts.values()))

    def note(self, chat: Chat, text: str) -> None:
        self.texts[key_of(chat)].append(text)
        self.chats[ends_of(chat)][key_of(chat)] = chat


class Versions:
    """DSPy's engine contract over all versions of one model; answers stay in `folder`.

    Among what a request does not say, DSPy may ask the same sampled question again for another
    answer: the k-th time is the k-th draw.
    """

    def __init__(self, open: Open, sampling: Sampling, folder: Path, seed: int = 0):
        self.open, self.sampling, self.folder, self.seed = open, sampling, folder, seed
        self._known: dict[str, Version] = {}
        self._turns: Counter[str] = Counter()
        self._lock = threading.Lock()

    def add(self, policy: Policy) -> str:
        """The name of a policy's weights, which are loaded now and again when need be."""
        return self._add(Weights(lambda: self.open(policy), self.seed), policy)

    def add_live(self, model: LanguageModel, ahead: int) -> str:
        """The name of weights in training, good until `leave`."""
        return self._add(Weights(lambda: model, self.seed, ahead), None)

    def _add(self, weights: Weights, policy: Policy | None) -> str:
        name = f"local/{weights.fingerprint()}"
        if name not in self._known:
            self._known[name] = Version(weights, self._engine(weights, policy is None), policy)
        return name

    def _engine(self, weights: Weights, live: bool, failures: int = 0) -> Engine:
        shelf = f"{weights.fingerprint()}{f'.{failures}' if failures else ''}"
        return Engine(
            weights,
            self.sampling,
            self.folder / "answers" / shelf,
            seed=self.seed,
            purpose="rollout" if live else "metric",
        ).__enter__()

    def leave(self, name: str) -> None:
        """Weights in training have changed: those of that name are on disk, or no more."""
        version = self[name]
        policy = version.policy
        if policy is None:
            self._known.pop(name).engine.__exit__(None, None, None)
        else:
            version.weights.reload(lambda: self.open(policy))

    def put_away(self, name: str) -> None:
        """Free the memory of weights that can be loaded again."""
        if self[name].policy is not None:
            self[name].weights.put_away()

    def policy(self, name: str) -> Policy:
        """Raises ModelError for weights that are in training and nowhere else."""
        policy = self[name].policy
        if policy is None:
            raise ModelError(f"model: {name!r} is in training; save a checkpoint, or end the job")
        return policy

    def close(self) -> None:
        for version in self._known.values():
            version.engine.__exit__(None, None, None)
        self._known.clear()

    def __getitem__(self, name: str) -> Version:
        if name not in self._known:
            raise ModelError(
                f"model: no weights {name!r} here; a reinforce job has moved on from them (its "
                "save_checkpoint keeps some), or another provider has them"
            )
        return self._known[name]

    def complete(self, request: Request) -> Response:
        """DSPy's contract. Blocks until the answer is there."""
        version, chat = self[request.model], chat_of(request)
        # the call around this one has told DSPy's history, callbacks and usage tracker
        with dspy.context(disable_history=True, callbacks=[], usage_tracker=None, send_stream=None):
            engine = version.engine
            try:
                response: Any = version.lm(request, **self._turn(request, chat))
            except ModelStopped:
                self._replace(version, engine)
                raise
        with self._lock:
            version.note(chat, response.text or "")
        return response

    def _replace(self, version: Version, broken: Engine) -> None:
        """One question that cannot be answered ends an engine, and what waited with it; the LM
        must not be lost with that. The next engine writes to a file of its own: opening the old one
        again would count its costs twice."""
        with self._lock:
            if version.engine is broken:
                version.failures += 1
                version.use(self._engine(version.weights, version.policy is None, version.failures))
                broken.__exit__(None, None, None)

    def _turn(self, request: Request, chat: Chat) -> dict[str, int]:
        heat = request.config.temperature
        if (self.sampling.temperature if heat is None else heat) == 0:
            return {}
        key = f"{request.model} {request.config} {key_of(chat)}"
        with self._lock:
            self._turns[key] += 1
            return {"rollout_id": self._turns[key] - 1}

    def __deepcopy__(self, _: Any) -> Versions:
        """DSPy copies programs with all they hold; weights are shared."""
        return self


class AsyncVersions:
    def __init__(self, versions: Versions):
        self._versions = versions

    async def complete(self, request: Request) -> Response:
        return await asyncio.to_thread(self._versions.complete, request)

    def __deepcopy__(self, _: Any) -> AsyncVersions:
        return self


def key_of(chat: Chat) -> str:
    return json.dumps([[message["role"], message["content"]] for message in chat])


def ends_of(chat: Chat) -> tuple[str, str]:
    """The system message and the question; demos stand between the two."""
    system = chat[0]["content"] if chat[0]["role"] == "system" else ""
    return system, chat[-1]["content"]
