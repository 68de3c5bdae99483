"""MESH → TEXTURED MESH, by what a reflective field knows of its surfaces: colours without reflections, roughness, metal.

The field's light is d + s: diffuse, and mirrored by a tint t. glTF's material has one base colour and a metallic part m,
whose diffuse colour is base·(1 - m) and whose tint is base·m: m = s / (s + d) of their means, seen from several sides, and
base = d + m·t are exact for what is all diffuse and all metal. A tint alone says nothing where there is hardly any light for
it to mirror. Its roughness is √α of a GGX lobe; mirrored light then spreads like a von Mises–Fisher lobe of 1/κ = 2α², which
is what the field calls roughness.
"""

import dataclasses
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from nerf_app.export.atlas import with_atlas
from nerf_app.export.mesh import Mesh
from nerf_app.export.texture import Texels, filled, on_device, texture_size
from nerf_app.fields.shading import Surface, coded
from nerf_app.model import RadianceModel
from nerf_app.rays import Rays
from nerf_app.run import Run

AWAY = 0.02  # of the mesh's diagonal: from so near the field is looked at
THERE = 0.5  # opacity from which on it says something
CHUNK = 8192  # texels at a time
TILTED = 0.8  # times as far to a side as outwards: from where a texel is looked at besides straight on


def material_mesh(run: Run, mesh: Mesh, on_progress: Callable[[int, int], None], size: int | None = None) -> Mesh:
    """The mesh with `uvs`, `texture`, `material` and vertex `colours` from the field alone."""
    size = size or texture_size(mesh, [view for view in run.views if view.split == "train"])
    mesh = mesh if mesh.uvs is not None else with_atlas(mesh, size)
    points = torch.from_numpy(run.normalisation.to_scene(mesh.vertices).astype(np.float32))
    texels = Texels(mesh, points, torch.from_numpy(mesh.normals), size, run.backend)
    away = AWAY * float(torch.linalg.vector_norm(points.amax(0) - points.amin(0)))
    values, is_set = torch.zeros(size**2, 5), torch.zeros(size**2, 1)
    chunks = torch.arange(len(texels.places)).split(CHUNK)
    for done, some in enumerate(chunks):
        places, normals = texels.between(points, some), texels.between(texels.normals, some)
        found, opacity = _looked_at(run.model, places, torch.nn.functional.normalize(normals, dim=1), away)
        values[texels.places[some]], is_set[texels.places[some]] = found, (opacity > THERE).float()[:, None]
        on_progress(done + 1, len(chunks))
    shape = (1, -1, size, size)
    values = filled(values.T.reshape(shape), is_set.T.reshape(shape))[0].permute(1, 2, 0).clamp(0.0, 1.0)  # [T, T, 5]
    values = torch.cat([values[..., :3], torch.zeros(size, size, 1), values[..., 3:]], 2)  # glTF leaves the fourth to others
    pixels = (values * 255.0 + 0.5).to(torch.uint8).numpy()
    rows, columns = ((edge * (size - 1) + 0.5).astype(int) for edge in (1 - mesh.uvs[:, 1], mesh.uvs[:, 0]))
    return dataclasses.replace(mesh, texture=pixels[..., :3], material=pixels[..., 3:], colours=pixels[rows, columns, :3])


def _looked_at(model: RadianceModel, places: Tensor, normals: Tensor, away: float) -> tuple[Tensor, Tensor]:
    """Base colour (sRGB-coded), roughness and metal [n, 5], and opacity [n], of places seen from near by."""
    nothing, seen = torch.zeros(len(places), dtype=torch.int64), []
    for outwards in _sides(normals):
        rays = Rays(places + away * outwards, -outwards, torch.ones(len(places)), nothing, nothing == 0)
        with torch.no_grad():
            seen.append(model.render(on_device(rays, model.ops.device)))
    there = sum(view.opacity for view in seen)[:, None].clamp(min=1e-6)
    diffuse, mirrored = (sum(view.opacity[:, None] * getattr(view.surface, light) for view in seen) / there
                         for light in ("diffuse", "specular"))
    found = material_of(seen[0].surface, part_mirrored(diffuse, mirrored))
    return torch.cat(found, 1).cpu(), seen[0].opacity.cpu()


def _sides(normals: Tensor) -> list[Tensor]:
    """The unit normals [n, 3] themselves, and those tilted to four sides."""
    least = torch.nn.functional.one_hot(normals.abs().argmin(1), 3).to(normals)
    across = torch.nn.functional.normalize(torch.linalg.cross(normals, least), dim=1)
    along = torch.linalg.cross(normals, across)
    tilted = (normals + TILTED * side for side in (across, -across, along, -along))
    return [normals, *(torch.nn.functional.normalize(side, dim=1) for side in tilted)]


def part_mirrored(diffuse: Tensor, mirrored: Tensor) -> Tensor:
    """Of light [R, 3], [R, 3], the part 0...1 that is mirrored: [R, 1]."""
    diffuse, mirrored = diffuse.mean(1, keepdim=True), mirrored.mean(1, keepdim=True)
    return mirrored / (mirrored + diffuse).clamp(min=1e-6)


def material_of(surface: Surface, metallic: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """As glTF has it: base colour [R, 3] sRGB-coded, roughness [R, 1], metallic part [R, 1] as it is given, all 0...1."""
    base = (surface.diffuse + metallic * surface.tint).clamp(max=1.0)
    return coded(base), (0.5 * surface.roughness[:, None]).clamp(0.0, 1.0) ** 0.25, metallic
