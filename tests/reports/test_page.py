"""The page without a browser: what is in it, that it is one file, and the sizes it comes in."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import re
import time
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from benchmarks.tables import Size, write_run
from evaluation.records import read_records, write_records
from experiments.cli import main
from reports import load_run, recommendation
from reports.load import ReportError
from reports.page import answers, page, write_page
from reports.page.prompts import words_changed


class Elements(HTMLParser):
    """Tags with their attributes, and the text of each script and style."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.raw: dict[str, list[str]] = {"script": [], "style": []}
        self._in: str | None = None
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._in = tag if tag in self.raw else None
        if self._in:
            self.raw[tag].append("")

    def handle_endtag(self, tag: str) -> None:
        self._in = None

    def handle_data(self, data: str) -> None:
        if self._in:
            self.raw[self._in][-1] += data


def data_of(text: str, name: str) -> Any:
    [packed] = re.findall(rf'id="{name}">([^<]*)<', text)
    return json.loads(gzip.decompress(base64.b64decode(packed)))


def words_of(text: str) -> str:
    return re.sub(r"<[^>]+>", "", text.split("<main>")[1].split("</main>")[0])


def test_the_answer_stands_on_top(rich: Path) -> None:
    run = load_run(rich)
    said = " ".join(words_of(page(run)).split())
    assert recommendation(run).replace("<", "&lt;").replace('"', "&#34;") in said


def test_sections_come_in_the_order_of_the_question(rich: Path) -> None:
    text = page(load_run(rich))
    found = re.findall(r'<section id="(\w+)"', text)
    assert found == [
        *("answer", "arms", "learning", "attribution", "failures", "flow", "errors", "cost"),
        *("health", "prompts", "examples", "guide"),
    ]


def test_nothing_is_fetched_and_nothing_inline_runs(rich: Path) -> None:
    text = page(load_run(rich))
    found = Elements(text)
    for tag, attrs in found.tags:
        assert tag not in ("link", "iframe", "object", "embed", "base", "form", "img"), tag
        assert not {"src", "style", "srcset", "action"} & set(attrs), (tag, attrs)
        assert not any(name.startswith("on") for name in attrs), (tag, attrs)
        assert tag != "a" or (attrs["href"] or "").startswith("#")
    [policy] = [a["content"] for t, a in found.tags if a.get("http-equiv")]
    assert policy is not None and policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe" not in policy and "http" not in policy
    scripts = [a for t, a in found.tags if t == "script"]
    code = [raw for raw, a in zip(found.raw["script"], scripts, strict=True) if "type" not in a]
    assert len(code) == 2
    for script in [*code, *found.raw["style"]]:
        digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
        assert f"'sha256-{digest}'" in policy


def test_the_same_folder_gives_the_same_page(rich: Path) -> None:
    assert page(load_run(rich)) == page(load_run(rich))


def test_every_answer_is_in_it(rich: Path) -> None:
    run = load_run(rich)
    found = data_of(page(run), "answers")
    assert found["of"] == len(found["ids"]) == 20
    assert [arm["arm"] for arm in found["arms"]] == run.arm_names
    for arm in found["arms"]:
        [key] = [a.eval for a in run.arms if a.arm == arm["arm"]]
        kept = found["evals"][arm["eval"]]
        frame = run.answers[key]
        assert [found["strings"][i] for i in kept["text"]] == frame["text"].tolist()
        assert [found["classes"][i] for i in kept["outcome"]] == run.outcomes[key].tolist()


def test_several_samples_and_examples_in_another_order(rich: Path) -> None:
    path = rich / "evals/E1/records.parquet"
    rows = read_records(path)
    write_records(path, [*rows[::-1], *(replace(r, sample=1, text="again") for r in rows[:5])])
    found = data_of(page(load_run(rich)), "answers")
    kept = found["evals"][found["arms"][1]["eval"]]
    assert len(kept["text"]) == 25 and kept["sample"][:4] == [0, 1, 0, 1]
    assert kept["example"] == sorted(kept["example"])
    first = [found["strings"][i] for i in kept["text"][:2]]
    assert first == [rows[0].text, "again"]


def test_prompts_before_and_after(rich: Path) -> None:
    text = page(load_run(rich))
    pieces = words_changed("Give a form of the verb.", "Give the right form.")
    assert "".join(t for kind, t in pieces if kind != "ins") == "Give a form of the verb."
    assert "".join(t for kind, t in pieces if kind != "del") == "Give the right form."
    for kind, said in pieces:
        assert kind == "same" or f"<{kind}>{said}</{kind}>" in text
    assert "walked2" in text and "3 demos added" in words_of(text)
    told = data_of(text, "answers")
    of_arm = {arm["arm"]: arm["prompt"] for arm in told["arms"]}
    assert of_arm["shots"] == of_arm["shots+grpo"] != of_arm["zero"]


def test_a_prompt_of_another_shape_is_left_out(rich: Path) -> None:
    (rich / "stages/S1/policy/prompt.json").write_text('{"instruction": 3}')
    found = data_of(page(load_run(rich)), "answers")
    assert [arm["prompt"] is None for arm in found["arms"]] == [False, True, False]


def test_a_large_run_shows_as_many_examples_as_fit(rich: Path, monkeypatch) -> None:
    monkeypatch.setattr(answers, "MOST_ANSWERS", 30)
    text = page(load_run(rich))
    found = data_of(text, "answers")
    assert found["of"] == 20 and len(found["ids"]) == 10 == len(set(found["ids"]))
    monkeypatch.setattr(answers, "MOST_BYTES", 900)
    small = data_of(page(load_run(rich)), "answers")
    assert 1 <= len(small["ids"]) < 10


@pytest.mark.slow
def test_sixty_thousand_answers_take_seconds(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "large", Size(10_000))
    start, cpu = time.perf_counter(), time.process_time()
    write_page(load_run(folder), tmp_path / "report.html")
    took = min(time.perf_counter() - start, time.process_time() - cpu)
    assert took < 20
    assert (tmp_path / "report.html").stat().st_size < 25e6
    found = data_of((tmp_path / "report.html").read_text("utf-8"), "answers")
    assert len(found["ids"]) == 10_000


def test_a_run_that_kept_no_prompts(folder: Path) -> None:
    assert "This run folder keeps no prompts." in page(load_run(folder))


def test_the_command_writes_it(rich: Path, tmp_path: Path, capsys) -> None:
    assert main(["report", str(rich), "--html", str(tmp_path / "p.html")]) == 0
    assert (tmp_path / "p.html").read_text("utf-8").startswith("<!doctype html>")
    assert str(tmp_path / "p.html") in capsys.readouterr().out


def test_a_place_that_cannot_be_written_is_one_line(rich: Path, tmp_path: Path, capsys) -> None:
    with pytest.raises(ReportError, match="cannot be written"):
        write_page(load_run(rich), tmp_path / "no" / "p.html")
    assert main(["report", str(rich), "--html", str(tmp_path / "no" / "p.html")]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
