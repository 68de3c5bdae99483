"""Meshes into better meshes."""

import numpy as np
import pytest

from nerf_app.export.clean import closed, connected_parts, decimated, open_edges, with_faces, with_normals, without_islands
from nerf_app.export.mesh import Mesh
from tests.export.shape_run import edge_counts


def globe(n: int = 24, radius: float = 1.0, centre=(0.0, 0.0, 0.0)) -> Mesh:
    """A ball of latitudes and longitudes, closed."""
    latitude, longitude = np.pi * np.arange(1, n) / n, 2 * np.pi * np.arange(2 * n) / (2 * n)
    ring = np.stack([np.outer(np.sin(latitude), np.cos(longitude)), np.outer(np.sin(latitude), np.sin(longitude)),
                     np.repeat(np.cos(latitude)[:, None], 2 * n, 1)], -1).reshape(-1, 3)
    index = np.arange(len(ring)).reshape(n - 1, 2 * n)
    a, b, c, d = index[:-1], np.roll(index, -1, 1)[:-1], index[1:], np.roll(index, -1, 1)[1:]
    north, south = len(ring), len(ring) + 1
    faces = np.concatenate([np.stack([a, c, d], -1).reshape(-1, 3), np.stack([a, d, b], -1).reshape(-1, 3),
                            [(north, i, j) for i, j in zip(index[0], np.roll(index[0], -1))],
                            [(south, j, i) for i, j in zip(index[-1], np.roll(index[-1], -1))]])
    out = np.concatenate([ring, [[0, 0, 1.0], [0, 0, -1.0]]])
    return Mesh(out * radius + centre, faces.astype(np.int32), out.astype(np.float32),
                views=np.arange(len(out), dtype=np.int32), depth_spread=np.linspace(0, 1, len(out), dtype=np.float32))


def together(*meshes: Mesh) -> Mesh:
    starts = np.cumsum([0] + [len(mesh.vertices) for mesh in meshes])
    faces = np.concatenate([mesh.faces + start for mesh, start in zip(meshes, starts)]).astype(np.int32)
    rows = {name: np.concatenate([getattr(mesh, name) for mesh in meshes])
            for name in ("vertices", "normals", "views", "depth_spread")}
    return Mesh(faces=faces, **rows)


def test_connected_parts_are_those_of_a_plain_search():
    rng = np.random.default_rng(0)
    for count, n_pairs in ((1, 0), (30, 15), (200, 150), (200, 0)):
        pairs = rng.integers(0, count, (n_pairs, 2))
        expected = list(range(count))
        for _ in range(count):
            for a, b in pairs:
                expected[a] = expected[b] = min(expected[a], expected[b])
        assert connected_parts(count, pairs).tolist() == expected


def test_a_long_chain_is_one_part():
    order = np.random.default_rng(0).permutation(5000)
    assert (connected_parts(5000, np.stack([order[:-1], order[1:]], 1)) == 0).all()


def test_small_islands_go_and_large_parts_stay():
    mesh = together(globe(8, 0.05, (3, 0, 0)), globe(24), globe(12, 0.5, (0, 3, 0)))
    assert len(without_islands(mesh, 0.1).faces) == len(globe(24).faces) + len(globe(12).faces)
    alone = without_islands(mesh, 1.0)
    assert len(alone.faces) == len(globe(24).faces)
    np.testing.assert_array_equal(alone.vertices, globe(24).vertices)
    np.testing.assert_array_equal(alone.views, globe(24).views)
    assert without_islands(with_faces(mesh, np.zeros(len(mesh.faces), bool)), 0.1).vertices.shape == (0, 3)


def test_decimation_keeps_to_the_number_and_to_the_surface_far_from_the_origin():
    centre = np.array([1e6, -2e6, 30.0])
    mesh = decimated(globe(48, 2.0, centre), 1000)
    assert 800 <= len(mesh.faces) <= 1000
    radii = np.linalg.norm(mesh.vertices - centre, axis=1)
    assert np.abs(radii - 2.0).max() < 0.03
    assert (edge_counts(mesh.faces) == 2).all()
    assert ((mesh.vertices - centre) / radii[:, None] * mesh.normals).sum(1).min() > 0.97
    heights = 0.5 - (mesh.vertices - centre)[:, 2] / 4  # the globe's numbers fall from pole to pole
    assert np.corrcoef(mesh.depth_spread, heights)[0, 1] > 0.95
    assert decimated(mesh, 1000) is mesh


def test_normals_of_a_globe_point_outwards():
    mesh = with_normals(globe(32))
    assert (mesh.normals * mesh.vertices).sum(1).min() > 0.999


def test_a_vertex_without_area_still_has_a_normal():
    mesh = with_normals(Mesh(np.zeros((3, 3)), np.array([[0, 1, 2]], np.int32), np.zeros((3, 3), np.float32)))
    np.testing.assert_array_equal(np.linalg.norm(mesh.normals, axis=1), 1.0)


@pytest.mark.parametrize("missing", [[0], [5, 400], [0, 1, 2, 3, 50, 51, 52, 700, 701], range(100, 200), [0, 2]],
                         ids=["one", "two", "many", "band", "touching"])
def test_closing_gives_every_edge_two_faces_in_opposite_directions(missing):
    keep = np.ones(len(globe(24).faces), bool)
    keep[list(missing)] = False
    mesh = closed(with_faces(globe(24), keep))
    sides = np.concatenate([mesh.faces[:, [0, 1]], mesh.faces[:, [1, 2]], mesh.faces[:, [2, 0]]])
    assert len(np.unique(sides, axis=0)) == len(sides)
    assert (edge_counts(mesh.faces) == 2).all()
    assert set(map(tuple, sides)) == set(map(tuple, sides[:, ::-1]))
    assert len(mesh.vertices) == len(mesh.normals) == len(mesh.views) == len(mesh.depth_spread)


def points_and_faces(points, faces) -> Mesh:
    return with_normals(Mesh(np.array(points, np.float64), np.array(faces, np.int32), np.zeros((len(points), 3), np.float32)))


def test_two_tetrahedra_with_one_edge_are_parted_there_and_closed():
    """Four faces meet at the edge: no fan of triangles could mend that."""
    points = [(0, 0, 0), (0, 0, 1), (1, 0, 0.5), (1, 1, 0.5), (-1, 0, 0.5), (-1, -1, 0.5)]
    mesh = points_and_faces(points, [face for c, d in ((2, 3), (4, 5))
                                     for face in ((0, 1, d), (0, c, 1), (0, d, c), (1, c, d))])
    assert open_edges(mesh.faces) == 1
    found = closed(mesh)
    assert open_edges(found.faces) == 0
    parts = connected_parts(len(found.vertices), np.concatenate([found.faces[:, :2], found.faces[:, 1:]]))
    assert len(np.unique(parts)) == 2, "no surface leads from one to the other"


@pytest.mark.parametrize("seed", range(4))
def test_any_heap_of_triangles_is_closed_with_each_vertex_in_one_sheet(seed):
    rng = np.random.default_rng(seed)
    mesh = closed(points_and_faces(rng.normal(size=(30, 3)), rng.integers(0, 30, (60, 3))))  # some have a corner twice
    sides = np.concatenate([mesh.faces[:, [0, 1]], mesh.faces[:, [1, 2]], mesh.faces[:, [2, 0]]])
    assert len(sides) and len(np.unique(sides, axis=0)) == len(sides)
    assert set(map(tuple, sides)) == set(map(tuple, sides[:, ::-1])) and (sides[:, 0] != sides[:, 1]).all()
    following = {(corner, after): before for face in mesh.faces.tolist()
                 for corner, after, before in (face, face[1:] + face[:1], face[2:] + face[:2])}
    for corner, first in {face[0]: face[1] for face in mesh.faces.tolist()}.items():
        length, at = 1, following[corner, first]
        while at != first:
            length, at = length + 1, following[corner, at]
        assert length == (mesh.faces == corner).sum(), "one walk round the vertex meets all its faces"


def test_closing_what_is_all_tangled_leaves_nothing():
    mesh = points_and_faces(np.eye(3), [(0, 1, 2), (0, 1, 2)])
    assert open_edges(mesh.faces) == 3 and len(closed(mesh).faces) == 0


def test_closing_a_closed_mesh_changes_nothing():
    mesh = globe()
    assert closed(mesh) is mesh
