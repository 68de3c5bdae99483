"""MESH, PHOTOS → TEXTURED MESH: every texel takes the colour of the photos that see it best.

How much a photo counts is decided at the vertices of a finely divided mesh and interpolated between them: seams of the
atlas do not show, because a vertex that is there twice counts the same photos the same way. What is hidden, or too near
to an edge in the picture to be sure of, is decided for each texel. Where no photo sees, the field lends its colour.

Legend: V vertices of the divided mesh, P photos, N texels that lie on a face.
"""

import dataclasses
import math
import warnings
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, grid_sample, normalize

from nerf_app.export.atlas import with_atlas
from nerf_app.export.looks import EDGE_TRUST, FACING, Look, look_at, pixel_width, project, sampled
from nerf_app.export.mesh import Mesh
from nerf_app.export.sightings import Sightings, agreeing, exposure_gains, few_best, sight
from nerf_app.model import RadianceModel
from nerf_app.ops.backend import Backend
from nerf_app.rays import Rays
from nerf_app.run import Run
from nerf_app.scene.scene import Normalisation, Scene, View

SMALLEST, LARGEST = 256, 2048  # texels along an edge
FILLED = 0.55  # part of an atlas that faces cover
FINEST = 1 / 64  # of the mesh's diagonal: longer edges are divided before photos are weighed
TEXELS_PER_PIXEL = 2.0  # along an edge: photos meet the surface between each other's pixels, together they know more
DILATION_PX = 4  # texels around each chart that continue its colours
CHUNK = 1 << 18  # texels at a time


def texture_mesh(run: Run, scene: Scene, mesh: Mesh, on_progress: Callable[[int, int], None], size: int | None = None) -> Mesh:
    """The mesh with `uvs`, `texture` and vertex `colours` from the training photos, as they are stored (sRGB).

    Exposure differences between photos are evened. Without a `size` it follows from the photos' resolution on the surface.
    """
    indices = scene.indices("train")
    size = size or texture_size(mesh, [scene.views[i] for i in indices])
    mesh = mesh if mesh.uvs is not None else with_atlas(mesh, size)
    middle = mesh.vertices.mean(0)
    fine = divided(mesh, FINEST * float(np.linalg.norm(np.ptp(mesh.vertices, axis=0))))
    points = torch.from_numpy((fine.vertices - middle).astype(np.float32))  # [V, 3]
    normals = torch.from_numpy(fine.normals)

    sightings = []
    for done, index in enumerate(indices):
        look = look_at(scene, index, fine, middle, run.backend)
        sightings.append(sight(look, points, normals, done))
        on_progress(done + 1, 2 * len(indices))
    seen = Sightings(*[torch.cat([getattr(one, field.name) for one in sightings]) for field in dataclasses.fields(Sightings)])
    if not len(seen.vertices):
        warnings.warn("no photo sees the mesh: it gets the field's colours alone", stacklevel=2)
    gains = exposure_gains(seen, len(points), len(indices))  # [P, 3]
    seen = few_best(agreeing(seen, gains, len(points)), len(points))
    own = field_colours(run.model, run.normalisation, fine)  # [V, 3]

    texels = Texels(fine, points, normals, size, run.backend)
    for done, index in enumerate(indices):
        look = look_at(scene, index, fine, middle, run.backend)
        texels.add(look, seen, done, gains[done])
        on_progress(len(indices) + done + 1, 2 * len(indices))
    texture = texels.finished(own, seen)
    colours = (_at_uvs(texture, mesh.uvs) * 255.0 + 0.5).to(torch.uint8).numpy()
    return dataclasses.replace(mesh, texture=(texture * 255.0 + 0.5).to(torch.uint8).numpy(), colours=colours)


def texture_size(mesh: Mesh, views: list[View]) -> int:
    """Texels along an edge, a power of two, so that a texel is about half as wide as a pixel of the nearest photo."""
    finest = np.full(len(mesh.vertices), np.inf)  # [V] width of the finest pixel that looks at a vertex
    for view in views:
        towards = view.world_from_camera[:3, 3] - mesh.vertices
        distance = np.linalg.norm(towards, axis=1)
        is_facing = (towards * mesh.normals).sum(1) > FACING * distance
        finest = np.where(is_facing, np.minimum(finest, distance * pixel_width(view)), finest)
    corners = mesh.vertices[mesh.faces]
    areas = 0.5 * np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1)
    texels = float((areas * (TEXELS_PER_PIXEL / finest[mesh.faces].mean(1)) ** 2).sum()) / FILLED
    return int(np.clip(2 ** math.ceil(0.5 * math.log2(max(texels, 1.0)) - 0.25), SMALLEST, LARGEST))


def divided(mesh: Mesh, longest: float) -> Mesh:
    """The same surface with no edge longer than `longest` (input units): the longest edge of a face is cut in halves.

    Only vertices, faces, normals and uvs are kept. Neighbours cut their common edge at the same places.
    """
    vertices, normals, uvs, faces = mesh.vertices, mesh.normals, mesh.uvs, mesh.faces
    while True:
        sides = np.linalg.norm(vertices[faces] - vertices[np.roll(faces, -1, 1)], axis=2)  # [F, 3] corner i to i + 1
        first = sides.argmax(1)
        is_long = sides.max(1) > longest
        if not is_long.any():
            normals = normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-20)
            return Mesh(vertices, faces.astype(np.int32), normals.astype(np.float32), uvs=uvs)
        a, b, c = (np.take_along_axis(faces, ((first + i) % 3)[:, None], 1)[:, 0][is_long] for i in range(3))
        middles = len(vertices) + np.arange(len(a))
        vertices, normals, uvs = (np.concatenate([values, 0.5 * (values[a] + values[b])]) for values in (vertices, normals, uvs))
        faces = np.concatenate([faces[~is_long], np.stack([a, middles, c], 1), np.stack([middles, b, c], 1)])


def field_colours(model: RadianceModel, normalisation: Normalisation, mesh: Mesh) -> Tensor:
    """What the field shows to somebody who looks straight at each vertex from near by: [V, 3]; nothing there: the mean."""
    points = torch.from_numpy(normalisation.to_scene(mesh.vertices).astype(np.float32))
    normals = torch.from_numpy(mesh.normals)
    away = 0.02 * float(torch.linalg.vector_norm(points.amax(0) - points.amin(0)))
    parts = []
    with torch.no_grad():
        for place, normal in zip(points.split(8192), normals.split(8192)):
            nothing = torch.zeros(len(place), dtype=torch.int64)
            rays = Rays(place + away * normal, -normal, torch.ones(len(place)), nothing, nothing == 0)
            shown = model.render(on_device(rays, model.ops.device))
            parts.append(torch.cat([shown.rgb, shown.opacity[:, None]], 1).cpu())
    values = torch.cat(parts)
    is_there = values[:, 3] > 0.1
    colours = (values[:, :3] / values[:, 3:].clamp(min=0.1)).clamp(0.0, 1.0)
    mean = colours[is_there].mean(0) if is_there.any() else torch.full((3,), 0.5)
    return torch.where(is_there[:, None], colours, mean)


def on_device(rays: Rays, device: torch.device) -> Rays:
    """The same rays where the model computes."""
    return Rays(*[getattr(rays, field.name).to(device) for field in dataclasses.fields(Rays)])


class Texels:
    """The texels that lie on a face, and what photos have said of them so far."""

    def __init__(self, mesh: Mesh, points: Tensor, normals: Tensor, size: int, ops: Backend) -> None:
        flat = torch.from_numpy(mesh.uvs) * torch.tensor([1.0, -1.0]) + torch.tensor([0.0, 1.0])  # rows go down
        corners = torch.cat([flat * size, torch.ones(len(flat), 1)], 1)
        self.size, self.corners, self.points, self.normals = size, torch.from_numpy(mesh.faces).long(), points, normals
        raster = ops.raster.rasterise(corners.to(ops.device), self.corners.to(ops.device), size, size)
        faces = raster.face_indices.cpu().reshape(-1)
        self.places = (faces >= 0).nonzero()[:, 0]  # [N] in the texture
        self.faces = faces[self.places].long()
        self.barycentrics = raster.barycentrics.cpu().reshape(-1, 3)[self.places]
        self.sums = torch.zeros(len(self.places), 3)
        self.weights = torch.zeros(len(self.places))

    def add(self, look: Look, seen: Sightings, photo: int, gain: Tensor) -> None:
        """Takes in one photo, with the weights that it has at the vertices."""
        mine = seen.photos == photo
        at_vertices = torch.zeros(len(self.points))
        at_vertices[seen.vertices[mine]] = seen.weights[mine]
        is_near = (at_vertices[self.corners] > 0).any(1)  # [F]
        for texels in is_near[self.faces].nonzero()[:, 0].split(CHUNK):
            weights = self.between(at_vertices[:, None], texels)
            normals = normalize(self.between(self.normals, texels), dim=1)
            places, is_seen, _, _ = project(look, self.between(self.points, texels), normals)
            colours, trust = sampled(look.picture, places)
            weights = torch.where(is_seen, weights[:, 0] * trust, 0.0)
            self.sums[texels] += weights[:, None] * (colours * gain).clamp(max=1.0)
            self.weights[texels] += weights

    def finished(self, own: Tensor, seen: Sightings) -> Tensor:
        """The texture [T, T, 3] 0...1: photos where there are any, the field's `own` colours [V, 3] elsewhere."""
        has_photo = torch.zeros(len(self.points), 1)
        has_photo[seen.vertices] = 1.0
        values, is_set = torch.zeros(self.size**2, 3), torch.zeros(self.size**2, 1)
        for texels in torch.arange(len(self.places)).split(CHUNK):
            part = self.between(has_photo, texels) * (self.weights[texels, None] / EDGE_TRUST).clamp(max=1.0)
            photos = self.sums[texels] / self.weights[texels, None].clamp(min=1e-12)
            values[self.places[texels]] = torch.lerp(self.between(own, texels), photos, part)
        is_set[self.places] = 1.0
        shape = (1, -1, self.size, self.size)
        return filled(values.T.reshape(shape), is_set.T.reshape(shape))[0].permute(1, 2, 0).clamp(0.0, 1.0)

    def between(self, values: Tensor, texels: Tensor) -> Tensor:
        """[V, C] at vertices -> [n, C] at some texels."""
        corners, parts = self.corners[self.faces[texels]], self.barycentrics[texels]
        return sum(parts[:, i, None] * values[corners[:, i]] for i in range(3))


def filled(values: Tensor, is_set: Tensor) -> Tensor:
    """A picture [1, C, T, T] whose gaps continue what lies around them: DILATION_PX texel by texel, then coarser and coarser."""
    for _ in range(DILATION_PX):
        sums, counts = avg_pool2d(values * is_set, 3, 1, 1), avg_pool2d(is_set, 3, 1, 1)
        values = torch.where(is_set > 0, values, sums / counts.clamp(min=1e-6))
        is_set = (counts > 0).float()
    return _fill_gaps(values * is_set, is_set)


def _fill_gaps(values: Tensor, is_set: Tensor) -> Tensor:
    if values.shape[-1] == 1 or bool(is_set.all()):
        return values
    sums, counts = avg_pool2d(values, 2, ceil_mode=True), avg_pool2d(is_set, 2, ceil_mode=True)
    coarse = _fill_gaps(sums / counts.clamp(min=1e-6), (counts > 0).float())
    larger = torch.nn.functional.interpolate(coarse, size=values.shape[-2:], mode="nearest")
    return torch.where(is_set > 0, values, larger)


def _at_uvs(texture: Tensor, uvs: np.ndarray) -> Tensor:
    """[T, T, 3] at uvs [V, 2] -> [V, 3]."""
    places = torch.from_numpy(uvs) * torch.tensor([2.0, -2.0]) + torch.tensor([-1.0, 1.0])
    return grid_sample(texture.permute(2, 0, 1)[None], places[None, None], padding_mode="border", align_corners=False)[0, :, 0].T
