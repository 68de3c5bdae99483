"""Nothing is timed that is not right."""

from types import SimpleNamespace

import pytest
import torch

from benchmarks.common import Case, WrongResult, check, report


def reset(x):
    x.zero_()


RIGHT = SimpleNamespace(double=lambda x: 2.0 * x, reset=reset)
INPUT = {"x": torch.tensor([1.0, 2.0]).requires_grad_()}


def wrong_gradient(x):
    return x.detach() + x


@pytest.mark.parametrize("double", [lambda x: 2.001 * x, wrong_gradient, lambda x: torch.cat([2.0 * x, x]),
                                    lambda x: 2.0 * x + float("nan")])
def test_a_wrong_output_or_gradient_is_refused(double):
    case = Case("doubling", 2, lambda module, x: module.double(x), INPUT, {})
    check(case, RIGHT, RIGHT, "right")
    with pytest.raises(WrongResult, match="wrong, doubling"):
        check(case, SimpleNamespace(double=double), RIGHT, "wrong")


def test_a_wrong_change_in_place_is_refused():
    case = Case("resetting", 2, lambda module, x: module.reset(x), {"x": torch.ones(2)}, {})
    check(case, RIGHT, RIGHT, "right")
    with pytest.raises(WrongResult, match="x 0 is 1 away"):
        check(case, SimpleNamespace(reset=lambda x: None), RIGHT, "wrong")


def test_what_is_changed_in_place_is_as_it_was_each_time():
    seen = []
    case = Case("resetting", 2, lambda module, x: seen.append(float(x.sum())) or module.reset(x), {"x": torch.ones(2)},
                {"forward": 1.0})
    report(case, RIGHT, "right", 3)
    assert seen == [2.0] * 6
