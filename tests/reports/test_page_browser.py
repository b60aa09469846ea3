"""The page as people use it: opened from the file system in Chromium, the network cut."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from importlib import resources, util
from pathlib import Path
from typing import Any

import pytest

from benchmarks.tables import Size, write_run
from evaluation.records import read_records, write_records
from reports import load_run
from reports.page import write_page
from tasks.types import Prompt

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: apt-get install chromium"),
    pytest.mark.skipif(util.find_spec("playwright") is None, reason="needs playwright"),
]
DEMO = Path(__file__).parent / "demo"
EVALS = {one["arm"]: one["eval"] for one in json.loads((DEMO / "arms.json").read_text())}
WAIT = 30_000  # ms; other work may hold the processor
HOSTILE = {
    "script": "<script>window.pwned = 1; alert(1)</script>",
    "closed": "</script></style></textarea></table><script>window.pwned = 2</script>",
    "image": '<img src="x" onerror="window.pwned = 3"><svg onload="window.pwned = 4">',
    "comment": "<!-- --><![CDATA[ ]]> {{ 7 * 7 }} ${7 * 7} &lt;b&gt; &#x41;",
    "bidi": "left \u202eright\u202c \u2066isolated\u2069 \u200f\u061c",
    "ansi": "\x1b[31mred\x1b[0m \x07 \x00 \x9b1m",
    "link": "javascript:alert(1) https://evil.example/?q",
    "proto": "__proto__",
    "long": "x" * 100_000,
    "surrogate": "half \ud83d and \udc00 of a pair",
    "lines": "one\r\ntwo\u2028three\tfour",
}


@dataclass
class Opened:
    """A page, and everything that went wrong in it or left it."""

    page: Any
    errors: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    def quiet(self) -> bool:
        return not self.errors and all(url.startswith("file://") for url in self.requests)


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@contextmanager
def opened(chromium: Any, path: Path, state: str = "", **options: Any) -> Iterator[Opened]:
    """The page at `path`, drawn, with nothing but the file system in reach."""
    context = chromium.new_context(**{"viewport": {"width": 1280, "height": 900}, **options})
    context.set_offline(True)
    shown = Opened(context.new_page())
    page = shown.page
    page.set_default_timeout(WAIT)
    page.on("console", lambda m: m.type in ("error", "warning") and shown.errors.append(m.text))
    page.on("pageerror", lambda error: shown.errors.append(str(error)))
    page.on("dialog", lambda dialog: (shown.errors.append(dialog.message), dialog.dismiss()))
    page.on("request", lambda request: shown.requests.append(request.url))
    try:
        page.goto(f"{path.as_uri()}{state}")
        page.wait_for_selector("html[data-ready=yes][data-drawn=all]")
        yield shown
    finally:
        context.close()


def written(folder: Path) -> Path:
    path = folder / "report.html"
    write_page(load_run(folder), path)
    return path


def until(page: Any, expression: str, argument: Any = None) -> None:
    """Wait until it holds. (Playwright's own waiting evaluates text, which the policy forbids.)"""
    end = time.monotonic() + WAIT / 1000
    while not page.evaluate(expression, argument):
        assert time.monotonic() < end, f"not within {WAIT / 1000:.0f} s: {expression}"
        page.wait_for_timeout(50)


def count(page: Any) -> str:
    return page.inner_text("#count")


def test_a_reader_follows_the_question_down(rich: Path, chromium: Any) -> None:
    path = written(rich)
    with opened(chromium, path) as shown:
        page = shown.page
        assert "rollouts" in page.inner_text("#learning-chart")
        page.check("input[name=axis][value=seconds]")
        until(page, "document.querySelector('#learning-chart').innerText.includes('seconds')")
        page.select_option("#flow-from", "shots")
        page.select_option("#flow-to", "shots+grpo")
        until(page, "document.querySelector('#flow-chart').textContent.includes('correct 18')")
        assert page.input_value("#f-a") == "shots"  # one choice for the page
        page.select_option("#f-b", "shots")
        page.select_option("#f-a", "shots+grpo")
        page.select_option("#f-change", "broken")
        page.select_option("#f-class", "tense")
        run = load_run(rich)
        before, after = run.answers["E2"], run.answers["E1"]
        broken = before["correct"] & ~after["correct"] & (after["failure"] == "tense")
        ids = after["example_id"][broken].tolist()
        assert len(ids) > 2 and count(page) == f"{len(ids)} of 20 examples"
        page.click("#rows .row >> nth=1")
        assert page.inner_text("#one h3") == ids[1]
        page.click("#one .given-by:nth-of-type(2) button")
        page.wait_for_selector("#one .message.user")
        link = page.url
        assert shown.quiet(), (shown.errors, shown.requests)
    with opened(chromium, path, "#" + link.split("#")[1]) as shown:
        page = shown.page
        assert page.is_checked("input[name=axis][value=seconds]")
        assert "seconds" in page.inner_text("#learning-chart")
        chosen = {key: page.input_value(f"#f-{key}") for key in ("a", "b", "change", "class")}
        assert chosen == {"a": "shots+grpo", "b": "shots", "change": "broken", "class": "tense"}
        assert page.input_value("#flow-from") == "shots+grpo"
        until(page, "document.querySelector('#flow-chart').textContent.includes('correct 12')")
        assert count(page) == f"{len(ids)} of 20 examples"
        assert page.inner_text("#one h3") == ids[1]
        assert page.get_attribute("#rows [aria-selected=true]", "data-at") is not None
        assert page.is_visible("#one .message.user")
        assert shown.quiet(), (shown.errors, shown.requests)


def test_the_page_of_the_demo(chromium: Any, tmp_path: Path) -> None:
    """What `make demo` shows, on a run of it that is kept in tests/reports/demo."""
    run = load_run(DEMO)
    path = tmp_path / "report.html"
    write_page(run, path)
    before, after = run.answers[EVALS["zero-shot"]], run.answers[EVALS["prompt+grpo"]]
    broken = before["correct"] & ~after["correct"] & (after["failure"] == "over_regularized")
    ids = after["example_id"][broken].tolist()
    assert ids  # else the run is another one, and so must be what is chosen here
    with opened(chromium, path) as shown:
        page = shown.page
        assert "70.3 %" in page.inner_text("#answer")
        page.check("input[name=axis][value=completion_tokens]")
        until(page, "document.querySelector('#learning-chart').innerText.includes('tokens')")
        page.select_option("#flow-from", "zero-shot")
        page.select_option("#flow-to", "prompt+grpo")
        right = int(after["correct"].sum())
        until(
            page, "n => document.querySelector('#flow-chart').textContent.includes(n)",
            f"correct {right}",
        )  # fmt: skip
        page.select_option("#f-a", "zero-shot")
        page.select_option("#f-b", "prompt+grpo")
        page.select_option("#f-change", "broken")
        page.select_option("#f-class", "over_regularized")
        assert count(page) == f"{len(ids)} of 300 examples"
        page.click("#rows .row >> nth=0")
        assert page.inner_text("#one h3") == ids[0]
        link = page.url
        assert shown.quiet(), (shown.errors, shown.requests)
    with opened(chromium, path, "#" + link.split("#")[1]) as shown:
        page = shown.page
        assert page.is_checked("input[name=axis][value=completion_tokens]")
        chosen = {key: page.input_value(f"#f-{key}") for key in ("a", "b", "change", "class")}
        assert chosen == {
            "a": "zero-shot", "b": "prompt+grpo", "change": "broken", "class": "over_regularized",
        }  # fmt: skip
        assert page.input_value("#flow-to") == "prompt+grpo"
        assert count(page) == f"{len(ids)} of 300 examples"
        assert page.inner_text("#one h3") == ids[0]
        assert shown.quiet(), (shown.errors, shown.requests)


def test_search_slices_and_ribbons(rich: Path, chromium: Any) -> None:
    with opened(chromium, written(rich)) as shown:
        page = shown.page
        page.fill("#f-q", "A1")  # in any case: the answers a1 and a10 to a19, and example ids
        assert count(page) == "11 of 20 examples"
        page.fill("#f-q", "nowhere at all")
        assert count(page) == "0 of 20 examples" and not page.query_selector(".row")
        page.click("#f-reset")
        page.select_option("#f-slice", "regular=True")
        assert count(page) == "10 of 20 examples"
        page.click("#f-reset")
        page.click("#flow summary")
        row = page.locator("#flow-table tr", has_text="fixed").first
        moved = int(row.locator("td.n").inner_text())
        row.locator("button").click()
        assert count(page).startswith(f"{moved} of 20 examples, from ")
        assert shown.quiet(), shown.errors


def test_a_click_on_a_ribbon_lists_its_examples(rich: Path, chromium: Any) -> None:
    with opened(chromium, written(rich)) as shown:
        page = shown.page
        page.locator("#flow-chart").scroll_into_view_if_needed()
        page.locator("#flow-chart path[fill='#0072B2']").first.click(force=True)
        until(page, "document.getElementById('count').textContent.includes(', from ')")
        assert shown.quiet(), shown.errors


def test_a_conversation_with_tools(rich: Path, chromium: Any) -> None:
    path = rich / "evals" / "E1" / "records.parquet"
    rows = read_records(path)
    told = [
        {"role": "assistant", "content": "<tool_call>" + HOSTILE["script"]},
        {"role": "tool", "name": "look", "content": HOSTILE["closed"], "error": "tool_error"},
        {"role": "assistant", "content": rows[2].text},
    ]
    rows[2] = replace(rows[2], transcript=json.dumps(told))
    write_records(path, rows)
    with opened(chromium, written(rich), f"#ex={rows[2].example_id}") as shown:
        page = shown.page
        page.click("#one summary:has-text('The conversation, 1 call')")
        said = [
            block.inner_text() for block in page.query_selector_all("#one details[open] .message")
        ]
        assert len(said) == 3 and said[0].startswith("model\n<tool_call><script>")
        assert said[1].startswith("tool look (tool_error)\n</script>")
        assert page.evaluate("window.pwned") is None and shown.quiet(), shown.errors


def test_everything_is_reached_by_keyboard(rich: Path, chromium: Any) -> None:
    with opened(chromium, written(rich)) as shown:
        page = shown.page
        page.focus("#rows")
        page.keyboard.press("ArrowDown")
        page.keyboard.press("ArrowDown")
        assert page.inner_text("#one h3") == "e01"
        page.keyboard.press("End")
        assert page.inner_text("#one h3") == "e19"
        active = page.get_attribute("#rows", "aria-activedescendant")
        assert page.get_attribute(f"#{active}", "aria-selected") == "true"
        page.keyboard.press("Enter")
        assert page.evaluate("document.activeElement.id") == "one"
        page.focus("input[name=axis]:checked")
        page.keyboard.press("ArrowRight")
        assert page.is_checked("input[name=axis][value=completion_tokens]")
        page.focus("#theme")
        page.keyboard.press("Enter")
        page.keyboard.press("Enter")
        assert page.evaluate("document.documentElement.dataset.theme") == "dark"
        reached = page.evaluate(
            "[...document.querySelectorAll('button, select, input, summary, a[href]')]"
            ".filter(e => e.checkVisibility() && e.tabIndex < 0).length"
        )
        assert reached == 0 and shown.quiet(), shown.errors


def test_the_prompt_is_the_one_that_was_sent(rich: Path, chromium: Any) -> None:
    told = json.loads((rich / "stages/S2/policy/prompt.json").read_text())
    demos = [d | {"reasoning": "think"} for d in told["demos"]]
    for name, changed in (("S1", {"style": "cot", "demos": demos}), ("S2", {"nearest": 2})):
        path = rich / "stages" / name / "policy/prompt.json"
        path.write_text(json.dumps(told | changed))
    with opened(chromium, written(rich), "#ex=e02&prompt=shots") as shown:
        page = shown.page
        for arm, stage in (("zero", None), ("shots", "S1"), ("shots+grpo", "S2")):
            path = rich / "stages" / stage / "policy" if stage else rich
            prompt = Prompt.from_json((path / "prompt.json").read_text())
            page.evaluate(
                "arm => { location.hash = `ex=e02&prompt=${encodeURIComponent(arm)}`; }", arm
            )
            sent = prompt.messages({"verb": "v2", "tense": "past"})
            many = "n => document.querySelectorAll('.message').length === n"
            until(page, many, len(sent))
            found = page.evaluate(
                "[...document.querySelectorAll('.message')].map("
                "m => ({role: m.children[0].textContent, content: m.children[1].textContent}))"
            )
            assert found == sent, arm
        assert shown.quiet(), shown.errors


def _planted(rich: Path) -> None:
    """Hostile text wherever a run holds text that somebody else wrote."""
    texts = list(HOSTILE.values())
    for key in ("E0", "E1", "E2", "E3"):
        path = rich / "evals" / key / "records.parquet"
        rows = read_records(path)
        for i, text in enumerate(texts):
            inputs, meta = (
                json.dumps({"verb": text, "tense": text}),
                json.dumps({text[:99]: text[:99]}),
            )
            wrong = {"score": 0.0, "correct": False, "failure": text[:200]}
            rows[i] = replace(rows[i], answer=text, text=text + "!", gold=text, feedback=text,
                              inputs=inputs, meta=meta, finish=text[:99], **wrong)  # fmt: skip
        write_records(path, rows)
    evil = HOSTILE["closed"] + HOSTILE["image"] + HOSTILE["bidi"]
    info = json.loads((rich / "run.json").read_text())
    info |= {"name": evil, "task": evil, "model": evil, "versions": {evil: evil}, "device": evil}
    info["failure_classes"] = {HOSTILE["script"]: evil, "tense": evil}
    arms = json.loads((rich / "arms.json").read_text())
    arms[1]["arm"], arms[3]["arm"] = HOSTILE["image"], evil
    (rich / "run.json").write_text(json.dumps(info))
    (rich / "arms.json").write_text(json.dumps(arms))
    for path in (rich / "stages/S1/policy/prompt.json", rich / "prompt.json"):
        told = json.loads(path.read_text())
        told["instruction"] += evil + HOSTILE["surrogate"]
        told["demos"] = [{"inputs": {"verb": evil, "tense": evil}, "output": evil, "reasoning": ""}]
        path.write_text(json.dumps(told))
    audit = {"name": evil, "level": "tripped", "step": 1, "detail": evil}
    (rich / "stages/S2/audits.json").write_text(json.dumps([audit]))


def test_hostile_text_shows_as_text_and_nothing_runs(rich: Path, chromium: Any) -> None:
    _planted(rich)
    path = written(rich)
    with opened(chromium, path) as shown:
        page = shown.page
        assert "<script>window.pwned = 2" in page.inner_text("h1")
        page.evaluate("document.querySelectorAll('details').forEach(d => { d.open = true; })")
        for i, (name, text) in enumerate(HOSTILE.items()):
            page.evaluate("at => { location.hash = `ex=e${at}&prompt=zero`; }", f"{i:02}")
            shown_now = "at => document.querySelector('#one h3')?.textContent === `e${at}`"
            until(page, shown_now, f"{i:02}")
            said = page.inner_text("#one .given-by .answer")
            if name == "long":
                assert "Show all 100,000 characters" in said and len(said) < 3000
                page.click("#one .given-by .answer button")
                assert page.inner_text("#one .given-by .answer") == text
            elif name in ("bidi", "ansi"):
                shown_as = (
                    "\\u202eright\\u202c" if name == "bidi" else "\\x1b[31mred\\x1b[0m \\x07 \\x00"
                )
                assert shown_as in said
                assert not {"\u202e", "\x1b", "\x07"} & set(page.inner_text("main"))
            elif name not in ("lines", "surrogate"):  # Parquet holds no half of a pair
                assert said.strip() == text
        page.fill("#f-q", "<script>")
        assert not count(page).startswith("0 ")
        assert page.evaluate(
            "[window.pwned, document.querySelectorAll('main img, main script').length]"
        ) == [None, 0]
        assert shown.quiet(), (shown.errors, shown.requests)


def test_the_policy_stops_what_escaping_would_let_through(rich: Path, chromium: Any) -> None:
    path = written(rich)
    hole = "<main><script>window.pwned = 1</script><img src='https://evil.example/x.png'>"
    hole += "<button id='hole' onclick='window.pwned = 2'>x</button>"
    path.write_text(path.read_text("utf-8").replace("<main>", hole), encoding="utf-8")
    with opened(chromium, path) as shown:
        shown.page.click("#hole")
        assert shown.page.evaluate("window.pwned ?? null") is None
        assert len(shown.errors) >= 3 and all("Content Security Policy" in e for e in shown.errors)
        assert any("evil.example" in e for e in shown.errors)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_axe_finds_nothing_serious(rich: Path, chromium: Any, scheme: str, width: int) -> None:
    if util.find_spec("axe_playwright_python") is None:
        pytest.skip("needs axe-playwright-python, which holds axe-core")
    axe = resources.files("axe_playwright_python").joinpath("axe.min.js").read_text("utf-8")
    size = {"width": width, "height": 900}
    state = "#ex=e02&prompt=shots"
    with opened(chromium, written(rich), state, color_scheme=scheme, viewport=size) as shown:
        page = shown.page
        page.evaluate("document.querySelectorAll('details').forEach(d => { d.open = true; })")
        page.wait_for_timeout(500)
        page.evaluate(f"{axe};0")
        found = page.evaluate("axe.run()")
        serious = [v for v in found["violations"] if v["impact"] in ("serious", "critical")]
        assert len(found["passes"]) > 30
        assert not [(v["id"], v["nodes"][0]["html"]) for v in serious]


def test_it_fits_a_phone_and_prints(rich: Path, chromium: Any, tmp_path: Path) -> None:
    path = written(rich)
    with opened(chromium, path, "#ex=e02", viewport={"width": 360, "height": 740}) as shown:
        assert shown.page.evaluate("document.documentElement.scrollWidth") <= 360
    with opened(chromium, path, color_scheme="dark") as shown:
        page = shown.page
        page.emulate_media(media="print")
        colours = page.evaluate(
            "(s => [s.color, s.backgroundColor])(getComputedStyle(document.body))"
        )
        assert colours == ["rgb(29, 29, 31)", "rgb(255, 255, 255)"]
        assert not page.is_visible("#browser") and page.is_visible("#scores, #arms .chart svg")
        page.pdf(path=tmp_path / "page.pdf")
        assert (tmp_path / "page.pdf").stat().st_size > 20_000


def _one_arm(folder: Path) -> str:
    arms = json.loads((folder / "arms.json").read_text())
    (folder / "arms.json").write_text(json.dumps(arms[:1]))
    return "zero"


def _no_failures(folder: Path) -> str:
    for key in ("E0", "E1", "E2"):
        path = folder / "evals" / key / "records.parquet"
        right = [replace(r, correct=True, score=1.0, failure=None) for r in read_records(path)]
        write_records(path, right)
    return "No arm gave a wrong answer."


def _failed_stage(folder: Path) -> str:
    arms = json.loads((folder / "arms.json").read_text())
    arms[2]["eval"] = None  # its stage broke: it has no evaluation
    (folder / "arms.json").write_text(json.dumps(arms))
    shutil.rmtree(folder / "stages/S2")
    return "Not evaluated yet, so absent: shots+grpo (seed 0), grpo (seed 0)."


def _no_training(folder: Path) -> str:
    arms = json.loads((folder / "arms.json").read_text())
    (folder / "arms.json").write_text(json.dumps(arms[:2]))
    return "No arm measured itself on dev."


@pytest.mark.parametrize("smaller", [_one_arm, _no_failures, _failed_stage, _no_training])
def test_smaller_runs_give_a_sensible_page(folder: Path, chromium: Any, smaller: Any) -> None:
    said = smaller(folder)
    with opened(chromium, written(folder)) as shown:
        page = shown.page
        assert said in " ".join(page.inner_text("main").split())
        assert count(page) == "20 of 20 examples"
        page.click("#rows .row >> nth=3")
        assert page.inner_text("#one h3") == "e03"
        for section in page.query_selector_all("main > section"):
            assert len((section.text_content() or "").split()) > 5
        assert page.is_visible("#flow") == (smaller is not _one_arm)
        assert shown.quiet(), shown.errors


@pytest.mark.slow
def test_sixty_thousand_answers_stay_fluent(tmp_path: Path, chromium: Any) -> None:
    path = written(write_run(tmp_path / "large", Size(10_000)))
    with opened(chromium, path) as shown:
        page = shown.page
        assert count(page) == "10,000 of 10,000 examples"
        [paint] = page.evaluate(
            "performance.getEntriesByName('first-contentful-paint').map(e => e.startTime)"
        )
        assert paint < 2000
        took = page.evaluate("""async () => {
            const next = (go) => requestAnimationFrame(() => requestAnimationFrame(go));
            const frame = () => new Promise(next);
            const rows = document.getElementById("rows"), query = document.getElementById("f-q");
            const took = [], time = async (work) => {
                const start = performance.now(); work(); await frame();
                took.push(performance.now() - start);
            };
            for (let i = 1; i <= 30; i++) await time(() => { rows.scrollTop = i * 9000; });
            for (const text of ["w", "walked", ""]) {
                await time(() => { query.value = text; query.dispatchEvent(new Event("input")); });
            }
            return took.sort((a, b) => a - b)[16];
        }""")
        assert took < 100  # ms, the middle one
        assert page.evaluate("document.querySelectorAll('.row').length") < 60
        assert shown.quiet(), shown.errors
