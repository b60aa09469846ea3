"""Posting JSON to a server that may be busy, with a key that must not show.

Standard library only. The key is read from the environment for each call and lives in its local
variables. Every text that leaves this file, a server's own words too, has the key cut out of it.
Redirects are refused: following one would hand the key to another host.
"""

from __future__ import annotations

import json
import math
import os
import random
import re
import time
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from http.client import HTTPException
from threading import Event
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import parse_qsl, urlsplit, urlunsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

from lm.types import ModelError, PromptTooLong

ATTEMPTS = 6
FIRST_PAUSE = 1.0  # seconds; each pause is twice the one before
LONGEST_PAUSE = 120.0  # a server that wants a longer one is not waited for
BUSY = frozenset({408, 425, 429})  # and all of 500 and above
MAX_BYTES = 1 << 26
SHOWN_CHARS = 300
# what servers say of a prompt that their model has no room for: OpenAI, vLLM, llama.cpp, TGI
TOO_LONG = re.compile(
    r"context[_ ](length|size|window)|maximum (context|model) length|prompt is too long"
    r"|inputs?`? tokens? .* must be <|too many tokens",
    re.IGNORECASE,
)
SECRET = re.compile(r"key|token|secret|passw|signature|credential", re.IGNORECASE)
_jitter = random.Random()  # of its own: the global one decides what experiments draw


class Refused(ModelError):
    """The server said no, and would say it again."""


class _Again(Exception):
    """Worth another attempt. `cause` is safe to show, `wait` the seconds the server asked for."""

    def __init__(self, cause: str, wait: float | None = None):
        super().__init__(cause)
        self.cause, self.wait = cause, wait


class _NoRedirect(HTTPRedirectHandler):
    def redirect_request(
        self, req: Request, fp: Any, code: int, msg: str, headers: Any, newurl: str
    ) -> None:
        return None


@dataclass(frozen=True)
class Server:
    """Where to post. `shown` is the address without its query; `key_env` names a variable."""

    url: str
    shown: str
    key_env: str | None = None

    @classmethod
    def at(cls, endpoint: str, path: str, key_env: str | None = None) -> Server:
        """`endpoint` with `path` behind it, unless it stands there already.

        Raises ModelError for what is no http(s) address and for one that holds a secret.
        """
        try:
            parts = urlsplit(endpoint.strip())
            valid = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        except ValueError:
            parts, valid = urlsplit(""), False
        if "@" in (parts.netloc if valid else endpoint):  # not shown: there may be a password
            raise ModelError(
                "endpoint: there is a user or password in the address; take it out and name the "
                "environment variable that holds the key in key_env"
            )
        if any(SECRET.search(name) for name, _ in parse_qsl(parts.query, keep_blank_values=True)):
            raise ModelError(
                "endpoint: there is a key in the address (behind the ?); take it out and name the "
                "environment variable that holds it in key_env"
            )
        if not valid or re.search(r"[^!-~]", parts.netloc + parts.path + parts.query):
            raise ModelError(f"endpoint: {endpoint!r} is no address; write https://host/v1")
        base = parts.path.rstrip("/").removesuffix(path)
        shown = urlunsplit((parts.scheme, parts.netloc, base, "", ""))
        url = urlunsplit((parts.scheme, parts.netloc, base + path, parts.query, ""))
        return cls(url, shown, key_env)

    def key(self, who: str) -> str | None:
        """The key as the environment has it now. Raises ModelError when it cannot be used."""
        if self.key_env is None:
            return None
        key = os.environ.get(self.key_env, "").strip()
        if not key:
            raise ModelError(
                f"{who}: environment variable {self.key_env} is not set; export it or write "
                "another key_env"
            )
        if re.search(r"[^!-~]", key):  # http.client would quote it in its error
            raise ModelError(
                f"{who}: environment variable {self.key_env} holds spaces or characters that no "
                "key has; export the key alone"
            )
        return key


def post(
    server: Server, body: dict[str, Any], key: str | None, who: str, timeout: float, stopped: Event
) -> Any:
    """The JSON a server answers to `body`.

    A server that is busy (429), broken (5xx), silent for `timeout` seconds or out of reach is
    asked `ATTEMPTS` times in all, after pauses that double or are as long as its Retry-After says.
    Raises ModelError (one line: who, which server, why) after the last of them, at once when the
    wait would be longer than `LONGEST_PAUSE`, for an answer that is no JSON, and when `stopped` is
    set; PromptTooLong when it says that the prompt is; `Refused` for every other status. What the
    server charges for an attempt that was given up nobody here gets to know.
    """
    where, cause = f"{who}: {server.shown}", ""
    for attempt in range(1, ATTEMPTS + 1):
        try:
            return _post_once(server, body, key, where, timeout)
        except _Again as again:
            pause = FIRST_PAUSE * 2 ** (attempt - 1) * _jitter.uniform(0.75, 1.25)
            pause = pause if again.wait is None else again.wait
            cause = again.cause
        if pause > LONGEST_PAUSE:
            raise ModelError(f"{where}: {cause}; it wants {pause:.0f} s of patience; try later")
        if attempt < ATTEMPTS and stopped.wait(pause):
            raise ModelError(f"{where}: given up because another question failed")
    raise ModelError(f"{where}: {cause}; asked {ATTEMPTS} times, try later or check the address")


def _post_once(
    server: Server, body: dict[str, Any], key: str | None, where: str, timeout: float
) -> Any:
    headers = {"Content-Type": "application/json", "User-Agent": "tasklift"}
    if key is not None:
        headers["Authorization"] = f"Bearer {key}"
    request = Request(server.url, json.dumps(body).encode(), headers)
    try:
        with build_opener(_NoRedirect).open(request, timeout=timeout) as response:
            data = response.read(MAX_BYTES)
    except HTTPError as error:
        raise _judge(error, server, key, where) from None
    except TimeoutError:
        raise _Again(f"no answer within {timeout:g} s") from None
    except (OSError, HTTPException) as error:
        reason = error.reason if isinstance(error, URLError) else error
        raise _Again(_clean(f"no connection ({reason or type(error).__name__})", key)) from None
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        shown = _clean(data[:MAX_BYTES].decode(errors="replace"), key)
        raise ModelError(f"{where}: the answer is no JSON: {shown!r}; check the address") from None


def _judge(error: HTTPError, server: Server, key: str | None, where: str) -> Exception:
    """What an answer with an error status means: another attempt, or the end."""
    with error:
        try:
            data = error.read(MAX_BYTES)
        except (OSError, HTTPException):
            data = b""
        wait = _retry_after(error.headers.get("Retry-After"))
    body = data[:10_000].decode(errors="replace")  # its code says more than its message
    cause = _clean(f"{error.code} {error.reason}: {_message(data)}".rstrip(": "), key)
    if error.code in BUSY or error.code >= 500:
        return _Again(cause, wait)
    if error.code in (400, 413, 422) and TOO_LONG.search(body):
        return PromptTooLong(f"{where}: {cause}; use fewer demos, shorter inputs or max_tokens")
    if error.code < 400:
        return Refused(f"{where}: {cause}; write the address it redirects to")
    if error.code in (401, 403) and server.key_env is None:
        return Refused(f"{where}: {cause}; name the variable that holds the key in key_env")
    if error.code in (401, 403):
        return Refused(f"{where}: {cause}; check the key in environment variable {server.key_env}")
    return Refused(f"{where}: {cause}; check endpoint, model and sampling")


def _message(data: bytes) -> str:
    """What an error body says; the body itself when it has an unknown shape."""
    try:
        said = json.loads(data)
        for name in ("error", "message", "detail"):
            said = said.get(name, said) if isinstance(said, dict) else said
    except (ValueError, RecursionError):
        said = data.decode(errors="replace")
    return said if isinstance(said, str) else json.dumps(said)


def _retry_after(header: str | None) -> float | None:
    """Seconds from now; the header holds seconds or a date. None when it says nothing usable."""
    if header is None:
        return None
    try:
        seconds = float(header)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(header).timestamp() - time.time()
        except (ValueError, TypeError, OverflowError):
            return None
    return max(0.0, seconds) if math.isfinite(seconds) else None


def _clean(text: str, key: str | None) -> str:
    """One short line without the key, also where it is escaped as in JSON."""
    for secret in {key, json.dumps(key)[1:-1]} if key else ():
        text = text.replace(secret, "[key]")
    line = " ".join(text.split())[:SHOWN_CHARS]
    return line.encode("utf-8", "replace").decode()
