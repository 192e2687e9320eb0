"""Graded units of 1984: their equation of motion, their energy, and their limit."""

import numpy as np
import pytest
import torch
from scipy.integrate import quad, solve_ivp

from nnlib.memory.hopfield import (
    HopfieldNetwork,
    continuous_hopfield,
    continuous_hopfield_energy,
)
from tests.support import refuses


def circuit(n=5, seed=0):
    generator = torch.Generator().manual_seed(seed)
    half = torch.randn(n, n, generator=generator, dtype=torch.float64)
    bias = 0.1 * torch.randn(n, generator=generator, dtype=torch.float64)
    return half + half.mT, bias, torch.randn(n, generator=generator, dtype=torch.float64)


@pytest.mark.equation("hopfield-graded")
def test_it_follows_scipys_solution_of_the_equation():
    weight, bias, u = circuit()
    w, b = weight.numpy(), bias.numpy()
    wanted = solve_ivp(lambda _, x: -x + w @ np.tanh(1.5 * x) + b, (0, 2), u.numpy(),
                       rtol=1e-9, atol=1e-9).y[:, -1]  # fmt: skip
    got = continuous_hopfield(weight, bias, u, 1.5, dt=1e-4, num_steps=20_000)
    np.testing.assert_allclose(got.numpy(), wanted, atol=2e-3)


@pytest.mark.equation("hopfield-graded-energy")
def test_its_energy_has_the_integral_and_the_motion_as_its_slope():
    weight, bias, u = circuit()
    v = (1.5 * u).tanh().requires_grad_()
    energy = continuous_hopfield_energy(weight, bias, v, 1.5)
    areas = sum(quad(np.arctanh, 0, x)[0] for x in v.tolist())
    wanted = float((-v @ weight @ v / 2 - bias @ v).detach()) + areas / 1.5
    assert energy.item() == pytest.approx(wanted, rel=1e-8)
    (slope,) = torch.autograd.grad(energy, v)
    motion = -u + weight @ v.detach() + bias
    torch.testing.assert_close(-slope, motion)


@pytest.mark.parametrize("gain", [0.3, 1.0, 5.0])
def test_its_energy_falls_until_it_rests(gain):
    weight, bias, u = circuit(8, seed=2)
    before = torch.inf
    for _ in range(60):
        u = continuous_hopfield(weight, bias, u, gain, dt=0.01, num_steps=100)
        energy = continuous_hopfield_energy(weight, bias, (gain * u).tanh(), gain)
        assert energy <= before + 1e-9
        before = energy
    torch.testing.assert_close(u, weight @ (gain * u).tanh() + bias, atol=1e-3, rtol=0)


def test_a_steep_unit_is_one_of_two_values_and_rests_where_the_network_is_stable():
    generator = torch.Generator().manual_seed(1)
    patterns = torch.randint(0, 2, (3, 40), generator=generator).double() * 2 - 1
    network = HopfieldNetwork(40, dtype=torch.float64)
    network.store(patterns)
    start = 0.1 * patterns * torch.where(torch.rand(3, 40, generator=generator) < 0.15, -1, 1)
    u = continuous_hopfield(network.weight, network.bias, start, 50.0, num_steps=3000)
    assert torch.equal((50 * u).tanh().sign(), patterns)
    assert (50 * u).tanh().abs().min() > 0.99 and network.stable(u.sign()).all()


def test_with_a_gain_below_the_largest_eigenvalue_it_forgets():
    """One attractor, at zero: nothing is stored in units that are too gentle."""
    weight, bias, u = circuit()
    gain = 0.9 / torch.linalg.eigvalsh(weight).abs().max().item()
    rest = continuous_hopfield(weight, 0 * bias, u, gain, dt=0.05, num_steps=4000)
    assert rest.abs().max() < 1e-3


def test_bad_arguments_are_refused_by_name():
    weight, bias, u = torch.eye(3), torch.zeros(3), torch.zeros(3)
    with refuses(ValueError, "weight must be symmetric"):
        continuous_hopfield(torch.ones(3, 3).triu(), bias, u)
    with refuses(ValueError, "weight must be square, got (3, 2)"):
        continuous_hopfield(torch.ones(3, 2), bias, u)
    with refuses(ValueError, "gain=0.0 must be a finite number > 0"):
        continuous_hopfield(weight, bias, u, 0.0)
    with refuses(ValueError, "u must have rows of 3 units, got (2,)"):
        continuous_hopfield(weight, bias, u[:2])
    with refuses(ValueError, "v must lie in -1 … 1, got 2"):
        continuous_hopfield_energy(weight, bias, u + 2)
