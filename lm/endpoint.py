"""A model behind an OpenAI-compatible chat-completions endpoint, for reflecting and judging.

What a stage learns from a stronger model it should pay for like anything else, so such a model is
a `LanguageModel` with the stage's ledger. Weights and tokens stay with the server: there are no
token ids, no log-probabilities, and a draw repeats only where the server honours `seed`.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from functools import partial
from itertools import accumulate, pairwise
from threading import Event
from typing import Any

from lm.ledger import Ledger, Purpose, Stopwatch
from lm.pictures import refuse_pictures
from lm.posting import Refused, Server, post
from lm.types import Chat, Completion, ModelError, Sampling

PATH = "/chat/completions"
TIMEOUT = 300.0  # seconds without a byte from the server
CHARS_PER_TOKEN = 4  # where the server counts nothing
LIMITS = ("max_tokens", "max_completion_tokens")  # OpenAI's reasoning models know only the second
NOT_OFFERED = {"top_k": 0, "min_p": 0.0, "repetition_penalty": 1.0}


@dataclass(frozen=True)
class _Reply:
    """One answer of the server, and what it charged for it."""

    completions: list[Completion]
    prompt_tokens: int
    completion_tokens: int


class EndpointModel:
    """Asks `model` at `endpoint` (https://host/v1), up to `concurrency` questions at a time.

    `key_env` names the environment variable that holds the key. It is read at each call and kept
    nowhere. `timeout` is in seconds; `lm.posting.post` says what is asked again, and when it stops.
    With `top_logprobs` the server is asked for so many likely first tokens (`Completion.first`),
    and no longer once it refuses.

    The ledger gets the tokens of the server's `usage`, which include hidden reasoning, summed over
    all requests: a chat asked in two, because the server returns fewer choices than `n`, has its
    prompt counted twice, as it is charged. The tokens of one request are shared among its choices
    by the length of their texts. Where `usage` is missing, a token is taken to be 4 characters.
    What was answered is counted even when the call as a whole fails.
    """

    def __init__(
        self,
        endpoint: str,
        model: str,
        key_env: str | None = None,
        ledger: Ledger | None = None,
        concurrency: int = 8,
        timeout: float = TIMEOUT,
        top_logprobs: int = 0,
    ):
        """Asks nothing yet. Raises ModelError for an address or option that cannot be used."""
        if not model:
            raise ModelError("endpoint: no model is named; write the name the server knows it by")
        if concurrency < 1:
            raise ModelError(f"endpoint: concurrency is {concurrency!r}; write 1 or more")
        if not 0 < timeout < math.inf:
            raise ModelError(f"endpoint: timeout is {timeout!r}; write seconds, more than 0")
        self._server = Server.at(endpoint, PATH, key_env)
        self.name = model
        self.ledger = ledger or Ledger()
        self._concurrency, self._timeout = concurrency, timeout
        self._limit, self._top = LIMITS[0], top_logprobs

    def __repr__(self) -> str:
        return f"EndpointModel({self._server.shown!r}, {self.name!r})"

    def check(self, purpose: Purpose) -> None:
        """Raises ModelError when the key is missing. Asks nothing."""
        self._server.key(purpose)

    def generate(
        self, chats: Sequence[Chat], sampling: Sampling, purpose: Purpose
    ) -> list[list[Completion]]:
        """`sampling.n` completions for each chat, in the order of `chats`.

        Raises ModelError when the key is missing, the sampling is not offered, the server refuses,
        stays out of reach or answers in another shape; BudgetExhausted when a cap is reached.
        """
        return self._generate(chats, sampling, purpose, self._ask)

    def generate_each(
        self, chats: Sequence[Chat], sampling: Sampling, purpose: Purpose
    ) -> list[list[Completion] | ModelError]:
        """As `generate`, but a question that fails ends no other: its error stands in its place.

        Raises what would be the same for all: a missing key, a sampling that is not offered, a
        refusal (`lm.posting.Refused`), BudgetExhausted.
        """

        def ask(*question: Any, **how: Any) -> list[Completion] | ModelError:
            try:
                return self._ask(*question, **how)
            except Refused:
                raise
            except ModelError as error:
                return error

        return self._generate(chats, sampling, purpose, ask)

    def _generate(
        self, chats: Sequence[Chat], sampling: Sampling, purpose: Purpose, asking: Any
    ) -> list[Any]:
        if not chats:
            return []
        for chat in chats:
            refuse_pictures(chat, self.name)
        self.ledger.check(purpose)
        self._check_offered(sampling, purpose)
        key = self._server.key(purpose)
        paid: list[_Reply] = []
        watch, stopped = Stopwatch(), Event()
        ask = partial(asking, sampling=sampling, key=key, who=purpose, paid=paid, stopped=stopped)
        try:
            with watch:
                return self._ask_all(ask, chats, stopped)
        finally:
            if paid:
                self.ledger.add(
                    purpose,
                    completions=sum(len(reply.completions) for reply in paid),
                    prompt_tokens=sum(reply.prompt_tokens for reply in paid),
                    completion_tokens=sum(reply.completion_tokens for reply in paid),
                    seconds=watch.seconds,
                )

    def logprobs(
        self, chats: Sequence[Chat], completions: Sequence[Sequence[int]]
    ) -> list[list[float]]:
        """Raises ModelError: endpoints do not tell."""
        raise ModelError(
            f"{self.name}: an endpoint gives no log-probabilities; use a local model for this"
        )

    def fingerprint(self) -> str:
        """Of address and model name; what the server puts behind them can change unseen."""
        return hashlib.sha256(f"{self._server.url}\0{self.name}".encode()).hexdigest()[:16]

    def forget(self) -> None:
        """Nothing is kept."""

    def _check_offered(self, sampling: Sampling, who: str) -> None:
        for name, off in NOT_OFFERED.items():
            if getattr(sampling, name) != off:
                raise ModelError(
                    f"{who}: {self._server.shown}: {name} is not part of the endpoint's protocol; "
                    f"leave it at {off:g}"
                )

    def _ask_all(self, ask: Any, chats: Sequence[Chat], stopped: Event) -> list[Any]:
        """`ask(chat, place)` for each, in parallel; the first failure ends the others."""
        with ThreadPoolExecutor(min(self._concurrency, len(chats)), "endpoint") as pool:
            futures = [pool.submit(ask, chat, place) for place, chat in enumerate(chats)]
            try:
                wait(futures, return_when=FIRST_EXCEPTION)
                for future in futures:
                    if future.done():
                        future.result()
            finally:
                stopped.set()
                pool.shutdown(wait=False, cancel_futures=True)
        return [future.result() for future in futures]

    def _ask(
        self,
        chat: Chat,
        place: int,
        sampling: Sampling,
        key: str | None,
        who: str,
        paid: list[_Reply],
        stopped: Event,
    ) -> list[Completion]:
        """All completions of one chat, in as many requests as the server needs for them."""
        found: list[Completion] = []
        while (missing := sampling.n - len(found)) > 0:
            row = sampling.row(place * sampling.n + len(found))
            body = self._body(chat, sampling, missing, row)
            answer = self._post(body, key, who, stopped)
            try:
                reply = _read(answer, chat, sampling, missing)
            except (KeyError, IndexError, TypeError, AttributeError, ValueError):
                where = f"{who}: {self._server.shown}"
                raise ModelError(
                    f"{where}: the answer holds no choices of a chat completion; check the address"
                ) from None
            paid.append(reply)
            found += reply.completions
        return found

    def _body(self, chat: Chat, sampling: Sampling, n: int, row: int) -> dict[str, Any]:
        """A request with nothing in it that is not needed: servers differ in what they refuse."""
        body: dict[str, Any] = {
            "model": self.name,
            "messages": list(chat),
            "temperature": sampling.temperature,
            self._limit: sampling.max_tokens,
        }
        if sampling.temperature > 0:
            body["seed"] = _seed(sampling.seed, row)
        if sampling.top_p < 1:
            body["top_p"] = sampling.top_p
        if sampling.stop:
            body["stop"] = list(sampling.stop)
        if n > 1:
            body["n"] = n
        if self._top:
            body |= {"logprobs": True, "top_logprobs": self._top}
        return body

    def _post(self, body: dict[str, Any], key: str | None, who: str, stopped: Event) -> Any:
        try:
            return post(self._server, body, key, who, self._timeout, stopped)
        except Refused as error:
            other = self._otherwise(body, str(error))
            if other is None:
                raise
        return self._post(other, key, who, stopped)

    def _otherwise(self, body: dict[str, Any], refusal: str) -> dict[str, Any] | None:
        """What to ask instead, now and from now on, where a server does not know an option."""
        if LIMITS[1] in refusal and LIMITS[1] not in body:
            self._limit = LIMITS[1]
            return {LIMITS[1] if name == LIMITS[0] else name: body[name] for name in body}
        if "logprobs" in refusal and "logprobs" in body:
            self._top = 0
            return {name: body[name] for name in body if "logprobs" not in name}
        return None


def _seed(seed: int, row: int) -> int:
    """A seed for each row, so that the same chat asked twice in a call is two draws; 31 bits, as
    some servers take no more."""
    return int(hashlib.sha256(f"{seed}/{row}".encode()).hexdigest()[:8], 16) >> 1


def _read(answer: Any, chat: Chat, sampling: Sampling, wanted: int) -> _Reply:
    """An answer of the server. Raises KeyError, TypeError and the like on one of another shape."""
    choices = answer["choices"][:wanted]
    texts = [_text(choice["message"]) for choice in choices]
    if not texts:
        raise ValueError("no choices")
    estimate = sum(_estimate(text) for text in texts)
    counted = _count(answer, "completion_tokens", estimate)
    prompt = _count(answer, "prompt_tokens", _estimate("".join(m["content"] for m in chat)))
    completions = [
        replace(
            _completion(text, choice.get("finish_reason"), sampling.stop, prompt, tokens),
            first=_first_tokens(choice),
        )
        for text, choice, tokens in zip(texts, choices, _share(counted, texts), strict=True)
    ]
    return _Reply(completions, prompt, counted)


def _text(message: Any) -> str:
    """What the assistant says; nothing when all tokens went into reasoning or a refusal."""
    content = message.get("content") or ""
    if isinstance(content, list):  # parts, as newer servers write them
        content = "".join(part.get("text") or "" for part in content)
    if not isinstance(content, str):
        raise TypeError("content is no text")
    return content.encode("utf-8", "replace").decode()  # no half surrogate pairs


def _completion(
    text: str, finish: Any, stop: Sequence[str], prompt_tokens: int, tokens: int
) -> Completion:
    cuts = [text.index(mark) for mark in stop if mark in text]  # some servers keep the mark
    return Completion(
        text=text[: min(cuts)] if cuts else text,
        token_ids=(),
        logprobs=(),
        finish_reason="length" if finish == "length" and not cuts else "stop",
        prompt_tokens=prompt_tokens,
        counted_tokens=tokens,
    )


def _first_tokens(choice: Any) -> dict[str, float] | None:
    """Log-probabilities of the likeliest first tokens, None where the server tells none."""
    try:
        likely = choice["logprobs"]["content"][0]["top_logprobs"]
        found = {str(entry["token"]): float(entry["logprob"]) for entry in likely}
    except (KeyError, IndexError, TypeError, AttributeError, ValueError):
        return None
    return found if found and all(value <= 0 for value in found.values()) else None


def _count(answer: Any, name: str, estimate: int) -> int:
    usage = answer.get("usage")
    count = usage.get(name) if isinstance(usage, dict) else None
    return count if isinstance(count, int) and count >= 0 else estimate


def _estimate(text: str) -> int:
    return math.ceil(len(text) / CHARS_PER_TOKEN)


def _share(tokens: int, texts: Sequence[str]) -> list[int]:
    """`tokens` shared among texts by their lengths; the parts sum up to it."""
    ends = list(accumulate((len(text) + 1 for text in texts), initial=0))
    return [tokens * end // ends[-1] - tokens * start // ends[-1] for start, end in pairwise(ends)]
