"""One line that holds the shapes of a public function's tensors against each other."""

import functools
import re

from torch import Tensor


def check_shapes(shapes: str, **tensors: Tensor) -> None:
    """Raises ValueError where a tensor does not have its shape.

    As in `check_shapes("rgb [S,3], density [S]", rgb=rgb, density=density)`. A letter stands for the same size everywhere;
    the first tensor that has it sets it.
    """
    sizes: dict[str, tuple[int, str]] = {}  # letter -> size, and whose it is
    for name, axes in _parse(shapes):
        came = tuple(tensors[name].shape)
        if len(came) == len(axes):
            for axis, size in zip(axes, came, strict=True):
                sizes.setdefault(axis, (int(axis), "") if axis.isdigit() else (size, name))
        if len(came) != len(axes) or any(sizes[axis][0] != size for axis, size in zip(axes, came, strict=True)):
            known = ", ".join(f"{axis}={sizes[axis][0]} from {sizes[axis][1]}" for axis in axes if sizes.get(axis, (0, ""))[1])
            raise ValueError(f"{name} must have shape [{', '.join(axes)}]{known and f' ({known})'}, got {list(came)}")


@functools.cache
def _parse(shapes: str) -> list[tuple[str, list[str]]]:
    return [(name, re.findall(r"\w+", axes)) for name, axes in re.findall(r"(\w+) \[([^]]*)]", shapes)]
