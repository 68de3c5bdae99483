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
    return _with_rows(mesh, used, (np.cumsum(used) - 1)[faces])


def _with_rows(mesh: Mesh, index: np.ndarray, faces: np.ndarray) -> Mesh:
    """Other faces, between those of the vertices that `index` picks."""
    def rows(values: np.ndarray | None) -> np.ndarray | None:
        return None if values is None else values[index]

    return replace(mesh, vertices=mesh.vertices[index], faces=faces.astype(np.int32), normals=mesh.normals[index],
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


def open_edges(faces: np.ndarray) -> int:
    """How many edges have not just two faces, one on each side; where it is none, the surface is watertight."""
    return int((_edges(faces)[1] != 1).any(1).sum())


def _edges(faces: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The number of the edge at each side of each face [F, 3], and how many faces run up and down along each edge [E, 2].

    Side k goes from corner k to the next; up is from the lower vertex to the higher.
    """
    sides = np.stack([faces, np.roll(faces, -1, 1)], -1).astype(np.int64)  # [F, 3, 2]
    low, high = sides.min(-1), sides.max(-1)
    _, numbers = np.unique((low * (high.max(initial=0) + 1) + high).ravel(), return_inverse=True)
    is_up = (sides[..., 0] == low).ravel()
    return numbers.reshape(faces.shape), np.stack([np.bincount(numbers, is_up), np.bincount(numbers, ~is_up)], 1)


def closed(mesh: Mesh) -> Mesh:
    """The mesh with every hole covered by a fan of triangles round the middle of its border; `views` there is 0.

    Faces go where more than two share an edge or two run the same way along it; a vertex becomes one for each sheet that
    meets there. What is left, which may be nothing, has no open edge.
    """
    if open_edges(mesh.faces) == 0:
        return mesh
    numbers, uses = _edges(mesh.faces)
    is_tangled = (uses > 1).any(1)[numbers].any(1) | (mesh.faces == np.roll(mesh.faces, -1, 1)).any(1)
    mesh, borders = _parted(with_faces(mesh, ~is_tangled))
    rings = _rings(borders)
    middles = np.array([mesh.vertices[ring].mean(0) for ring in rings]).reshape(-1, 3)
    fans = [np.stack([np.roll(ring, -1), ring, np.full(len(ring), len(mesh.vertices) + i)], 1) for i, ring in enumerate(rings)]

    def longer(values: np.ndarray | None, fill: float) -> np.ndarray | None:
        return None if values is None else np.concatenate([values, np.full(len(rings), fill, values.dtype)])

    return with_normals(Mesh(np.concatenate([mesh.vertices, middles]), np.concatenate([mesh.faces, *fans]).astype(np.int32),
                             np.concatenate([mesh.normals, np.zeros_like(middles, np.float32)]), longer(mesh.views, 0),
                             longer(mesh.depth_spread, np.nan)))


def _parted(mesh: Mesh) -> tuple[Mesh, np.ndarray]:
    """The same surface, in which sheets that met only in a vertex have one each, and its borders [B, 2] from vertex to vertex.

    No edge may have more than one face on a side. A vertex then has one border that comes and one that goes, or none.
    """
    numbers, uses = _edges(mesh.faces)
    here = np.arange(mesh.faces.size)  # of face i, corner k and the side that begins there have number 3 i + k
    after = here - here % 3 + (here + 1) % 3
    is_down = (mesh.faces > np.roll(mesh.faces, -1, 1)).ravel()
    sides = np.full((len(uses), 2), -1)  # up and down along each edge
    sides[numbers.ravel(), is_down.astype(int)] = here
    up, down = sides[(sides >= 0).all(1)].T
    joined = np.concatenate([np.stack([up, after[down]], 1), np.stack([after[up], down], 1)])
    _, first, corners = np.unique(connected_parts(len(here), joined), return_index=True, return_inverse=True)
    alone = sides[(sides < 0).any(1)].max(1)
    return (_with_rows(mesh, mesh.faces.ravel()[first], corners.reshape(-1, 3)),
            np.stack([corners[alone], corners[after[alone]]], 1))


def _rings(borders: np.ndarray) -> list[np.ndarray]:
    """Borders [B, 2], of which one goes out of each vertex that one comes to, as rings of vertices."""
    following, rings = dict(borders.tolist()), []
    while following:
        ring = list(following.popitem())
        while ring[-1] != ring[0]:
            ring.append(following.pop(ring[-1]))
        rings.append(np.array(ring[1:]))
    return rings


def _crosses(mesh: Mesh) -> np.ndarray:
    """Each face's normal times twice its area: [F, 3]."""
    a, b, c = (mesh.vertices[mesh.faces[:, k]] for k in range(3))
    return np.cross(b - a, c - a)
