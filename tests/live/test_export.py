import pytest
import torch
from torch import nn
from torch.nn import functional as F

from nnlib.blocks.rms_norm import RMSNorm
from nnlib.live import export

pytest.importorskip("onnxruntime")
FEED = (torch.tensor([[1.0, -2.0]]),)


class Two(nn.Module):
    """A step of a recurrent network: two inputs, two outputs."""

    def __init__(self):
        super().__init__()
        self.embed, self.cell = nn.Embedding(4, 3), nn.GRUCell(3, 5)
        self.dropout = nn.Dropout(0.5)

    def forward(self, letter, state):
        state = self.cell(self.dropout(self.embed(letter)), state)
        return state.sum(-1), state


def test_the_file_answers_as_the_module_on_other_inputs_too():
    model = Two()
    feed = (torch.tensor([1]), torch.zeros(1, 5))
    content = export.exported(model, [feed])
    other = (torch.tensor([3]), torch.rand(1, 5))
    wanted = export.answers(model, other)
    for got, want in zip(export.runs(content, other), wanted, strict=True):
        torch.testing.assert_close(torch.from_numpy(got), want, atol=1e-6, rtol=0)


def test_a_module_that_cannot_be_traced_takes_the_longer_way():
    class Untraceable(nn.Module):
        def forward(self, x):
            return x.where((x > 0) & True, -x)  # tracing knows no tensor & bool

    content = export.exported(Untraceable(), [FEED])
    assert export.runs(content, (-FEED[0],))[0].tolist() == [[1.0, 2.0]]


@pytest.mark.parametrize(
    "untraced", [lambda x: F.rms_norm(x, (2,)), lambda x: x.where((x > 0) & True, -x)]
)
def test_the_longer_way_prints_nothing(untraced, capfd):
    """Torch prints the graph that it could not trace, with the paths of its own files."""

    class Untraceable(nn.Module):
        def forward(self, x):
            return untraced(x)

    print("before")
    content = export.exported(Untraceable(), [FEED])
    print("after")
    assert capfd.readouterr() == ("before\nafter\n", "")
    assert export.runs(content, FEED)[0] == pytest.approx(untraced(FEED[0]).numpy(), abs=1e-6)


class Swapped(nn.Module):
    """Rows for columns, of three axes and of two."""

    def forward(self, x):
        return x.mT, x[0].mT


@pytest.mark.parametrize(
    "model",
    [nn.RMSNorm(4), nn.RMSNorm((3, 4), eps=0.1), nn.RMSNorm(4, elementwise_affine=False),
     RMSNorm(4, eps=1e-5), Swapped()],
    ids=str,
)  # fmt: skip
def test_what_tracing_lacks_is_written_out_and_takes_the_short_way(model, monkeypatch):
    exports = torch.onnx.export
    took = []

    def noted(*given, **named):
        took.append(named["dynamo"])
        return exports(*given, **named)

    monkeypatch.setattr(torch.onnx, "export", noted)
    export.exported(
        model, [(torch.randn(2, 3, 4),) for _ in range(3)]
    )  # which holds it to the module
    assert took == [False]


def test_what_is_left_out_of_the_call_is_no_input():
    class Optional(nn.Module):
        def forward(self, x, times=True, mask=None):
            return x * (2 if times else 1)

    content = export.exported(Optional(), [FEED])
    assert export.runs(content, FEED)[0].tolist() == [[2.0, -4.0]]


def test_the_module_stays_in_training_mode():
    model = Two().train()
    export.exported(model, [(torch.tensor([1]), torch.zeros(1, 5))])
    assert model.training and model.dropout.training


def test_the_file_says_nothing_of_this_machine():
    content = export.exported(nn.Linear(2, 3), [FEED])
    assert b"site-packages" not in content and b".py" not in content


def test_a_module_that_answers_otherwise_each_time_is_refused():
    class Restless(nn.Module):
        def __init__(self):
            super().__init__()
            self.calls = 0

        def forward(self, x):
            self.calls += 1
            return x * self.calls

    with pytest.raises(export.ExportError, match="differs from the module by"):
        export.exported(Restless(), [FEED, FEED])


def test_a_module_that_is_too_large_is_refused():
    with pytest.raises(export.ExportError, match="at most 400,000"):
        export.exported(nn.Linear(2, 50_000), [FEED])
