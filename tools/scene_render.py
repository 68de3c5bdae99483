"""The path tracer's side: parts into a mitsuba scene, and pixels from rays that our own camera code made.

Needs `pip install mitsuba` and an LLVM library (Debian: libllvm19).
"""

from dataclasses import dataclass

import drjit as dr
import mitsuba as mi
import numpy as np
import torch
from scipy.sparse import coo_array, diags_array, eye_array

from nerf_app.scene.lenses import CameraBatch
from nerf_app.scene.scene import View
from scene_shapes import Part

mi.set_variant("llvm_ad_rgb")

STRATA = 4  # a pixel is a grid of STRATA² cells; each sends rays through one random point of its own
RAYS_AT_ONCE = 2_500_000
LIGHT_PATHS, LEAST_PATHS = 6_000_000, 49  # into all vertices of a part; into each


@dataclass(frozen=True)
class Traced:
    """One view: the mean colour of each pixel's covered part."""

    linear_rgb: np.ndarray  # [H, W, 3] float32, not multiplied by alpha
    alpha: np.ndarray  # [H, W] covered part of the pixel


def linear(srgb: np.ndarray) -> np.ndarray:
    """[...] light of sRGB-coded values."""
    return np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)


def coded(light: np.ndarray) -> np.ndarray:
    """[...] sRGB-coded values of light; above 0.5 it leans over softly to 1, as film does."""
    light = np.maximum(light, 0)
    light = np.where(light > 0.5, 1 - 0.5 * np.exp(-(np.maximum(light, 0.5) - 0.5) / 0.5), light)
    return np.where(light <= 0.0031308, light * 12.92, 1.055 * light ** (1 / 2.4) - 0.055)


class Stage:
    """A lit scene that can be looked at.

    The light that matt surfaces send out is the same towards everywhere: it is path-traced once, into the vertices, and
    photos show it without grain. What a clear coat adds depends on the eye: photos trace it.
    """

    def __init__(self, parts: list[Part], sky: np.ndarray | None = None, mirrors: int = 1):
        """`sky` [H, W, 3] is light from all directions, +z on top; photos show up to `mirrors` mirrorings. Dark until `shine`."""
        self._parts, self._meshes, self._mirrors = parts, [_mesh(part, i) for i, part in enumerate(parts)], mirrors
        world = {"type": "scene", **{f"part{i}": mesh for i, mesh in enumerate(self._meshes)}}
        if sky is not None:
            upright = mi.ScalarTransform4f().rotate([1, 0, 0], 90)
            world["sky"] = {"type": "envmap", "bitmap": mi.Bitmap(sky.astype(np.float32)), "to_world": upright}
        self._scene = mi.load_dict(world)

    def shine(self, bounces: int) -> None:
        """Traces the light into the vertices, by paths of up to `bounces` surfaces. Photos need it, the truth does not."""
        self._integrator = mi.load_dict({"type": "path", "max_depth": bounces, "hide_emitters": True})
        lights = [self._received(part, i) for i, part in enumerate(self._parts)]
        for mesh, light in zip(self._meshes, lights):
            mesh.add_attribute("vertex_light", 3, light.astype(np.float32).ravel())

    def _received(self, part: Part, seed: int) -> np.ndarray:
        """[V, 3] light that arrives at each vertex: times the surface's colour it is what the surface sends out."""
        n, rng = len(part.vertices), np.random.default_rng(seed)
        rows, columns = part.faces[:, [0, 1, 2, 1, 2, 0]].ravel(), part.faces[:, [1, 2, 0, 0, 1, 2]].ravel()
        near = coo_array((np.ones(len(rows)), (rows, columns)), (n, n)).tocsr()
        near = (near > 0).astype(float) + eye_array(n)
        near = diags_array(1 / near.sum(1)) @ near  # the mean over a vertex and its neighbours
        points = part.vertices + 0.2 * (near @ part.vertices - part.vertices) + 1e-3 * part.normals  # off the corners of a room
        paths = int(np.clip(LIGHT_PATHS / n, LEAST_PATHS, 512) ** 0.5) ** 2  # the random numbers form a square grid
        received = [self._mean_light(points[some], part.normals[some], paths, rng)
                    for some in np.array_split(np.arange(n), n * paths // RAYS_AT_ONCE + 1)]
        return near @ (near @ np.concatenate(received))

    def _mean_light(self, points: np.ndarray, normals: np.ndarray, paths: int, rng: np.random.Generator) -> np.ndarray:
        """[N, 3] irradiance / pi: straight from the lamps, one path each to them, and off other surfaces, by the cosine."""
        around = rng.normal(size=(len(points), paths, 3))
        directions = normals[:, None] + 0.999 * around / np.linalg.norm(around, axis=2, keepdims=True)
        directions = (directions / np.linalg.norm(directions, axis=2, keepdims=True)).reshape(-1, 3)
        points, normals = points.repeat(paths, 0), _vector(normals.repeat(paths, 0))
        sampler = _sampler(paths, len(directions), rng)
        here = dr.zeros(mi.SurfaceInteraction3f, len(directions))
        here.p, here.n = mi.Point3f(_vector(points)), mi.Normal3f(normals)
        to_lamp, lamp = self._scene.sample_emitter_direction(here, sampler.next_2d())
        direct = lamp * dr.maximum(dr.dot(normals, to_lamp.d), 0) / np.pi
        bounced, _, _ = self._integrator.sample(self._scene, sampler, _rays(points, directions))
        return np.moveaxis(np.asarray(direct + bounced), 0, -1).reshape(-1, paths, 3).mean(1)

    def photo(self, view: View, samples: int, seed: int) -> Traced:
        """The view with `samples` light paths per pixel: the square of a multiple of STRATA."""
        height, width = view.camera.height, view.camera.width
        rows_at_once = max(1, RAYS_AT_ONCE // (width * samples))
        pieces = [self._rows(view, first, min(first + rows_at_once, height), samples, seed)
                  for first in range(0, height, rows_at_once)]
        rgb, alpha = (np.concatenate(piece) for piece in zip(*pieces))
        return Traced(rgb / np.maximum(alpha, 1e-6)[..., None], alpha)

    def _rows(self, view: View, first: int, last: int, samples: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """[rows, W, 3] sum of the light and [rows, W] coverage, both per pixel."""
        rng = np.random.default_rng([seed, first])
        y, x, cell_y, cell_x = np.meshgrid(np.arange(first, last), np.arange(view.camera.width), np.arange(STRATA),
                                           np.arange(STRATA), indexing="ij")
        x_px, y_px = x + (cell_x + rng.random(x.shape)) / STRATA, y + (cell_y + rng.random(x.shape)) / STRATA
        directions = world_directions(view, x_px.ravel(), y_px.ravel())
        directions = directions.reshape(-1, STRATA**2, 3).repeat(samples // STRATA**2, 1).reshape(-1, 3)
        rays = _rays(view.world_from_camera[:3, 3], directions)
        hit = self._scene.ray_intersect(rays)
        sampler = _sampler(samples, len(directions), rng)
        light, share, met, along = self._matt_light(hit, rays), mi.Color3f(1), hit, rays
        for _ in range(self._mirrors):
            met, along, part = self._mirrored(met, along, sampler)
            share = share * part
            light += share * self._matt_light(met, along) & (dr.max(share) > 0)  # a ray that does not go on has no light at all
        shape, is_hit = (last - first, view.camera.width, samples), hit.is_valid()
        light = np.moveaxis(np.asarray(light & is_hit), 0, -1).reshape(*shape, 3)
        return light.mean(2), np.asarray(is_hit).reshape(shape).mean(2)

    def _matt_light(self, hit: mi.SurfaceInteraction3f, rays: mi.RayDifferential3f) -> mi.Color3f:
        """What comes along the rays without coats: surfaces, lamps, the sky."""
        colour = hit.bsdf(rays).eval_diffuse_reflectance(hit, hit.is_valid())
        received = hit.shape.eval_attribute_3("vertex_light", hit, hit.is_valid())
        return (colour * received & hit.is_valid()) + hit.emitter(self._scene).eval(hit)

    def _mirrored(self, hit: mi.SurfaceInteraction3f, rays: mi.RayDifferential3f,
                  sampler: mi.Sampler) -> tuple[mi.SurfaceInteraction3f, mi.RayDifferential3f, mi.Color3f]:
        """What rays meet after coats and metals mirrored them, and the part of that light which gets through.

        Normals stray as roughness has it (GGX); the part is Schlick's.
        """
        roughness = hit.shape.eval_attribute_1("vertex_coat", hit, hit.is_valid())
        is_coated = hit.is_valid() & (roughness > 0)
        u = sampler.next_2d()
        tangent, turn = dr.square(roughness) * dr.sqrt(u.x / dr.maximum(1 - u.x, 1e-4)), 2 * np.pi * u.y
        normal = dr.normalize(hit.sh_frame.to_world(mi.Vector3f(tangent * dr.cos(turn), tangent * dr.sin(turn), 1)))
        cosine = dr.clip(-dr.dot(rays.d, normal), 0, 1)
        mirrored = hit.spawn_ray(rays.d + 2 * cosine * normal)
        is_coated &= dr.dot(mirrored.d, hit.n) > 0
        straight = hit.shape.eval_attribute_3("vertex_mirror", hit, is_coated)
        part = (straight + (1 - straight) * (1 - cosine) ** 5) & is_coated
        return self._scene.ray_intersect(mirrored, is_coated), mi.RayDifferential3f(mirrored), part

    def truth(self, view: View) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """z-depth [H, W], 0 where nothing is, unit normals [H, W, 3] in world axes, and which part [H, W]: at pixels' centres."""
        height, width = view.camera.height, view.camera.width
        y, x = np.mgrid[:height, :width]
        directions = world_directions(view, x.ravel() + 0.5, y.ravel() + 0.5)
        hit = self._scene.ray_intersect(_rays(view.world_from_camera[:3, 3], directions))
        is_hit = np.asarray(hit.is_valid())
        normals = np.moveaxis(np.asarray(hit.sh_frame.n), 0, -1)
        normals = normals * np.where((normals * directions).sum(1) > 0, -1, 1)[:, None]
        depth = np.asarray(hit.t) * -(directions @ view.world_from_camera[:3, 2])
        parts = np.asarray(hit.shape.eval_attribute_1("vertex_part", hit, hit.is_valid()))
        return (np.where(is_hit, depth, 0).reshape(height, width),
                np.where(is_hit[:, None], normals, 0).reshape(height, width, 3),
                parts.round().astype(int).reshape(height, width))


def world_directions(view: View, x_px: np.ndarray, y_px: np.ndarray) -> np.ndarray:
    """[R, 3] float64 unit vectors in world axes through points of the image, [R] pixels from its upper left corner."""
    indices = torch.zeros(len(x_px), dtype=torch.int64)
    directions, is_valid = CameraBatch.from_cameras([view.camera]).directions(indices, *map(torch.from_numpy, (x_px, y_px)))
    assert is_valid.all(), "the lenses of bundled scenes reach into every corner"
    return directions.numpy() @ view.world_from_camera[:3, :3].T


def _vector(rows: np.ndarray) -> mi.Vector3f:
    """Rows [N, 3] as mitsuba keeps them."""
    return mi.Vector3f(np.ascontiguousarray(rows.T, np.float32))


def _rays(origins: np.ndarray, directions: np.ndarray) -> mi.RayDifferential3f:
    """Rays from one point [3] or from a point each [R, 3], along unit vectors [R, 3]."""
    ray = mi.RayDifferential3f(o=mi.Point3f(_vector(np.broadcast_to(origins, directions.shape))), d=_vector(directions))
    ray.time = dr.zeros(mi.Float, len(directions))
    return ray


def _sampler(samples: int, n_rays: int, rng: np.random.Generator) -> mi.Sampler:
    """Random numbers for rays of which each `samples` in a row belong together."""
    sampler = mi.load_dict({"type": "multijitter", "sample_count": samples})
    sampler.set_samples_per_wavefront(samples)
    sampler.seed(int(rng.integers(2**31)), n_rays)
    return sampler


def _mesh(part: Part, number: int) -> mi.Mesh:
    """A part as mitsuba's mesh. Its colours become light; a part with emission lights the others."""
    properties = mi.Properties()
    ground = {"type": "rgb", "value": 0.0} if part.emission or part.is_metal else _paint(part, 1.0)
    properties["bsdf"] = mi.load_dict({"type": "diffuse", "reflectance": ground})
    if part.emission:
        properties["emitter"] = mi.load_dict({"type": "area", "radiance": _paint(part, part.emission)})
    mesh = mi.Mesh(f"part{number}", len(part.vertices), len(part.faces), properties, True, part.uv is not None)
    fields = mi.traverse(mesh)
    fields["vertex_positions"] = part.vertices.astype(np.float32).ravel()
    fields["vertex_normals"] = part.normals.astype(np.float32).ravel()
    fields["faces"] = part.faces.astype(np.uint32).ravel()
    if part.uv is not None:
        fields["vertex_texcoords"] = part.uv.astype(np.float32).ravel()
    fields.update()
    mesh.add_attribute("vertex_color", 3, linear(part.colours).astype(np.float32).ravel())
    mesh.add_attribute("vertex_coat", 1, np.full(len(part.vertices), part.roughness or 0.0, np.float32))
    mesh.add_attribute("vertex_part", 1, np.full(len(part.vertices), number, np.float32))
    straight = linear(part.colours) if part.is_metal else np.full(part.colours.shape, 0.04)
    mesh.add_attribute("vertex_mirror", 3, straight.astype(np.float32).ravel())
    return mesh


def _paint(part: Part, factor: float) -> dict:
    if part.texture is None and not part.emission:
        return {"type": "mesh_attribute", "name": "vertex_color"}
    if part.texture is None:
        return {"type": "rgb", "value": [float(c) for c in linear(part.colours[0]) * factor]}
    texture = mi.Bitmap((linear(part.texture[::-1]) * factor).astype(np.float32))
    return {"type": "bitmap", "bitmap": texture, "raw": True, "wrap_mode": "repeat"}
