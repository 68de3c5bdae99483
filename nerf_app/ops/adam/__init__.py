"""One step of Adam (Kingma & Ba 2015, Alg. 1) on all parameters of a model, in place.

    adam_step(parameters, gradients, first, second, step, learning_rate, table_size) -> None

        parameters     [P] float32: table_size numbers of hash tables, then those of nets; changed
        gradients      [P]; zero afterwards, ready for the next step
        first, second  [P] moments, zero before the first step; changed
        step           1 at the first step

β 0.9 and 0.99, ε 1e-15; moments are corrected by the global step. Nets get an L2 pull of 1e-6 times themselves in their
gradient. A number of a table whose gradient is exactly zero is left alone, its moments included: few entries are met in a step,
and the others must not drift on old momentum.
"""

from importlib import import_module

IMPLEMENTATIONS = {
    "reference": lambda: import_module(f"{__name__}.reference"),
    "cpp": lambda: import_module(f"{__name__}.cpp"),
    "triton": lambda: import_module(f"{__name__}.kernel_triton"),
}
