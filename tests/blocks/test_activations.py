import pytest
import torch

from nnlib.blocks.activations import ACTIVATIONS, activation
from nnlib.foundations import activations as readable
from tests.support import refuses


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_the_fused_form_equals_the_readable_one(name):
    z = torch.linspace(-6, 6, 101).double()
    spelt = readable.activation(name.removesuffix("_tanh"))
    wanted = spelt(z, approximate="tanh") if name == "gelu_tanh" else spelt(z)
    torch.testing.assert_close(activation(name)(z), wanted)


def test_a_name_outside_those_that_the_caller_takes_is_refused():
    with refuses(ValueError, "nonlinearity='gelu' must be one of ['tanh', 'relu']"):
        activation("gelu", ("tanh", "relu"), argument="nonlinearity")
