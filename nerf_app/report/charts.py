"""Small drawings in SVG: a curve, bars, a colour scale, a map. All colours but the data's own come from the page's style."""

import math
from dataclasses import dataclass

import numpy as np

from nerf_app.export.frames import depth_colours
from nerf_app.report.coverage import SECTORS, WORTH_NAMING, Map
from nerf_app.report.markup import Html, element

WIDTH, HEIGHT = 440, 230  # of a chart, units that are about pixels
LEFT, RIGHT, TOP, BOTTOM = 64, 12, 12, 40  # margins
MAP = 420  # side of the map


@dataclass(frozen=True)
class Series:
    """Points to draw: a "line", a "faint" line, or "dots" joined by a line."""

    style: str
    x: np.ndarray  # [N]
    y: np.ndarray  # [N]


def line_chart(series: list[Series], y_name: str, described: str, is_log: bool = False) -> Html:
    """Values against seconds; `described` says in words what is seen."""
    kept = [(one.style, one.x[np.isfinite(one.y)], one.y[np.isfinite(one.y)]) for one in series]
    values = np.concatenate([y for _, _, y in kept])
    values = np.log10(np.maximum(values, 1e-12)) if is_log else values
    low, high = (float(values.min()), float(values.max())) if len(values) else (0.0, 1.0)
    room = 0.06 * (high - low) or 0.5
    low, high = low - room, high + room
    longest = max([float(x.max()) for _, x, _ in kept if len(x)], default=1.0) or 1.0

    def place(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        y = np.log10(np.maximum(y, 1e-12)) if is_log else y
        return np.stack([LEFT + x / longest * (WIDTH - LEFT - RIGHT),
                         HEIGHT - BOTTOM - (y - low) / (high - low) * (HEIGHT - TOP - BOTTOM)], -1)

    parts = _grid(low, high, longest, is_log) + [_label("seconds of training", (LEFT + WIDTH - RIGHT) / 2, HEIGHT - 6, "middle"),
                                                 _turned_label(y_name)]
    for style, x, y in kept:
        points = place(x, y)
        parts.append(element("polyline", points=_points(points), class_="line" if style == "dots" else style))
        if style == "dots":
            parts += [element("circle", cx=f"{x:.1f}", cy=f"{y:.1f}", r="3.5", class_="dot") for x, y in points]
    return _drawing(parts, WIDTH, HEIGHT, described)


def bars(names: list[str], parts: np.ndarray, colours: list[str], x_name: str, described: str) -> Html:
    """Parts of one whole: [N] 0...1, one bar each."""
    step, full = (WIDTH - LEFT - RIGHT) / len(names), max(float(parts.max()), 1e-9)
    drawn = []
    for i, (name, part, colour) in enumerate(zip(names, parts, colours, strict=True)):
        height = part / full * (HEIGHT - TOP - BOTTOM - 18)
        middle = LEFT + (i + 0.5) * step
        drawn += [element("rect", x=f"{middle - 0.38 * step:.1f}", y=f"{HEIGHT - BOTTOM - height:.1f}",
                          width=f"{0.76 * step:.1f}", height=f"{max(height, 0.5):.1f}", fill=colour, class_="bar"),
                  _label(percent(part), middle, HEIGHT - BOTTOM - height - 5, "middle"),
                  _label(name, middle, HEIGHT - BOTTOM + 15, "middle")]
    drawn.append(_label(x_name, (LEFT + WIDTH - RIGHT) / 2, HEIGHT - 6, "middle"))
    return _drawing(drawn, WIDTH, HEIGHT, described)


def percent(part: float) -> str:
    """0.0312 -> "3.1 %"."""
    return f"{100 * part:.1f} %" if 0.0005 <= part < 0.0995 else f"{100 * part:.0f} %"


def depth_scale(near: float, far: float) -> Html:
    """What the colours of a depth picture mean; even steps are even factors of depth."""
    width, steps = 300, 30
    cells = [element("rect", x=i * width / steps, y="0", width=width / steps + 0.5, height="14",
                     fill="rgb({},{},{})".format(*(255 * depth_colours(np.array((i + 0.5) / steps))).round().astype(int)))
             for i in range(steps)]
    ticks = [_label(f"{near * (far / near) ** t:.3g}", t * width, 30, anchor)
             for t, anchor in ((0.0, "start"), (0.5, "middle"), (1.0, "end"))]
    return _drawing(cells + ticks, width, 36, f"Colours from {near:.3g} (bright) to {far:.3g} (dark) input units", class_="scale")


def top_view(seen: Map, described: str) -> Html:
    """Cameras, surface and the directions that lack photos, from above."""
    half, scale = MAP / 2, 0.36 * MAP

    def at(x: float, y: float) -> tuple[float, float]:
        return half + scale * x, half - scale * y

    parts = []
    if seen.is_inward and seen.missing.max() > WORTH_NAMING:
        parts += [_wedge(i, part / seen.missing.max(), at) for i, part in enumerate(seen.missing) if part > WORTH_NAMING]
        parts.append(element("circle", cx=half, cy=half, r=f"{1.12 * scale:.1f}", class_="axis"))
    for (x, y), is_thin in zip(seen.surface, seen.is_thin, strict=True):
        column, row = at(x, y)
        parts.append(element("circle", cx=f"{column:.1f}", cy=f"{row:.1f}", r="2.2" if is_thin else "1.3",
                             class_="thin" if is_thin else "surface"))
    for (x, y), (dx, dy) in zip(seen.cameras, seen.looks, strict=True):
        (column, row), (to_column, to_row) = at(x, y), at(x + 0.09 * dx, y + 0.09 * dy)
        parts += [element("line", x1=f"{column:.1f}", y1=f"{row:.1f}", x2=f"{to_column:.1f}", y2=f"{to_row:.1f}", class_="look"),
                  element("circle", cx=f"{column:.1f}", cy=f"{row:.1f}", r="3", class_="camera")]
    return _drawing(parts, MAP, MAP, described, class_="map")


def _wedge(sector: int, strength: float, at) -> Html:
    """A piece of the outer ring, the longer the more is missing there."""
    begin, end = (2 * math.pi * (sector + edge) / SECTORS for edge in (0.04, 0.96))
    inner, outer = 1.12, 1.12 + 0.24 * math.sqrt(strength)
    angles = np.linspace(begin, end, 9)
    ring = [at(radius * math.cos(angle), radius * math.sin(angle))
            for radius, order in ((inner, angles), (outer, angles[::-1])) for angle in order]
    return element("polygon", points=_points(np.array(ring)), class_="wedge")


def _grid(low: float, high: float, longest: float, is_log: bool) -> list[Html]:
    parts = []
    for value in _log_ticks(low, high) if is_log else _ticks(low, high):
        height = math.log10(value) if is_log else value
        row = HEIGHT - BOTTOM - (height - low) / (high - low) * (HEIGHT - TOP - BOTTOM)
        parts += [element("line", x1=LEFT, x2=WIDTH - RIGHT, y1=f"{row:.1f}", y2=f"{row:.1f}", class_="grid"),
                  _label(f"{value:.6g}", LEFT - 6, row + 4, "end")]
    for value in _ticks(0.0, longest):
        column = LEFT + value / longest * (WIDTH - LEFT - RIGHT)
        parts.append(_label(f"{value:.6g}", column, HEIGHT - BOTTOM + 15, "middle"))
    parts.append(element("line", x1=LEFT, x2=WIDTH - RIGHT, y1=HEIGHT - BOTTOM, y2=HEIGHT - BOTTOM, class_="axis"))
    return parts


def _ticks(low: float, high: float) -> list[float]:
    """Two to seven round numbers within a range."""
    raw = (high - low) / 6.0
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1.0, 2.0, 5.0, 10.0) if factor * power >= raw)
    return [step * i for i in range(math.ceil(low / step), math.floor(high / step) + 1)]


def _log_ticks(low: float, high: float) -> list[float]:
    """Round numbers between 10^low and 10^high; fewer to a decade where there are many decades."""
    factors = (1.0, 2.0, 5.0) if high - low < 2.5 else (1.0,)
    values = [factor * 10.0**power for power in range(math.floor(low), math.ceil(high) + 1) for factor in factors]
    return [value for value in values if low <= math.log10(value) <= high]


def _label(words: str, x: float, y: float, anchor: str) -> Html:
    return element("text", words, x=f"{x:.1f}", y=f"{y:.1f}", text_anchor=anchor)


def _turned_label(words: str) -> Html:
    middle = (TOP + HEIGHT - BOTTOM) / 2
    return element("text", words, x="12", y=f"{middle:.1f}", text_anchor="middle", transform=f"rotate(-90 12 {middle:.1f})")


def _points(points: np.ndarray) -> Html:
    return Html(" ".join(f"{x:.1f},{y:.1f}" for x, y in points))


def _drawing(parts: list[Html], width: int, height: int, described: str, class_: str = "chart") -> Html:
    return element("svg", *parts, viewBox=f"0 0 {width} {height}", role="img", aria_label=described, class_=class_)
