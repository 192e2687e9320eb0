"""The addresses that kernels really touch."""

import pytest
import torch

from nnlib.kernels.softmax import softmax_triton
from nnlib.kernels.traffic import moved
from tests.support import refuses


@pytest.mark.interpreter
@pytest.mark.parametrize(("shape", "passes"), [((4, 100), 1), ((3, 8192), 1), ((2, 9001), 2)])
def test_the_kernel_touches_each_number_once(shape, passes):
    x = torch.randn(shape)
    size = 4 * x.numel()
    assert moved(softmax_triton, x) == (size, size, passes * size)


def test_bad_input_is_refused_by_name():
    with refuses(TypeError, "function=3 must be callable"):
        moved(3)


def test_addresses_are_refused_where_no_kernel_is_interpreted(monkeypatch):
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    with refuses(RuntimeError, "moved needs Triton, and TRITON_INTERPRET=1"):
        moved(softmax_triton, torch.zeros(2, 2))


@pytest.mark.interpreter
def test_watching_leaves_the_interpreter_as_it_was():
    from triton.runtime.interpreter import interpreter_builder

    moved(softmax_triton, torch.zeros(2, 2))
    assert "create_masked_load" not in vars(interpreter_builder)
    with pytest.raises(ZeroDivisionError):
        moved(lambda: 1 / 0)
    assert "create_masked_store" not in vars(interpreter_builder)
    assert moved(lambda: None) == (0, 0, 0)
