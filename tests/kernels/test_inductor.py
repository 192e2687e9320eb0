"""Every public operation through `torch.compile` with its default compiler, held to eager torch.

All of them share one process, so that the compiler starts once.
"""

import shutil

import pytest
import torch

from nnlib.kernels.attention import attention
from nnlib.kernels.cross_entropy import cross_entropy
from nnlib.kernels.layer_norm import add_layer_norm
from nnlib.kernels.linear_cross_entropy import linear_cross_entropy
from nnlib.kernels.linear_scan import linear_scan
from nnlib.kernels.rms_norm import add_rms_norm
from nnlib.kernels.rope import rope
from nnlib.kernels.softmax import log_softmax, softmax
from nnlib.kernels.swiglu import geglu, swiglu
from tests.kernel_support import in_own_process, value_and_grads

pytestmark = pytest.mark.slow

HEADS = [(2, 4, 9, 8), (2, 2, 9, 8), (2, 2, 9, 8)]  # q, and k and v that serve two heads each
ROW, FEATURES = (5, 33), (33,)


def calls(device):
    """Return, by name, an operation and the shapes of the tensors it is differentiated by."""
    target = torch.tensor([0, 5, -100, 10, 3], device=device)
    positions = torch.arange(3, 12, device=device)
    return {
        "softmax": (softmax, [ROW]),
        "log_softmax": (log_softmax, [ROW]),
        "attention": (lambda q, k, v: attention(q, k, v, is_causal=True), HEADS),
        "attention, window": (lambda q, k, v: attention(q, k, v, window=3), HEADS),
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
        "linear_scan": (lambda a, b: linear_scan(a.sigmoid(), b), [(2, 17, 5), (2, 17, 5)]),
    }  # fmt: skip


def hold_all(device):
    """Compile each operation and its gradient; name every one that differs or fails."""
    failed = {}
    for name, (operation, shapes) in calls(device).items():
        torch.manual_seed(0)
        inputs = [torch.randn(shape, device=device) for shape in shapes]
        try:
            got = value_and_grads(torch.compile(operation, fullgraph=True), *inputs)
            wanted = value_and_grads(operation, *inputs)
            torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-5)
        except Exception as error:
            failed[name] = str(error)[:1000]
    assert not failed, "\n".join(f"{name}: {told}" for name, told in failed.items())


@pytest.mark.skipif(not shutil.which("c++"), reason="the compiler of torch.compile needs a C++ one")
def test_compiled_operations_equal_eager_ones(device, monkeypatch, tmp_path):
    monkeypatch.setenv("TORCHINDUCTOR_COMPILE_THREADS", "1")  # a pool takes longer to start
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    in_own_process(f"from tests.kernels.test_inductor import hold_all\nhold_all({device.type!r})")
