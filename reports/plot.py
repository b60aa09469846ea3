"""A curve as a picture: SVG written by hand, since no plotting library is needed for three lines.

Text in it is escaped; it holds no script and loads nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 640, 400
LEFT, RIGHT, TOP, BOTTOM = 70, 70, 40, 60
COLORS = ("#b3261e", "#1a5fb4", "#26734d")


@dataclass(frozen=True)
class Curve:
    """A line through (x, y); `low` and `high` shade an interval around it. `right` puts it on a
    scale of its own, on the right."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float] = ()
    high: Sequence[float] = ()
    right: bool = False


def svg(curves: Sequence[Curve], *, title: str, x_label: str) -> str:
    """The curves as the text of an SVG file. Raises ValueError where no curve has a point."""
    xs = [x for curve in curves for x in curve.x]
    if not xs:
        raise ValueError("no point to draw")
    across = _Scale.of(xs, LEFT, WIDTH - RIGHT)
    parts = [_text(WIDTH / 2, 22, title, "middle", 15), *_axis(across, x_label)]
    for side in (False, True):
        own = [curve for curve in curves if curve.right == side]
        if own:
            values = [v for curve in own for v in (*curve.y, *curve.low, *curve.high)]
            up = _Scale.of(values, HEIGHT - BOTTOM, TOP)
            parts += _side_axis(up, WIDTH - RIGHT if side else LEFT, side)
            for curve in own:
                parts += _line(curve, across, up, COLORS[list(curves).index(curve) % len(COLORS)])
    for place, curve in enumerate(curves):
        color = COLORS[place % len(COLORS)]
        name = f"{curve.name} (right)" if curve.right else curve.name
        y = TOP + 14 + 18 * place
        parts.append(f'<rect x="{LEFT + 12}" y="{y - 9}" width="10" height="10" fill="{color}"/>')
        parts.append(_text(LEFT + 28, y, name))
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
    head += 'font-family="sans-serif" font-size="12">'
    ground = f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>'
    return "\n".join([head, ground, *parts, "</svg>"]) + "\n"


@dataclass(frozen=True)
class _Scale:
    """Values from `low` to `high` between two pixels."""

    low: float
    high: float
    start: float
    end: float

    @classmethod
    def of(cls, values: Sequence[float], start: float, end: float) -> _Scale:
        low, high = min(values), max(values)
        room = 0.05 * (high - low) or 0.5
        return cls(low - room, high + room, start, end)

    def at(self, value: float) -> float:
        share = (value - self.low) / (self.high - self.low)
        return self.start + share * (self.end - self.start)

    def ticks(self) -> list[float]:
        return [self.low + (self.high - self.low) * i / 4 for i in range(5)]


def _line(curve: Curve, across: _Scale, up: _Scale, color: str) -> list[str]:
    def points(ys: Sequence[float]) -> list[str]:
        pairs = zip(curve.x, ys, strict=True)
        return [f"{across.at(x):.1f},{up.at(y):.1f}" for x, y in pairs]

    parts = []
    if curve.low and curve.high:
        band = " ".join([*points(curve.high), *reversed(points(curve.low))])
        parts.append(f'<polygon points="{band}" fill="{color}" fill-opacity="0.15"/>')
    line = " ".join(points(curve.y))
    parts.append(f'<polyline points="{line}" fill="none" stroke="{color}" stroke-width="2"/>')
    dots = (point.split(",") for point in points(curve.y))
    parts += [f'<circle cx="{x}" cy="{y}" r="3" fill="{color}"/>' for x, y in dots]
    return parts


def _axis(across: _Scale, label: str) -> list[str]:
    floor = HEIGHT - BOTTOM
    parts = [
        f'<line x1="{LEFT}" y1="{floor}" x2="{WIDTH - RIGHT}" y2="{floor}" stroke="#444"/>',
        _text(WIDTH / 2, HEIGHT - 14, label, "middle"),
    ]
    return parts + [_text(across.at(v), floor + 18, f"{v:.3g}", "middle") for v in across.ticks()]


def _side_axis(up: _Scale, x: float, right: bool) -> list[str]:
    parts = [f'<line x1="{x}" y1="{TOP}" x2="{x}" y2="{HEIGHT - BOTTOM}" stroke="#444"/>']
    at, anchor = (x + 6, "start") if right else (x - 6, "end")
    return parts + [_text(at, up.at(v) + 4, f"{v:.3g}", anchor) for v in up.ticks()]


def _text(x: float, y: float, text: str, anchor: str = "start", size: int = 12) -> str:
    place = f'x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}"'
    return f"<text {place}>{escape(text)}</text>"
