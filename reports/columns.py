"""Every column of every table: its name, its type and what it says. One place, three readers.

`typed` gives a frame these types, so that a table without rows, or with nothing missing, has the
same ones as any other; `read_frame` reads a file back with them; `documented.py` prints
docs/tables.md.

Types: `str`, `int`, `float`, `bool`; a `?` says that the figure or text may be missing (`Int64`,
or NaN in text; a float may always be NaN).
"""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

DTYPES = {
    "str": "str",
    "str?": "str",
    "int": "int64",
    "int?": "Int64",
    "float": "float64",
    "bool": "bool",
}
LEADING = ("run", "task", "model")  # which run a row is of, where several stand in one table

# a column means the same wherever it stands, but for `SPECIAL`
MEANINGS: dict[str, tuple[str, str]] = {
    "run": ("str", "The run: its name, or its folder where two have the same name"),
    "task": ("str", "The task's name"),
    "model": ("str", "The model as the spec names it"),
    "arm": ("str", "The arm, as the spec names it"),
    "arm_a": ("str", "The arm compared with"),
    "arm_b": ("str", "The arm compared: figures are arm_b minus arm_a"),
    "seed": ("int", "The seed of the arm"),
    "seeds": ("int", "Seeds that the figures are means over"),
    "n": ("int", "Examples"),
    "score": ("float", "Mean score, 0 to 1"),
    "ci_low": ("float", "Lower end of the score's 95 % interval"),
    "ci_high": ("float", "Upper end of the score's 95 % interval"),
    "seed_sd": ("float", "Standard deviation between seeds, missing for one seed"),
    "delta": ("float", "Difference of mean scores, in score units (0.01 is one point)"),
    "delta_low": ("float", "Lower end of the difference's 95 % interval"),
    "delta_high": ("float", "Upper end of the difference's 95 % interval"),
    "p": ("float", "Two-sided p of the difference, not adjusted"),
    "p_adjusted": ("float", "p after Holm over all comparisons of the run"),
    "margin": ("float", "The margin asked about, in score units (`--margin`)"),
    "p_noninferior": ("float", 'One-sided p of "worse by the margin or more" (`--margin`)'),
    "fixed": ("int", "Examples that score higher"),
    "broken": ("int", "Examples that score lower"),
    "rollouts": ("int", "Answers drawn along the arm's chain, a seed's on average"),
    "completion_tokens": ("int", "Tokens written"),
    "prompt_tokens": ("int", "Tokens read"),
    "train_steps": ("int", "Optimizer steps"),
    "seconds": ("float", "Wall time"),
    "samples": ("int", "Answers that every example has at least"),
    "k": ("int", "Answers looked at"),
    "mean_at_k": ("float", "Mean score of k answers"),
    "mean_low": ("float", "Lower end of its 95 % interval"),
    "mean_high": ("float", "Upper end of its 95 % interval"),
    "pass_at_k": ("float", "Chance that one of k answers is right, unbiased"),
    "pass_low": ("float", "Lower end of its 95 % interval"),
    "pass_high": ("float", "Upper end of its 95 % interval"),
    "attacks": ("str", "Which attacks: all, those of families known from train, or new ones"),
    "resisted": ("float", "Share of answers to attacks that are right"),
    "resisted_low": ("float", "Lower end of its 95 % interval"),
    "resisted_high": ("float", "Upper end of its 95 % interval"),
    "followed": ("float", "Share that says what the attack planted"),
    "refused": ("float", "Share that declines to answer"),
    "derailed": ("float", "Share that is wrong in any other way"),
    "twins": ("int", "Harmless twins"),
    "twin_score": ("float", "Share of answers to twins that are right"),
    "over_refused": ("float", "Share of answers to twins that decline"),
    "over_refused_low": ("float", "Lower end of its 95 % interval"),
    "over_refused_high": ("float", "Upper end of its 95 % interval"),
    "failure": ("str", "Failure class"),
    "count": ("int", "Answers"),
    "share": ("float", "Share of all answers of the arm at that seed"),
    "meaning": ("str", "What the class means"),
    "example_id": ("str", "The example"),
    "input": ("str", "What was asked"),
    "answer": ("str", "The answer taken from what the model wrote"),
    "gold": ("str", "The right answer"),
    "kind": ("str", "What became of the answers: fixed, broken, still, changed, unpaired, …"),
    "name": ("str", "The type of error"),
    "failures": ("int", "Failures among them"),
    "rate": ("float", "Failures among these examples"),
    "rate_outside": ("float", "Failures among all others"),
    "lift": ("float", "rate / rate_outside"),
    "found_n": ("int", "Examples of the half it was found in"),
    "found_failures": ("int", "Failures there"),
    "held_n": ("int", "Examples of the held-out half"),
    "held_failures": ("int", "Failures there"),
    "mostly": ("str", "The class most of them are in"),
    "where": ("str", "Where they are found"),
    "terms": ("str", "Words they have in common"),
    "examples": ("str", "Ids of some"),
    "change": ("float", "rate minus that of the baseline"),
    "correct": ("bool", "Whether the answer is right"),
    "by": ("str", "What is split: right answers (correct) or the mean score (score)"),
    "format": ("float", "The part of delta that is format"),
    "capability": ("float", "The part of delta that is capability"),
    "error": ("float", "The part of delta that is errors of scorer or program"),
    **{
        f"{part}_{way}": ("int", f"Answers {way}, by {part}")
        for part in ("format", "capability", "error")
        for way in ("fixed", "broken")
    },
    "from": ("str", "Class of the answer in arm_a"),
    "to": ("str", "Class of the answer in arm_b"),
    "source": ("str", "Arm and class before"),
    "target": ("str", "Arm and class after"),
    "feature": ("str", "A meta feature of the examples"),
    "value": ("str", "Its value"),
    "purpose": ("str", "What it was spent on"),
    "calls": ("int", "Requests to the model"),
    "completions": ("int", "Answers drawn"),
    "train_tokens": ("int", "Tokens trained on"),
    "optimizer_steps": ("int", "Optimizer steps"),
    "shared_with": ("str", "Other arms that use this very work, done once"),
    "flops": ("float", "Floating point operations, estimated"),
    "peak_memory_gb": ("float", "Most memory held, 1e9 bytes"),
    "peak_gpu_gb": ("float", "Most GPU memory held, 1e9 bytes"),
    "dollars": ("float", "Seconds at the spec's price per hour"),
    "limit": ("str", "rollouts, tokens or seconds"),
    "budget": ("float", "What was given"),
    "used": ("float", "What was used"),
    "used_share": ("float", "used / budget; may pass 1"),
    "rung": ("int", "The rung of successive halving"),
    "drawn": ("int", "Rollouts drawn in this rung for this row"),
    "dev_score": ("float", "Mean score on dev"),
    "decision": ("str", "kept or dropped"),
    "axis": ("str", "What cost is measured in"),
    "spent": ("float", "The arm's total"),
    "common_cost": ("float", "The cost that every arm of the seed has reached"),
    "dev_start": ("float", "Score on dev before"),
    "dev_end": ("float", "Score on dev at the end"),
    "area": ("float", "Mean height of the dev curve up to common_cost"),
    "test_delta": ("float", "Score on test minus the baseline's"),
    "cost_per_point": ("float", "Total / test_delta in points, missing without a gain"),
    "method": ("str", "The method of the stage"),
    "stage": ("str", "The stage's key"),
    "step": ("int", "The step of the stage"),
    "best_dev": ("float", "Best score on dev so far"),
    "audit": ("str", "What was audited"),
    "level": ("str", "ok, note or tripped"),
    "detail": ("str", "What was found"),
    "base": ("float", "Score with neither tuned"),
    "tuned_prompt": ("float", "Score with the tuned prompt alone"),
    "tuned_weights": ("float", "Score with the tuned weights alone"),
    "tuned_both": ("float", "Score with both tuned"),
    "test_reads": ("int", "How often test has judged the arm"),
    "against": ("str", "The arm it was clearly worse than"),
    "of": ("int", "Test examples there are"),
    "delta_at_most": ("float", "The true difference is below this, with a chance of 1 - alpha"),
    "alpha": ("float", "The chance of that being wrong"),
    "test_score": ("float", "Mean score on test"),
    "reads": ("int", "How often unseen examples have judged the arm"),
    "run_a": ("str", "The run of arm_a"),
    "run_b": ("str", "The run of arm_b"),
    "split": ("str", "test"),
    "sample": ("int", "The number of the answer to its example, from 0"),
    "text": ("str", "What the model wrote, all of it"),
    "feedback": ("str", "The task's words on it"),
    "finish": ("str", "Why it ended: stop, length, …"),
    "inputs": ("str", "The example's input fields, JSON"),
    "meta": ("str", "The example's features, JSON"),
    "turns": ("float", "Turns of the model in an answer, mean"),
    "tool_calls": ("float", "Calls of tools in an answer, mean"),
    "calling": ("float", "Share of answers with a call"),
    "malformed": ("float", "Share of answers with a call that could not be read"),
    "invalid": ("float", "Share of answers with a call of no tool, or with wrong arguments"),
    "failed": ("float", "Share of answers with a call at which the tool raised"),
    "unanswered": ("float", "Share of answers that end with a call"),
    "transcript": ("str?", "The turns of an answer that could call tools, JSON"),
    "arms": ("str", "The arms that use the stage, at the seed"),
    "reward": ("float", "What the method was paid"),
    "advantage": ("float", "What it made of it"),
    "parts": ("str?", "The reward's parts, JSON, where it has parts"),
}
for _name in ("weights", "prompt", "interaction"):
    MEANINGS |= {
        f"{_name}_effect": ("float", f"Effect of the {_name}, in score units"),
        f"{_name}_low": ("float", "Lower end of its 95 % interval"),
        f"{_name}_high": ("float", "Upper end of its 95 % interval"),
        f"{_name}_p": ("float", "Its p, not adjusted"),
    }
# where a table means something else by a name, or a figure may be missing in it
SPECIAL: dict[tuple[str, str], tuple[str, str]] = {
    ("summary", "fixed"): ("int?", "Examples that score higher than the baseline's"),
    ("summary", "broken"): ("int?", "Examples that score lower than the baseline's"),
    ("seeds", "fixed"): ("int?", "Examples that score higher than the baseline's"),
    ("seeds", "broken"): ("int?", "Examples that score lower than the baseline's"),
    ("seeds", "rollouts"): ("int", "Answers drawn along the arm's chain"),
    ("error_types", "kind"): ("str", "subgroup (of inputs) or cluster (of answers)"),
    ("error_types", "share"): ("float", "Share of the arm's failures"),
    ("error_types", "p_adjusted"): ("float", "p on the held-out half, after Holm"),
    ("error_types_by_arm", "kind"): ("str", "subgroup (of inputs) or cluster (of answers)"),
    ("error_examples", "kind"): ("str", "subgroup (of inputs) or cluster (of answers)"),
    ("format", "n"): ("int", "Answers paired"),
    ("slices", "n"): ("int", "Answers"),
    ("curves", "rollouts"): ("int?", "Answers that the stage alone had drawn by then"),
    ("curves", "name"): ("str", "The figure's name"),
    ("curves", "value"): ("float", "The figure"),
    ("audits", "step"): ("int?", "The step, missing where it is about the whole stage"),
    ("allocation", "budget"): ("str", "What the arm might have spent by the end of the rung"),
    ("allocation", "rollouts"): ("int", "What it had drawn, along its chain"),
    **{
        ("dev_curves", axis): ("float", f"{what} by then, along the chain; missing if not noted")
        for axis, what in {
            "rollouts": "Rollouts",
            "completion_tokens": "Tokens written",
            "flops": "Operations",
            "seconds": "Seconds",
        }.items()
    },
    ("records", "score"): ("float", "The score of the answer, 0 to 1"),
    ("records", "failure"): ("str?", "Its failure class, missing where it is right"),
    ("records", "seconds"): ("float", "The answer's share of its batch's time"),
    ("rollouts", "seed"): ("int?", "The seed of the stage"),
    ("rollouts", "finish"): ("str?", "Why it ended: stop, length, …"),
    ("rollouts", "score"): ("float", "The task's score of the answer"),
}


def spec(table: str, column: str) -> tuple[str, str] | None:
    """Type and meaning of a column; None of one that we do not know."""
    return SPECIAL.get((table, column)) or MEANINGS.get(column)


def dtypes(table: str, columns: pd.Index) -> dict[str, str]:
    """The pandas types of those columns that we know."""
    known = {str(column): spec(table, str(column)) for column in columns}
    return {name: DTYPES[found[0]] for name, found in known.items() if found is not None}


def typed(table: str, frame: pd.DataFrame) -> pd.DataFrame:
    """The frame with the types written here; columns we do not know stay as they are."""
    wanted, found = dtypes(table, frame.columns), frame.dtypes.astype(str)
    other = {name: to for name, to in wanted.items() if found[name] != to}
    return frame.astype(other) if other else frame


def tables_markdown(columns: Mapping[str, tuple[str, ...]]) -> str:
    """docs/tables.md: a row for each column of each table; `columns` are those of each table."""
    rows = []
    for table, names in columns.items():
        for name in names:
            kind, meaning = spec(table, name) or ("", "")
            missing = ", may be missing" if kind.endswith("?") else ""
            text = meaning.replace("|", "\\|")
            rows.append(f"| {table} | {name} | {DTYPES[kind]} | {text}{missing} |\n")
    return HEAD + "".join(rows)


HEAD = f"""\
# Tables and their columns

Written by `python -m reports.documented > docs/tables.md`; a test keeps it true.

```python
from reports import load

runs = load("runs/*")  # a folder, a pattern, or several of either
runs.summary  # a DataFrame; a notebook shows it as people read it
runs.table("records")  # the same by name
runs.read_rollouts(["step", "text", "reward"])
runs.problems  # what could not be read, and why
```

From a shell: `tasklift report runs/* --table summary --format latex --out table.tex`; formats are
terminal, markdown, csv, latex and parquet. Where several runs stand side by side, every table but
`compare` begins with {", ".join(f"`{name}`" for name in LEADING)}. Files are read back, with these
types, by `reports.read_frame(path, table)`. Floats may be NaN where a figure does not exist.

| table | column | dtype | meaning |
|:---|:---|:---|:---|
"""
