"""Philox by Triton's own generator, fed with our key and counter."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from nerf_app.ops.gpu import WARPS, blocks, plain

BLOCK = 256


@triton.jit(do_not_specialize=["n", "seed", "purpose", "step"])  # one binary for all of them
def philox_words(indices_ptr, n, seed, purpose, step, out_ptr, IS_UNIFORM: tl.constexpr, BLOCK: tl.constexpr):
    """Four words of each index [N, 4], or numbers in [0, 1) made of their top 24 bits."""
    rows = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = rows < n
    index = tl.load(indices_ptr + rows, mask=inside, other=0)
    key = seed.to(tl.uint64) | (purpose.to(tl.uint64) << 32)
    low, high = (index & 0xFFFFFFFF).to(tl.uint32), (index >> 32).to(tl.uint32)
    words = tl.philox(key, low, low * 0 + step.to(tl.uint32), high, low * 0, 10)
    for word in tl.static_range(4):
        at = rows.to(tl.int64) * 4 + word
        if IS_UNIFORM:
            tl.store(out_ptr + at, (words[word] >> 8).to(tl.int32).to(tl.float32) * (1.0 / 16777216.0), mask=inside)
        else:
            tl.store(out_ptr + at, words[word].to(tl.int64), mask=inside)


def philox(seed: int, purpose: int, step: int, indices: Tensor) -> Tensor:
    """Four words for each index: [N] -> [N, 4] int64 in [0, 2^32)."""
    return _words(seed, purpose, step, indices, torch.int64)


def uniform(seed: int, purpose: int, step: int, indices: Tensor) -> Tensor:
    """Four numbers for each index: [N] -> [N, 4] float32 in [0, 1)."""
    return _words(seed, purpose, step, indices, torch.float32)


def _words(seed: int, purpose: int, step: int, indices: Tensor, dtype: torch.dtype) -> Tensor:
    out = torch.zeros(len(indices), 4, dtype=dtype, device=indices.device)
    philox_words[(blocks(len(indices), BLOCK),)](plain(indices, torch.int64), len(indices), seed, purpose, step, out,
                                                 IS_UNIFORM=dtype == torch.float32, BLOCK=BLOCK, num_warps=WARPS)
    return out
