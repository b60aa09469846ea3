"""Tables as text: every digit in CSV, rounded and safe elsewhere."""

from __future__ import annotations

import io
import re
import unicodedata

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reports import (
    TABLES,
    ReportError,
    failures,
    load_run,
    pairs,
    table,
)
from reports.escape import markdown, plain
from reports.render import render


@pytest.mark.parametrize("name", TABLES)
def test_every_table_in_every_format(folder, name):
    frame = pd.read_csv(io.StringIO(table(folder, name, "csv")), keep_default_na=True)
    shown = table(folder, name, "terminal")
    written = table(folder, name, "markdown").splitlines()
    assert "\x1b" not in shown
    assert "\x1b" not in "".join(written)
    if name == "error_types":
        return  # outside CSV they are told in sections
    assert len(written) == len(frame) + 2
    assert len({len(re.findall(r"(?<!\\)\|", line)) for line in written}) == 1
    assert shown.startswith(f"verbs: {name}\n")


def test_csv_keeps_every_digit_and_every_character(folder):
    run = load_run(folder)
    text = table(folder, "failures", "csv")
    back = pd.read_csv(io.StringIO(text), keep_default_na=False)
    pd.testing.assert_frame_equal(back, failures(run))
    numbers = pd.read_csv(io.StringIO(table(folder, "pairs", "csv")))
    pd.testing.assert_frame_equal(numbers, pairs(run), check_exact=True)


def test_figures_are_shown_as_people_write_them(folder):
    written = table(folder, "summary", "markdown", arms=["zero", "shots"])
    zero, shots = written.splitlines()[2:]
    assert re.search(r"\| 20\.0 % \[5\.7, 43\.7\] \|  \|  \|", zero)  # Clopper and Pearson, 4 of 20
    assert re.search(r"\| \+40\.0 \[\+\d+\.\d, \+\d+\.\d\] \| 0\.021 \|", shots)
    assert "| 60.0 |" in shots


@pytest.mark.parametrize(
    ("asked", "what"),
    [
        ({"name": "sumary"}, "no table 'sumary'; write one of summary, pairs"),
        ({"format": "html"}, "no format 'html'"),
        ({"arms": ["shot"]}, "no arm 'shot'.*zero, shots"),
        ({"name": "flow", "arms": ["zero"]}, "name two arms, not 1"),
    ],
)
def test_bad_requests_say_what_to_write(folder, asked, what):
    with pytest.raises(ReportError, match=what):
        table(folder, **asked)


def test_escaping_shows_the_text_and_only_the_text():
    assert plain("a\nb\tc\x1b[2J\u202e") == r"a⏎b\tc\x1b[2J\u202e"
    assert plain("x" * 300) == "x" * 99 + "…"
    assert plain("héllo 你好") == "héllo 你好"
    assert markdown("a|b <i> *c* `d` [e](f) \\") == (r"a&#124;b &lt;i&gt; \*c\* \`d\` \[e\](f) \\")
    assert markdown("WWW.evil.example") == "&#87;&#87;&#87;&#46;evil.example"


@given(st.text(max_size=150))
def test_no_text_breaks_out_of_its_cell(text):
    for shown in (plain(text), markdown(text)):
        assert all(c.isprintable() or unicodedata.category(c) == "Zs" for c in shown)
    assert len(plain(text)) <= 100
    assert not re.search(r"[<>|]", markdown(text))


def test_terminal_shows_markup_as_text_and_keeps_to_its_width(folder):
    frame = failures(load_run(folder))
    assert r"\x1b[31mred\x1b[0m | <b>x</b> [bold]*y*[/bold]⏎" in render(
        frame, "terminal", width=500
    )
    assert max(map(len, render(frame, "terminal", width=100).splitlines())) <= 100


def test_the_summary_fits_120_columns_with_its_figures_whole(folder):
    shown = table(folder, "summary")
    assert max(map(len, shown.splitlines())) <= 120
    for figure in ("shots+grpo", "60.0 %", "[36.1, 80.9]", "< 0.001", "100.0"):
        assert figure in shown
