"""A small room with a flat mirror on one wall: what is in it is there twice, and once only for who knows the mirror.

Metres, +z up, the floor at z = 0; the mirror hangs on the wall at +y.
"""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

import scene_furniture as furniture
import scene_object
import scene_pictures as pictures
from scene_furniture import TABLE, TABLE_TOP
from scene_shapes import Part, block, joined, quad, rgb

EXPOSURE = 1.8
HALF, HEIGHT = 1.7, 2.4
MIRROR = (-0.85, 0.85, 0.55, 1.95)  # x from and to, z from and to
DEPTH = 0.02  # of the glass in front of its wall


def room() -> list[Part]:
    """The glass comes last."""
    bird = scene_object.figure(0.02).placed(0.15, 2.3, (TABLE[0] - 0.14, TABLE[1] + 0.16, TABLE_TOP + 0.152))
    things = joined([furniture.table(), *furniture.chairs(), furniture.on_the_table(), bird])
    return [*_walls(), things, furniture.rug(), _frame(), *_paintings(), _lamp(), _glass()]


def walk(n: int, seed: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """`n` pairs of eye and target, each [3]: by someone who goes round the table and looks at the mirror every other time."""
    rng = np.random.default_rng(seed)
    targets = np.array([(0.0, HALF, 1.2), (*TABLE, 0.8), (-0.4, HALF, 1.1), (0.0, -HALF, 1.2), (0.5, HALF, 1.3), (HALF, 0.2, 1.0),
                        (*TABLE, 0.9), (-HALF, 0.0, 1.0)])
    for i in range(n):
        turn, away = 2 * np.pi * (i * 0.381966 % 1), rng.uniform(1.05, 1.4)
        eye = np.array([TABLE[0] + away * np.cos(turn), TABLE[1] + away * np.sin(turn), rng.uniform(1.0, 1.7)])
        eye[:2] = np.clip(eye[:2], -HALF + 0.2, HALF - 0.25)
        at = targets[i % len(targets)] + rng.uniform(-0.15, 0.15, 3)
        if np.linalg.norm((at - eye)[:2]) < 0.9:
            at = np.array([-eye[0], -eye[1], 1.0])
        yield eye, at


def _walls() -> list[Part]:
    x, h = HALF, HEIGHT
    paper, plaster = pictures.wallpaper(), pictures.plaster(rgb("d8e0dc"), 1)
    return [quad((-x, -x, 0), (2 * x, 0, 0), (0, 2 * x, 0), texture=pictures.planks()),
            quad((-x, x, h), (2 * x, 0, 0), (0, -2 * x, 0), texture=pictures.plaster(rgb("eee8dc"), 2)),
            quad((x, x, 0), (0, -2 * x, 0), (0, 0, h), texture=plaster, tile=1.9),
            quad((-x, -x, 0), (0, 2 * x, 0), (0, 0, h), texture=paper, tile=0.6),
            quad((x, -x, 0), (-2 * x, 0, 0), (0, 0, h), texture=paper, tile=0.6),
            quad((-x, x, 0), (2 * x, 0, 0), (0, 0, h), texture=plaster, tile=1.9)]


def _glass() -> Part:
    low, high, bottom, top = MIRROR
    pane = quad((low, HALF - DEPTH, bottom), (high - low, 0, 0), (0, 0, top - bottom), rgb("f4f6f5"))
    return replace(pane, roughness=1e-3, is_metal=True)


def _frame() -> Part:
    low, high, bottom, top = MIRROR
    wide, front = 0.06, HALF - 2 * DEPTH
    bars = ((low - wide, high + wide, bottom - wide, bottom), (low - wide, high + wide, top, top + wide),
            (low - wide, low, bottom, top), (high, high + wide, bottom, top))
    return joined([block((a, front, c), (b, HALF, d), rgb("6b4a2f")) for a, b, c, d in bars])


def _paintings() -> list[Part]:
    """On the wall that faces the mirror, and beside it."""
    x = HALF - 0.01
    return [quad((0.75, -x, 1.0), (-1.25, 0, 0), (0, 0, 0.85), texture=pictures.mountains()),
            quad((x, 0.6, 1.05), (0, -0.5, 0), (0, 0, 0.6), texture=pictures.poster()),
            quad((-x, -0.5, 1.1), (0, 0.38, 0), (0, 0, 0.52), texture=pictures.leaf_print(1))]


def _lamp() -> Part:
    return quad((-0.7, 0.5, HEIGHT - 0.01), (1.4, 0, 0), (0, -1.0, 0), rgb("fff6e8"), emission=5.0)
