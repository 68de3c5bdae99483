"""Mesh → flat mesh: every face gets its own place in the square of the texture.

A *chart* is a piece of surface laid out flat; the *gutter* is what is left free around it, so that a texture drawn
smaller (mip-mapping) takes no colour from a neighbour.
"""

import dataclasses
import math
import warnings
from types import ModuleType

import numpy as np

from nerf_app.errors import DataError
from nerf_app.export.mesh import Mesh

PATCH_FACES = 5_000  # what xatlas gets in one piece: its time grows faster than the number of faces
GUTTER_PX = 6  # texels between charts, of the texture that was asked for; crowded ones are left with two or three
LARGEST_MARGIN = 0.15  # of a cell of the grid atlas, however small the cells


def with_atlas(mesh: Mesh, size: int = 2048) -> Mesh:
    """The mesh with `uvs` for a texture of about `size` × `size` texels; a vertex on a seam is there once for each chart.

    Laid out by xatlas, or where that is not installed two faces to a cell of a grid, which takes more of the texture.
    """
    if not len(mesh.faces):
        raise DataError("a mesh without faces has nothing to put a texture on: choose a larger --crop.")
    try:
        import xatlas
    except ImportError as error:
        warnings.warn(f"xatlas cannot be imported ({error}): each pair of faces gets a square of the texture of its own, which "
                      "shows more seams; `pip install xatlas` lays the surface out in large pieces", stacklevel=2)
        origins, faces, uvs = _grid_atlas(len(mesh.faces), size)
        return _split(mesh, mesh.faces.reshape(-1)[origins], faces, uvs)
    return _split(mesh, *_charts(xatlas, mesh, size))


def _charts(xatlas: ModuleType, mesh: Mesh, size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The vertex that each new one comes from [W], faces [F, 3] and uvs [W, 2]."""
    places = (mesh.vertices - mesh.vertices.mean(0)).astype(np.float32)  # far from the origin float32 has no digits left
    places /= max(float(np.abs(places).max()), 1e-30)  # xatlas takes small areas for none
    patches = _patches(places[mesh.faces].mean(1), np.arange(len(mesh.faces)))
    atlas, vertices = xatlas.Atlas(), []
    for patch in patches:
        used, corners = np.unique(mesh.faces[patch], return_inverse=True)
        vertices.append(used)
        atlas.add_mesh(places[used], corners.reshape(-1, 3).astype(np.uint32))
    pack = xatlas.PackOptions()
    pack.resolution, pack.padding, pack.create_image = size, GUTTER_PX, False
    atlas.generate(xatlas.ChartOptions(), pack)
    shape = np.array([atlas.width, atlas.height]) / max(atlas.width, atlas.height)  # one scale for both axes
    faces, origins, uvs, count = np.empty_like(mesh.faces), [], [], 0
    for i, patch in enumerate(patches):
        sources, corners, places_on_it = atlas[i]
        faces[patch] = corners.astype(np.int32) + count
        origins.append(vertices[i][sources])
        uvs.append(places_on_it * shape)
        count += len(sources)
    return np.concatenate(origins), faces, np.concatenate(uvs)


def _patches(middles: np.ndarray, faces: np.ndarray) -> list[np.ndarray]:
    """Faces in compact pieces of at most PATCH_FACES: cut in halves along the longer side, again and again."""
    if len(faces) <= PATCH_FACES:
        return [faces]
    axis = int(np.ptp(middles[faces], axis=0).argmax())
    order = faces[np.argsort(middles[faces, axis], kind="stable")]
    return [patch for half in np.array_split(order, 2) for patch in _patches(middles, half)]


def _grid_atlas(n_faces: int, size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Faces without common vertices, two to a cell: the corner that each new vertex comes from [3F], faces, uvs [3F, 2]."""
    side = math.ceil(math.sqrt(math.ceil(n_faces / 2)))  # cells along an edge
    a = min(0.5 * GUTTER_PX * side / size, LARGEST_MARGIN)  # margin, of a cell
    g = a * math.sqrt(2.0)  # it puts the two hypotenuses 2a apart
    lower = [(a, a), (1 - a - g, a), (a, 1 - a - g)]
    upper = [(1 - a, 1 - a), (a + g, 1 - a), (1 - a, a + g)]
    numbers = np.arange(n_faces)
    cells = np.stack([numbers // 2 % side, numbers // 2 // side], 1)  # [F, 2] column, row
    corners = np.array([lower, upper])[numbers % 2]  # [F, 3, 2]
    uvs = (cells[:, None] + corners) / side
    return np.arange(3 * n_faces), np.arange(3 * n_faces, dtype=np.int32).reshape(-1, 3), uvs.reshape(-1, 2)


def _split(mesh: Mesh, origins: np.ndarray, faces: np.ndarray, uvs: np.ndarray) -> Mesh:
    """The mesh with vertices taken from `origins` [W], each with all that is known of it."""
    known = {name: values[origins] for name in ("vertices", "normals", "views", "depth_spread", "colours")
             if (values := getattr(mesh, name)) is not None}
    return dataclasses.replace(mesh, **known, faces=faces, uvs=uvs.clip(0.0, 1.0).astype(np.float32), texture=None)
