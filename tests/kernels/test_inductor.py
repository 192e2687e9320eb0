"""Every public operation through `torch.compile` with its default compiler, held to eager torch.

All of them are compiled as one function, so that the C++ compiler runs twice and not for each.
"""

import shutil

import pytest
import torch

from nnlib.kernels.attention import attention
from nnlib.kernels.cross_entropy import cross_entropy
from nnlib.kernels.layer_norm import add_layer_norm
from nnlib.kernels.linear_attention import linear_attention
from nnlib.kernels.linear_cross_entropy import linear_cross_entropy
from nnlib.kernels.linear_scan import linear_scan
from nnlib.kernels.paged_attention import paged_attention
from nnlib.kernels.rms_norm import add_rms_norm
from nnlib.kernels.rope import rope
from nnlib.kernels.softmax import log_softmax, softmax
from nnlib.kernels.swiglu import geglu, swiglu
from pipeline import ROOT
from tests.kernel_support import in_own_process, value_and_grads

HEADS = [(2, 4, 9, 8), (2, 2, 9, 8), (2, 2, 9, 8)]  # q, and k and v that serve two heads each
ROW, FEATURES = (5, 33), (33,)


def calls(device):
    """Return, by name, an operation and the shapes of the tensors it is differentiated by."""
    target = torch.tensor([0, 5, -100, 10, 3], device=device)
    positions = torch.arange(3, 12, device=device)
    real = torch.arange(9, device=device) < torch.tensor([[9], [5]], device=device)
    seed = torch.tensor(11, device=device)
    blocks = torch.tensor([[2, 0, -1], [3, 1, 2]], device=device)
    lengths = torch.tensor([5, 12], device=device)
    return {
        "softmax": (softmax, [ROW]),
        "log_softmax": (log_softmax, [ROW]),
        "attention": (lambda q, k, v: attention(q, k, v, is_causal=True), HEADS),
        "attention, window": (lambda q, k, v: attention(q, k, v, window=3), HEADS),
        "attention, padding and dropout": (
            lambda q, k, v: attention(q, k, v, key_mask=real, dropout=0.3, seed=seed), HEADS,
        ),
        "rms_norm": (add_rms_norm, [ROW, ROW, FEATURES]),
        "layer_norm": (add_layer_norm, [ROW, ROW, FEATURES, FEATURES]),
        "swiglu": (swiglu, [ROW, ROW]),
        "geglu": (geglu, [ROW, ROW]),
        "rope": (lambda x: rope(x, positions), HEADS[:1]),
        "rope, neighbours": (lambda x: rope(x, positions, interleaved=True), HEADS[:1]),
        "cross_entropy": (lambda x: cross_entropy(x, target, label_smoothing=0.1), [(5, 11)]),
        "linear_cross_entropy": (
            lambda x, w: linear_cross_entropy(x, w, target), [(5, 6), (11, 6)],
        ),
        "linear_attention": (
            lambda q, k, v, g: linear_attention(q, k, v, -g.square(), scale=0.1),
            [(2, 2, 37, 5), (2, 2, 37, 5), (2, 2, 37, 4), (2, 2, 37)],
        ),
        "paged_attention": (
            lambda q, cache: paged_attention(q, cache, blocks, lengths),
            [(2, 4, 8), (2, 4, 2, 4, 8)],
        ),
        "linear_scan": (lambda a, b: linear_scan(a.sigmoid(), b), [(2, 17, 5), (2, 17, 5)]),
    }  # fmt: skip


def hold_all(device):
    """Compile all operations and their gradients as one; where that fails, name who is to blame."""
    torch.manual_seed(0)
    given = calls(device)
    inputs = {
        name: [torch.randn(shape, device=device) for shape in shapes]
        for name, (_, shapes) in given.items()
    }
    try:
        hold({name: operation for name, (operation, _) in given.items()}, inputs)
    except Exception as error:
        failed = {"all of them at once": error}
        for name, (operation, _) in given.items():
            try:
                hold({name: operation}, {name: inputs[name]})
            except Exception as own:
                failed[name] = own
        told = "\n".join(f"{name}: {str(error)[:1000]}" for name, error in failed.items())
        raise AssertionError(told) from error


def hold(operations, inputs):
    """Hold compiled operations to eager ones: one function of them all, so one compilation."""

    def together(*tensors):
        left, outputs = iter(tensors), []
        for name, operation in operations.items():
            out = operation(*(next(left) for _ in inputs[name]))
            outputs += [out] if isinstance(out, torch.Tensor) else out
        return outputs

    tensors = [t for name in operations for t in inputs[name]]
    got = value_and_grads(torch.compile(together, fullgraph=True), *tensors)
    wanted = value_and_grads(together, *tensors)
    torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.skipif(not shutil.which("c++"), reason="the compiler of torch.compile needs a C++ one")
def test_compiled_operations_equal_eager_ones(device, monkeypatch):
    monkeypatch.setenv("TORCHINDUCTOR_COMPILE_THREADS", "1")  # a pool takes longer to start
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(ROOT / "_build" / "inductor"))  # by content
    in_own_process(f"from tests.kernels.test_inductor import hold_all\nhold_all({device.type!r})")
