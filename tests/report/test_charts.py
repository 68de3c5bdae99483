import re
from xml.etree import ElementTree

import numpy as np
import pytest

from nerf_app.report.charts import HEIGHT, MAP, WIDTH, Series, bars, depth_scale, line_chart, percent, top_view
from nerf_app.report.coverage import BINS, SECTORS, Map


def numbers_within(svg: str, width: float, height: float) -> None:
    """Well-formed, described, and every place lies in the picture."""
    root = ElementTree.fromstring(svg)
    assert root.get("role") == "img" and root.get("aria-label")
    sides = dict.fromkeys(("x", "cx", "x1", "x2"), width) | dict.fromkeys(("y", "cy", "y1", "y2"), height)
    for node in root.iter():
        for name, most in sides.items():
            assert node.get(name) is None or -0.5 <= float(node.get(name)) <= most + 0.5, (node.tag, name, node.get(name))
        for x, y in re.findall(r"(\S+),(\S+)", node.get("points", "")):
            assert -0.5 <= float(x) <= width + 0.5 and -0.5 <= float(y) <= height + 0.5


@pytest.mark.parametrize("is_log", [False, True])
@pytest.mark.parametrize("values", [[1.0, 0.1, 0.001], [3.0], [2.0, 2.0], [0.0, 0.0], [np.nan, 1.0], [], [1e-9, 1e9],
                                    [5e6, 5e6 + 1]])
def test_a_line_chart_holds_any_values(values, is_log):
    x = np.arange(len(values), dtype=float)
    series = [Series(style, x, np.array(values)) for style in ("line", "faint", "dots")]
    numbers_within(line_chart(series, "<y>", "what & why", is_log), WIDTH, HEIGHT)


def test_greater_values_stand_higher_and_later_ones_further_right():
    svg = line_chart([Series("line", np.array([1.0, 2.0, 4.0]), np.array([10.0, 20.0, 15.0]))], "y", "d")
    points = [tuple(map(float, point.split(","))) for point in re.search(r'points="([^"]+)"', svg)[1].split()]
    assert points[0][0] < points[1][0] < points[2][0] and points[1][1] < points[2][1] < points[0][1]
    assert np.isclose(points[2][0], WIDTH - 12)  # the last second is the right edge


def test_bars_are_as_high_as_their_parts():
    names, colours = [name for _, name, _ in BINS], [colour for _, _, colour in BINS]
    svg = bars(names, np.array([0.1, 0.2, 0.4, 0.1, 0.1, 0.1]), colours, "x", "d")
    numbers_within(svg, WIDTH, HEIGHT)
    heights = [float(height) for height in re.findall(r'height="([\d.]+)" fill', svg)]
    assert np.allclose(np.array(heights) / heights[0], [1, 2, 4, 1, 1, 1], atol=0.02)
    numbers_within(bars(names, np.zeros(6), colours, "x", "d"), WIDTH, HEIGHT)


@pytest.mark.parametrize("is_inward", [False, True])
def test_the_map_stays_on_its_paper(is_inward):
    angles = np.linspace(0.0, 2.0 * np.pi, 40)
    ring = np.stack([np.cos(angles), np.sin(angles)], 1)
    svg = top_view(Map(ring, -ring, 1.1 * ring, angles > 3.0, np.linspace(0.0, 1.0, SECTORS), is_inward), "d")
    numbers_within(svg, MAP, MAP)
    assert ("polygon" in svg) == is_inward


def test_north_is_up_and_east_is_right():
    nothing = (np.zeros((2, 2)), np.zeros((0, 2)), np.zeros(0, bool), np.zeros(SECTORS))
    svg = top_view(Map(np.array([[1.0, 0.0], [0.0, 1.0]]), *nothing, True), "d")
    (east_x, east_y), (north_x, north_y) = [tuple(map(float, place)) for place in
                                            re.findall(r'cx="([\d.]+)" cy="([\d.]+)" r="3" class="camera"', svg)]
    assert east_x > MAP / 2 and east_y == MAP / 2 and north_x == MAP / 2 and north_y < MAP / 2


def test_the_depth_scale_names_both_ends_and_the_middle():
    svg = depth_scale(2.0, 8.0)
    numbers_within(svg, 300, 36)
    assert re.findall(r">([\d.]+)</text>", svg) == ["2", "4", "8"]  # even steps are even factors


@pytest.mark.parametrize("part, words", [(0.0, "0 %"), (0.0004, "0 %"), (0.031, "3.1 %"), (0.0996, "10 %"), (0.5, "50 %"),
                                         (1.0, "100 %")])
def test_percent_is_short(part, words):
    assert percent(part) == words
