"""What the tests of transformers share: a torch module of theirs beside one of ours."""

import torch

TIGHT = {"rtol": 0, "atol": 1e-12}
SMALL = {
    "d_model": 12,
    "nhead": 3,
    "dim_feedforward": 20,
    "batch_first": True,
    "dtype": torch.float64,
}
PADDING = torch.tensor([[False] * 5, [False] * 3 + [True] * 2])  # torch: True is ignored
AHEAD = torch.ones(4, 4, dtype=torch.bool).triu(1)


def normal(*shape):
    return torch.randn(shape, dtype=torch.float64)


def shaken(module):
    """Give every weight, norms and biases too, a value that no fresh module has."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.3)
    return module


def gradients(output, inputs):
    weights = torch.cos(torch.arange(output.numel(), dtype=output.dtype)).view(output.shape)
    return torch.autograd.grad((output * weights).sum(), inputs)


def same(ours, theirs, got, wanted, *inputs):
    """Hold outputs and the gradients of every weight and input equal."""
    torch.testing.assert_close(got, wanted, **TIGHT)
    names = [name for name, _ in ours.named_parameters()]
    assert sorted(names) == sorted(name for name, _ in theirs.named_parameters())
    by_name = dict(theirs.named_parameters())
    a = gradients(got, [*ours.parameters(), *inputs])
    b = gradients(wanted, [*(by_name[name] for name in names), *inputs])
    for name, x, y in zip([*names, *["input"] * len(inputs)], a, b, strict=True):
        torch.testing.assert_close(x, y, **TIGHT, msg=lambda text, name=name: f"{name}: {text}")
