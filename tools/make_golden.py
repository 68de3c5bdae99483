"""Small inputs and outputs of the real tinycudann and nerfacc, as .npz files that tests compare our references with.

    python tools/make_golden.py FOLDER

Needs a GPU and the libraries; until such a machine has been there, tests/golden/ does not exist. Versions are in the files.
"""

import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
import torch

POINTS = 256  # tinycudann pads its batches to that
GRIDS = {"grid_3d": (16, 16, 2048, 19, 3), "grid_small": (4, 4, 60, 12, 3), "grid_2d": (8, 16, 512, 14, 2)}
NETS = {"net_one": (32, 64, 16), "net_two": (32, 64, 64, 16)}


def write_golden(folder: Path, device: torch.device) -> Iterator[str]:
    """Writes what can be made here; says of each file what became of it."""
    for name, library, make in [*((name, "tinycudann", _grid) for name in GRIDS), *((name, "tinycudann", _net) for name in NETS),
                                ("weights", "nerfacc", _weights)]:
        try:
            __import__(library)
            arrays = make(name, device)
        except Exception as error:  # tinycudann raises OSError without a GPU, nerfacc AttributeError without nvcc
            yield f"| {name} | not made: {type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''} |"
            continue
        folder.mkdir(parents=True, exist_ok=True)
        np.savez_compressed(folder / f"{name}.npz", library=f"{library} {_version(library)}", torch=torch.__version__,
                            **{key: value.detach().cpu().numpy() for key, value in arrays.items()})
        yield f"| {name} | {folder / name}.npz |"


def _grid(name: str, device: torch.device) -> dict[str, torch.Tensor]:
    from nerf_app.ops.hashgrid import level_table, tcnn
    levels = level_table(*GRIDS[name])
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(POINTS, GRIDS[name][-1], generator=generator)
    x[:2] = torch.tensor([[0.0], [1.0]])
    entries = levels[-1].first + levels[-1].entries
    table = torch.randn(entries, 2, generator=generator)
    leaf = table.to(device).requires_grad_()
    out = tcnn.encode(x.to(device), leaf, levels)
    pulled = torch.linspace(-1, 1, out.numel(), device=device).view_as(out)
    (gradient,) = torch.autograd.grad((out * pulled).sum(), leaf)
    rows = gradient.abs().sum(1).nonzero()[:, 0]  # the table itself is drawn again from its seed
    return {"x": x, "out": out, "gradient_rows": rows, "gradient": gradient[rows], "settings": torch.tensor(GRIDS[name])}


def _net(name: str, device: torch.device) -> dict[str, torch.Tensor]:
    from nerf_app.ops.mlp import tcnn
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(POINTS, NETS[name][0], generator=generator)
    matrices = [torch.randn(out, width, generator=generator) / width**0.5 for width, out in zip(NETS[name][:-1], NETS[name][1:])]
    leaves = [matrix.to(device).requires_grad_() for matrix in matrices]
    out = tcnn.mlp(x.to(device), leaves, None)
    gradients = torch.autograd.grad((out * torch.linspace(-1, 1, out.numel(), device=device).view_as(out)).sum(), leaves)
    return {"x": x, "out": out, "matrices": tcnn.packed(matrices), "gradients": tcnn.packed(gradients)}


def _weights(_: str, device: torch.device) -> dict[str, torch.Tensor]:
    from nerf_app.ops.composite import nerfacc
    generator = torch.Generator().manual_seed(0)
    rays = torch.arange(16).repeat_interleave(16)
    t = 0.1 * torch.arange(16).repeat(16)
    density = 5.0 * torch.rand(256, generator=generator)
    out = nerfacc.render_weights(density.to(device), t.to(device), (t + 0.1).to(device), rays.to(device), 16)
    return {"density": density, "t": t, "rays": rays, "out": out}


def _version(library: str) -> str:
    try:
        return version(library)
    except PackageNotFoundError:
        return "of unknown version"


if __name__ == "__main__":
    for line in write_golden(Path(sys.argv[1]), torch.device("cuda")):
        print(line)
