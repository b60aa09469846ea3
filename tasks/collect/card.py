"""The data card: where the examples are from, what became of each row, what is in the splits."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from tasks.collect.clean import Item
from tasks.collect.work import Collected
from tasks.text import shorten
from tasks.types import SPLITS, SplitName

REASONS = {
    "empty": "No input or no answer.",
    "unscorable": "The scorer does not find the row's own answer right.",
    "contradiction": "Rows that ask the same and have different answers: all of them.",
    "exact": "The same inputs as an earlier row.",
    "normalized": "The same but for case, white space or punctuation.",
    "near": "Nearly the same as an earlier row (most of its words, in the same order).",
    "leak": "Of train or dev, nearly the same as an example of a later split.",
}
BAR, BINS = 40, 8
LABELS_SHOWN = 100


def card(found: Collected, command: str) -> str:
    """CARD.md as text."""
    return "\n".join(
        [
            f"# {found.options.name}",
            "",
            f"Made by `tasklift collect`. Again: `{command}`",
            *_sources(found),
            *_choices(found),
            *_counts(found),
            *_splits(found),
            *_lengths(found),
            *_drops(found),
            "",
        ]
    )


def baseline(found: Collected) -> tuple[str, float]:
    """The most frequent answer in train, and what always giving it scores on test, in [0, 1]."""
    counts = Counter(item.answers[0] for item in found.splits["train"])
    answer = max(counts, key=lambda text: (counts[text], text))
    test = found.splits["test"]
    return answer, sum(found.scorer(item.answers, answer).value for item in test) / len(test)


def absent_labels(found: Collected) -> list[str]:
    """Labels that test has and train has not: nothing can learn them."""
    if found.guess.scorer != "choice":
        return []
    known = {answer for item in found.splits["train"] for answer in item.answers}
    return sorted({item.answers[0] for item in found.splits["test"]} - known)


def _sources(found: Collected) -> Iterator[str]:
    yield from ("", "## Sources", "", "| source | rows | sha256 | |", "|---|---|---|---|")
    for source in found.sources:
        name, said = _cell(source.name), _cell(source.said)
        yield f"| `{name}` | {len(source.records):,} | `{source.sha256}` | {said} |"


def _choices(found: Collected) -> Iterator[str]:
    fields, options = found.fields, found.options
    yield from ("", "## What was chosen", "")
    yield f"- input: {_list(fields.inputs)}; answer: {_list([fields.answer])}"
    yield from (f"- {line}" for line in found.said)
    yield f"- instruction: {_code(found.instruction)}"
    yield f"- splits: {found.how}; seed {options.seed}"
    answer, score = baseline(found)
    yield (
        f"- always answering {_code(shorten(answer, 60))}, the most frequent answer in train, "
        f"scores {100 * score:.1f} % on test"
    )
    if absent := absent_labels(found):
        yield f"- in test and not in train: {_list(absent)}"


def _counts(found: Collected) -> Iterator[str]:
    yield from ("", "## Rows", "", "| step | rows left |", "|---|---|")
    yield from (f"| {step} | {count:,} |" for step, count in found.counts.items())
    sizes = ", ".join(f"{len(found.splits[split]):,} {split}" for split in SPLITS)
    yield from ("", f"Splits: {sizes}. No example, exact or nearly, stands in test and elsewhere.")


def _splits(found: Collected) -> Iterator[str]:
    counts: dict[SplitName, Counter[str]] = {
        s: Counter(item.answers[0] for item in found.splits[s]) for s in SPLITS
    }
    total: Counter[str] = sum(counts.values(), Counter())
    if found.guess.scorer != "choice":
        yield from ("", f"{len(total):,} different answers; the most frequent ones:", "")
        shown = total.most_common(10)
    else:
        yield from ("", "## Labels", "")
        shown = total.most_common(LABELS_SHOWN)
    yield from ("| answer | train | dev | test |", "|---|---|---|---|")
    for answer, _ in shown:
        yield f"| {_cell(shorten(answer, 60))} | {_shares(counts, answer, found.splits)} |"


def _shares(
    counts: Mapping[SplitName, Counter[str]],
    answer: str,
    splits: Mapping[SplitName, Sequence[Item]],
) -> str:
    return " | ".join(
        f"{counts[s][answer]:,} ({100 * counts[s][answer] / len(splits[s]):.1f} %)" for s in SPLITS
    )


def _lengths(found: Collected) -> Iterator[str]:
    items = [item for split in SPLITS for item in found.splits[split]]
    yield from ("", "## Lengths, in words")
    for name in found.inputs:
        yield from ("", f"{_code(name)}:", "", "```text")
        yield from histogram([len(item.inputs[name].split()) for item in items])
        yield "```"
    yield from ("", f"{_code(found.answer)}:", "", "```text")
    yield from histogram([len(item.answers[0].split()) for item in items])
    yield "```"


def histogram(numbers: Sequence[int]) -> Iterator[str]:
    """A line for each of a few bins; all above the 99th percentile is one."""
    ordered = sorted(numbers)
    low, high = ordered[0], ordered[int(0.99 * (len(ordered) - 1))]
    width = max(1, -(-(high - low + 1) // BINS))
    starts = list(range(low, high + 1, width))
    counts = [sum(start <= n < start + width for n in ordered) for start in starts]
    labels = [f"{s}" if width == 1 else f"{s}-{s + width - 1}" for s in starts]
    if above := sum(n >= starts[-1] + width for n in ordered):
        labels.append(f"{starts[-1] + width}-{ordered[-1]}")
        counts.append(above)
    wide = max(map(len, labels))
    for label, count in zip(labels, counts, strict=True):
        bar = "#" * max(count > 0, round(BAR * count / max(counts)))
        yield f"{label:>{wide}}  {count:>7,}  {bar}"


def _drops(found: Collected) -> Iterator[str]:
    yield from ("", "## Dropped", "")
    if not found.dropped.counts:
        yield "Nothing."
    for reason in REASONS:
        count = found.dropped.counts.get(reason, 0)
        if not count:
            continue
        lines = found.dropped.shown[reason]
        first = f" The first {len(lines)}:" if count > len(lines) else ""
        yield from (f"### {reason}: {count:,}", "", f"{REASONS[reason]}{first}", "", "```text")
        yield from (" ".join(line.split()).replace("`", "'") for line in lines)
        yield from ("```", "")


def _list(names: Sequence[str]) -> str:
    return ", ".join(map(_code, names))


def _code(text: str) -> str:
    return "`" + " ".join(text.split()).replace("`", "'") + "`"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
