"""Small charts as inline SVG; colours and text come from the page's CSS: they follow light, dark, print."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from markupsafe import Markup, escape

Point = tuple[float, float]
_LEFT, _RIGHT, _TOP, _BOTTOM = 58, 20, 22, 46  # room for tick labels and axis titles, in SVG units
_CHARACTER = 7.5  # width of one character of a tick label


@dataclass(frozen=True)
class Axis:
    """One axis: what is drawn from `low` to `high`, through `warp` (log, logit or nothing).

    Attributes:
        title: Quantity and unit.
        low: Value at the left or lower end.
        high: Value at the right or upper end.
        ticks: (value, label) pairs; those outside are left out.
        warp: Rising function applied before the linear scale.
    """

    title: str
    low: float
    high: float
    ticks: Sequence[tuple[float, str]]
    warp: Callable[[float], float] = float

    def share(self, value: float) -> float:
        """Returns where a value lies between `low` (0) and `high` (1), clipped to the axis."""
        low, high = self.warp(self.low), self.warp(self.high)
        inside = min(max(value, self.low), self.high)
        return (self.warp(inside) - low) / (high - low) if high > low else 0.5

    def shown_ticks(self) -> list[tuple[float, str]]:
        slack = 1e-9 * (abs(self.high) + abs(self.low))
        return [tick for tick in self.ticks if self.low - slack <= tick[0] <= self.high + slack]


def linear(title: str, low: float, high: float, *, percent: bool = False, whole: bool = False) -> Axis:
    """Returns an axis with about five round ticks, at whole numbers only where `whole`."""
    if not high > low:
        low, high = low - 0.5, high + 0.5
    raw = (high - low) / 5
    magnitude: float = 10.0 ** math.floor(math.log10(raw))
    step = next(s * magnitude for s in (1, 2, 2.5, 5, 10) if s * magnitude >= raw * 0.999)
    step = max(1.0, math.ceil(step)) if whole else step
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    values = [i * step for i in range(first, last + 1)]
    labels = [f"{100 * v:.4g}%" if percent else f"{v:.4g}" for v in values]
    return Axis(title, low, high, list(zip(values, labels, strict=True)))


def log_counts(title: str, highest: int) -> Axis:
    """Returns a count axis in decades; it begins below 1 so that a single image is visible."""
    decades = range(max(1, math.ceil(math.log10(max(highest, 2)))) + 1)
    ticks = [(10.0**d, f"{10**d:,}") for d in decades]
    return Axis(title, 0.6, max(float(highest) * 1.3, 10.0), ticks, math.log10)


def logit(title: str, low: float, high: float) -> Axis:
    """Returns an axis for scores, stretched near 0 and 1, where the decisions are made."""
    low, high = max(low, 1e-4), min(high, 1 - 1e-4)
    marks = [0.0001, 0.001, 0.01, 0.1, 0.5, 0.9, 0.99, 0.999, 0.9999]
    return Axis(title, low, high, [(m, f"{m:g}") for m in marks], lambda p: math.log(p / (1 - p)))


@dataclass
class Chart:
    """A chart that marks are added to, in the units of its axes."""

    x: Axis
    y: Axis
    width: int = 420
    height: int = 300
    marks: list[Markup] = field(default_factory=list)

    def px(self, value: float) -> float:
        return _LEFT + self.x.share(value) * (self.width - _LEFT - _RIGHT)

    def py(self, value: float) -> float:
        return self.height - _BOTTOM - self.y.share(value) * (self.height - _TOP - _BOTTOM)

    def line(self, points: Iterable[Point], css: str) -> Chart:
        path = " ".join(f"{self.px(x):.1f},{self.py(y):.1f}" for x, y in points)
        return self._add('<polyline points="{}" class="line {}"/>', path, css)

    def dots(self, points: Iterable[Point], css: str, radius: float = 4) -> Chart:
        for x, y in points:
            self._add('<circle cx="{}" cy="{}" r="{}" class="{}"/>', _n(self.px(x)), _n(self.py(y)), radius, css)
        return self

    def picture_point(self, x: float, y: float, css: str, uri: str | None, caption: str, size: float = 3.6) -> Chart:
        """Marks a photograph, a circle, or a triangle where `css` is "bad"; the page shows it under the pointer."""
        at, to = self.px(x), self.py(y)
        if css == "bad":
            corners = f"M{at:.1f},{to - 1.5 * size:.1f} l{1.4 * size:.1f},{2.5 * size:.1f} h{-2.8 * size:.1f} Z"
            inside = _format('<path d="{}"/>', corners)
        else:
            inside = _format('<circle cx="{}" cy="{}" r="{}"/>', _n(at), _n(to), size)
        shape = '<g class="point {}" data-picture="{}" data-caption="{}"><title>{}</title>{}</g>'
        return self._add(shape, css, uri or "", caption, caption, inside)

    def bar(self, left: float, right: float, top: float, css: str) -> Chart:
        x0, x1, y = self.px(left), self.px(right), self.py(top)
        base = self.height - _BOTTOM
        shape = '<rect x="{}" y="{}" width="{}" height="{}" class="{}"/>'
        return self._add(shape, _n(x0), _n(y), _n(max(x1 - x0 - 0.6, 0.6)), _n(base - y), css)

    def whisker(self, x: float, low: float, high: float, css: str) -> Chart:
        at = _n(self.px(x))
        return self._add(
            '<line x1="{}" x2="{}" y1="{}" y2="{}" class="line {}"/>',
            *(at, at, _n(self.py(low)), _n(self.py(high)), css),
        )

    def vertical(self, x: float, label: str, *, anchor: str = "start", row: int = 0) -> Chart:
        """Draws a dashed line across the chart, its label above it (row 0) or inside, beside it (row 1)."""
        at = self.px(x)
        shape = '<line x1="{0}" x2="{0}" y1="{1}" y2="{2}" class="line cut"/>'
        self._add(shape, _n(at), _TOP, self.height - _BOTTOM)
        where = at if row == 0 else at + (6 if anchor == "start" else -6)
        return self._add(
            '<text x="{}" y="{}" text-anchor="{}" class="note halo">{}</text>',
            *(_n(where), _TOP - 7 + 20 * row, anchor, label),
        )

    def note(self, x: float, y: float, label: str, *, dx: float = 0, dy: float = 0, anchor: str = "start") -> Chart:
        """Writes beside a point; `dx` and `dy` are in SVG units."""
        return self._add(
            '<text x="{}" y="{}" text-anchor="{}" class="note halo">{}</text>',
            *(_n(self.px(x) + dx), _n(self.py(y) + dy), anchor, label),
        )

    def svg(self, described: str) -> Markup:
        """Returns the whole SVG; `described` is what a screen reader says."""
        body = Markup("").join([*self._grid(), *self.marks])
        return Markup('<svg viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>').format(
            self.width, self.height, described, body
        )

    def _grid(self) -> list[Markup]:
        base, right = self.height - _BOTTOM, self.width - _RIGHT
        parts, taken = [], 0.0
        for value, label in self.x.shown_ticks():
            at = _n(self.px(value))
            parts.append(_format('<line x1="{0}" x2="{0}" y1="{1}" y2="{2}" class="grid"/>', at, _TOP, base))
            half = _CHARACTER * len(label) / 2
            place = min(self.px(value), self.width - half)
            if place - half > taken:  # a label that would run into the one before it is left out
                text = '<text x="{}" y="{}" text-anchor="middle">{}</text>'
                parts.append(_format(text, _n(place), base + 17, label))
                taken = place + half + 4
        for value, label in self.y.shown_ticks():
            at = _n(self.py(value))
            parts.append(_format('<line x1="{0}" x2="{1}" y1="{2}" y2="{2}" class="grid"/>', _LEFT, right, at))
            text = '<text x="{}" y="{}" text-anchor="end" dy="4">{}</text>'
            parts.append(_format(text, _LEFT - 7, at, label))
        frame = '<path d="M{0},{1} V{2} H{3}" class="axis"/>'
        parts.append(_format(frame, _LEFT, _TOP, base, right))
        title = '<text x="{}" y="{}" text-anchor="middle" class="title">{}</text>'
        parts.append(_format(title, (_LEFT + right) / 2, self.height - 7, self.x.title))
        turned = '<text transform="translate(13,{}) rotate(-90)" text-anchor="middle" class="title">{}</text>'
        parts.append(_format(turned, (_TOP + base) / 2, self.y.title))
        return parts

    def _add(self, shape: str, *values: object) -> Chart:
        self.marks.append(_format(shape, *values))
        return self


def _format(shape: str, *values: object) -> Markup:
    return Markup(shape).format(*(escape(value) for value in values))


def _n(value: float) -> str:
    return f"{value:.1f}"
