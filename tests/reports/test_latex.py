"""Tables for a paper: what they look like, and that pdflatex takes them, whatever a model wrote."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pandas as pd
import pytest

from experiments.cli import main
from reports import TABLES, table
from reports.latex import latex, text
from tests.reports.conftest import EVIL

PAGE = r"\documentclass{article}\usepackage{booktabs}\begin{document}%s\end{document}"
HOSTILE = [
    EVIL,
    r"\input{/etc/passwd} \end{tabular} \\ & % # $x_1^2$ {~} `\"'",
    "[0] and *2*, << >> -- --- ?` !` ,, || a-b",
    "*",
    "[x]",
    "Žluťoučký kůň, ñandú, Ångström, łódź, façade, Straße, naïve",
    "中文 😀 \u202e עברית ≤ ≥ → \u00d7 “quoted” \u2018so\u2019 \u2013 — …",
    "\x00\x1b[31m\t\r\n\ud800".encode(errors="backslashreplace").decode(),
    "\ud800",
    "",
]


def compiles(tmp_path: Path, body: str) -> str:
    """The text of the page; skips where there is no pdflatex."""
    if shutil.which("pdflatex") is None:
        pytest.skip("needs pdflatex (texlive-latex-recommended)")
    (tmp_path / "page.tex").write_text(PAGE % f"\n{body}\n", "utf-8")
    words = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "-no-shell-escape"]
    done = subprocess.run([*words, "page.tex"], cwd=tmp_path, capture_output=True, timeout=120)
    assert done.returncode == 0, done.stdout[-2000:]
    assert (tmp_path / "page.pdf").stat().st_size > 1000
    return done.stdout.decode(errors="replace")


def test_best_in_bold_stars_and_intervals(folder: Path) -> None:
    shown = table(folder, "summary", "latex")
    zero, shots, both = shown.split(r"\midrule")[1].splitlines()[1:4]
    assert r"20.0 \% [5.7, 43.7] &  &  &" in zero and r"\textbf" not in zero + shots
    assert r"& \textbf{90.0 \% [" in both
    assert r"]$^{*}$ & 0.021 &" in shots
    assert r"]$^{***}$ & " in both or r"]$^{**}$ & " in both
    assert "adjusted for all comparisons" in shown and "Bold: the best." in shown
    assert r"\begin{tabular}{@{}lrr" in shown and shown.count(r"\toprule") == 1


def test_nothing_is_best_alone_and_equals_are_both() -> None:
    one = pd.DataFrame({"arm": ["a"], "score": [0.5]})
    assert r"\textbf" not in latex(one)
    assert latex(pd.concat([one, one])).count(r"\textbf") == 2
    of_two = pd.concat([one.assign(run="x"), one.assign(run="y")])
    assert r"\textbf" not in latex(of_two)


def test_every_table_compiles(folder: Path, tmp_path: Path) -> None:
    compiles(tmp_path, "\n\\clearpage\n".join(table(folder, name, "latex") for name in TABLES))


def test_attribution_is_the_table_alone(folder: Path) -> None:
    """Its sentences are no LaTeX."""
    arms = json.loads((folder / "arms.json").read_text())
    arms[2]["cells"] = {"base": "E0", "prompt": "E1", "weights": "E0", "both": "E2"}
    (folder / "arms.json").write_text(json.dumps(arms))
    assert "shots+grpo: from 20.0 %" in table(folder, "attribution")
    assert table(folder, "attribution", "latex").endswith("\\end{table}\n")


def test_whatever_a_model_writes_compiles_and_stays_text(tmp_path: Path) -> None:
    printable = [chr(code) for code in range(0x20, 0x250)]
    rows = [*HOSTILE, *("".join(printable[i : i + 50]) for i in range(0, len(printable), 50))]
    frame = pd.DataFrame({"answer": rows, "input": rows[::-1]}, dtype="object")
    log = compiles(tmp_path, latex(frame, title=HOSTILE[1]))
    assert "Missing character" not in log
    assert text("a--b---") == "a-{}-b-{}-{}-"
    assert text("é \u0131 中") == r"\'{e} {\footnotesize U+0131} {\footnotesize U+4E2D}"
    assert r"\input" not in latex(frame)


def test_from_the_command_line(folder: Path, tmp_path: Path, capsys) -> None:
    out = tmp_path / "t.tex"
    words = ["report", str(folder), "--table", "summary", "--format", "latex", "--out", str(out)]
    assert main(words) == 0
    assert capsys.readouterr().out == f"summary: {out}\n"
    assert out.read_text() == table(folder, "summary", "latex")
