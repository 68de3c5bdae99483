import pytest
import torch

from nerf_app.ops.shapes import check_shapes


def test_shapes_that_fit_pass():
    check_shapes("rgb [S,3], density [S], none [], other [C,S]", rgb=torch.zeros(5, 3), density=torch.zeros(5),
                 none=torch.zeros(()), other=torch.zeros(2, 5))


@pytest.mark.parametrize("shapes, rgb, density, message", [
    ("rgb [S,3], density [S]", (5, 3), (5, 1), r"density must have shape \[S\] \(S=5 from rgb\), got \[5, 1\]"),
    ("rgb [S,3], density [S]", (5, 3), (4,), r"density must have shape \[S\] \(S=5 from rgb\), got \[4\]"),
    ("rgb [S,3], density [S]", (5, 4), (5,), r"rgb must have shape \[S, 3\] \(S=5 from rgb\), got \[5, 4\]"),
    ("rgb [G,G], density []", (2, 3), (), r"rgb must have shape \[G, G\]"),
    ("rgb [N], density [N]", (), (), r"rgb must have shape \[N\], got \[\]")])
def test_a_shape_that_does_not_fit_is_named_with_the_one_it_should_have(shapes, rgb, density, message):
    with pytest.raises(ValueError, match=message):
        check_shapes(shapes, rgb=torch.zeros(rgb), density=torch.zeros(density))
