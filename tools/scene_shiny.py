"""A teapot on a painted stand: a polished body, brushed handle and lid, a matt knob and a matt stand.

It stands on z = -0.9 and pours along +x; the units are arbitrary, as in the Blender synthetic sets; it is about 2 large.
"""

from dataclasses import replace

import numpy as np

from scene_shapes import Part, ball, blend, carve, curve, cylinder, ellipsoid, mix, noise, rgb, solid, tube

SPOUT = curve((0.42, 0, -0.30), (0.86, 0, -0.28), (0.70, 0, 0.20), (1.02, 0, 0.36), n=16)
SPOUT_RADII = np.linspace(0.17, 0.060, len(SPOUT))
HANDLE = curve((-0.52, 0, 0.26), (-1.20, 0, 0.52), (-1.18, 0, -0.42), (-0.50, 0, -0.36), n=22)
LID, KNOB = (0, 0, 0.40), (0, 0, 0.66)
STAND = -0.80
POLISHED, BRUSHED, MATT = 255, 170, 85  # of the truth's pictures of materials; 0: nothing there


def pot(cell: float) -> list[Part]:
    """The figure in cells of `cell` units: polished silver, brushed brass, and two matt parts."""
    silver = solid(_body, lambda p: np.tile(rgb("f3eee8"), (len(p), 1)), (-0.8, -0.8, -0.8), (1.2, 0.8, 0.6), cell, 0.2)
    brass = solid(_brass, lambda p: np.tile(rgb("eac07c"), (len(p), 1)), (-1.2, -0.5, -0.7), (0.6, 0.5, 0.7), cell, 0.5)
    knob = solid(_knob, _knob_colour, (-0.2, -0.2, 0.4), (0.2, 0.2, 0.9), cell)
    stand = solid(_stand, _stand_colour, (-1.2, -1.2, -1.0), (1.2, 1.2, -0.6), 1.5 * cell)
    return [replace(silver, is_metal=True), replace(brass, is_metal=True), knob, stand]


MATERIALS = (POLISHED, BRUSHED, MATT, MATT)  # of the parts of `pot`


def _body(p: np.ndarray) -> np.ndarray:
    """[N] a belly with five soft ribs, a foot, a collar for the lid, and an open spout."""
    around = np.arctan2(p[:, 1], p[:, 0])
    swell = 1 + 0.035 * np.cos(5 * around) * np.clip(1 - (p[:, 2] / 0.45) ** 2, 0, 1)
    q = p / np.stack([swell, swell, np.ones(len(p))], 1)
    d = blend(ellipsoid(q, (0, 0, -0.12), (0.66, 0.66, 0.52)), cylinder(p, (0, 0, 0.34), 0.36, 0.07, 0.03), 0.16)
    d = blend(d, cylinder(p, (0, 0, -0.66), 0.40, 0.08, 0.03), 0.14)
    d = blend(d, tube(p, SPOUT, SPOUT_RADII), 0.16)
    end = SPOUT[-1] + 0.35 * (SPOUT[-1] - SPOUT[-3])
    return carve(0.93 * d, tube(p, np.array([SPOUT[-4], end]), np.array([0.03, 0.055])), 0.015)


def _brass(p: np.ndarray) -> np.ndarray:
    """[N] the handle and the lid, which is a low dome."""
    return np.minimum(tube(p, HANDLE, np.full(len(HANDLE), 0.062)), ellipsoid(p, LID, (0.34, 0.34, 0.17)))


def _knob(p: np.ndarray) -> np.ndarray:
    return blend(ball(p, KNOB, 0.105), cylinder(p, (0, 0, 0.54), 0.05, 0.06, 0.02), 0.06)


def _knob_colour(p: np.ndarray) -> np.ndarray:
    turns = np.arctan2(p[:, 1], p[:, 0]) * 3 / np.pi + 4 * p[:, 2]
    return mix(rgb("b8372f"), rgb("f2d9a0"), (np.abs(turns % 1 - 0.5) - 0.32) / 0.04)


def _stand(p: np.ndarray) -> np.ndarray:
    return blend(cylinder(p, (0, 0, STAND), 1.02, 0.07, 0.05), cylinder(p, (0, 0, STAND - 0.06), 0.7, 0.09, 0.03), 0.03)


def _stand_colour(p: np.ndarray) -> np.ndarray:
    """Rings of tiles, each ring of its own pair of colours."""
    r, around = np.hypot(p[:, 0], p[:, 1]), np.arctan2(p[:, 1], p[:, 0]) / (2 * np.pi)
    c = mix(rgb("efe4cf"), rgb("d9c39a"), noise(p, 0.04, 12))
    for low, high, count, first, second in ((0.42, 0.60, 12, "2f6f8f", "efe4cf"), (0.62, 0.80, 20, "c9553b", "f0c870"),
                                            (0.82, 0.98, 32, "27408f", "a9d3d6")):
        is_first = (around * count + (r > (low + high) / 2) * 0.5) % 1 < 0.5
        tile = np.where(is_first[:, None], rgb(first), rgb(second)) * (0.88 + 0.24 * noise(p, 0.03, 13))[:, None]
        c = np.where(((r > low) & (r < high) & (p[:, 2] > STAND))[:, None], tile, c)
    return np.clip(c, 0, 1)


def surroundings() -> np.ndarray:
    """[H, W, 3] linear light round the teapot: a studio with lamps, windows, coloured walls and a floor of boards."""
    height = (0.5 - (np.arange(128) + 0.5) / 128)[:, None] * np.pi
    turn = (np.arange(256) + 0.5)[None] / 128 * np.pi
    x, y = np.cos(height) * np.cos(turn), np.cos(height) * np.sin(turn)
    above = np.sin(height) + 0 * turn
    wall = mix(mix((0.42, 0.30, 0.22), (0.16, 0.22, 0.34), 0.5 + 0.5 * np.sin(turn) + 0 * height), (0.10, 0.10, 0.12),
               np.clip(2.2 * above - 0.9, 0, 1))
    boards = 0.5 + 0.5 * np.tanh(3 * np.sin(2.2 * x / np.maximum(-above, 0.25)))
    floor = mix((0.10, 0.07, 0.05), (0.34, 0.24, 0.15), boards)
    light = mix(floor, wall, above / 0.05 + 0.5)
    for at, low, high, half, colour in ((0.8, 0.15, 0.95, 0.30, (2.2, 2.1, 1.9)), (1.6, 0.15, 0.95, 0.30, (2.2, 2.1, 1.9)),
                                        (3.5, -0.1, 0.7, 0.22, (0.10, 0.75, 0.60)), (4.5, 0.25, 0.55, 0.50, (1.5, 0.45, 0.20)),
                                        (5.5, 0.0, 0.9, 0.12, (1.6, 1.7, 2.0)), (2.6, -0.05, 0.45, 0.25, (0.65, 0.50, 0.05))):
        sideways = np.abs((turn - at + np.pi) % (2 * np.pi) - np.pi)
        inside = np.clip((half - sideways) / 0.07 + 0.5, 0, 1) * np.clip((height - low) / 0.07 + 0.5, 0, 1)
        light = mix(light, colour, inside * np.clip((high - height) / 0.07 + 0.5, 0, 1))
    lamp = np.arccos(np.clip(above * 0.95 + 0.31 * (x * 0.5 + y * 0.86), -1, 1))
    return mix(light, (3.6, 3.5, 3.2), (0.42 - lamp) / 0.05 + 0.5)
