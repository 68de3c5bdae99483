"""Every Triton kernel compiles for GPUs that are not here, keeps its numbers in registers, and reduces in vectors."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.requires import requires

ROOT = Path(__file__).resolve().parent.parent.parent
VECTORS = {  # of four neighbouring features, by what the gradient is kept in: instructions of the processor
    80: {"*fp16": "RED.E.ADD.F16x2"}, 90: {"*fp32": "REDG.E.ADD.F32x4"}, 120: {"*fp32": "REDG.E.ADD.F32x4"}}
ROOM = {80: 166_912, 90: 232_448, 120: 101_376}  # bytes of shared memory that a program may have


def kernels_that_hosts_launch() -> set[str]:
    """Their names, read in the sources."""
    text = "\n".join(path.read_text() for path in (ROOT / "nerf_app/ops").glob("*/*_triton.py"))
    return {name for name in re.findall(r"@triton\.jit.*\ndef (\w+)", text) if re.search(rf"\b{name}\[", text)}


@pytest.mark.slow
@requires("triton")
@pytest.mark.parametrize("capability", VECTORS)
def test_every_kernel_compiles_without_spilling_and_gradients_are_added_in_vectors(capability, tmp_path):
    environment = os.environ | {"TRITON_INTERPRET": "0", "TRITON_CACHE_DIR": str(tmp_path / "cache"), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "tests/ops/assembly.py", str(capability), str(tmp_path)], cwd=ROOT, text=True,
                          capture_output=True, env=environment)
    assert done.returncode == 0, done.stderr
    kernels = [json.loads(line) for line in done.stdout.splitlines()]
    assert {kernel["name"] for kernel in kernels} == kernels_that_hosts_launch()
    assert not [kernel for kernel in kernels if kernel["stack"]]
    assert not [kernel for kernel in kernels if kernel["shared"] > ROOM[capability]]
    tables = [kernel for kernel in kernels if kernel["name"] == "hashgrid_backward" and kernel["constants"]["F"] == "4"]
    for dtype, vector in VECTORS[capability].items():
        found = {reduction for kernel in tables if kernel["gradient"] == dtype for reduction in kernel["reductions"]}
        assert found and all(reduction.startswith(vector) for reduction in found), found
