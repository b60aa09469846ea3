"""A folder is there whole or not at all."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor

import pytest

from lm.staging import staged_folder


def _write(target, text):
    with staged_folder(target) as draft:
        (draft / "file").write_text(text)


def test_it_appears_when_the_block_ends(tmp_path):
    target = tmp_path / "not" / "yet" / "there"
    with staged_folder(target) as draft:
        (draft / "file").write_text("new")
        assert not target.exists()
    assert (target / "file").read_text() == "new"
    assert os.listdir(target.parent) == ["there"]


def test_an_exception_leaves_nothing_behind(tmp_path):
    with pytest.raises(KeyboardInterrupt), staged_folder(tmp_path / "target") as draft:
        (draft / "file").write_text("half")
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


def test_an_exception_keeps_what_was_there(tmp_path):
    _write(tmp_path / "target", "old")
    with pytest.raises(ValueError), staged_folder(tmp_path / "target"):
        raise ValueError
    assert (tmp_path / "target" / "file").read_text() == "old"
    assert len(list(tmp_path.iterdir())) == 1


def test_a_leftover_is_replaced_whole(tmp_path):
    target = tmp_path / "target"
    (target / "deep").mkdir(parents=True)
    (target / "deep" / "stale").write_text("old")
    (tmp_path / ".target.killed").mkdir()  # the draft of a process that was killed
    _write(target, "new")
    assert [p.name for p in target.iterdir()] == ["file"]
    target_file = tmp_path / "was-a-file"
    target_file.write_text("old")
    _write(target_file, "new")
    assert (target_file / "file").read_text() == "new"


def test_it_has_the_permissions_of_any_new_folder(tmp_path):
    _write(tmp_path / "target", "new")
    (tmp_path / "usual").mkdir()
    assert (tmp_path / "target").stat().st_mode == (tmp_path / "usual").stat().st_mode


def test_writers_at_the_same_time_end_with_one_whole_folder(tmp_path):
    target = tmp_path / "target"
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda i: _write(target, str(i)), range(64)))
    assert (target / "file").read_text() in map(str, range(64))
    assert [p.name for p in tmp_path.iterdir()] == ["target"]
