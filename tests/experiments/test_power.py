"""`tasklift power` and the line of --dry-run."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from evaluation.power import discordance, mcnemar_power
from experiments.cli import main
from experiments.power import dry_run_line


def say(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert main(["power", *words]) == 0
    return capsys.readouterr().out


def test_what_n_examples_show_and_what_a_difference_takes(
    capsys: pytest.CaptureFixture[str],
) -> None:
    text = say(capsys, "--n", "300", "--difference", "5", "--baseline-rate", "60")
    shown = re.search(r"300 examples show a gain of ([\d.]+) points with 80 %", text)
    needed = re.search(r"\+5 points with 80 % it takes ([\d,]+) examples", text)
    assert shown and needed
    found = mcnemar_power(300, *discordance(0.6, float(shown[1]) / 100))
    assert found == pytest.approx(0.8, abs=0.01)
    n = int(needed[1].replace(",", ""))
    assert mcnemar_power(n, *discordance(0.6, 0.05)) == pytest.approx(0.8, abs=0.01)
    shared = say(capsys, "--difference", "5", "--baseline-rate", "60", "--comparisons", "6")
    more = re.search(r"takes ([\d,]+) examples", shared)
    assert "after Holm over 6 comparisons" in shared
    assert more and int(more[1].replace(",", "")) > n


def test_graded_scores_and_a_task(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "sd of 30 points" in say(capsys, "--n", "100", "--sd", "30")
    monkeypatch.chdir(tmp_path)
    text = say(capsys, "inflection")
    assert re.match(r"0/1 scores, baseline right in 50 %", text)
    assert re.search(r"[\d,]+ examples show a gain of", text)


@pytest.mark.parametrize(
    ("words", "what"),
    [
        ([], "write a task, --n 300 or --difference 5"),
        (["--difference", "60"], "a baseline at 50 % cannot change by +60 points"),
        (["--difference", "0"], "no number of examples shows a difference of 0"),
        (["--difference", "0.0001"], "would show so small a difference"),
        (["nope.jsonl"], "nope"),
    ],
)
def test_bad_input_is_one_line(
    words: list[str], what: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["power", *words]) == 2
    error = capsys.readouterr().err
    assert what in error and error.count("\n") == 1


def test_options_out_of_range_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["--n", "0"], ["--power", "2"], ["--baseline-rate", "150"]):
        with pytest.raises(SystemExit) as left:
            main(["power", *words])
        assert left.value.code == 2
        assert "write" in capsys.readouterr().err


def test_the_dry_run_line_takes_all_pairs_of_arms_together() -> None:
    line = dry_run_line(200, 4)
    size = re.search(r"a difference of ([\d.]+) points", line)
    assert size and "6 comparisons" in line and "\n" not in line
    found = mcnemar_power(200, *discordance(0.5, float(size[1]) / 100), 0.05 / 6)
    assert found == pytest.approx(0.8, abs=0.01)
    assert "too few" in dry_run_line(4, 3)
