"""A dense net with ReLU between its layers and a linear last one.

    mlp(x, matrices, biases) -> y
    pull_back(x, d_y, matrices, biases) -> d_x

        x         [N, in]
        matrices  in order, each [out, in]
        biases    one [out] for each matrix, or None
        y         [N, out]
        d_y, d_x  a gradient behind the net, and what it is in front of it: d_y times the derivative of y by x

`mlp` is differentiable in everything. `pull_back` is in d_y and the matrices, so that a loss may speak of a derivative of
the net and no kernel is differentiated twice: between the kinks of its ReLUs a net is linear in x, and what is pulled back
does not change with x or the biases. The slope of ReLU at 0 is 0. Small nets have no biases, hidden widths of 16, 32, 64 or 128
and outputs in blocks of 16, as tinycudann's FullyFusedMLP; the reference takes any width.
"""

from importlib import import_module

IMPLEMENTATIONS = {
    "reference": lambda: import_module(f"{__name__}.reference"),
    "cpp": lambda: import_module(f"{__name__}.cpp"),
    "triton": lambda: import_module(f"{__name__}.kernel_triton"),
    "tcnn": lambda: import_module(f"{__name__}.tcnn"),
}
