"""MESH, PHOTOS → TEXTURED MESH: every texel takes the colour of the photos that see it best.

How much a photo counts is decided at the vertices of a finely divided mesh and interpolated between them: seams of the
atlas do not show, because a vertex that is there twice counts the same photos the same way. What is hidden, or too near
to an edge in the picture to be sure of, is decided for each texel. Where no photo sees, the field lends its colour.

Legend: V vertices of the divided mesh, P photos, M sightings (a vertex in a photo), N texels that lie on a face.
"""

import dataclasses
import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, grid_sample, max_pool2d, normalize

from nerf_app.export.atlas import with_atlas
from nerf_app.export.mesh import Mesh
from nerf_app.export.visibility import mesh_seen_from
from nerf_app.model import RadianceModel
from nerf_app.ops.backend import Backend
from nerf_app.rays import Rays
from nerf_app.run import Run
from nerf_app.scene.lenses import CameraBatch
from nerf_app.scene.scene import Normalisation, Scene, View

SMALLEST, LARGEST = 256, 2048  # texels along an edge
FILLED = 0.55  # part of an atlas that faces cover
FINEST = 1 / 64  # of the mesh's diagonal: longer edges are divided before photos are weighed
FACING = 0.17  # cosine under which a surface is seen too flat to be read: 80 degrees
BEST = 4  # photos that share a vertex
SHARPNESS = 3.0  # how much the better photo counts more
EDGE_PX = 6  # pixels of a photo: what is nearer to an edge of its picture counts less
EDGE_TRUST = 0.02  # what is left of it at the edge
JUMP = 4.0  # pixels' widths of depth from one pixel to the next that make an edge
DISAGREEMENT = 0.15  # of the colour range, from the photos' middle: a photo that says so counts half
GAIN_ENTRIES = 1 << 21  # vertices times photos that the gains are found from
GAIN_ROUNDS = 20  # at most
TEXELS_PER_PIXEL = 2.0  # along an edge: photos meet the surface between each other's pixels, together they know more
DILATION_PX = 4  # texels around each chart that continue its colours
CHUNK = 1 << 18  # texels at a time


@dataclass(frozen=True)
class _Look:
    """One photo as the mesh sees it; lengths in input units from the mesh's middle."""

    centre: Tensor  # [3] float32, where the camera stands
    axes: Tensor  # [3, 3] float32, its axes in columns
    batch: CameraBatch
    is_straight: bool  # depth is along the axis, else along the ray
    pixel: float  # width of a pixel at distance 1
    depth: Tensor  # [H, W] float32, of the mesh; inf where it is not
    picture: Tensor  # [1, 5, H, W] float32: colour times alpha 0...1, alpha, trust


@dataclass(frozen=True)
class _Sightings:
    """Which photo sees which vertex."""

    vertices: Tensor  # [M] int64
    photos: Tensor  # [M] int64
    weights: Tensor  # [M] float32
    colours: Tensor  # [M, 3] float32 0...1, of a small neighbourhood


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
        look = _look(scene, index, fine, middle, run.backend)
        sightings.append(_sight(look, points, normals, done))
        on_progress(done + 1, 2 * len(indices))
    seen = _Sightings(*[torch.cat([getattr(one, field.name) for one in sightings]) for field in dataclasses.fields(_Sightings)])
    if not len(seen.vertices):
        warnings.warn("no photo sees the mesh: it gets the field's colours alone", stacklevel=2)
    gains = exposure_gains(seen, len(points), len(indices))  # [P, 3]
    seen = few_best(agreeing(seen, gains, len(points)), len(points))
    own = field_colours(run.model, run.normalisation, fine)  # [V, 3]

    texels = _Texels(fine, points, normals, size, run.backend)
    for done, index in enumerate(indices):
        look = _look(scene, index, fine, middle, run.backend)
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
        finest = np.where(is_facing, np.minimum(finest, distance * _pixel(view)), finest)
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


def _pixel(view: View) -> float:
    """Width of one of its pixels at distance 1, about the middle of the picture."""
    camera = view.camera
    if camera.lens.family == "equirectangular":
        return 2 * math.pi / camera.width
    return 1 / max(camera.focal_x_px, camera.focal_y_px)


def _look(scene: Scene, index: int, mesh: Mesh, middle: np.ndarray, ops: Backend) -> _Look:
    view = scene.views[index]
    pose, pixel = view.world_from_camera, _pixel(view)
    depth = mesh_seen_from(mesh, view.camera, pose, ops).depth.cpu()
    stored, ignored = scene.photos.picture(index)
    values = stored.float().permute(2, 0, 1) / 255.0  # [3 or 4, H, W]
    alpha = values[3:] if len(values) == 4 else torch.ones_like(values[:1])
    if ignored is not None:
        alpha = alpha * ~ignored
    trust = trust_of_pixels(alpha[0] >= 0.5, depth, pixel)
    return _Look(torch.from_numpy((pose[:3, 3] - middle).astype(np.float32)), torch.from_numpy(pose[:3, :3].astype(np.float32)),
                 CameraBatch.from_cameras([view.camera]), view.camera.lens.family == "perspective", pixel, depth,
                 torch.cat([values[:3] * alpha, alpha, trust[None]])[None])


def trust_of_pixels(is_known: Tensor, depth: Tensor, pixel: float) -> Tensor:
    """How much a pixel's colour belongs to the surface behind its centre: [H, W] 0...1, growing away from edges.

    Edges are those of the picture, of what is known (not transparent, not masked) and of the mesh's depth.
    """
    limit = JUMP * pixel
    is_edge = torch.nn.functional.pad((~is_known).float(), (1, 1, 1, 1), value=1.0)
    for axis in (0, 1):
        near, far = depth.narrow(axis, 0, depth.shape[axis] - 1), depth.narrow(axis, 1, depth.shape[axis] - 1)
        jumps = ((near - far).abs() > limit * torch.minimum(near, far)).float()  # False where both are inf
        for begin in (1, 2):
            part = is_edge[1:-1, 1:-1].narrow(axis, begin - 1, jumps.shape[axis])
            part.copy_(torch.maximum(part, jumps))
    inner, edge = torch.zeros_like(depth), is_edge[None, None]
    for _ in range(EDGE_PX):
        inner += 1 - edge[0, 0, 1:-1, 1:-1]
        edge = max_pool2d(edge, 3, 1, 1)
    return is_known * (EDGE_TRUST + (1 - EDGE_TRUST) * inner / EDGE_PX)


def _project(look: _Look, points: Tensor, normals: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Places [N, 2] in the photo's grid (-1...1), whether the points are seen [N], their cosines and distances [N]."""
    towards = look.centre - points
    distance = torch.linalg.vector_norm(towards, dim=1).clamp(min=1e-30)
    cosine = (towards * normals).sum(1) / distance
    inside = -towards @ look.axes  # [N, 3] camera axes
    x, y, is_seen = look.batch.project(torch.zeros(len(points), dtype=torch.int64), inside)
    height, width = look.depth.shape
    columns, rows = x.clamp(0, width - 1).long(), y.clamp(0, height - 1).long()
    depth = -inside[:, 2] if look.is_straight else distance
    slope = (1 / cosine.clamp(FACING, 1.0) ** 2 - 1).sqrt()
    slack = look.pixel * distance * (1 + slope)  # the surface may fall off that much between the point and the pixel's centre
    is_seen = is_seen & (depth <= look.depth[rows, columns] + slack)
    return torch.stack([x * (2 / width) - 1, y * (2 / height) - 1], 1).float(), is_seen, cosine, distance


def _sampled(picture: Tensor, places: Tensor) -> tuple[Tensor, Tensor]:
    """Colours [N, 3] and trust times alpha [N] of a picture [1, 5, H, W] at places [N, 2]."""
    values = grid_sample(picture, places[None, None], padding_mode="border", align_corners=False)[0, :, 0]  # [5, N]
    return (values[:3] / values[3].clamp(min=1e-6)).T, torch.where(values[3] >= 0.5, values[4] * values[3], 0.0)


def _sight(look: _Look, points: Tensor, normals: Tensor, photo: int) -> _Sightings:
    """The vertices that one photo sees, weighted by angle, size of a pixel on the surface and trust."""
    facing = (((look.centre - points) * normals).sum(1) > 0).nonzero()[:, 0]
    places, is_seen, cosine, distance = _project(look, points[facing], normals[facing])
    smooth = avg_pool2d(look.picture, 3, 1, 1, count_include_pad=False)
    colours, trust = _sampled(torch.cat([smooth[:, :4], look.picture[:, 4:]], 1), places)
    weights = trust * ((cosine - FACING) / (1 - FACING)).clamp(min=0) ** 2 / (look.pixel * distance) ** 2
    kept = (is_seen & (weights > 0)).nonzero()[:, 0]
    return _Sightings(facing[kept], torch.full_like(kept, photo), weights[kept], colours[kept])


def exposure_gains(seen: _Sightings, n_vertices: int, n_photos: int) -> Tensor:
    """What each photo's colours are to be multiplied with, [P, 3], so that photos of the same vertex agree; mean log is 0.

    Least squares on the logarithms, with the vertices' own colours eliminated; photos that say something else altogether
    (a shadow, a reflection) lose their influence round by round. Photos that share nothing keep a gain of 1.
    """
    step = math.ceil(n_vertices * n_photos / GAIN_ENTRIES)
    chosen = (seen.vertices % step == 0) & ((seen.colours > 0.06) & (seen.colours < 0.94)).all(1)
    rows, photos = seen.vertices[chosen] // step, seen.photos[chosen]
    weights = torch.zeros(n_vertices // step + 1, n_photos, dtype=torch.float64)
    weights[rows, photos] = seen.weights[chosen].double()
    weights /= weights.amax(1, keepdim=True).clamp(min=1e-300)
    gains = torch.zeros(n_photos, 3, dtype=torch.float64)
    for channel in range(3):
        values = torch.zeros_like(weights)
        values[rows, photos] = seen.colours[chosen, channel].double().log()
        gains[:, channel] = _log_gains(values, weights)
    return torch.exp(gains).float()


def _log_gains(values: Tensor, weights: Tensor) -> Tensor:
    """[V, P] logarithms of colours and their weights -> [P] what to add to each photo's: 0 in sum, as the system's columns."""
    gains, robust = values.new_zeros(values.shape[1]), weights
    for _ in range(GAIN_ROUNDS):
        sums = robust.sum(1, keepdim=True).clamp(min=1e-12)
        means = (robust * values).sum(1, keepdim=True) / sums
        system = torch.diag(robust.sum(0)) - robust.T @ (robust / sums)
        prior = 1e-2 * system.diagonal().mean().clamp(min=1e-12)
        before, gains = gains, torch.linalg.solve(system + prior * torch.eye(len(gains), dtype=gains.dtype),
                                                  (robust * (means - values)).sum(0))
        if float((gains - before).abs().max()) < 1e-3:
            break
        evened = values + gains
        centres = (robust * evened).sum(1, keepdim=True) / sums
        robust = weights / (1 + ((evened - centres) / DISAGREEMENT) ** 2)
    return gains


def agreeing(seen: _Sightings, gains: Tensor, n_vertices: int) -> _Sightings:
    """The sightings with less weight for photos whose colour at a vertex is far from the middle (geometric median) of all."""
    colours = seen.colours * gains[seen.photos]
    weights = seen.weights
    for _ in range(8):
        sums = torch.zeros(n_vertices, 4).index_add(0, seen.vertices, torch.cat([colours, torch.ones_like(colours[:, :1])], 1)
                                                    * weights[:, None])
        middles = sums[:, :3] / sums[:, 3:].clamp(min=1e-30)
        apart = torch.linalg.vector_norm(colours - middles[seen.vertices], dim=1)  # [M]
        weights = seen.weights / (apart + 0.01)
    return dataclasses.replace(seen, weights=seen.weights / (1 + (apart / DISAGREEMENT) ** 4))


def few_best(seen: _Sightings, n_vertices: int) -> _Sightings:
    """The BEST sightings of each vertex, their weights sharpened and summing to 1.

    What the next best one would count is taken off them, so that a photo's weight fades to nothing where it drops out.
    """
    best = torch.zeros(n_vertices).scatter_reduce(0, seen.vertices, seen.weights, "amax")
    weights = (seen.weights / best[seen.vertices].clamp(min=1e-30)) ** SHARPNESS
    order = weights.argsort(descending=True, stable=True)
    order = order[seen.vertices[order].argsort(stable=True)]  # by vertex, the best first
    vertices, photos, weights = seen.vertices[order], seen.photos[order], weights[order]
    counts = torch.bincount(vertices, minlength=n_vertices)
    ranks = torch.arange(len(vertices)) - (counts.cumsum(0) - counts)[vertices]
    cut = torch.zeros(n_vertices)
    is_next = ranks == BEST
    cut[vertices[is_next]] = weights[is_next]
    weights = weights - cut[vertices]
    kept = ((ranks < BEST) & (weights > 0)).nonzero()[:, 0]
    sums = torch.zeros(n_vertices).index_add(0, vertices[kept], weights[kept])
    return _Sightings(vertices[kept], photos[kept], weights[kept] / sums[vertices[kept]], seen.colours[order][kept])


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
            shown = model.render(_on(rays, model.ops.device))
            parts.append(torch.cat([shown.rgb, shown.opacity[:, None]], 1).cpu())
    values = torch.cat(parts)
    is_there = values[:, 3] > 0.1
    colours = (values[:, :3] / values[:, 3:].clamp(min=0.1)).clamp(0.0, 1.0)
    mean = colours[is_there].mean(0) if is_there.any() else torch.full((3,), 0.5)
    return torch.where(is_there[:, None], colours, mean)


def _on(rays: Rays, device: torch.device) -> Rays:
    return Rays(*[getattr(rays, field.name).to(device) for field in dataclasses.fields(Rays)])


class _Texels:
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

    def add(self, look: _Look, seen: _Sightings, photo: int, gain: Tensor) -> None:
        """Takes in one photo, with the weights that it has at the vertices."""
        mine = seen.photos == photo
        at_vertices = torch.zeros(len(self.points))
        at_vertices[seen.vertices[mine]] = seen.weights[mine]
        is_near = (at_vertices[self.corners] > 0).any(1)  # [F]
        for texels in is_near[self.faces].nonzero()[:, 0].split(CHUNK):
            weights = self._between(at_vertices[:, None], texels)
            normals = normalize(self._between(self.normals, texels), dim=1)
            places, is_seen, _, _ = _project(look, self._between(self.points, texels), normals)
            colours, trust = _sampled(look.picture, places)
            weights = torch.where(is_seen, weights[:, 0] * trust, 0.0)
            self.sums[texels] += weights[:, None] * (colours * gain).clamp(max=1.0)
            self.weights[texels] += weights

    def finished(self, own: Tensor, seen: _Sightings) -> Tensor:
        """The texture [T, T, 3] 0...1: photos where there are any, the field's `own` colours [V, 3] elsewhere."""
        has_photo = torch.zeros(len(self.points), 1)
        has_photo[seen.vertices] = 1.0
        values, is_set = torch.zeros(self.size**2, 3), torch.zeros(self.size**2, 1)
        for texels in torch.arange(len(self.places)).split(CHUNK):
            part = self._between(has_photo, texels) * (self.weights[texels, None] / EDGE_TRUST).clamp(max=1.0)
            photos = self.sums[texels] / self.weights[texels, None].clamp(min=1e-12)
            values[self.places[texels]] = torch.lerp(self._between(own, texels), photos, part)
        is_set[self.places] = 1.0
        shape = (1, -1, self.size, self.size)
        return filled(values.T.reshape(shape), is_set.T.reshape(shape))[0].permute(1, 2, 0).clamp(0.0, 1.0)

    def _between(self, values: Tensor, texels: Tensor) -> Tensor:
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
