"""RUN → MESH: the whole chain before texture."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from nerf_app.errors import DataError, UsageError
from nerf_app.export.clean import closed, decimated, with_faces, without_islands
from nerf_app.export.crop import parse_crop
from nerf_app.export.mesh import Mesh
from nerf_app.export.open3d import blocks_surface, poisson_surface
from nerf_app.export.surface import density_surface, tsdf_surface
from nerf_app.export.visibility import count_views

if TYPE_CHECKING:
    from nerf_app.run import Run

TEXTURES = ("photos", "diffuse")
METHODS = {"tsdf": tsdf_surface, "density": density_surface, "blocks": blocks_surface, "poisson": poisson_surface}
SHARE_OF_THING, SHARE_OF_PLACE = 0.05, 0.005  # of all area: what a part must have to stay


@dataclass(frozen=True)
class MeshPlan:
    """What kind of mesh is wanted."""

    method: str = "tsdf"  # one of METHODS
    crop: str | None = None  # as parse_crop takes it
    faces: int = 50_000  # at most, before holes are covered
    min_views: int = 1  # training photos that must see one of a face's corners
    resolution: int | None = None  # voxels along the longest side of the crop box; None chooses
    is_watertight: bool = False  # holes are covered
    texture: str = "photos"  # one of TEXTURES: as it was photographed, or as a reflective field tells colours from reflections

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            *others, last = METHODS
            raise UsageError(f"--method must be {', '.join(others)} or {last}, got {self.method!r}")
        if self.texture not in TEXTURES:
            raise UsageError(f"--texture must be {' or '.join(TEXTURES)}, got {self.texture!r}")
        numbers = (("faces", self.faces, 4), ("min-views", self.min_views, 0), ("resolution", self.resolution, 8))
        for name, value, least in numbers:
            if value is not None and value < least:
                raise UsageError(f"--{name} must be at least {least}, got {value}")


def extract_mesh(run: "Run", plan: MeshPlan, on_progress: Callable[[int, int], None]) -> Mesh:
    """The surface with normals, views and (of the tsdf method) depth_spread; ready for a texture.

    A thing (a bounded scene, or --crop auto) keeps its largest part and others of 5 % of the area, a place all of 0.5 %.
    """
    share = SHARE_OF_THING if run.is_bounded or plan.crop == "auto" else SHARE_OF_PLACE
    mesh = METHODS[plan.method](run, parse_crop(plan.crop, run), plan.resolution, on_progress)
    mesh = decimated(without_islands(mesh, share), plan.faces)
    mesh = replace(mesh, views=count_views(mesh, run.views, run.backend))
    is_seen = mesh.views[mesh.faces].max(1, initial=0) >= plan.min_views  # a corner in a crease may be seen by none
    mesh = without_islands(with_faces(mesh, is_seen), share)
    if len(mesh.faces) == 0:
        raise DataError(f"no part of the mesh is seen by {plan.min_views} training photos: use a lower --min-views, "
                        "or move or widen --crop.")
    if not plan.is_watertight:
        return mesh
    mesh = closed(mesh)
    if len(mesh.faces) == 0:
        raise DataError("no part of the mesh can be made watertight: give more --faces or a higher --resolution.")
    return mesh
