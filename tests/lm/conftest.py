"""An endpoint for the models that ask one."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from lm import posting
from tests.lm.endpoint_server import KEY, VARIABLE, Served


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Served]:
    """Running, reached without a proxy, its key in the environment, its clients in a hurry."""
    monkeypatch.setattr(posting, "FIRST_PAUSE", 0.001)
    monkeypatch.setenv(VARIABLE, KEY)
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with Served() as served:
        threading.Thread(target=served.serve_forever, args=(0.01,), daemon=True).start()
        yield served
        served.shutdown()
