"""Things to photograph: solids from signed distance functions, flat boxes with pictures on them, and textures.

A *distance function* takes points [N, 3] and gives [N] float, negative inside, close to the distance near its zero;
a *colour function* takes points [N, 3] on the surface and gives [N, 3] sRGB-coded in 0...1.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from scipy.ndimage import map_coordinates
from skimage.measure import marching_cubes

Distance = Callable[[np.ndarray], np.ndarray]
Colour = Callable[[np.ndarray], np.ndarray]
BLOCK = 16  # cells along the edge of a block; blocks that the surface does not touch are not looked into
SHADOW_STEP = 0.03  # units between the vertices of flat pieces


@dataclass(frozen=True)
class Part:
    """A piece of the scene with one material. Colour comes from the vertices or, where there is one, from the texture."""

    vertices: np.ndarray  # [V, 3] float64, the scene's units
    faces: np.ndarray  # [F, 3] int, counter-clockwise from outside
    normals: np.ndarray  # [V, 3] unit, outwards
    colours: np.ndarray  # [V, 3] sRGB-coded, 0...1
    uv: np.ndarray | None = None  # [V, 2], u to the right and v upwards in the texture
    texture: np.ndarray | None = None  # [H, W, 3] sRGB-coded, 0...1, first row on top
    roughness: float | None = None  # of a clear coat or of a metal; None: no coat, all diffuse
    is_metal: bool = False  # it mirrors light in its colour, and none of it is diffuse
    emission: float = 0.0  # radiance per unit of colour
    outlines: np.ndarray | None = None  # [Q, 4, 3] corners of the parallelograms that it consists of; None: it is carved

    def placed(self, scale: float, turn: float, at: tuple[float, float, float]) -> "Part":
        """The same thing `scale` times as large, turned about +z by `turn` radians and moved."""
        c, s = np.cos(turn), np.sin(turn)
        rotation = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1.0]])
        outlines = None if self.outlines is None else self.outlines @ rotation.T * scale + np.array(at)
        return replace(self, vertices=self.vertices @ rotation.T * scale + np.array(at), normals=self.normals @ rotation.T,
                       outlines=outlines)


# Distance functions: `p` are points [N, 3].


def ball(p: np.ndarray, centre: tuple, radius: float) -> np.ndarray:
    """[N] distance to a sphere."""
    return np.linalg.norm(p - np.array(centre), axis=1) - radius


def ellipsoid(p: np.ndarray, centre: tuple, radii: tuple) -> np.ndarray:
    """[N] nearly the distance to an ellipsoid along the axes: right at the surface to first order."""
    q = (p - np.array(centre)) / np.array(radii)
    length = np.linalg.norm(q, axis=1)
    slope = np.linalg.norm(q / np.array(radii), axis=1)
    return length * (length - 1) / np.maximum(slope, 1e-9)


def box(p: np.ndarray, centre: tuple, half: tuple, round_by: float) -> np.ndarray:
    """[N] distance to a box with rounded edges; `half` sizes include the rounding."""
    q = np.abs(p - np.array(centre)) - np.array(half) + round_by
    return np.linalg.norm(np.maximum(q, 0), axis=1) + np.minimum(q.max(1), 0) - round_by


def cylinder(p: np.ndarray, centre: tuple, radius: float, half_height: float, round_by: float) -> np.ndarray:
    """[N] distance to an upright cylinder with rounded edges."""
    q = p - np.array(centre)
    flat = np.stack([np.hypot(q[:, 0], q[:, 1]) - radius, np.abs(q[:, 2]) - half_height], 1) + round_by
    return np.linalg.norm(np.maximum(flat, 0), axis=1) + np.minimum(flat.max(1), 0) - round_by


def tube(p: np.ndarray, points: np.ndarray, radii: np.ndarray) -> np.ndarray:
    """[N] distance to a tube along a polyline [M, 3] whose radius runs through `radii` [M]."""
    nearest = np.full(len(p), np.inf)
    for a, b, r0, r1 in zip(points[:-1], points[1:], radii[:-1], radii[1:]):
        along = np.clip((p - a) @ (b - a) / ((b - a) @ (b - a)), 0, 1)
        distance = np.linalg.norm(p - a - along[:, None] * (b - a), axis=1)
        nearest = np.minimum(nearest, distance - (r0 + along * (r1 - r0)))
    return nearest


def curve(*controls: tuple, n: int = 14) -> np.ndarray:
    """[n, 3] points along the Bézier curve of the control points."""
    line = np.repeat(np.array(controls, np.float64)[:, None], n, 1)  # [K, n, 3]
    t = np.linspace(0, 1, n)[:, None]
    while len(line) > 1:
        line = line[:-1] * (1 - t) + line[1:] * t
    return line[0]


def blend(a: np.ndarray, b: np.ndarray, width: float) -> np.ndarray:
    """[N] union of two distance functions with a fillet of about `width`."""
    h = np.maximum(width - np.abs(a - b), 0) / width
    return np.minimum(a, b) - h**2 * width / 4


def carve(a: np.ndarray, b: np.ndarray, width: float) -> np.ndarray:
    """[N] what stays of `a` without `b`, the edge rounded by about `width`."""
    return -blend(-a, b, width)


# From functions to triangles.


def solid(distance: Distance, colour: Colour, low: tuple, high: tuple, cell: float, roughness: float | None = None) -> Part:
    """The surface of a distance function inside the box `low`...`high`, in cells of about `cell`."""
    values = _sample(distance, np.array(low, np.float64), np.array(high, np.float64), cell)
    vertices, faces, _, _ = marching_cubes(values, 0.0, gradient_direction="descent")
    vertices = vertices.astype(np.float64) * cell + np.array(low)
    away, normals = _value_and_slope(distance, vertices, cell / 8)
    vertices -= np.clip(away, -cell / 2, cell / 2)[:, None] * normals  # marching cubes cuts edges by linear interpolation only
    _, normals = _value_and_slope(distance, vertices, cell / 8)
    return Part(vertices, faces, normals, _in_pieces(colour, vertices), roughness=roughness)


def _value_and_slope(distance: Distance, p: np.ndarray, step: float) -> tuple[np.ndarray, np.ndarray]:
    """Distances [N] and the unit vectors [N, 3] along which they grow."""
    here = _in_pieces(distance, p)
    slope = np.stack([_in_pieces(distance, p + shift) - here for shift in np.eye(3) * step], 1)
    return here, slope / np.maximum(np.linalg.norm(slope, axis=1, keepdims=True), 1e-12)


def _in_pieces(function: Distance | Colour, p: np.ndarray) -> np.ndarray:
    """`function(p)` without large arrays in between, which would leave the processor's cache."""
    return np.concatenate([function(piece) for piece in np.array_split(p, len(p) // 20_000 + 1)])


def _sample(distance: Distance, low: np.ndarray, high: np.ndarray, cell: float) -> np.ndarray:
    """[X, Y, Z] values on the grid; where the surface is far only their sign is right."""
    n_blocks = np.ceil((high - low) / (cell * BLOCK)).astype(int)
    corners = np.stack(np.meshgrid(*map(np.arange, n_blocks), indexing="ij"), -1).reshape(-1, 3) * BLOCK
    values = np.empty(n_blocks * BLOCK, np.float32)
    for edge, finer in ((BLOCK, BLOCK // 4), (BLOCK // 4, 1), (1, None)):
        offset = 0 if edge == 1 else edge / 2
        middle = _in_pieces(distance, low + (corners + offset) * cell)
        for x, y, z in np.ndindex(edge, edge, edge):
            values[corners[:, 0] + x, corners[:, 1] + y, corners[:, 2] + z] = middle
        if finer is not None:
            near = corners[np.abs(middle) < 1.2 * edge * cell]  # half a diagonal is 0.87; blends bend the distance a little
            inside = np.stack(np.meshgrid(*[np.arange(0, edge, finer)] * 3, indexing="ij"), -1).reshape(-1, 3)
            corners = (near[:, None] + inside).reshape(-1, 3)
    return values


def quad(corner: tuple, right: tuple, up: tuple, colour: tuple = (1, 1, 1), texture: np.ndarray | None = None,
         tile: float | None = None, emission: float = 0.0) -> Part:
    """A parallelogram seen from where `right` points to the right, in triangles small enough to carry shadows at their corners.

    Its texture covers it or, with `tile`, repeats every so many units.
    """
    corner, right, up = (np.array(v, np.float64) for v in (corner, right, up))
    sizes = np.linalg.norm([right, up], axis=1)
    columns, rows = np.ceil(sizes / SHADOW_STEP).astype(int)
    v, u = (grid.ravel() for grid in np.meshgrid(np.linspace(0, 1, rows + 1), np.linspace(0, 1, columns + 1), indexing="ij"))
    vertices = corner + u[:, None] * right + v[:, None] * up
    uv = np.stack([u, v], 1) if tile is None else vertices @ np.stack([right / sizes[0], up / sizes[1]], 1) / tile
    first = (np.arange(rows)[:, None] * (columns + 1) + np.arange(columns)).ravel()[:, None]  # lower left corner of each cell
    faces = np.concatenate([first + [0, 1, columns + 2], first + [0, columns + 2, columns + 1]])
    normal = np.cross(right, up) / np.linalg.norm(np.cross(right, up))
    normals, colours = (np.tile(np.array(row, np.float64), (len(vertices), 1)) for row in (normal, colour))
    outlines = np.array([[corner, corner + right, corner + right + up, corner + up]])
    return Part(vertices, faces, normals, colours, uv, texture, emission=emission, outlines=outlines)


def block(low: tuple, high: tuple, colour: tuple = (1, 1, 1), texture: np.ndarray | None = None,
          tile: float | None = None) -> Part:
    """A box along the axes; each side is a quad seen from outside."""
    (x, y, z), (dx, dy, dz) = low, np.subtract(high, low)
    sides = [((x, y + dy, z), (0, -dy, 0), (0, 0, dz)), ((x + dx, y, z), (0, dy, 0), (0, 0, dz)),
             ((x, y, z), (dx, 0, 0), (0, 0, dz)), ((x + dx, y + dy, z), (-dx, 0, 0), (0, 0, dz)),
             ((x, y + dy, z), (dx, 0, 0), (0, -dy, 0)), ((x, y, z + dz), (dx, 0, 0), (0, dy, 0))]
    return joined([quad(*side, colour, texture, tile) for side in sides])


def joined(parts: list[Part]) -> Part:
    """One part of many that share a texture or have none; the material is the first one's."""
    starts = np.cumsum([0] + [len(part.vertices) for part in parts])
    uv, outlines = (None if any(rows is None for rows in every) else np.concatenate(every)
                    for every in ([part.uv for part in parts], [part.outlines for part in parts]))
    return replace(parts[0], vertices=np.concatenate([part.vertices for part in parts]),
                   faces=np.concatenate([part.faces + start for part, start in zip(parts, starts)]),
                   normals=np.concatenate([part.normals for part in parts]),
                   colours=np.concatenate([part.colours for part in parts]), uv=uv, outlines=outlines)


def simplified(part: Part, n_faces: int) -> tuple[np.ndarray, np.ndarray]:
    """Vertices [V, 3] and faces [F, 3] of the same surface: two to a parallelogram, about `n_faces` to a carved part."""
    if part.outlines is not None:
        first = 4 * np.arange(len(part.outlines))[:, None]
        return part.outlines.reshape(-1, 3), np.concatenate([first + [0, 1, 2], first + [0, 2, 3]])
    if len(part.faces) <= n_faces:
        return part.vertices, part.faces
    import fast_simplification  # only who makes scenes has it

    # Its thresholds are absolute: at a size of a thousand it takes the flattest edges first.
    vertices, faces = fast_simplification.simplify((part.vertices * 1e3).astype(np.float32), part.faces.astype(np.int32),
                                                   target_count=n_faces, agg=7)
    return vertices.astype(np.float64) / 1e3, faces


# Textures.


def noise(p: np.ndarray, size: float, seed: int) -> np.ndarray:
    """[...] smooth random values in 0...1 at points [..., D], with bumps of about `size`; it repeats after 64 bumps."""
    grid = np.random.default_rng(seed).random((64,) * p.shape[-1])
    coordinates = np.moveaxis(p / size, -1, 0)
    return map_coordinates(grid, coordinates, order=1, mode="grid-wrap")


def mix(a: np.ndarray | tuple, b: np.ndarray | tuple, amount: np.ndarray) -> np.ndarray:
    """[..., 3] colours from `a` (amount 0) to `b` (amount 1); `amount` [...] is clipped."""
    amount = np.clip(amount, 0, 1)[..., None]
    return np.asarray(a) * (1 - amount) + np.asarray(b) * amount


def rgb(code: str) -> np.ndarray:
    """[3] in 0...1 of a code like "1f6f78"."""
    return np.array([int(code[i : i + 2], 16) for i in (0, 2, 4)]) / 255
