"""A field with everything it needs to be rendered: its parameters, the space it lives in, and how its rays are sampled."""

from typing import TYPE_CHECKING, Iterator

import torch
from torch import Tensor

from nerf_app.fields.parameters import Parameters
from nerf_app.fields.radiance import FIELDS
from nerf_app.fields.settings import FieldPlan
from nerf_app.ops.backend import Backend
from nerf_app.rays import Rays
from nerf_app.render import Rendering, render_samples
from nerf_app.sampling.contraction import Space
from nerf_app.sampling.draws import Draws
from nerf_app.sampling.occupancy import OccupancyGrid, OccupancySampler
from nerf_app.sampling.uniform import resample, spread_evenly

if TYPE_CHECKING:
    from nerf_app.config import Config


class RadianceModel:
    """What training changes, a scene file holds and rendering uses."""

    def __init__(self, config: "Config", is_bounded: bool, ops: Backend) -> None:
        self.ops, self.sampling, self.space = ops, config.sampling, Space(is_bounded)
        field = FIELDS[config.field.kind]
        plan = FieldPlan(config.field, config.encoding, config.frequency)
        is_coarse_to_fine = config.sampling.kind == "coarse_to_fine"
        prefixes = ("coarse", "field") if is_coarse_to_fine else ("field",)
        nets = {name: shape for prefix in prefixes for name, shape in field.shapes(plan, prefix).items()}
        tables = {name: nets.pop(name) for name in list(nets) if name.endswith(".table")}
        self.parameters = Parameters(tables, nets, ops.device)
        generator = torch.Generator().manual_seed(config.machine.seed)
        for prefix in prefixes:
            for name, values in field.start_values(plan, prefix, generator):
                self.parameters.fill(name, values)
        self.fields = [field(plan, self.parameters, ops, prefix) for prefix in prefixes]
        self.grid = None if is_coarse_to_fine else OccupancyGrid(config.sampling, self.space, ops)

    def passes(self, rays: Rays, draws: Draws | None, *, with_normals: bool = False) -> Iterator[Rendering]:
        """One rendering after the other, each better sampled than the one before; training supervises all of them."""
        if self.grid is not None:
            samples = OccupancySampler(self.grid).sample(rays, draws)
        else:
            samples = spread_evenly(rays, self.space, self.sampling.coarse_samples, draws)
            coarse = render_samples(rays, samples, self.fields[0], self.space, self.ops)
            yield coarse
            samples = resample(rays, samples, coarse.weights, self.sampling.fine_samples, draws)
        yield render_samples(rays, samples, self.fields[-1], self.space, self.ops, with_normals=with_normals)

    def render(self, rays: Rays, *, with_normals: bool = False) -> Rendering:
        """What the rays show, without any randomness."""
        *_, last = self.passes(rays, None, with_normals=with_normals)
        return last

    def density(self, unit: Tensor) -> Tensor:
        """[N, 3] in the unit cube -> [N] per scene unit, without gradients."""
        with torch.no_grad():
            return self.fields[-1].density(unit).density

    def tensors(self) -> dict[str, Tensor]:
        """What a scene file must hold to render again."""
        tensors = {"model.parameters": self.parameters.flat}
        return tensors if self.grid is None else tensors | {"model.occupancy": self.grid.values}

    def load(self, tensors: dict[str, Tensor]) -> None:
        """Takes over the tensors of a scene file; shapes were checked against `tensors()` before."""
        self.parameters.flat.copy_(tensors["model.parameters"])
        if self.grid is not None:
            self.grid.load(tensors["model.occupancy"].to(self.ops.device))
