"""A GPU that is not there: tensors say that they lie on cuda:0, and must not be mixed with those of the CPU.

They compute on the CPU, so numbers are right and `nonzero` or `item` work, but a factory that forgot its device, a photo that
stayed behind, or a picture that was not brought back fails as it would on a machine with a GPU. Triton's kernels run in its
interpreter. Graphs are kept as the list of what was launched while they were captured, and replayed from that.
"""

import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_flatten, tree_map

GPU = torch.device("cuda", 0)
CPU_INDICES = ("aten::index", "aten::index_put_", "aten::index_put", "aten::_index_put_impl_")  # torch brings these over


class OnGpu(torch.Tensor):
    """A tensor of the pretended device; `inner` has its numbers."""

    inner: torch.Tensor

    @staticmethod
    def __new__(cls, inner: torch.Tensor) -> "OnGpu":
        made = torch.Tensor._make_wrapper_subclass(cls, inner.shape, strides=inner.stride(), dtype=inner.dtype,
                                                   storage_offset=inner.storage_offset(), device="cpu")
        made.inner = inner
        return made

    device = property(lambda self: GPU)
    is_cuda = property(lambda self: True)
    is_cpu = property(lambda self: False)

    @classmethod
    def __torch_dispatch__(cls, func, _types, args=(), kwargs=None):
        name, kwargs = func._schema.name, kwargs or {}
        given = [value for value in tree_flatten((args, kwargs))[0] if isinstance(value, torch.Tensor)]
        others = [value for value in given if not isinstance(value, OnGpu) and value.ndim
                  and value.device.type == "cpu"]  # without memory: torch asks for a shape
        if name == "aten::copy_":
            others = []
        if name in CPU_INDICES:
            others = [value for value in others if value.dtype not in (torch.int64, torch.bool)]
        if others:
            raise RuntimeError(f"Expected all tensors to be on the same device, {name} got {list(others[0].shape)} on the CPU")
        out = func(*tree_map(_inner, args), **tree_map(_inner, kwargs))
        if name == "aten::copy_" and not isinstance(args[0], OnGpu):
            return args[0]
        return return_and_correct_aliasing(func, args, kwargs, tree_map(_outer, out))

    def data_ptr(self) -> int:
        """Of the numbers."""
        return self.inner.data_ptr()


def _inner(value):
    return value.inner if isinstance(value, OnGpu) else value


def _outer(value):
    return OnGpu(value) if isinstance(value, torch.Tensor) and not isinstance(value, OnGpu) else value


def _device_of(value) -> torch.device | None:
    """A device, however it is spelled."""
    if isinstance(value, torch.device):
        return value
    return torch.device(value) if isinstance(value, str) and value.split(":")[0] in ("cuda", "cpu") else None


class Moves(TorchFunctionMode):
    """Makes tensors where they are asked for, and brings them over; `capturing` has the graph that takes note of that."""

    def __init__(self, capturing: list["Graph"]) -> None:
        super().__init__()
        self.capturing = capturing

    def __torch_function__(self, func, _types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        kwargs.pop("pin_memory", None)
        if func in (torch.Tensor.cpu, torch.Tensor.tolist, torch.Tensor.__format__):
            return func(_plain(args[0]), *args[1:], **kwargs) if isinstance(args[0], OnGpu) else func(*args, **kwargs)
        if func is torch.Tensor.to:
            places = [place for value in (*args[1:], *kwargs.values()) if (place := _device_of(value)) is not None]
            if places:
                rest = [value for value in args[1:] if _device_of(value) is None]
                kwargs = {name: value for name, value in kwargs.items() if _device_of(value) is None}
                moved = _moved(args[0], places[0])
                return moved.to(*rest, **kwargs) if rest or kwargs else moved
        place = _device_of(kwargs.get("device"))
        if place is not None and place.type == "cuda":
            made = func(*tree_map(_inner, args), **(tree_map(_inner, kwargs) | {"device": "cpu"}))
            moved = _moved(made, GPU)
            if self.capturing:
                self.capturing[-1].done.append(lambda: moved.inner.copy_(made))
            return moved
        if func is torch.Tensor.new_tensor and isinstance(args[0], OnGpu):
            return _moved(func(args[0].inner, *args[1:], **kwargs), GPU)
        return func(*args, **kwargs)


class _Bring(torch.autograd.Function):
    """From one device to the other, and gradients back."""

    @staticmethod
    def forward(ctx, value, is_to_gpu):
        ctx.is_to_gpu = is_to_gpu
        return OnGpu(value.detach().clone()) if is_to_gpu else value.inner.detach().clone()

    @staticmethod
    def backward(ctx, d_value):
        return (d_value.inner if ctx.is_to_gpu else OnGpu(d_value)), None


def _moved(value: torch.Tensor, place: torch.device) -> torch.Tensor:
    is_to_gpu = place.type == "cuda"
    if isinstance(value, OnGpu) == is_to_gpu:
        return value
    return _Bring.apply(value, is_to_gpu)


def _plain(value: torch.Tensor) -> torch.Tensor:
    return _moved(value, torch.device("cpu"))


class Recorder(TorchDispatchMode):
    """Writes down every operation on the pretended device, and does it."""

    def __init__(self, done: list[Callable[[], None]]) -> None:
        super().__init__()
        self.done = done

    def __torch_dispatch__(self, func, _types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func._schema.name == "aten::_local_scalar_dense" or func._schema.name == "aten::nonzero":
            raise RuntimeError("CUDA error: operation not permitted when stream is capturing")
        out = func(*args, **kwargs)
        places = [value for value in tree_flatten(out)[0] if isinstance(value, OnGpu)]

        def again():
            found = [value for value in tree_flatten(func(*args, **kwargs))[0] if isinstance(value, OnGpu)]
            for place, value in zip(places, found, strict=True):
                if place.inner.data_ptr() != value.inner.data_ptr():
                    place.inner.copy_(value.inner)
        if places and not func.is_view:
            self.done.append(again)
        return out


class Graph:
    """What was launched, in order."""

    def __init__(self) -> None:
        self.done: list[Callable[[], None]] = []
        self.is_fresh = True

    def replay(self) -> None:
        """Does it once more; a pretended capture has done it already."""
        if not self.is_fresh:
            for again in self.done:
                again()
        self.is_fresh = False


class Event:
    """Something that is over at once."""

    def record(self) -> None:
        """Nothing to wait for."""

    def synchronize(self) -> None:
        """Nothing to wait for."""

    def query(self) -> bool:
        """Whether it is over."""
        return True


@contextmanager
def pretended_gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Within it torch finds one GPU; gives the names of the kernels that Triton launched."""
    launched, capturing = [], []

    @contextmanager
    def graph(made: Graph, **_) -> Iterator[None]:
        capturing.append(made)
        try:
            with Recorder(made.done):
                yield
        finally:
            capturing.pop()
    stand_ins = {"is_available": lambda: True, "device_count": lambda: 1, "set_device": lambda device: None,
                 "current_device": lambda: 0, "synchronize": lambda device=None: None, "empty_cache": lambda: None,
                 "current_stream": lambda device=None: None, "set_stream": lambda stream: None,
                 "get_device_name": lambda device=None: "pretended", "get_device_capability": lambda device=None: (9, 0),
                 "get_device_properties": lambda device=None: types.SimpleNamespace(multi_processor_count=2),
                 "graph_pool_handle": lambda: (0, 0), "CUDAGraph": Graph, "graph": graph, "Event": Event}
    for name, stand_in in stand_ins.items():
        monkeypatch.setattr(torch.cuda, name, stand_in)
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    _launch_on(monkeypatch, launched, capturing)
    run_backward = torch.autograd._engine_run_backward

    def backward(*args, **kwargs):
        with Moves(capturing):  # torch has left the other one by then
            return run_backward(*args, **kwargs)
    monkeypatch.setattr(torch.autograd, "_engine_run_backward", backward)
    with Moves(capturing):
        yield launched


def _launch_on(monkeypatch: pytest.MonkeyPatch, launched: list[str], capturing: list[Graph]) -> None:
    """Lets the interpreter take tensors of the pretended device, and no others."""
    from triton.runtime.interpreter import GridExecutor
    launch = GridExecutor.__call__

    def checked(self, *args, **kwargs):
        for arg in args:
            if isinstance(arg, torch.Tensor) and not isinstance(arg, OnGpu):
                raise ValueError(f"Pointer argument of {self.fn.__name__} cannot be accessed from Triton (cpu tensor?)")
        launched.append(self.fn.__name__)

        def again():
            with torch._C.DisableTorchFunction():
                launch(self, *map(_inner, args), **kwargs)
        again()
        if capturing:
            capturing[-1].done.append(again)
    monkeypatch.setattr(GridExecutor, "__call__", checked)
