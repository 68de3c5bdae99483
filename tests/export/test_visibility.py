import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from nerf_app.export.mesh import Mesh
from nerf_app.export.visibility import count_views, mesh_seen_from, vertex_visibility
from nerf_app.ops.backend import choose_backend
from nerf_app.scene.camera import Camera, Lens
from nerf_app.scene.lenses import CameraBatch
from nerf_app.scene.scene import View
from tests.export.stand_in import pose_looking, ring

ROOM = json.loads((Path(__file__).resolve().parents[2] / "data/room/transforms.json").read_text())
ROOM_CAMERA = Camera(ROOM["w"], ROOM["h"], *(ROOM[key] for key in ("fl_x", "fl_y", "cx", "cy")),
                     Lens("fisheye", radial=tuple(ROOM[f"k{k}"] for k in (1, 2, 3, 4))))
PINHOLE = Camera(200, 160, 180.0, 190.0, 97.0, 82.0)
CAMERAS = {"pinhole": PINHOLE, "bent": replace(PINHOLE, lens=Lens(radial=(-0.1, 0.02, 0.0, 0.0), tangential=(0.01, -0.005))),
           "room's fisheye": ROOM_CAMERA, "fisheye": Camera(300, 300, 60.0, 60.0, 150.0, 150.0, Lens("fisheye")),
           "fov": replace(PINHOLE, lens=Lens("fov", omega=0.9)),
           "panorama": Camera(400, 200, 1.0, 1.0, 0.0, 0.0, Lens("equirectangular"))}
each_camera = pytest.mark.parametrize("camera", CAMERAS.values(), ids=CAMERAS)


@pytest.fixture(scope="module")
def ops():
    threads = torch.get_num_threads()
    yield choose_backend("auto", "cpu", 1)
    torch.set_num_threads(threads)


def mesh_of(vertices, faces):
    return Mesh(np.asarray(vertices, float), np.asarray(faces, np.int32), np.zeros((len(vertices), 3), np.float32))


def ball(splits, radius=1.0, centre=(0.0, 0.0, 0.0)):
    """An octahedron whose faces are split in four again and again, and blown up."""
    vertices = np.array([[1, 0, 0], [-1, 0, 0], [0, 1, 0], [0, -1, 0], [0, 0, 1], [0, 0, -1]], float)
    faces = np.array([[0, 2, 4], [2, 1, 4], [1, 3, 4], [3, 0, 4], [2, 0, 5], [1, 2, 5], [3, 1, 5], [0, 3, 5]])
    for _ in range(splits):
        edges, numbers = np.unique(np.sort(faces[:, [[0, 1], [1, 2], [2, 0]]]).reshape(-1, 2), axis=0, return_inverse=True)
        (a, b, c), (ab, bc, ca) = faces.T, len(vertices) + numbers.reshape(-1, 3).T
        vertices = np.concatenate([vertices, vertices[edges].mean(1)])
        faces = np.concatenate([np.stack(corners, 1) for corners in ((a, ab, ca), (b, bc, ab), (c, ca, bc), (ab, bc, ca))])
    return mesh_of(vertices / np.linalg.norm(vertices, axis=1, keepdims=True) * radius + centre, faces)


def square(cells, half_size, z):
    """A square that faces +z, in cells × cells small ones."""
    places = np.linspace(-half_size, half_size, cells + 1)
    x, y = np.meshgrid(places, places)
    number = np.arange((cells + 1)**2).reshape(cells + 1, cells + 1)
    a, b, c, d = (part.ravel() for part in (number[:-1, :-1], number[:-1, 1:], number[1:, :-1], number[1:, 1:]))
    return mesh_of(np.stack([x.ravel(), y.ravel(), np.full(x.size, z)], 1), np.concatenate([np.stack([a, b, c], 1),
                                                                                           np.stack([d, c, b], 1)]))


def cube(half_size):
    corners = half_size * np.stack(np.meshgrid([-1.0, 1.0], [-1.0, 1.0], [-1.0, 1.0], indexing="ij"), -1).reshape(-1, 3)
    quads = np.array([[0, 1, 3, 2], [4, 6, 7, 5], [0, 4, 5, 1], [2, 3, 7, 6], [0, 2, 6, 4], [1, 5, 7, 3]])
    return mesh_of(corners, np.concatenate([quads[:, [0, 1, 2]], quads[:, [0, 2, 3]]]))


def together(*meshes):
    firsts = np.cumsum([0] + [len(mesh.vertices) for mesh in meshes])
    return mesh_of(np.concatenate([mesh.vertices for mesh in meshes]),
                   np.concatenate([mesh.faces + first for mesh, first in zip(meshes, firsts[:-1], strict=True)]))


def torus(around=60, through=30, radius=0.45):
    u, v = (grid.ravel() for grid in np.meshgrid(*(np.arange(n) * 2 * np.pi / n for n in (around, through)), indexing="ij"))
    number = np.arange(around * through).reshape(around, through)
    beside, above = np.roll(number, -1, 0), np.roll(number, -1, 1)
    faces = np.concatenate([np.stack([number, beside, above], -1).reshape(-1, 3),
                            np.stack([beside, np.roll(beside, -1, 1), above], -1).reshape(-1, 3)])
    distance = 1 + radius * np.cos(v)
    return mesh_of(np.stack([distance * np.cos(u), distance * np.sin(u), radius * np.sin(v)], 1), faces)


def directions_of(camera):
    """Where pixels look [H, W, 3], in camera axes, and whether the lens says so [H, W]."""
    y, x = torch.meshgrid(torch.arange(camera.height) + 0.5, torch.arange(camera.width) + 0.5, indexing="ij")
    first = torch.zeros(y.numel(), dtype=torch.int64)
    directions, is_valid = CameraBatch.from_cameras([camera]).directions(first, x.flatten(), y.flatten())
    return directions.view(*y.shape, 3), is_valid.view(y.shape)


def is_free(mesh, vertex, eye):
    """Whether nothing lies on the way from a vertex to the eye: the way against every triangle (Möller and Trumbore)."""
    start = mesh.vertices[vertex]
    a, b, c = (mesh.vertices[mesh.faces[~(mesh.faces == vertex).any(1), k]] for k in range(3))
    way = eye - start
    across = np.cross(way, c - a)
    volume = (across * (b - a)).sum(1)
    u = ((start - a) * across).sum(1) / volume
    turned = np.cross(start - a, b - a)
    v, t = turned @ way / volume, (turned * (c - a)).sum(1) / volume
    return not ((u >= 0) & (v >= 0) & (u + v <= 1) & (t > 0) & (t < 1)).any()


def turns_to(mesh, vertex, eye):
    a, b, c = (mesh.vertices[mesh.faces[(mesh.faces == vertex).any(1), k]] for k in range(3))
    return ((np.cross(b - a, c - a) * (eye - a)).sum(1) > 0).any()


@each_camera
def test_every_pixel_sees_the_point_that_its_ray_meets(camera, ops):
    mesh, pose = torus(around=120, through=60), pose_looking([2.0, 1.0, 1.8], [0.2, 0.0, 0.0])
    raster = mesh_seen_from(mesh, camera, pose, ops)
    row, column = (raster.face_indices >= 0).nonzero(as_tuple=True)
    assert len(row) > 1000
    corners = mesh.vertices[mesh.faces[raster.face_indices[row, column].numpy()]]  # [K, 3, 3]
    points = (raster.barycentrics[row, column].numpy()[:, :, None] * corners).sum(1)
    inside = torch.from_numpy((points - pose[:3, 3]) @ pose[:3, :3])
    x, y, _ = CameraBatch.from_cameras([camera]).project(torch.zeros_like(row), inside)
    allowed = 1e-3 if camera.lens == Lens() else 0.15  # elsewhere the edges are not quite straight
    assert float((x - column - 0.5).abs().max()) < allowed and float((y - row - 0.5).abs().max()) < allowed
    depth = -inside[:, 2] if camera.lens.family == "perspective" else torch.linalg.vector_norm(inside, dim=1)
    assert float((raster.depth[row, column] / depth - 1).abs().max()) < (1e-5 if camera.lens == Lens() else 1e-3)


@each_camera
def test_from_within_a_ball_all_that_the_lens_sees_is_ball(camera, ops):
    pose = pose_looking([10.0, 5.0, 1.0], [11.0, 6.0, 1.3])
    raster = mesh_seen_from(ball(5, 2.0, pose[:3, 3]), camera, pose, ops)
    directions, is_valid = directions_of(camera)
    right, up, ahead = (directions * torch.tensor([1.0, 1.0, -1.0])).unbind(2)
    is_whole = is_valid & (ahead > -0.9)  # not where a fisheye ends
    if camera.lens.family == "equirectangular":
        is_whole &= (up.abs() < 0.98) & ((ahead > 0) | (right.abs() > 0.12))  # nor at the poles and the seam
    assert (raster.face_indices[is_whole] >= 0).all()
    is_drawn = raster.face_indices >= 0
    expected = 2.0 * ahead if camera.lens.family == "perspective" else torch.full_like(ahead, 2.0)
    assert float((raster.depth[is_drawn] / expected[is_drawn] - 1).abs().max()) < 2e-3  # faces cut the ball's corners


@each_camera
def test_faces_larger_than_the_picture_are_bent_as_the_lens_bends_them_and_cut_where_it_sees_no_more(camera, ops):
    mesh, pose = cube(2.0), pose_looking([0.3, 0.5, -0.2], [1.0, 0.9, 0.1])
    raster = mesh_seen_from(mesh, camera, pose, ops)
    directions, is_valid = directions_of(camera)
    ways = directions.numpy() @ pose[:3, :3].T
    distance = ((2.0 - np.sign(ways) * pose[:3, 3]) / np.abs(ways)).min(-1)  # to the wall that a ray meets
    right, up, ahead = (directions * torch.tensor([1.0, 1.0, -1.0])).unbind(2)
    is_whole = is_valid & (ahead > -0.9)
    if camera.lens.family == "equirectangular":
        is_whole &= (up.abs() < 0.99) & ((ahead > 0) | (right.abs() > 0.06))
    assert (raster.face_indices[is_whole] >= 0).all()
    points = (raster.barycentrics.numpy()[..., None] * mesh.vertices[mesh.faces[raster.face_indices]]).sum(2)
    miss = raster.depth.numpy() / (distance * ahead.numpy() if camera.lens.family == "perspective" else distance) - 1
    is_plain = (is_whole & (ahead > -0.5)).numpy()  # farther round, a fisheye draws things out
    miss, apart = (np.abs(part[is_plain]) for part in (miss, points - pose[:3, 3] - ways * distance[..., None]))
    assert np.median(miss) < 0.05**2 / 8  # a chord's distance from its arc
    assert miss.max() < (1e-5 if camera.lens == Lens() else 5e-3) and apart.max() < (1e-3 if camera.lens == Lens() else 0.02)


@each_camera
def test_a_thing_behind_the_camera_is_not_drawn_across_what_is_ahead(camera, ops):
    pose = pose_looking([10.0, 5.0, 1.0], [11.0, 5.0, 1.0])
    raster = mesh_seen_from(ball(3, 0.2, [9.5, 5.02, 1.01]), camera, pose, ops)
    directions, is_valid = directions_of(camera)
    is_ahead = is_valid & (directions[..., 2] < 0)
    assert is_ahead.sum() > 5000 and (raster.face_indices[is_ahead] == -1).all()


@each_camera
@pytest.mark.parametrize("gap", [1.0, 0.2, 0.05])
def test_the_nearer_of_two_parallel_squares_hides_what_lies_in_its_shadow(camera, gap, ops):
    near, far = square(1, 0.3, 0.0), square(30, 0.25 * (2.0 + gap), -gap)
    eye = np.array([0.1, -0.05, 2.0])
    is_seen = vertex_visibility(together(near, far), camera, pose_looking(eye, [0.0, 0.0, 0.0], up=(0.0, 1.0, 0.0)), ops)
    met = eye + (far.vertices - eye) * (2.0 / (2.0 + gap))  # where the line of sight goes through the nearer one
    beyond = np.abs(met[:, :2]).max(1) - 0.3
    is_clear = np.abs(beyond) > 0.03  # farther from the shadow's edge than a pixel
    assert is_clear.mean() > 0.7 and 0.2 < (beyond > 0)[is_clear].mean() < 0.8
    assert np.array_equal(is_seen[len(near.vertices):][is_clear], (beyond > 0)[is_clear])
    assert is_seen[:len(near.vertices)].all()


def test_a_surface_at_a_grazing_angle_does_not_hide_itself(ops):
    for cells in (1, 7, 50, 200):
        for height in (0.5, 1.0, 3.0):
            pose = pose_looking([0.0, -3.0, height], [0.0, 0.0, 0.0])
            assert vertex_visibility(square(cells, 0.5, 0.0), PINHOLE, pose, ops).all()


def test_of_a_ball_those_vertices_are_seen_that_have_a_face_before_the_horizon(ops):
    mesh = ball(4)
    for camera, pose in zip(CAMERAS.values(), ring(6, distance=4.0), strict=True):
        is_seen = vertex_visibility(mesh, camera, pose, ops)
        assert np.array_equal(is_seen, [turns_to(mesh, vertex, pose[:3, 3]) for vertex in range(len(mesh.vertices))])
        assert 0 < is_seen.mean() - (1 - 1 / 4.0) / 2 < 0.05  # what a ball shows at a distance of 4 radii, and a row of faces


@pytest.mark.parametrize("name, distance", [("pinhole", 4.0), ("bent", 4.0), ("room's fisheye", 2.5), ("panorama", 2.0)])
def test_a_vertex_is_seen_where_no_triangle_lies_on_its_way_to_the_eye(name, distance, ops):
    mesh, n_hidden = together(torus(), ball(3, 0.3, (0.3, 0.2, 0.9))), 0
    for pose in ring(2, distance, elevation=0.5):
        some = np.random.default_rng(0).choice(len(mesh.vertices), 200, replace=False)
        is_turned = np.array([turns_to(mesh, vertex, pose[:3, 3]) for vertex in some])
        truth = is_turned & [is_free(mesh, vertex, pose[:3, 3]) for vertex in some]
        is_seen = vertex_visibility(mesh, CAMERAS[name], pose, ops)[some]
        assert (is_seen == truth).mean() >= 0.985  # within a pixel of the edge of what hides it a vertex may count as either
        n_hidden += int((is_turned & ~truth).sum())
    assert n_hidden >= 20


def test_a_cubes_corners_are_seen_by_a_camera_that_sees_but_one_of_its_sides(ops):
    mesh = cube(1.0)
    pose = pose_looking([0.1, 0.05, 2.0], [0.1, 0.05, 0.0], up=(0.0, 1.0, 0.0))
    assert np.array_equal(vertex_visibility(mesh, Camera(100, 100, 40.0, 40.0, 50.0, 50.0), pose, ops), mesh.vertices[:, 2] > 0)


def test_what_is_behind_the_camera_or_beside_the_picture_is_not_seen(ops):
    mesh = ball(3)
    away = pose_looking([4.0, 0.0, 0.0], [8.0, 0.0, 0.0])
    assert not vertex_visibility(mesh, PINHOLE, away, ops).any()
    assert not vertex_visibility(mesh, PINHOLE, pose_looking([4.0, 0.0, 0.0], [0.0, 40.0, 0.0]), ops).any()


def test_views_are_counted_over_the_training_photos(ops):
    mesh = ball(3)
    views = [View(str(i), PINHOLE, pose, split) for i, (pose, split) in
             enumerate(zip(ring(6), ("train", "val", "train", "test", "train", "train"), strict=True))]
    counts = count_views(mesh, views, ops)
    seen = [vertex_visibility(mesh, PINHOLE, views[i].world_from_camera, ops) for i in (0, 2, 4, 5)]
    assert counts.dtype == np.int32
    assert np.array_equal(counts, np.sum(seen, 0)) and set(counts.tolist()) == {0, 1, 2, 3, 4}


def test_a_mesh_without_faces_is_seen_nowhere(ops):
    mesh = mesh_of(np.zeros((0, 3)), np.zeros((0, 3)))
    for camera in CAMERAS.values():
        assert (mesh_seen_from(mesh, camera, np.eye(4), ops).face_indices == -1).all()
        assert vertex_visibility(mesh, camera, np.eye(4), ops).shape == (0,)
    assert count_views(mesh, [], ops).shape == (0,)
