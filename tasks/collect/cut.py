"""Dealing items into train, dev and test: evenly by a stratum, whole groups, or by time."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from itertools import pairwise

from tasks.collect.clean import Item
from tasks.collect.times import read_times
from tasks.text import fold, normalize, shorten
from tasks.types import SPLITS, SplitName, TaskError

Shares = Mapping[SplitName, float]
Dealt = dict[SplitName, list[Item]]
HOW = ("random", "group", "time")


def parse_shares(text: str) -> dict[SplitName, float]:
    """0.6,0.2,0.2 for train, dev and test; scaled to 1. Raises TaskError."""
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if len(numbers) != 3 or not all(0 < n < math.inf for n in numbers):
        raise TaskError(f"splits: {text!r} are not three shares above 0; write 0.6,0.2,0.2")
    return {split: n / sum(numbers) for split, n in zip(SPLITS, numbers, strict=True)}


def deal(items: Sequence[Item], shares: Shares, how: str, seed: int) -> Dealt:
    """Every item in one split. Splits that items bring along stay; those that are missing are cut
    from train. The same items, shares and seed give the same splits, whatever their order.

    Raises TaskError when a split stays empty, a group spans two of the source's own splits, these
    are not in the order of time, or a time cannot be read.
    """
    own = {item.split for item in items} - {None}
    dealt: Dealt = {split: [item for item in items if item.split == split] for split in SPLITS}
    free = [item for item in items if item.split is None]
    if own:
        dealt["train"] += free  # rows of a file without split beside others that have one
        free = []
        if missing := [split for split in ("dev", "test") if not dealt[split]]:
            wanted = ("train", *missing)
            free, dealt["train"] = dealt["train"], []
            shares = {split: shares[split] if split in wanted else 0.0 for split in SPLITS}
    total = sum(shares.values())
    part: Shares = {split: share / total for split, share in shares.items()}
    times = read_times({item.id: item.key for item in items}) if how == "time" else {}
    if times:
        cut = _by_time(free, part, seed, times)
    else:
        cut = (_by_group if how == "group" else _by_row)(free, part, seed)
    for split, more in cut.items():
        dealt[split] += more
    if own and how == "group":
        _check_groups(dealt)
    if own and times:
        _check_order(dealt, times)
    for split, inside in dealt.items():
        if not inside:
            raise TaskError(
                f"no row is left for the split {split!r} ({len(items)} rows in all); bring more "
                "rows, or another --splits, --group or --time"
            )
        inside.sort(key=lambda item: _rank(item, seed))  # the first n are as good as any
    return dealt


def _rank(item: Item, seed: int) -> str:
    text = "\0".join([str(seed), *map(fold, item.inputs.values()), item.id])
    return hashlib.sha256(text.encode()).hexdigest()


def sample(items: Sequence[Item], most: int, seed: int) -> list[Item]:
    """`most` of them, drawn by hash, in their order."""
    kept = {item.id for item in sorted(items, key=lambda item: _rank(item, seed))[:most]}
    return [item for item in items if item.id in kept]


def _by_row(items: Sequence[Item], shares: Shares, seed: int) -> Dealt:
    """Down a list sorted by stratum, each item to the split that lacks most: so each split has its
    share of all, and of every stratum, within one item or two."""
    dealt: Dealt = {split: [] for split in SPLITS}
    ordered = sorted(items, key=lambda item: (item.stratum, _rank(item, seed)))
    for count, item in enumerate(ordered, 1):
        lacking = {split: shares[split] * count - len(dealt[split]) for split in SPLITS}
        dealt[max(SPLITS, key=lacking.__getitem__)].append(item)
    return dealt


def _by_group(items: Sequence[Item], shares: Shares, seed: int) -> Dealt:
    """Whole groups, the largest first, each to where the strata then fit their shares best. Anna
    and anna are one group."""
    groups: dict[str, list[Item]] = {}
    for item in items:
        groups.setdefault(normalize(item.key) or f"\0{item.id}", []).append(item)

    def size_then_chance(key: str) -> tuple[int, str]:
        return -len(groups[key]), hashlib.sha256(f"{seed}\0{key}".encode()).hexdigest()

    totals = _count(items)
    wanted = {s: {layer: shares[s] * n for layer, n in totals.items()} for s in SPLITS}
    have: dict[str, dict[str, int]] = {s: dict.fromkeys(totals, 0) for s in SPLITS}
    dealt: Dealt = {split: [] for split in SPLITS}
    typical = len(items) / max(1, len(totals))  # of a stratum: all weighs as much as they together
    open_splits: list[SplitName] = [split for split in SPLITS if shares[split]]
    for key in sorted(groups, key=size_then_chance):
        counts = _count(groups[key])

        def misfit(split: SplitName, counts: Mapping[str, int] = counts) -> float:
            """How much worse or better the squares get, each stratum and all by their sizes."""
            size = sum(counts.values())
            too_many = len(dealt[split]) - shares[split] * len(items)
            return size * (2 * too_many + size) / typical + sum(
                n * (2 * (have[split][layer] - wanted[split][layer]) + n) / totals[layer]
                for layer, n in counts.items()
            )

        best = min(open_splits, key=misfit)
        dealt[best] += groups[key]
        for layer, n in counts.items():
            have[best][layer] += n
    return dealt


def _count(items: Sequence[Item]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for item in items:
        counts[item.stratum] = counts.get(item.stratum, 0) + 1
    return counts


def _by_time(items: Sequence[Item], shares: Shares, seed: int, times: Mapping[str, float]) -> Dealt:
    """Train is earliest, test latest; one moment is never in two splits."""
    ordered = sorted(items, key=lambda item: (times[item.id], _rank(item, seed)))
    ends, total = [], 0.0
    for split in SPLITS:
        total += shares[split]
        ends.append(round(total * len(ordered)))
    dealt: Dealt = {split: [] for split in SPLITS}
    start = 0
    for split, end in zip(SPLITS, ends, strict=True):
        while 0 < end < len(ordered) and times[ordered[end].id] == times[ordered[end - 1].id]:
            end -= 1  # the whole moment goes to the later split
        dealt[split] = ordered[start:end]
        start = max(start, end)
    return dealt


def _check_groups(dealt: Dealt) -> None:
    seen: dict[str, str] = {}
    for split, items in dealt.items():
        for key in {normalize(item.key) for item in items} - {""}:
            if seen.setdefault(key, split) != split:
                raise TaskError(
                    f'the group "{shorten(key, 40)}" stands in {seen[key]} and {split}, as the '
                    "source has them; leave --group out, or cut anew with --split-field none"
                )


def _check_order(dealt: Dealt, times: Mapping[str, float]) -> None:
    for (early, before), (late, after) in pairwise(dealt.items()):
        if not before or not after:
            continue
        last = max(before, key=lambda item: times[item.id])
        first = min(after, key=lambda item: times[item.id])
        if times[last.id] > times[first.id]:
            raise TaskError(
                f'{last.id} of {early} ("{shorten(last.key, 40)}") is later than {first.id} of '
                f'{late} ("{shorten(first.key, 40)}"), as the source has them; leave --time out, '
                "or cut anew with --split-field none"
            )
