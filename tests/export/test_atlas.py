import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from nerf_app.errors import DataError
from nerf_app.export import atlas
from nerf_app.export.atlas import with_atlas
from nerf_app.export.mesh import Mesh
from nerf_app.ops.raster.reference import rasterise
from tests.export.test_visibility import ball, cube, together, torus

SIZE = 512


@pytest.fixture(params=["xatlas", "grid"])
def laid_out(request, monkeypatch):
    """with_atlas, by xatlas or without it."""
    if request.param == "xatlas":
        pytest.importorskip("xatlas", reason="no wheel for this Python")
        return with_atlas
    monkeypatch.setitem(sys.modules, "xatlas", None)

    def without_xatlas(mesh, size):
        with pytest.warns(UserWarning, match="pip install xatlas"):
            return with_atlas(mesh, size)
    return without_xatlas


def drawn(mesh, size, depths):
    """Which face each texel [T, T] belongs to, when faces lie at `depths` [F]."""
    places = np.concatenate([mesh.uvs[mesh.faces] * size, np.broadcast_to(depths[:, None, None], (len(mesh.faces), 3, 1))], 2)
    faces = torch.arange(3 * len(mesh.faces)).view(-1, 3)
    return rasterise(torch.from_numpy(places.reshape(-1, 3).astype(np.float32)), faces, size, size).face_indices.numpy()


def charts(mesh):
    """A number for each face [F], the same for faces that hang together by their vertices."""
    labels = np.arange(len(mesh.vertices))
    while True:
        before = labels.copy()
        np.minimum.at(labels, mesh.faces, labels[mesh.faces].min(1, keepdims=True))
        if (labels == before).all():
            return labels[mesh.faces[:, 0]]


MESHES = {"ball": ball(3), "torus": torus(), "cube": cube(1.0), "many": together(ball(2), cube(0.1), ball(1, 3.0, (5, 0, 0)))}


@pytest.mark.parametrize("mesh", MESHES.values(), ids=MESHES)
def test_no_two_faces_share_a_place(laid_out, mesh):
    flat = laid_out(mesh, SIZE)
    order = 1.0 + np.arange(len(flat.faces))
    assert (drawn(flat, 2 * SIZE, order) == drawn(flat, 2 * SIZE, order[::-1])).all()
    a, b, c = flat.uvs.astype(float)[flat.faces].transpose(1, 0, 2)
    assert (np.abs((b - a)[:, 0] * (c - a)[:, 1] - (b - a)[:, 1] * (c - a)[:, 0]) > 0).all()
    assert flat.uvs.dtype == np.float32 and flat.uvs.min() >= 0 and flat.uvs.max() <= 1


@pytest.mark.parametrize("mesh", MESHES.values(), ids=MESHES)
def test_the_surface_stays_and_what_is_known_of_it_goes_along(laid_out, mesh):
    known = replace(mesh, views=np.arange(len(mesh.vertices), dtype=np.int32))
    flat = laid_out(known, SIZE)
    assert (flat.vertices[flat.faces] == mesh.vertices[mesh.faces]).all()
    assert (flat.views[flat.faces] == mesh.faces).all() and flat.faces.dtype == np.int32
    assert flat.vertices.dtype == np.float64 and len(np.unique(flat.faces)) == len(flat.vertices) == len(flat.normals)


def test_charts_keep_away_from_each_other(laid_out):
    flat = laid_out(MESHES["many"], SIZE)
    faces = drawn(flat, SIZE, np.ones(len(flat.faces)))
    chart = np.where(faces >= 0, charts(flat)[faces], -1)
    for axis in (0, 1):
        for apart in (1, 2, 3, 4):
            first, second = np.delete(chart, range(apart), axis), np.delete(chart, range(SIZE - apart, SIZE), axis)
            assert not ((first != second) & (first >= 0) & (second >= 0)).any()


def test_pieces_are_small_and_hold_every_face_once(monkeypatch):
    monkeypatch.setattr(atlas, "PATCH_FACES", 100)
    mesh = MESHES["torus"]
    patches = atlas._patches(mesh.vertices[mesh.faces].mean(1), np.arange(len(mesh.faces)))
    assert max(map(len, patches)) <= 100 < 1.3 * min(map(len, patches)) * 2
    assert (np.sort(np.concatenate(patches)) == np.arange(len(mesh.faces))).all()
    pytest.importorskip("xatlas", reason="no wheel for this Python")
    flat = with_atlas(mesh, SIZE)
    assert (flat.vertices[flat.faces] == mesh.vertices[mesh.faces]).all()
    order = 1.0 + np.arange(len(flat.faces))
    assert (drawn(flat, 2 * SIZE, order) == drawn(flat, 2 * SIZE, order[::-1])).all()


def test_neither_size_nor_place_of_a_mesh_matters(laid_out):
    far = replace(MESHES["ball"], vertices=1e-4 * MESHES["ball"].vertices + [1e3, -2e3, 5.0])
    flat, usual = laid_out(far, SIZE), laid_out(MESHES["ball"], SIZE)
    assert abs(len(flat.vertices) - len(usual.vertices)) < 0.2 * len(usual.vertices)


def test_a_mesh_without_faces_is_refused():
    with pytest.raises(DataError, match="without faces"):
        with_atlas(Mesh(np.zeros((3, 3)), np.zeros((0, 3), np.int32), np.zeros((3, 3), np.float32)))
