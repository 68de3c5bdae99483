"""Philox in plain torch: 32-bit words in int64, whose products wrap at 64 bits as the generator wants them."""

import torch
from torch import Tensor

ROUNDS = 10
MULTIPLIERS = 0xD2511F53, 0xCD9E8D57
KEY_STEPS = 0x9E3779B9, 0xBB67AE85
WORD = 0xFFFFFFFF


def philox(seed: int, purpose: int, step: int, indices: Tensor) -> Tensor:
    """Four words for each index: [N] -> [N, 4] int64 in [0, 2^32)."""
    counter = [indices & WORD, torch.full_like(indices, step), indices >> 32, torch.zeros_like(indices)]
    return torch.stack(scramble(counter, (seed, purpose)), -1)


def uniform(seed: int, purpose: int, step: int, indices: Tensor) -> Tensor:
    """Four numbers for each index: [N] -> [N, 4] float32 in [0, 1)."""
    return (philox(seed, purpose, step, indices) >> 8).float() * 2.0**-24


def scramble(counter: list[Tensor], key: tuple[int, int]) -> list[Tensor]:
    """The generator itself: four words [N] and two of the key -> four words [N]."""
    a, b, c, d = counter
    for turn in range(ROUNDS):
        key_0, key_1 = ((word + turn * by) & WORD for word, by in zip(key, KEY_STEPS, strict=True))
        first, second = a * MULTIPLIERS[0], c * MULTIPLIERS[1]
        a, c = (second >> 32 & WORD) ^ b ^ key_0, (first >> 32 & WORD) ^ d ^ key_1
        b, d = second & WORD, first & WORD
    return [a, b, c, d]
