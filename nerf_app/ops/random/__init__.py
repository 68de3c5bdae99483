"""Random numbers without a state: Philox4x32-10 (Salmon et al. 2011) of who asks, when, and for which item.

    philox(seed, purpose, step, indices) -> words
    uniform(seed, purpose, step, indices) -> numbers

        seed, purpose, step  0...2^32 - 1
        indices              [N] int64, not negative
        words                [N, 4] int64 in [0, 2^32)
        numbers              [N, 4] float32 in [0, 1): the top 24 bits of each word, exactly

The key is (seed, purpose), the counter (index's low word, step, index's high word, 0): the same numbers on any machine,
for any number of threads, in any order.
"""

from importlib import import_module

IMPLEMENTATIONS = {
    "reference": lambda: import_module(f"{__name__}.reference"),
    "cpp": lambda: import_module(f"{__name__}.cpp"),
    "triton": lambda: import_module(f"{__name__}.kernel_triton"),
}
