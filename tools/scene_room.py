"""A room to walk about in: a table with things on it, chairs, a sofa, books, a plant, pictures, light from a window.

Metres, +z up, the floor at z = 0; the window is in the wall at +y, the books along +x, the sofa along -x.
"""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import trimesh
from scipy.spatial import cKDTree

import scene_furniture as furniture
import scene_object
import scene_pictures as pictures
from scene_furniture import TABLE, TABLE_TOP
from scene_shapes import Part, block, joined, quad, rgb, solid, tube

EXPOSURE = 1.35
HALF_X, HALF_Y, HEIGHT = 2.3, 1.9, 2.6
LANTERN = (*TABLE, 1.93)
WHITE = rgb("f2efe8")


def room() -> list[Part]:
    """Everything there is: flat pieces with textures, carved things with colours, and three lights."""
    bird = scene_object.figure(0.02).placed(0.15, 2.3, (TABLE[0] - 0.14, TABLE[1] + 0.16, TABLE_TOP + 0.152))
    polished = joined([furniture.table(), *furniture.chairs(), furniture.on_the_table(), furniture.on_the_sill(),
                       furniture.on_the_shelf(), bird])
    matt = joined([furniture.sofa(), furniture.plant(), furniture.rug(), furniture.curtains()])
    return [*_walls(), _beams(), *_window(), *_lights(), *_wall_pictures(), *_shelf(), replace(polished, roughness=0.35), matt]


def walk(n: int, seed: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """`n` pairs of eye and target, each [3]: at standing, sitting and kneeling height, away from the furniture."""
    rng = np.random.default_rng(seed)
    in_the_way = joined([furniture.table(), furniture.sofa(), furniture.plant(), *furniture.chairs()]).vertices
    in_the_way = cKDTree(np.concatenate([in_the_way, [(*TABLE, 1.0)]]))
    targets = np.array([(*TABLE, 0.85), (2.1, -0.5, 1.0), (-1.9, -0.1, 0.7), (0, 1.8, 1.3), (0.3, -1.9, 1.4), (-1.7, 1.4, 0.7),
                        (*TABLE, 0.3), (-2.2, 0.0, 1.5), (1.4, 1.5, 0.6), (-1.2, -1.5, 0.9)])
    heights = [1.55, 1.15, 0.75, 1.9]
    made = 0
    while made < n:
        eye = np.array([rng.uniform(-1.95, 1.75), rng.uniform(-1.6, 1.55), heights[made % 4] + rng.uniform(-0.15, 0.15)])
        at = targets[made % len(targets)] + rng.uniform(-0.2, 0.2, 3)
        is_clear = in_the_way.query(eye)[0] > 0.40 and np.linalg.norm(eye - LANTERN) > 0.9
        if is_clear and np.linalg.norm((at - eye)[:2]) > 1.1:
            yield eye, at
            made += 1


# What the room is made of.


def _walls() -> list[Part]:
    """Floor, ceiling with a skylight's opening, and four walls, the one at +y around the window."""
    x, y, h = HALF_X, HALF_Y, HEIGHT
    paper, plaster = pictures.wallpaper(), pictures.plaster(rgb("e6d3b8"), 1)
    north = [quad((-x, y, 0), (2 * x, 0, 0), (0, 0, 0.85), texture=plaster, tile=1.9),
             quad((-x, y, 2.1), (2 * x, 0, 0), (0, 0, h - 2.1), texture=plaster, tile=1.9),
             quad((-x, y, 0.85), (x - 0.9, 0, 0), (0, 0, 1.25), texture=plaster, tile=1.9),
             quad((0.9, y, 0.85), (x - 0.9, 0, 0), (0, 0, 1.25), texture=plaster, tile=1.9)]
    return [replace(quad((-x, -y, 0), (2 * x, 0, 0), (0, 2 * y, 0), texture=pictures.planks()), roughness=0.4),
            quad((-x, y, h), (2 * x, 0, 0), (0, -2 * y, 0), texture=pictures.plaster(rgb("eee8dc"), 2)),
            quad((x, y, 0), (0, -2 * y, 0), (0, 0, h), texture=plaster, tile=1.9),
            quad((x, -y, 0), (-2 * x, 0, 0), (0, 0, h), texture=paper, tile=0.6),
            quad((-x, -y, 0), (0, 2 * y, 0), (0, 0, h), texture=paper, tile=0.6), joined(north), _skirting()]


def _skirting() -> Part:
    x, y, white = HALF_X, HALF_Y, rgb("efe9dd")
    return joined([block((-x, y - 0.02, 0), (x, y, 0.11), white), block((-x, -y, 0), (x, -y + 0.02, 0.11), white),
                   block((-x, -y, 0), (-x + 0.02, y, 0.11), white), block((x - 0.02, -y, 0), (x, y, 0.11), white)])


def _beams() -> Part:
    return joined([block((x - 0.07, -HALF_Y, HEIGHT - 0.13), (x + 0.07, HALF_Y, HEIGHT), rgb("7a5236")) for x in (-1.5, 1.5)])


def _window() -> list[Part]:
    """The deep opening, its white frame, the sill and the shining landscape behind."""
    inner, outer = HALF_Y, HALF_Y + 0.3
    reveal = [quad((-0.9, inner, 0.85), (0, outer - inner, 0), (0, 0, 1.25), WHITE),
              quad((0.9, outer, 0.85), (0, inner - outer, 0), (0, 0, 1.25), WHITE),
              quad((-0.9, outer, 2.1), (1.8, 0, 0), (0, inner - outer, 0), WHITE)]
    bars = [block((a, 2.06, c), (b, 2.11, d), WHITE) for a, b, c, d in
            ((-0.9, 0.9, 0.85, 0.91), (-0.9, 0.9, 2.04, 2.1), (-0.9, -0.84, 0.85, 2.1), (0.84, 0.9, 0.85, 2.1),
             (-0.33, -0.27, 0.85, 2.1), (0.27, 0.33, 0.85, 2.1), (-0.9, 0.9, 1.62, 1.66))]
    sill = block((-1.0, 1.72, 0.81), (1.0, outer, 0.85), rgb("9a6b43"))
    view = quad((-0.9, outer - 0.01, 0.85), (1.8, 0, 0), (0, 0, 1.25), texture=pictures.landscape(), emission=2.2)
    return [joined(reveal + bars + [sill]), view]


def _lights() -> list[Part]:
    """A paper lantern over the table and a skylight; the third light is the window."""
    globe = trimesh.creation.icosphere(4, 0.17)
    uv = np.stack([np.full(len(globe.vertices), 0.5), globe.vertices[:, 2] / 0.34 + 0.5], 1)
    lantern = Part(globe.vertices + LANTERN, np.array(globe.faces), globe.vertices / 0.17, np.ones_like(globe.vertices),
                   uv, pictures.lantern(), emission=1.8)
    cord = solid(lambda p: tube(p, np.array([[*TABLE, 2.1], [*TABLE, 2.62]]), np.full(2, 0.008)), furniture.plain("3a322c"),
                 (TABLE[0] - 0.03, TABLE[1] - 0.03, 2.05), (TABLE[0] + 0.03, TABLE[1] + 0.03, 2.66), 0.005)
    panes = quad((-0.75, 0.35, HEIGHT - 0.01), (1.5, 0, 0), (0, -1.0, 0), rgb("f4f8ff"), emission=10.0)
    frame = [block((a, b, HEIGHT - 0.05), (c, d, HEIGHT), WHITE) for a, b, c, d in
             ((-0.8, 0.35, 0.8, 0.40), (-0.8, -0.70, 0.8, -0.65), (-0.8, -0.7, -0.75, 0.4), (0.75, -0.7, 0.8, 0.4),
              (-0.02, -0.7, 0.02, 0.4))]
    return [lantern, panes, joined(frame + [cord])]


def _framed(centre: tuple, width: float, height: float, along: str, painting: np.ndarray, wood: np.ndarray) -> list[Part]:
    """A painting in a frame, on the wall at -y (`along` "x") or at -x (`along` "y")."""
    def place(u: float, v: float, depth: float) -> tuple:
        across, away = (-u, depth) if along == "x" else (depth, u)
        return centre[0] + across, centre[1] + away, centre[2] + v

    w, h, edge = width / 2, height / 2, 0.04
    rails = [((-w - edge, -h - edge), (w + edge, -h)), ((-w - edge, h), (w + edge, h + edge)),
             ((-w - edge, -h), (-w, h)), ((w, -h), (w + edge, h))]
    bars = []
    for (u0, v0), (u1, v1) in rails:
        ends = np.array([place(u0, v0, 0.0), place(u1, v1, 0.035)])
        bars.append(block(tuple(ends.min(0)), tuple(ends.max(0)), wood))
    corner, right = np.array(place(-w, -h, 0.015)), np.array(place(w, -h, 0.015))
    return [quad(corner, right - corner, (0, 0, height), texture=painting), joined(bars)]


def _wall_pictures() -> list[Part]:
    gold, dark, pale = rgb("b98a3e"), rgb("4a3428"), rgb("d9c7a4")
    prints = [_framed((-HALF_X, y, 1.55), 0.38, 0.52, "y", pictures.leaf_print(i), pale)
              for i, y in enumerate((-0.75, -0.15, 0.45))]
    return [*_framed((0.35, -HALF_Y, 1.5), 1.25, 0.85, "x", pictures.mountains(), gold),
            *_framed((-1.0, -HALF_Y, 1.6), 0.5, 0.6, "x", pictures.poster(), dark), *sum(prints, [])]


def _shelf() -> list[Part]:
    """A bookcase along +x and its books; their spines share one picture."""
    wood, low, high, depth = rgb("8a5a35"), -1.35, 0.35, 0.30
    x = HALF_X - depth
    boards = [block((x, low, z), (HALF_X, high, z + 0.025), wood) for z in (0.05, 0.42, 0.79, 1.16, 1.53, 1.88)]
    boards += [block((x, y - 0.025, 0), (HALF_X, y, 1.905), wood) for y in (low, high + 0.025, -0.5)]
    boards.append(block((HALF_X - 0.015, low, 0.05), (HALF_X, high, 1.9), rgb("6d4528")))
    rng, spines, books = np.random.default_rng(5), pictures.SPINES, []
    for z in (0.075, 0.445, 0.815, 1.185, 1.555):
        y = low + 0.01
        while y < high - 0.06:
            thick, tall, deep = rng.uniform(0.022, 0.055), rng.uniform(0.20, 0.31), rng.uniform(0.17, 0.23)
            is_gap = rng.random() < 0.06 or (z > 1.1 and -0.42 < y < -0.05) or y < -0.5 < y + thick + 0.03
            if not is_gap:
                books.append(_book((x + 0.03, y, z), (deep, thick, tall), int(rng.integers(spines))))
            y += thick + (0.05 if is_gap else 0.002)
    return [joined(boards), joined(books)]


def _book(corner: tuple, size: tuple, which: int) -> Part:
    """A box whose sides all show the spine with this number in the picture of all spines."""
    book = block(corner, tuple(np.add(corner, size)), texture=pictures.spines())
    return replace(book, uv=book.uv * [0.98 / pictures.SPINES, 1] + [(which + 0.01) / pictures.SPINES, 0])
