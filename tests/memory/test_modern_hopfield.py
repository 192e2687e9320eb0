"""Modern Hopfield networks: attention, its energy, how well it retrieves, and a layer of it."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from nnlib.attention.attention import dot_product_attention, scaled_dot_product_attention
from nnlib.kernels.attention import attention_reference
from nnlib.memory.hopfield import (
    HopfieldPooling,
    modern_hopfield,
    modern_hopfield_energy,
    separation,
)
from tests.support import refuses


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).double()


# ---------------------------------------------------------------------------------------- attention
@pytest.mark.equation("hopfield-attention")
@pytest.mark.parametrize("d", [5, 64, 256])  # the last is wider than the kernels' heads
def test_an_update_is_attention_with_the_patterns_as_keys_and_values(d):
    patterns, query, beta = normal(9, d), normal(4, d, seed=1), 0.7
    got = modern_hopfield(patterns, query, beta)
    q, k = query[None, None], patterns[None, None]
    exact = {"rtol": 0, "atol": 1e-12}
    written_out = (beta * query @ patterns.mT).softmax(-1) @ patterns
    torch.testing.assert_close(got, written_out, **exact)
    torch.testing.assert_close(got, attention_reference(q, k, k, scale=beta)[0, 0], **exact)
    module = scaled_dot_product_attention(q, k, k, scale=beta)[0, 0]
    torch.testing.assert_close(got, module, **exact)
    chapter, weights = dot_product_attention(query[None], k[0], k[0], scale=beta)
    torch.testing.assert_close(got, chapter[0], **exact)
    torch.testing.assert_close(weights.sum(-1), torch.ones(1, 4).double(), **exact)
    torchs = F.scaled_dot_product_attention(q, k, k, scale=beta)[0, 0]
    torch.testing.assert_close(got, torchs, **exact)


def test_single_precision_takes_the_kernel_and_agrees():
    patterns, query = normal(9, 64), normal(4, 64, seed=1)
    got = modern_hopfield(patterns.float(), query.float(), 0.7, num_steps=3)
    torch.testing.assert_close(got.double(), modern_hopfield(patterns, query, 0.7, num_steps=3),
                               rtol=1e-4, atol=1e-5)  # fmt: skip


def test_steps_and_leading_axes():
    patterns, query = normal(6, 4), normal(2, 3, 4, seed=1)
    twice = modern_hopfield(patterns, modern_hopfield(patterns, query, 2.0), 2.0)
    torch.testing.assert_close(modern_hopfield(patterns, query, 2.0, num_steps=2), twice)
    alone = modern_hopfield(patterns, query[1, 2], 2.0, num_steps=2)
    torch.testing.assert_close(alone, twice[1, 2])


def test_gradients_reach_patterns_and_queries():
    patterns, query = normal(3, 2).requires_grad_(), normal(2, 2, seed=1).requires_grad_()

    def call(x, q):
        return modern_hopfield(x, q, 1.5, num_steps=2)

    assert torch.autograd.gradcheck(call, (patterns, query))


# ------------------------------------------------------------------------------------------- energy
@pytest.mark.equation("hopfield-modern-energy", "hopfield-lse")
def test_the_energy_is_the_formula_written_out():
    patterns, state, beta = normal(5, 3), normal(1, 3, seed=1)[0], 1.7
    lse = math.log(sum(math.exp(beta * float(x @ state)) for x in patterns)) / beta
    longest = max(float(x @ x) for x in patterns)
    wanted = -lse + float(state @ state) / 2 + math.log(5) / beta + longest / 2
    got = modern_hopfield_energy(patterns, state, beta).item()
    assert got == pytest.approx(wanted, rel=1e-12)


@pytest.mark.equation("hopfield-gradient")
def test_an_update_is_a_step_of_one_down_the_gradient():
    patterns, state = normal(5, 3), normal(2, 3, seed=1).requires_grad_()
    (slope,) = torch.autograd.grad(modern_hopfield_energy(patterns, state, 1.7).sum(), state)
    step = state - modern_hopfield(patterns, state, 1.7)
    torch.testing.assert_close(slope, step, rtol=0, atol=1e-12)


@given(seed=st.integers(0, 10**6), log_beta=st.floats(-4, 4), p=st.integers(1, 12))
def test_no_update_raises_the_energy_and_it_is_never_negative(seed, log_beta, p):
    patterns, state, beta = normal(p, 6, seed=seed), 3 * normal(8, 6, seed=seed + 1), 10**log_beta
    energies = [modern_hopfield_energy(patterns, state, beta)]
    for _ in range(5):
        state = modern_hopfield(patterns, state, beta)
        energies.append(modern_hopfield_energy(patterns, state, beta))
    falls = torch.stack(energies).diff(dim=0)
    assert (falls <= 1e-10).all()
    # from the first update on the state is among the patterns, so the bound of twice M² holds
    longest = patterns.square().sum(-1).amax()
    assert (energies[-1] >= -1e-10).all() and (energies[-1] <= 2 * longest + 1e-10).all()


def test_half_a_step_lowers_the_energy_too():
    patterns, state = normal(9, 6), normal(50, 6, seed=1)
    half = (state + modern_hopfield(patterns, state, 2.0)) / 2
    before, after = (modern_hopfield_energy(patterns, x, 2.0) for x in (state, half))
    assert (after < before).all()


def test_without_the_temperature_before_the_logarithm_the_energy_can_rise():
    """The formula as it is often printed: the update descends another one."""
    patterns, state, beta = normal(6, 4), normal(500, 4, seed=1), 8.0

    def printed(x):
        return -(beta * x @ patterns.mT).logsumexp(-1) + x.square().sum(-1) / 2

    after = modern_hopfield(patterns, state, beta)
    rose = (printed(after) > printed(state) + 1e-9).sum()
    right = [modern_hopfield_energy(patterns, x, beta) for x in (state, after)]
    assert rose > 20 and not (right[1] > right[0] + 1e-12).any()


# ---------------------------------------------------------------------------------------- retrieval
@pytest.mark.equation("hopfield-separation")
def test_the_separation_is_that_of_loops():
    patterns = normal(6, 4)
    for i, got in enumerate(separation(patterns)):
        others = [float(patterns[i] @ patterns[j]) for j in range(6) if j != i]
        assert got.item() == pytest.approx(float(patterns[i] @ patterns[i]) - max(others))


@pytest.mark.equation("hopfield-retrieval")
@given(seed=st.integers(0, 10**6), log_beta=st.floats(-2, 1))
def test_an_update_from_a_pattern_stays_within_the_bound(seed, log_beta):
    patterns, beta = normal(7, 12, seed=seed), 10**log_beta
    error = (modern_hopfield(patterns, patterns, beta) - patterns).norm(dim=-1)
    longest = patterns.norm(dim=-1).amax()
    bound = 2 * longest * 6 * torch.exp(-beta * separation(patterns))
    assert (error <= bound + 1e-12).all()


def test_the_bound_is_reached_to_a_factor_of_the_number_of_patterns():
    """Two patterns: the error is exactly twice the length, times the weight of the other one."""
    patterns = torch.tensor([[3.0, 0.0], [-3.0, 0.0]], dtype=torch.float64)
    error = (modern_hopfield(patterns, patterns, 0.9) - patterns).norm(dim=-1)
    bound = 2 * 3 * torch.exp(-0.9 * separation(patterns))
    torch.testing.assert_close(error, bound / (1 + (-0.9 * separation(patterns)).exp()))


def test_a_small_beta_averages_and_a_large_one_picks_the_nearest():
    patterns, query = normal(20, 8), normal(5, 8, seed=1)
    cold, warm = modern_hopfield(patterns, query, 1e6), modern_hopfield(patterns, query, 1e-9)
    torch.testing.assert_close(cold, patterns[(query @ patterns.mT).argmax(-1)])
    torch.testing.assert_close(warm, patterns.mean(0).expand(5, 8), rtol=0, atol=1e-7)


# -------------------------------------------------------------------------------------------- layer
@pytest.mark.equation("hopfield-pooling")
def test_pooling_is_a_loop_over_bags_and_ignores_what_is_masked():
    torch.manual_seed(0)
    layer = HopfieldPooling(6, num_queries=2, beta=0.8, dtype=torch.float64)
    bags, mask = normal(3, 5, 6), torch.ones(3, 5, dtype=torch.bool)
    mask[1, 3:] = False
    got = layer(bags, mask)
    for b in range(3):
        bag = bags[b][mask[b]]
        keys, values = layer.key_proj(bag), layer.value_proj(bag)
        wanted = (0.8 * layer.query @ keys.mT).softmax(-1) @ values
        torch.testing.assert_close(got[b], wanted)
    order = torch.randperm(5)
    torch.testing.assert_close(layer(bags[:, order], mask[:, order]), got)
    assert HopfieldPooling(16).beta == 0.25


def test_pooling_that_only_knows_one_query_is_an_update_of_the_network():
    layer = HopfieldPooling(4, beta=2.0, dtype=torch.float64)
    with torch.no_grad():
        for part in (layer.key_proj, layer.value_proj):
            part.weight.copy_(torch.eye(4))
            part.bias.zero_()
    bag = normal(7, 4)
    torch.testing.assert_close(layer(bag[None])[0], modern_hopfield(bag, layer.query, 2.0))


# ---------------------------------------------------------------------------------------- bad input
def test_bad_arguments_are_refused_by_name():
    x = torch.randn(3, 4)
    for beta in (0.0, -1.0, math.nan, math.inf):
        with refuses(ValueError, "beta="):
            modern_hopfield(x, x, beta)
        with refuses(ValueError, "beta="):
            modern_hopfield_energy(x, x, beta)
    with refuses(ValueError, "patterns must hold at least one pattern, got (0, 4)"):
        modern_hopfield(torch.zeros(0, 4), x, 1.0)
    with refuses(ValueError, "query must be as wide as patterns, 4, got (2, 3)"):
        modern_hopfield(x, torch.zeros(2, 3), 1.0)
    with refuses(ValueError, "patterns must be finite"):
        modern_hopfield(x / 0, x, 1.0)
    with refuses(ValueError, "num_steps=0"):
        modern_hopfield(x, x, 1.0, num_steps=0)
    with refuses(ValueError, "patterns must hold two or more, got (1, 4)"):
        separation(x[:1])
    with refuses(ValueError, "bags must have shape (b, n, 4), got (3, 4)"):
        HopfieldPooling(4)(x)


def test_patterns_of_zeros_are_a_pattern_like_others():
    patterns = torch.cat([torch.zeros(1, 3), torch.eye(3)]).double()
    at_zero = modern_hopfield(patterns, torch.zeros(3).double(), 50.0)
    torch.testing.assert_close(at_zero, torch.full((3,), 0.25).double())
