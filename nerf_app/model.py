"""A field with everything it needs to be rendered: its parameters, the space it lives in, and how its rays are sampled."""

from collections.abc import Iterator
from copy import copy
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from nerf_app.fields.parameters import Parameters, flat_size
from nerf_app.fields.radiance import FIELDS, RadianceField
from nerf_app.fields.settings import FieldPlan, sized
from nerf_app.mirror import TINT, Mirror, Pieces, join, split
from nerf_app.ops.backend import Backend
from nerf_app.photo_fit import fit_shapes
from nerf_app.rays import Rays
from nerf_app.render import Rendering, render_samples
from nerf_app.sampling.contraction import Space
from nerf_app.sampling.draws import Draws
from nerf_app.sampling.occupancy import OccupancyGrid, OccupancySampler, grid_sizes
from nerf_app.sampling.uniform import resample, spread_evenly
from nerf_app.scene.flat_mirror import CELLS
from nerf_app.scene.settings import NO_MIRROR

if TYPE_CHECKING:
    from nerf_app.config import Config

SHARPENED = "model.sharpened"  # the one of the tensors that is bool, and not always there


class RadianceModel:
    """What training changes, a scene file holds and rendering uses."""

    def __init__(self, config: "Config", is_bounded: bool, ops: Backend, n_photos: int = 0) -> None:
        """`n_photos` is how many photos train it: some settings give each of them parameters of its own."""
        self.ops, self.sampling, self.space = ops, config.sampling, Space(is_bounded)
        field, plan, prefixes = _parts(config)
        nets = parameter_shapes(config, n_photos)
        tables = {name: nets.pop(name) for name in list(nets) if name.endswith(".table")}
        self.parameters = Parameters(tables, nets, ops.device)
        generator = torch.Generator().manual_seed(config.machine.seed)
        for prefix in prefixes:
            for name, values in field.start_values(plan, prefix, generator):
                self.parameters.fill(name, values)
        self.fields = [field(plan, self.parameters, ops, prefix) for prefix in prefixes]
        self.grid = OccupancyGrid(config.sampling, self.space, ops) if config.sampling.kind == "occupancy" else None
        self.mirror: Mirror | None = None

    def passes(self, rays: Rays, draws: Draws | None, *, with_normals: bool = False, codes: Tensor | None = None,
               least_light: float = 0.0) -> Iterator[Rendering]:
        """One rendering after the other, each better sampled than the one before; training supervises all of them.

        With the photos' codes [V, CODE_WIDTH], each ray shows the colours of its own photo.
        """
        pieces = split(rays, self.mirror)
        rays, limits = pieces.rays, pieces.limits
        if self.grid is not None:
            samples = OccupancySampler(self.grid).sample(rays, draws, limits)
        else:
            samples = spread_evenly(rays, self.space, self.sampling.coarse_samples, draws, limits)
            coarse = render_samples(rays, samples, self.fields[0], self.space, self.ops, codes=codes)
            yield self._whole(pieces, coarse, draws)
            samples = resample(rays, samples, coarse.weights, self.sampling.fine_samples, draws)
        seen = render_samples(rays, samples, self.fields[-1], self.space, self.ops, with_normals=with_normals, codes=codes,
                              least_light=least_light)
        yield self._whole(pieces, seen, draws)

    def _whole(self, pieces: Pieces, seen: Rendering, draws: Draws | None) -> Rendering:
        """What whole rays show."""
        if self.mirror is None or not len(pieces.met):
            return seen
        return join(pieces, seen, self.parameters[TINT].exp(), self.mirror.normal, has_mirror=draws is None)

    def render(self, rays: Rays, *, with_normals: bool = False, least_light: float = 0.0) -> Rendering:
        """What the rays show, without any randomness; rays may be left when `least_light` of their light is left."""
        *_, last = self.passes(rays, None, with_normals=with_normals, least_light=least_light)
        return last

    def within(self, space: Space) -> "RadianceModel":
        """The same field, of which rays look at what lies in other limits."""
        model = copy(self)
        model.space = space
        if self.grid is not None:
            model.grid = copy(self.grid)
            model.grid.space = space
        return model

    def density(self, unit: Tensor) -> Tensor:
        """[N, 3] in the unit cube -> [N] per scene unit, without gradients."""
        with torch.no_grad():
            return self.fields[-1].density(unit).density

    def tensors(self) -> dict[str, Tensor]:
        """What a scene file must hold to render again."""
        tensors = {"model.parameters": self.parameters.flat}
        if self.mirror is not None:
            tensors |= {"model.mirror": self.mirror.frame, "model.glass": self.mirror.is_glass.float()}
        if self.grid is not None:
            tensors["model.occupancy"] = self.grid.values
            if self.grid.sharpened is not None:
                tensors[SHARPENED] = self.grid.sharpened
        return tensors

    def load(self, tensors: dict[str, Tensor], threshold: float | None = None) -> None:
        """Takes over the tensors of a scene file, and what its grid counted as occupied, if that is known.

        Shapes were checked against `saved_shapes` before.
        """
        self.parameters.flat.copy_(tensors["model.parameters"])
        if "model.mirror" in tensors:
            self.mirror = Mirror(tensors["model.mirror"].to(self.ops.device), tensors["model.glass"].to(self.ops.device) > 0)
        if self.grid is not None:
            sharpened = tensors.get(SHARPENED)
            self.grid.load(tensors["model.occupancy"].to(self.ops.device), threshold,
                           None if sharpened is None else sharpened.to(self.ops.device))


def saved_shapes(config: "Config", n_photos: int) -> dict[str, set[tuple[int, ...]]]:
    """The shapes that each of `RadianceModel.tensors()` may have with these settings; asked before any memory is taken.

    All of these are always there; `sharpened_shapes` are those of the one that may be.
    """
    shapes = {"model.parameters": {(flat_size(parameter_shapes(config, n_photos).values()),)}}
    if config.sampling.kind == "occupancy":
        shapes["model.occupancy"] = {(size, size, size) for size in grid_sizes(config.sampling.grid_resolution)}
    if config.scene.mirror != NO_MIRROR:
        shapes |= {"model.mirror": {(3, 3)}, "model.glass": {(CELLS, CELLS)}}
    return shapes


def sharpened_shapes(config: "Config") -> set[tuple[int, ...]]:
    """The shapes that SHARPENED may have with these settings."""
    sizes = grid_sizes(config.sampling.grid_resolution) if config.sampling.kind == "occupancy" else ()
    return {(2 * size,) * 3 for size in sizes}


def parameter_shapes(config: "Config", n_photos: int) -> dict[str, tuple[int, ...]]:
    """Names and shapes of all parameters: those of the model's fields and mirror, then those of the photos that train them."""
    field, plan, prefixes = _parts(config)
    shapes = {name: shape for prefix in prefixes for name, shape in field.shapes(plan, prefix).items()}
    if config.scene.mirror != NO_MIRROR:
        shapes[TINT] = (3,)
    return shapes | fit_shapes(config.photos, n_photos)


def _parts(config: "Config") -> tuple[type[RadianceField], FieldPlan, tuple[str, ...]]:
    """The kind of field, what decides its shapes, and a name for each field that the sampling needs."""
    prefixes = ("coarse", "field") if config.sampling.kind == "coarse_to_fine" else ("field",)
    plan = FieldPlan(config.field, config.encoding, config.frequency)
    return FIELDS[config.field.kind], sized(plan, config.training.minutes), prefixes
