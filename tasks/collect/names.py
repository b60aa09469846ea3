"""Names people give to columns, and names that a prompt, a data file, a spec and DSPy can take."""

from __future__ import annotations

import keyword
import re
from collections.abc import Sequence
from pathlib import Path

ANSWERS = (
    *("answer", "answers", "label", "labels", "label_text", "target", "targets", "output", "class"),
    *("category", "intent", "gold", "response", "completion", "sentiment", "expected", "solution"),
    *(
        "rating",
        "stars",
        "queue",
        "topic",
        "translation",
        "summary",
        "tag",
        "emotion",
        "label_name",
        "ground_truth",
    ),
)
INPUTS = (
    *("text", "input", "question", "prompt", "sentence", "message", "utterance", "body", "query"),
    *("content", "document", "review", "problem", "tweet", "comment", "email", "ticket", "source"),
    *("article", "passage", "context", "premise", "hypothesis", "sentence1", "sentence2", "title"),
    *("description", "subject", "choices", "instruction"),
)
KEYS = ("id", "idx", "index", "uuid", "guid", "key", "no", "nr", "row")
_TAKEN = """
id split meta self completions signature new_signature demos config lm prediction base augmented
reasoning copy json dict schema construct validate fields instructions append prepend insert delete
equals input_fields output_fields dump_state load_state parse_obj parse_raw parse_file from_orm
schema_json update_forward_refs with_instructions with_updated_fields inputs labels get keys values
items without
"""
TAKEN = frozenset(_TAKEN.split())  # by DSPy's signatures and examples, or by our data files


def plain_word(name: str) -> str:
    """As names are compared: `Ticket Text` is ticket_text."""
    return re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")


def safe_names(columns: Sequence[str]) -> dict[str, str]:
    """Column -> name: `Ticket Text` is ticket_text, no two the same."""
    names: dict[str, str] = {}
    for column in columns:
        name = re.sub(r"\W+", "_", column.removesuffix(".text").lower()).strip("_") or "field"
        is_free = name.isidentifier() and not keyword.iskeyword(name)
        if not is_free or name.startswith(("model_", "dspy_")):
            name = f"field_{name}"
        if name in TAKEN:
            name = f"{name}_text"
        base, count = name, 2
        while name in names.values():
            name, count = f"{base}_{count}", count + 1
        names[column] = name
    return names


def task_name(folder: Path) -> str:
    """A name for the task, from that of its folder."""
    name = re.sub(r"[^A-Za-z0-9._+-]+", "-", folder.resolve().name).strip("-._+")
    return name or "my-task"
