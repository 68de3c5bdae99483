"""A dense net with ReLU between its layers and a linear last one.

    mlp(x, matrices, biases) -> y

        x         [N, in]
        matrices  in order, each [out, in]
        biases    one [out] for each matrix, or None
        y         [N, out]

Differentiable in everything; the slope of ReLU at 0 is 0. Small nets have no biases, hidden widths of 16, 32, 64 or 128
and outputs in blocks of 16, as tinycudann's FullyFusedMLP; the reference takes any width.
"""

from importlib import import_module

IMPLEMENTATIONS = {
    "reference": lambda: import_module(f"{__name__}.reference"),
    "cpp": lambda: import_module(f"{__name__}.cpp"),
}
