import pytest
import torch

from nerf_app.fields.parameters import ALIGNMENT, Parameters

TABLES = {"a.table": (5, 8), "b.table": (3, 3)}
NETS = {"a.net": (4, 6), "a.net.bias": (4,)}


@pytest.fixture
def parameters():
    return Parameters(TABLES, NETS, torch.device("cpu"))


def floats(tensor):
    """The addresses of a contiguous tensor's first number and of the place behind its last."""
    return tensor.data_ptr() // 4, tensor.data_ptr() // 4 + tensor.numel()


def test_every_parameter_lies_in_the_flat_buffer_on_a_line_of_its_own(parameters):
    begin, end = floats(parameters.flat)
    behind = begin
    for name, shape in (TABLES | NETS).items():
        first, last = floats(parameters[name])
        assert parameters[name].shape == shape
        assert first >= behind and last <= end and (first - begin) % ALIGNMENT == 0
        behind = last
    assert end - behind < ALIGNMENT


def test_the_front_holds_all_of_the_tables_and_nothing_of_the_nets(parameters):
    begin, _ = floats(parameters.flat)
    for name in TABLES | NETS:
        first, last = floats(parameters[name])
        assert last - begin <= parameters.table_size if name in TABLES else first - begin >= parameters.table_size


def test_gradients_gather_in_the_buffer_of_gradients(parameters):
    for _ in range(2):
        sum((i + 1) * parameters[name].sum() for i, name in enumerate(TABLES | NETS)).backward()
    begin, _ = floats(parameters.flat)
    truth = torch.zeros_like(parameters.flat)
    for i, name in enumerate(TABLES | NETS):
        first, last = (place - begin for place in floats(parameters[name]))
        truth[first:last] = 2.0 * (i + 1)
    assert torch.equal(parameters.gradients, truth)
    parameters.gradients.zero_()
    assert all(not parameters[name].grad.any() for name in TABLES | NETS)


def test_what_happens_to_the_buffer_happens_to_the_parameters(parameters):
    parameters.flat += 1.0
    assert all((parameters[name] == 1.0).all() for name in TABLES | NETS)
    parameters.fill("a.net", torch.full((4, 6), 7.0))
    assert int((parameters.flat == 7.0).sum()) == 24
    assert parameters["a.net"].requires_grad and parameters["a.net"].is_leaf


def test_a_model_without_tables_has_none_at_the_front():
    assert Parameters({}, NETS, torch.device("cpu")).table_size == 0
