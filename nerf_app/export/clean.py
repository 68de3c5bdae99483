"""MESH → MESH: what makes a surface fit for use. Every function gives back a new mesh and keeps what vertices know."""

from dataclasses import replace

import numpy as np

from nerf_app.export.mesh import Mesh


def connected_parts(count: int, pairs: np.ndarray) -> np.ndarray:
    """[count] int64: things joined by pairs [P, 2] share a number, the lowest of theirs."""
    parts = np.arange(count)
    pairs = np.asarray(pairs, np.int64)
    while len(pairs):
        low, high = parts[pairs].min(1), parts[pairs].max(1)
        differ = low < high
        if not differ.any():
            break
        np.minimum.at(parts, high[differ], low[differ])  # hooks whole trees together
        while (parts != parts[parts]).any():
            parts = parts[parts]
        pairs = pairs[differ]
    return parts


def with_faces(mesh: Mesh, keep: np.ndarray) -> Mesh:
    """The mesh with only those faces [F] bool, and the vertices that they need."""
    faces = mesh.faces[keep]
    used = np.zeros(len(mesh.vertices), bool)
    used[faces] = True
    numbers = np.cumsum(used) - 1

    def rows(values: np.ndarray | None) -> np.ndarray | None:
        return None if values is None else values[used]

    return replace(mesh, vertices=mesh.vertices[used], faces=numbers[faces].astype(np.int32), normals=mesh.normals[used],
                   views=rows(mesh.views), depth_spread=rows(mesh.depth_spread), colours=rows(mesh.colours), uvs=rows(mesh.uvs))


def without_islands(mesh: Mesh, share: float) -> Mesh:
    """The largest connected part, and all that have at least `share` of the whole area."""
    if len(mesh.faces) == 0:
        return mesh
    edges = np.concatenate([mesh.faces[:, :2], mesh.faces[:, 1:]])
    parts = connected_parts(len(mesh.vertices), edges)[mesh.faces[:, 0]]  # [F]
    areas = np.bincount(parts, np.linalg.norm(_crosses(mesh), axis=1))
    return with_faces(mesh, (areas >= min(share * areas.sum(), areas.max()))[parts])


def decimated(mesh: Mesh, n_faces: int) -> Mesh:
    """About the same surface in at most `n_faces` triangles; what vertices know becomes the mean of those that were joined."""
    import fast_simplification

    if len(mesh.faces) <= n_faces:
        return mesh
    origin = mesh.vertices.mean(0)  # the library works in float32
    size = np.ptp(mesh.vertices, axis=0).max()
    points = np.ascontiguousarray((mesh.vertices - origin) / size, np.float32)
    faces = np.ascontiguousarray(mesh.faces, np.int32)
    _, _, joins = fast_simplification.simplify(points, faces, target_count=n_faces, return_collapses=True)
    points, faces, where = fast_simplification.replay_simplification(points, faces, joins)
    counts = np.bincount(where, minlength=len(points)).clip(min=1)

    def means(values: np.ndarray | None) -> np.ndarray | None:
        return None if values is None else (np.bincount(where, values, len(points)) / counts).astype(np.float32)

    return with_normals(Mesh(points.astype(np.float64) * size + origin, faces.astype(np.int32), np.zeros_like(points),
                             depth_spread=means(mesh.depth_spread)))


def with_normals(mesh: Mesh) -> Mesh:
    """Each vertex's normal is the mean of its faces', by area."""
    crosses = _crosses(mesh)
    sums = np.stack([np.bincount(mesh.faces.ravel(), np.repeat(crosses[:, axis], 3), len(mesh.vertices)) for axis in range(3)], 1)
    lengths = np.linalg.norm(sums, axis=1, keepdims=True)
    units = np.where(lengths > 0, sums / np.where(lengths > 0, lengths, 1.0), (0.0, 0.0, 1.0))
    return replace(mesh, normals=units.astype(np.float32))


def closed(mesh: Mesh) -> Mesh:
    """The mesh with every hole covered by a fan of triangles round the middle of its border; `views` there is 0."""
    loops = _border_loops(mesh.faces)
    if not loops:
        return mesh
    middles = np.stack([mesh.vertices[loop].mean(0) for loop in loops])
    fans = [np.stack([np.roll(loop, -1), loop, np.full(len(loop), len(mesh.vertices) + i)], 1) for i, loop in enumerate(loops)]

    def longer(values: np.ndarray | None, fill: float) -> np.ndarray | None:
        return None if values is None else np.concatenate([values, np.full(len(loops), fill, values.dtype)])

    return with_normals(Mesh(np.concatenate([mesh.vertices, middles]), np.concatenate([mesh.faces, *fans]).astype(np.int32),
                             np.concatenate([mesh.normals, np.zeros_like(middles, np.float32)]), longer(mesh.views, 0),
                             longer(mesh.depth_spread, np.nan)))


def _border_loops(faces: np.ndarray) -> list[np.ndarray]:
    """The borders of a mesh, each a ring of vertices that meets none twice, in the order of the faces beside it."""
    sides = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]]).astype(np.int64)
    there = set(map(tuple, sides.tolist()))
    following: dict[int, list[int]] = {}
    for a, b in there:
        if (b, a) not in there:
            following.setdefault(a, []).append(b)
    loops = []
    for start in sorted(following):
        while following[start]:
            path, places = [start], {start: 0}
            while following.get(path[-1]):
                after = following[path[-1]].pop()
                if after in places:  # a ring is whole: take it off the path
                    loops.append(np.array(path[places[after]:]))
                    for vertex in path[places[after] + 1:]:
                        del places[vertex]
                    path = path[:places[after] + 1]
                    continue
                places[after] = len(path)
                path.append(after)
    return loops


def _crosses(mesh: Mesh) -> np.ndarray:
    """Each face's normal times twice its area: [F, 3]."""
    a, b, c = (mesh.vertices[mesh.faces[:, k]] for k in range(3))
    return np.cross(b - a, c - a)
