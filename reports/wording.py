"""How figures and names are put inside a sentence."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from reports import escape
from reports.evidence import Difference
from reports.render import p_value

FEW_EXAMPLES = 100
EXACT_TIMES = 10.0  # from here on "40 times", below "2.5 times"


@dataclass(frozen=True)
class Style:
    """How names of arms and classes, and other people's text, are written."""

    name: Callable[[str], str]
    failure: Callable[[str], str]
    text: Callable[[str], str]

    def names(self, names: Sequence[str]) -> str:
        return listed([self.name(name) for name in names])


PLAIN = Style(escape.plain, escape.plain, lambda text: escape.plain(text, 300))
MARKDOWN = Style(
    lambda name: f"**{escape.markdown(name)}**",
    lambda name: f"*{escape.markdown(name)}*",
    lambda text: escape.markdown(text, 300),
)


def examples(count: int) -> str:
    """'300 test examples', with a warning where they are few."""
    return f"{'only ' if count < FEW_EXAMPLES else ''}{count:,} test examples"


def size(delta: float) -> str:
    """The size of a difference of scores, without its sign: '12.3 points'."""
    return f"{abs(100 * delta):.1f} points"


def signed(delta: float) -> str:
    """'+12.3'."""
    return f"{100 * delta:+.1f}"


def interval(found: Difference) -> str:
    """'95 % interval +1.2 to +3.4'."""
    return f"95 % interval {signed(found.low)} to {signed(found.high)}"


def certainty(found: Difference) -> str:
    """The interval and p."""
    p = f"p {p_value(found.p)}" if found.p < 0.001 else f"p = {p_value(found.p)}"
    return f"{interval(found)}, {p} after Holm"


def doubt(found: Difference) -> str:
    """Why a difference that is not sure is not: its own interval may exclude zero even so."""
    own = found.low > 0 or found.high < 0
    why = "not sure where so many are compared" if own else "inside the noise"
    return f"{why} ({interval(found)})"


def duration(seconds: float) -> str:
    """In the unit in which it is read easily."""
    if seconds < 120:
        return f"{seconds:.1f} seconds" if seconds < 10 else f"{seconds:.0f} seconds"
    return f"{seconds / 60:.0f} minutes" if seconds < 7200 else f"{seconds / 3600:.1f} hours"


def times(ratio: float) -> str:
    """'40 times as much'; 'more' than nothing."""
    if ratio == float("inf"):
        return "more"
    return f"{ratio:.0f} times as much" if ratio >= EXACT_TIMES else f"{ratio:.1f} times as much"


def listed(parts: Sequence[str]) -> str:
    """'a, b and c'."""
    return " and ".join(part for part in (", ".join(parts[:-1]), *parts[-1:]) if part)
