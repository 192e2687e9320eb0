"""What the tests of the norms share: torch's norm and the readable twin, with their gradients."""

import torch
from torch import nn

EXACT = {"rtol": 0, "atol": 0}


def normal(*shape):
    return torch.randn(shape, dtype=torch.float64)


def gradients(output, inputs):
    """Gradients of one fixed weighted sum of the output."""
    weights = torch.cos(torch.arange(output.numel(), dtype=output.dtype)).view(output.shape)
    return torch.autograd.grad((output * weights).sum(), inputs)


def hold_to_torch(norm, reference, shape):
    """Hold a norm to torch's: it loads its state, then outputs, gradients and buffers agree."""
    norm, reference = norm.double(), reference.double()
    for parameter in reference.parameters():
        nn.init.normal_(parameter)
    norm.load_state_dict(reference.state_dict())
    for mode in (True, True, False):  # two training steps move the buffers, then they are used
        x = 3 * normal(*shape) + 1
        results = []
        for model in (norm, reference):
            inputs = x.clone().requires_grad_()
            y = model.train(mode)(inputs)
            results.append([y, *gradients(y, [inputs, *model.parameters()])])
        for got, wanted in zip(*results, strict=True):
            torch.testing.assert_close(got, wanted, rtol=1e-12, atol=1e-12)
    assert norm.state_dict().keys() == reference.state_dict().keys()
    for name, value in reference.state_dict().items():
        torch.testing.assert_close(norm.state_dict()[name], value, **EXACT)
    reference.load_state_dict(norm.state_dict())


def hold_to_twin(norm, twin, shape):
    """Hold a norm to its readable form, gradient included."""
    x = (3 * normal(*shape) + 1).requires_grad_()
    a, b = norm.double()(x), twin(x)
    torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(*(gradients(y, [x])[0] for y in (a, b)), rtol=1e-9, atol=1e-11)


def forgets_scale(norm, shape, scale):
    """Check that a norm of the features takes any leading axes and divides a scale out."""
    x = normal(*shape)
    y = norm.double()(x)
    assert y.shape == x.shape
    if shape[-1] > 1:
        torch.testing.assert_close(norm(scale * x), y, rtol=1e-6, atol=1e-9)


def keeps_zero(norm):
    """Check that a zero vector stays zero, with a finite gradient."""
    x = torch.zeros(2, 4, requires_grad=True)
    y = norm(x)
    y.sum().backward()
    assert y.eq(0).all() and x.grad.isfinite().all()
