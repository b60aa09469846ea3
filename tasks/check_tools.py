"""What can be known of a task's tools before a model calls them (part of `tasklift check`)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tasks.text import shorten
from tasks.tools import Toolbox, calling, schema_of
from tasks.types import Example, Score, Task

SAMPLED = 25  # examples a split
LOST = {"role": "tool", "name": "", "content": "error", "error": "malformed_call"}


def wrong_tools(task: Task, splits: Mapping[Any, Sequence[Example]]) -> Iterator[str]:
    """What is wrong with the tools, with what is shown of their use, and with the scoring of it."""
    declared = {tool.__name__: schema_of(tool)["function"]["parameters"] for tool in task.tools}
    for split, examples in splits.items():
        for example in examples[:SAMPLED]:
            where = f'{split}: "{example.id}"'
            try:
                tools = task.tools_for(example)
                own = {tool.__name__: schema_of(tool)["function"]["parameters"] for tool in tools}
                if own != declared:
                    yield f"{where}: tools_for gives {', '.join(own)}, not what tools declares"
                    continue
                box = Toolbox.of(tools, task.max_turns)
                yield from _wrong_use(task, example, where, box)
            except (Exception, SystemExit) as error:
                yield f"{where} raised {shorten(f'{type(error).__name__}: {error}', 80)}"


def _wrong_use(task: Task, example: Example, where: str, box: Toolbox) -> Iterator[str]:
    shown = acted(task.demonstration(example), box)
    failed = [m for m in shown if m.get("error")]
    turns = sum(m["role"] == "assistant" for m in shown)
    score = task.score_transcript(example, shown)
    if failed:
        yield f"{where}: a call of its demonstration fails: {shorten(failed[0]['content'], 60)}"
    elif turns > task.max_turns:
        yield f"{where}: its demonstration takes {turns} turns, max_turns is {task.max_turns}"
    elif not score.correct or score.value != 1.0:
        yield f"{where}: its demonstration scores {float(score.value):g} ({score.failure})"
    for transcript in hostile(next(iter(box.tools))):
        score = task.score_transcript(example, transcript)
        known = score.failure in task.failure_classes if isinstance(score, Score) else False
        if not known or score.correct or not 0 <= score.value <= 1:
            said = shorten(str(transcript[-1]["content"]), 20)
            yield f'{where}: broken calls that end in "{said}" have no class, or are right'


def acted(turns: Sequence[Mapping[str, Any]], box: Toolbox) -> list[dict[str, Any]]:
    """The assistant's turns with what the tools say to them."""
    found: list[dict[str, Any]] = []
    for turn in turns:
        if turn["role"] == "assistant":
            calls = turn.get("tool_calls", ())
            found += [dict(turn), *(box.call(c["name"], c["arguments"]) for c in calls)]
    return found


def hostile(tool: str) -> list[list[dict[str, Any]]]:
    """Answers with calls that are wrong whatever was asked."""
    end = {"role": "assistant", "content": "\ud800"}
    refused = {"role": "tool", "name": tool, "content": "error", "error": "bad_arguments"}
    broken = {"role": "assistant", "content": "<tool_call>{", "malformed": "no JSON"}
    return [
        [{"role": "assistant", "content": ""}],
        [broken],
        [broken, dict(LOST), end],
        [calling(tool)],
        [calling(tool, x="\0" * 1_000), refused, end],
        [calling("no such tool"), {**refused, "error": "unknown_tool"}, end],
        [calling(tool), {**refused, "error": "tool_error"}, {**end, "content": "z" * 100_000}],
    ]
