"""A real server on this machine that speaks the chat-completions protocol, for the tests."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from lm.types import Sampling

KEY = 'sk-very"secret-0123456789'  # with a character that JSON escapes
VARIABLE = "TASKLIFT_TEST_KEY"
Reply = tuple[int, dict[str, str], bytes]
DRAWN = Sampling(temperature=1.0)


def completion(*texts: str, usage: Any = None, finish: str = "stop") -> Reply:
    choices = [{"message": {"content": text}, "finish_reason": finish} for text in texts]
    body = {"choices": choices} | ({} if usage is None else {"usage": usage})
    return 200, {}, json.dumps(body).encode()


def failure(status: int, message: str = "no", **headers: str) -> Reply:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return status, named, json.dumps({"error": {"message": message}}).encode()


class Served(ThreadingHTTPServer):
    """Answers with `reply(body)`; keeps what was asked, and how many asked at once at most."""

    daemon_threads = True
    block_on_close = False

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.reply: Callable[[dict[str, Any]], Reply] = lambda body: completion("hello")
        self.asked: list[dict[str, Any]] = []
        self.paths: list[str] = []
        self.headers: list[dict[str, str]] = []
        self.now = self.most = 0
        self.lock = threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hung up is no news."""

    def in_turn(self, *replies: Reply) -> None:
        rest = iter(replies)
        self.reply = lambda body: next(rest)


class Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        served = self.server
        assert isinstance(served, Served)
        with served.lock:
            served.asked.append(body)
            served.paths.append(self.path)
            served.headers.append(dict(self.headers))
            served.now += 1
            served.most = max(served.most, served.now)
        status, headers, data = served.reply(body)
        with served.lock:
            served.now -= 1
        if status == 0:  # hang up
            self.close_connection = True
            return
        self.send_response(status)
        for name, value in {"Content-Length": str(len(data)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:
        pass


def chat(text: str) -> list[dict[str, str]]:
    return [{"role": "system", "content": "Be brief."}, {"role": "user", "content": text}]


def echo(body: dict[str, Any]) -> Reply:
    return completion(body["messages"][-1]["content"].upper())
