"""Compiles every Triton kernel, as its host launches it, for GPUs that are not there; prints what the assembly shows.

    python tests/ops/assembly.py CAPABILITY FOLDER

A line of JSON for each kernel: name, constants, bytes of stack (what does not fit into registers), shared memory, and the
kinds of reductions to global memory. Hosts run with their launches replaced, so types and constants are the real ones; a number
that is 1 is a constant as well, as Triton has it.
FOLDER is for the cubins.
"""

import functools
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from triton.runtime.jit import JITFunction, mangle_type

if TYPE_CHECKING:
    from nerf_app.training.loop import Trainer

ALIGNMENT = 16  # bytes, or numbers, of which Triton takes note
LAUNCHES = {}


def record(self, *args, grid, warmup=False, **kwargs):
    """In place of a launch: what would be compiled for it."""
    bound = dict(zip(self.arg_names, args)) | {name: value for name, value in kwargs.items() if name in self.arg_names}
    options = {name: value for name, value in kwargs.items() if name not in self.arg_names}
    signature, constants, attributes = {}, {}, {}
    for place, parameter in enumerate(self.params):
        value = bound[parameter.name]
        is_special = type(value) is int and not parameter.do_not_specialize
        is_one = is_special and value == 1
        signature[parameter.name] = "constexpr" if parameter.is_constexpr or is_one else mangle_type(value)
        if parameter.is_constexpr or is_one:
            constants[parameter.name] = value
        elif hasattr(value, "data_ptr") or (is_special and value % ALIGNMENT == 0):
            attributes[place,] = [["tt.divisibility", ALIGNMENT]]
    LAUNCHES.setdefault((self.__name__, str(signature), str(constants)), (self, signature, constants, attributes, options))


def compile_all(capability: int, folder: Path) -> None:
    tools = Path(triton.__file__).parent / "backends/nvidia/bin"
    for number, (fn, signature, constants, attributes, options) in enumerate(LAUNCHES.values()):
        compiled = triton.compile(ASTSource(fn, signature, constants, attributes), target=GPUTarget("cuda", capability, 32),
                                  options=options)
        cubin = folder / f"{capability}-{number}.cubin"
        cubin.write_bytes(compiled.asm["cubin"])
        usage = subprocess.run([tools / "cuobjdump", "--dump-resource-usage", cubin], capture_output=True, text=True, check=True)
        code = subprocess.run([tools / "cuobjdump", "--dump-sass", cubin], capture_output=True, text=True, check=True).stdout
        reductions = set(re.findall(r"\b(?:REDG?|ATOMG?)\.\S+", code))
        print(json.dumps({"name": fn.__name__, "constants": {key: str(value) for key, value in constants.items()},
                          "gradient": signature.get("d_table_ptr"), "stack": int(re.search(r"STACK:(\d+)", usage.stdout)[1]),
                          "shared": compiled.metadata.shared, "reductions": sorted(reductions)}), flush=True)


def default_trainer(is_bounded: bool, minutes: float = 5.0) -> "Trainer":
    """One with the default settings for a training of that length, whose kernels are Triton's."""
    from nerf_app.config import Config, with_overrides
    from nerf_app.model import RadianceModel
    from nerf_app.training.batches import PixelBatches
    from nerf_app.training.loop import Trainer
    from tests.sphere import sphere_scene
    from tests.training.test_captured import interpreted_ops
    ops, config = interpreted_ops(), with_overrides(Config(), {"training.minutes": minutes})
    return Trainer(RadianceModel(config, is_bounded, ops), PixelBatches(sphere_scene(size=16), ops), None, config)


def launch_everything() -> None:
    """Each op's host once, with the sizes of the default field; where a captured step differs, that too."""
    from nerf_app.ops.hashgrid.kernel_triton import add_table_gradient
    from nerf_app.sampling.draws import Draws
    from nerf_app.training.captured import CapturedStep
    from tests.ops.test_lens import some_pixels
    wide = default_trainer(True, minutes=15.0)
    CapturedStep(wide).launch(0.1)
    with torch.no_grad():
        wide.model.render(wide.batches.at(wide.tiles.draw(Draws(wide.model.ops, 0, 0), 64)).rays)
    for is_bounded in (True, False):
        trainer = default_trainer(is_bounded)
        model, ops = trainer.model, trainer.model.ops
        trainer.pixels_drawn = trainer.batches.n_pixels
        for fraction in (0.1, 0.9):  # one ray a pixel, then two
            CapturedStep(trainer).launch(fraction)
        batch = trainer.batches.at(trainer.tiles.draw(Draws(ops, 0, 0), 64))
        for rendering in model.passes(batch.rays, None):
            rendering.rgb.sum().backward()
    nets, points = model.fields[-1].nets, torch.rand(64, 3, requires_grad=True)
    features = ops.hashgrid.encode(points, nets.table, nets.levels)
    ops.hashgrid.pull_back(points, features.detach().requires_grad_(), nets.table, nets.levels).sum().backward()
    count = torch.ones((), dtype=torch.int32)
    add_table_gradient(points.detach(), features.detach().half(), nets.levels, torch.zeros(nets.table.shape).half(), count,
                       torch.zeros(64, dtype=torch.int32))  # as a captured step does where float32 has no vectors
    (ops.mlp.mlp(features, nets.density, None).sum() + ops.spherical_harmonics.spherical_harmonics(points).sum()).backward()
    rays, t = torch.zeros(64, dtype=torch.int64), torch.rand(64, requires_grad=True)
    weights = ops.composite.render_weights(t, t, t, rays, 16)
    ops.composite.accumulate(weights, points, rays, 16).sum().backward()
    ops.adam.adam_step(*torch.zeros(4, 64), 2, 0.1, 32)
    ops.lens.straighten(**some_pixels(64))


def launch_with_ones() -> None:
    """A single ray, sample, point, level, channel, cell or parameter."""
    from nerf_app.ops import selftest
    from nerf_app.ops.backend import implementations
    from nerf_app.ops.hashgrid import level_table
    from nerf_app.sampling.contraction import Space
    ops, cpu, one, ray = implementations("triton"), torch.device("cpu"), torch.rand(1, requires_grad=True), torch.eye(3)[:1]
    selftest.SIZE = 7  # one ray
    selftest.findings(ops, cpu)
    selftest.half_findings(cpu, True)
    selftest.Numbers.samples = functools.partialmethod(selftest.Numbers.samples, on_a_ray=1)
    selftest.SIZE = 1
    selftest.findings(ops, cpu)
    for is_bounded in (True, False):
        ops["march"].march(ray, ray, one, one, one, 0.1, torch.ones(1, 1, 1, dtype=torch.bool), Space(is_bounded), 16)
    levels = level_table(1, 16, 16, 12, 3)
    table, point = torch.rand(levels[-1].entries, 1, requires_grad=True), torch.rand(1, 3, requires_grad=True)
    ops["hashgrid"].encode(point, table, levels).sum().backward()
    first = torch.zeros(1, dtype=torch.int64)
    ops["composite"].accumulate(one, torch.rand(1, 1, requires_grad=True), first, 1).sum().backward()
    ops["composite"].distance_of_light(one, one, one, first, 1, 0.5)


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent))
    JITFunction.run = record
    launch_everything()
    launch_with_ones()
    compile_all(int(sys.argv[1]), Path(sys.argv[2]))
