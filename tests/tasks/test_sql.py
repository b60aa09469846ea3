"""The `sql` task: what is right, what is wrong and how, and that its tool can only read."""

from __future__ import annotations

import signal
import sqlite3
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks import sql_shop
from tasks.check import check_task
from tasks.sql import Sql, query
from tasks.sql_questions import KINDS
from tasks.sql_reader import ROWS, Refused, _like, read
from tasks.sql_shop import TABLES, shop
from tasks.tools import Toolbox, calling
from tasks.types import Example

TASK = Sql()
BOX = Toolbox.of(TASK.tools, TASK.max_turns)
TEST = TASK.split("test")


def of_kind(kind: str) -> Example:
    return next(example for example in TEST if example.meta["kind"] == kind)


NUMBER, NAMES, DAY = of_kind("spent"), of_kind("buyers"), of_kind("last_day")


def answer(text: str) -> dict[str, Any]:
    return {"role": "assistant", "content": text}


def told(turn: dict[str, Any]) -> list[dict[str, Any]]:
    """A turn with its results."""
    calls = turn.get("tool_calls", ())
    return [turn, *(BOX.call(call["name"], call["arguments"]) for call in calls)]


def asked(sql: str) -> list[dict[str, Any]]:
    return told(calling("query", sql=sql))


GOLD = asked(NUMBER.meta["sql"])
MALFORMED = [
    {**answer("<tool_call>{"), "malformed": "no JSON"},
    {"role": "tool", "name": "", "content": "error", "error": "malformed_call"},
]


def test_it_passes_its_own_check() -> None:
    failed = [f for f in check_task(TASK, "sql") if not f.ok]
    assert not failed, failed


def test_splits_share_no_names_and_test_has_what_train_has_not() -> None:
    seen = {e.inputs["question"] for e in TASK.split("train")}
    assert not any(name in text for text in seen for name in ("Riga", "Helsinki"))  # of test
    assert any("Riga" in e.inputs["question"] for e in TEST)
    for name in ("new_kind", "new_words"):
        assert not any(e.meta[name] for e in TASK.split("train"))
        assert 20 < sum(e.meta[name] for e in TEST) < 150
    assert {e.meta["kind"] for e in TEST} == {kind.name for kind in KINDS}
    assert {e.meta["tables"] for e in TASK.split("train")} == {1, 2, 3, 4}


@pytest.mark.parametrize(
    ("transcript", "failure"),
    [
        ([*GOLD, answer(NUMBER.answer)], None),
        ([*GOLD, answer(f"It is {int(NUMBER.answer):,} in all.")], None),
        ([*asked("SELECT nothing"), *GOLD, answer(NUMBER.answer)], None),
        ([answer(NUMBER.answer)], None),  # who can, may do without
        ([*GOLD, answer(NUMBER.answer + "1")], "ignored_result"),
        ([*GOLD, answer("much")], "no_answer"),
        ([answer("77")], "no_call"),
        ([answer("")], "no_call"),
        ([*MALFORMED, answer("77")], "malformed_call"),
        ([*asked("SELECT 77"), answer("77")], "wrong_rows"),
        ([*asked("SELECT COUNT(*) FROM customers WHERE name = 'x'"), answer("0")], "wrong_rows"),
        ([*asked("SELECT towns FROM customers"), answer("77")], "wrong_sql"),
        ([*asked("SELEC"), answer("77")], "wrong_sql"),
        ([*asked("SELECT 1; SELECT 2"), answer("77")], "wrong_sql"),
        ([*asked("SELECT COUNT(*) FROM items a, items b, items c"), answer("77")], "wrong_sql"),
        ([*asked("DROP TABLE customers"), answer("77")], "forbidden_sql"),
        ([*told(calling("query", text="SELECT 1")), answer("77")], "bad_call"),
        ([*told(calling("ask", sql="SELECT 1")), answer("77")], "bad_call"),
        ([*GOLD, calling("query", sql="SELECT 1")], "too_many_calls"),
        ([*GOLD, {**answer(NUMBER.answer), "malformed": "no end"}], "malformed_call"),
    ],
)
def test_what_happened_has_a_class(transcript: list[dict[str, Any]], failure: str | None) -> None:
    score = TASK.score_transcript(NUMBER, transcript)
    assert score.failure == failure and score.correct == (failure is None)
    assert score.value == float(score.correct)
    assert score.correct or "takes 4 tables and the aggregate sum" in score.feedback
    assert score.correct or NUMBER.answer not in score.feedback  # feedback gives nothing away


def test_feedback_says_what_the_database_said() -> None:
    score = TASK.score_transcript(NUMBER, [*asked("SELECT towns FROM customers"), answer("7")])
    assert "no such column: towns" in score.feedback


@pytest.mark.parametrize(
    ("example", "text", "failure"),
    [
        (NUMBER, NUMBER.answer, None),
        (NUMBER, "77", "wrong_answer"),
        (NUMBER, "many", "no_answer"),
        (NUMBER, f"{NUMBER.answer}%", "wrong_answer"),
        (NAMES, NAMES.answer, None),
        (NAMES, ", ".join(reversed(NAMES.answer.split(", "))), None),  # in any order
        (NAMES, f"In {NAMES.inputs['question']} it is {NAMES.answer.upper()}.", None),
        (NAMES, f"{NAMES.answer}, and Oslo", "wrong_answer"),
        (NAMES, NAMES.answer.split(", ")[0][:-1], "no_answer"),
        (DAY, f"On {DAY.answer}.", None),
        (DAY, "2024-01-01", "wrong_answer"),
        (DAY, "in May", "no_answer"),
    ],
)
def test_without_tools_the_answer_counts(example: Example, text: str, failure: str | None) -> None:
    assert TASK.score(example, text).failure == failure


@pytest.mark.parametrize(
    "text", ["\ud800", "9" * 100_000, "1e999", "nan", "-" * 100_000, "\0", "1," * 50_000, "a " * 9]
)
def test_hostile_answers_are_wrong_answers(text: str) -> None:
    for example in (NUMBER, NAMES, DAY):
        assert not TASK.score(example, text).correct
        score = TASK.score_transcript(example, [*asked(example.meta["sql"]), answer(text)])
        assert score.failure in ("ignored_result", "no_answer")
        score.answer.encode()


FORBIDDEN = [
    "DROP TABLE customers",
    "DELETE FROM customers",
    "UPDATE customers SET name = ''",
    "INSERT INTO items VALUES (1, 1, 1)",
    "CREATE TEMP TABLE x (y)",
    "ATTACH 'stolen.db' AS x",
    "VACUUM INTO 'stolen.db'",
    "PRAGMA query_only = 0",
    "PRAGMA table_info(customers)",
    "SELECT * FROM pragma_table_info('customers')",
    "SELECT load_extension('x')",
    "SELECT * FROM json_each('[1]')",
    "BEGIN",
    "EXPLAIN SELECT 1",
    "/* x */ explain query plan SELECT 1",
    "REINDEX",
    "SELECT replace('a', 'a', 'b')",
    "SAVEPOINT x",
    "SELECT random()",
    "SELECT datetime('now')",
    "SELECT current_timestamp",
    "SELECT hex(randomblob(1000000000))",
    "SELECT printf('%.*c', 1000000000, 'x')",
    "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c) SELECT COUNT(*) FROM c",
    "WITH c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c) SELECT n FROM c",
]


@pytest.mark.parametrize("sql", FORBIDDEN)
def test_all_but_reading_is_refused(
    sql: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(Refused, match="not allowed"):
        read(shop(), TABLES, sql)
    assert not list(tmp_path.iterdir())
    with pytest.raises(Refused, match="not allowed"):
        query(sql)
    assert query("SELECT COUNT(*) FROM customers") == "120"


@pytest.mark.parametrize(
    "sql",
    [
        "",
        "SELECT COUNT(*) FROM items a, items b, items c",
        "SELECT a.name || b.name FROM customers a, customers b, customers c ORDER BY 1",
        "SELECT group_concat(name) FROM customers, products",
        "SELECT readfile('/etc/passwd')",
        "SELECT " + "(" * 900 + "1" + ")" * 900,
        "SELECT 1 -- " + "x" * 100_000,
        "SELECT '\ud800'",
        "SELECT '\0'",
        "SELECT ?",
        "SELECT date()",
    ],
)
def test_what_cannot_be_run_is_one_line(sql: str) -> None:
    if sql:
        with pytest.raises(ValueError) as error:
            query(sql)
        assert "\n" not in str(error.value)
    result = BOX.call("query", {"sql": sql})
    assert result["content"] == "(no rows)" if not sql else result["error"]
    assert len(result["content"]) < 300


def test_queries_know_no_clock() -> None:
    assert query("SELECT date('now'), strftime('%Y', 'now')") == "NULL | NULL"
    assert query("SELECT strftime('%m.%Y', '2024-05-31'), date('2024-05-31')") == (
        "05.2024 | 2024-05-31"
    )


def test_long_results_are_cut() -> None:
    lines = query("SELECT name FROM customers").splitlines()
    assert len(lines) == ROWS + 1 and lines[-1] == "(more rows)"
    assert len(query("SELECT sql || sql || sql FROM sqlite_master WHERE name = 'orders'")) <= 201
    assert query(f"SELECT '{'x' * 300}'") == f"{'x' * 200}…"
    assert query(f"SELECT '{'x' * 200}'") == "x" * 200
    assert query("SELECT 1.0 / 3, NULL, x'00ff', 'a\nb'") == "0.3333333333 | NULL | 00ff | a b"


def test_a_query_ends_after_so_many_steps_whatever_the_machine_does() -> None:
    counted = "SELECT COUNT(*) FROM customers a, customers b, (SELECT 1 FROM items LIMIT {}) c"
    for _ in range(3):
        assert query(counted.format(2)) == "28800"
        with pytest.raises(ValueError, match="more than 200000 steps"):
            query(counted.format(9))


@settings(max_examples=60, deadline=None)
@given(st.text(alphabet="SELECTFROMWHERE select*from(),'= ;-customers1%_", max_size=60))
def test_whatever_is_asked_ends(sql: str) -> None:
    try:
        assert len(read(shop(), TABLES, sql)) < 5_000
    except ValueError as error:
        assert "\n" not in str(error)


def test_demonstrations_are_right() -> None:
    for example in [*TEST, *TASK.split("dev")]:
        call, last = TASK.demonstration(example)
        assert TASK.score_transcript(example, [*told(dict(call)), last]).correct


def doubling(levels: int) -> str:
    steps = [f"a{i + 1} AS (SELECT x FROM a{i} UNION SELECT x FROM a{i})" for i in range(levels)]
    return f"WITH a0 AS (SELECT 1 x), {', '.join(steps)} SELECT * FROM a{levels}"


def flattened(sums: str, levels: int) -> str:
    sql = "SELECT price x FROM products"
    for _ in range(levels):
        sql = f"SELECT {sums} x FROM ({sql})"
    return sql


LONG = "(SELECT " + "||".join(["'" + "a" * 100 + "'"] * 5) + " t)"
GREEDY = {
    "steps written into each other": doubling(18),
    "columns written into each other": flattened("(((x+x)+(x+x))+((x+x)+(x+x)))+x", 8),
    "long texts searched": (
        f"SELECT COUNT(*) FROM items a, items b, {LONG} WHERE t||a.quantity LIKE "
        f"'%{'a' * 97}b' OR t||b.quantity LIKE '%{'_a' * 48}b'"
    ),
    "long texts formatted": (
        f"SELECT COUNT(strftime('{'%m' * 250}'||a.quantity, '2024-01-01')) FROM items a, items b"
    ),
    "a table sorted": (
        f"SELECT t||a.quantity||b.quantity FROM items a, items b, {LONG} ORDER BY 1 DESC"
    ),
}


def used(pid: int) -> tuple[float, float]:
    """Seconds of CPU time of a process, and its peak memory in MB."""
    ticks = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]
    peak = Path(f"/proc/{pid}/status").read_text().partition("VmHWM:")[2].split()[0]
    return sum(map(int, ticks)) / 100, int(peak) / 1024


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks into /proc")
@pytest.mark.parametrize("kind", GREEDY)
def test_no_query_takes_much_time_or_memory(kind: str) -> None:
    query("SELECT 1")
    process = sql_shop._worker._process
    assert process is not None
    before, _ = used(process.pid)
    with pytest.raises(ValueError, match="ask for less"):
        query(GREEDY[kind])
    after, peak = used(process.pid)
    assert after - before < 1.5 and peak < 100  # 0.2 s and 30 MB where this was written
    assert query("SELECT COUNT(*) FROM customers") == "120"
    assert process.poll() is None


def test_a_worker_that_dies_is_an_error_and_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    query("SELECT 1")
    process = sql_shop._worker._process
    assert process is not None
    process.send_signal(signal.SIGSTOP)
    monkeypatch.setattr(sql_shop, "SECONDS", 0.05)
    with pytest.raises(ValueError, match="took too long; ask for less"):
        query("SELECT 1")
    monkeypatch.undo()
    assert query("SELECT 1") == "1"


def test_like_is_that_of_sqlite() -> None:
    plain = sqlite3.connect(":memory:")
    texts = [
        "",
        "a",
        "A",
        "ab",
        "aab",
        "a%b",
        "a_b",
        "\u00c4",
        "\u00e4",
        "axbxb",
        "%",
        "abab",
        None,
    ]
    patterns = [
        "",
        "a",
        "%",
        "_",
        "a%",
        "%b",
        "%a_b%",
        "a\\%b",
        "a\\_b",
        "\\",
        "\u00e4",
        "%%",
        None,
    ]
    for text, pattern in product([*texts, 12, 1.5], [*patterns, "1%", "_2"]):
        wanted = plain.execute("SELECT ? LIKE ?, ? LIKE ? ESCAPE '\\'", [text, pattern] * 2)
        ours = (_like(pattern, text), _like(pattern, text, "\\"))
        assert wanted.fetchone() == ours, (text, pattern)
    name = "Ada Haas"
    assert query(f"SELECT name FROM customers WHERE name LIKE '{name[:5].lower()}%s'") == name
