"""`failures --judge`: labels of a model beside those of the rules."""

from __future__ import annotations

import json

import pytest

import experiments.judging
from experiments.cli import main
from lm.scripted import ScriptedLM
from tests.reports.conftest import folder  # noqa: F401


@pytest.fixture
def judge(monkeypatch):
    asked = []

    def opened(model, endpoint, key_env):
        asked.append((model, endpoint, key_env))
        return ScriptedLM(
            lambda chat, _: "Empty" if "(no text)" in chat[-1]["content"] else "tense"
        )

    monkeypatch.setattr(experiments.judging, "open_judge", opened)
    return asked


def test_the_verb_prints_agreement_and_counts(folder, judge, capsys):  # noqa: F811
    (folder / "prompt.json").write_text(json.dumps({"instruction": "Give the past."}))
    line = ["failures", str(folder), "--arm", "shots", "--judge", "big", "--sample", "6"]
    assert main([*line, "--endpoint", "https://x.example/v1", "--key-env", "KEY"]) == 0
    said = capsys.readouterr().out
    assert "scripted on failures of shots: of 6 labelled, 0 got no class; of 6 others" in said
    assert judge == [("big", "https://x.example/v1", "KEY")]


def test_csv_holds_the_counts(folder, judge, capsys):  # noqa: F811
    line = ["failures", str(folder), "--judge", "big", "--arm", "zero", "--format", "csv"]
    assert main(line) == 0
    assert '"rule","label","count"\n"tense","tense",10' in capsys.readouterr().out


def test_bad_input_is_one_line(folder, judge, capsys):  # noqa: F811
    assert main(["failures", str(folder), "--endpoint", "https://x.example/v1"]) == 2
    assert "--judge" in capsys.readouterr().err
    assert main(["failures", str(folder), "--judge", "no-such-model-anywhere", "--arm", "x"]) == 2
    assert "no arm 'x'" in capsys.readouterr().err
    (folder / "prompt.json").write_text("[")
    assert main(["failures", str(folder), "--judge", "big"]) == 2
    assert "prompt.json cannot be read" in capsys.readouterr().err
