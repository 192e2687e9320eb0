"""The echo state network against reservoirpy, torch.nn, scipy, closed forms and brute force."""

import jaxtyping
import numpy as np
import pytest
import scipy.linalg
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from scipy.optimize import brentq

from nnlib.data.series import mackey_glass
from nnlib.sequence import _echo_state_numpy as in_numpy
from nnlib.sequence.echo_state import EchoStateNetwork, _repaired, ridge_regression
from tests.support import Example, Peer, refuses

nodes = Peer("reservoirpy.nodes")


def example() -> Example:
    """What the contract runs: see `tests/test_contract.py`."""
    x = torch.randn(12, 3)
    return Example(
        {"input_size": 3, "reservoir_size": 8},
        (x,),
        prepare=lambda network: network.fit(x, x.cumsum(0)[:, :2], washout=2),
    )


U_VECTOR, V_VECTOR = np.array([8.0, 1.0]), np.array([-0.25, 2.0])
NILPOTENT = np.outer(U_VECTOR, V_VECTOR)


def noise(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def same(got, wanted, atol=1e-12, rtol=0):
    torch.testing.assert_close(got, torch.as_tensor(wanted), rtol=rtol, atol=atol)


def theirs(network):
    """The same reservoir, with the very same matrices, in reservoirpy."""
    return nodes.Reservoir(
        lr=network.leak,
        W=network.recurrent.numpy(),
        Win=network.input.numpy(),
        bias=network.bias.numpy(),
    )


@pytest.fixture(scope="module")
def series():
    return mackey_glass(1600)[:, None] - 0.93


@pytest.mark.equation("echo-state-update")
@settings(max_examples=15, deadline=None)
@given(
    h=st.integers(1, 12),
    d=st.integers(1, 4),
    t=st.integers(1, 9),
    leak=st.floats(0.05, 1),
    density=st.sampled_from([0.3, 1.0]),
    seed=st.integers(0, 99),
)
def test_states_are_those_of_reservoirpy(h, d, t, leak, density, seed):
    network = EchoStateNetwork(
        d, h, 1.1, leak, bias_scaling=0.3, density=density, seed=seed
    )  # fmt: skip
    x = noise(t, d, seed=seed)
    same(network.states(x), theirs(network).run(x.numpy()))


@pytest.mark.equation("echo-state-update")
def test_without_a_leak_the_states_are_those_of_torchs_rnn():
    network = EchoStateNetwork(3, 7, bias_scaling=0.5)
    rnn = torch.nn.RNN(3, 7).double()
    rnn.load_state_dict({
        "weight_ih_l0": network.input, "weight_hh_l0": network.recurrent,
        "bias_ih_l0": network.bias, "bias_hh_l0": torch.zeros(7),
    })  # fmt: skip
    x, start = noise(11, 3), noise(7, seed=1)
    same(network.states(x, start), rnn(x, start[None])[0].detach())


SHAPES = pytest.mark.parametrize(
    ("units", "density", "sparse"), [(7, 1.0, False), (90, 0.1, False), (400, 0.05, True)]
)


@SHAPES
@pytest.mark.parametrize("leak", [1.0, 0.3])
@pytest.mark.parametrize("started", [False, True])
def test_the_walk_in_numpy_is_the_readable_one(units, density, sparse, leak, started, monkeypatch):
    network = EchoStateNetwork(2, units, 1.2, leak, bias_scaling=0.3, density=density)
    x, start = noise(310, 2), noise(units, seed=1) if started else None
    made = []
    whole = in_numpy.csr_array
    monkeypatch.setattr(in_numpy, "csr_array", lambda *a: made.append(a) or whole(*a))
    fast = network.states(x, start)
    assert bool(made) == sparse
    same(fast, network.loop(x, start))


@SHAPES
@pytest.mark.parametrize("leak", [1.0, 0.3])
def test_the_free_run_in_numpy_is_the_readable_one(units, density, sparse, leak, monkeypatch):
    network = EchoStateNetwork(2, units, 0.9, leak, bias_scaling=0.3, density=density)
    network.readout = 0.3 * noise(2, units + 3) / units**0.5
    start, last = noise(units).tanh(), noise(2, seed=1)
    network._remember(start, last)
    fast, state = network.generate(310), network.state
    network._remember(start, last)
    monkeypatch.setattr(in_numpy, "arrays", lambda *tensors: None)  # as on a GPU
    same(fast, network.generate(310))
    same(state, network.state)
    same(network.last, fast[-1])


def test_derivatives_pass_through_the_walk():
    """Backwards, and forwards, which leaves no mark that numpy would refuse."""
    network, x, along = EchoStateNetwork(1, 5, leak=0.5), noise(6, 1), noise(6, 1, seed=1)
    nudge = 1e-6
    wanted = (network.states(x + nudge * along) - network.states(x - nudge * along)) / (2 * nudge)
    with torch.autograd.forward_ad.dual_level():
        dual = network.states(torch.autograd.forward_ad.make_dual(x, along))
        same(torch.autograd.forward_ad.unpack_dual(dual).tangent, wanted, atol=1e-9)
    x.requires_grad_()
    (slope,) = torch.autograd.grad(network.states(x).sum(), x)
    same((slope * along).sum(), wanted.sum(), atol=1e-8)


@pytest.mark.equation("echo-state-readout")
def test_outputs_are_a_linear_map_of_state_input_and_one():
    network = EchoStateNetwork(2, 6, leak=0.4, ridge=1e-3)
    x, y = noise(80, 2), noise(80, 3, seed=1)
    out = network.fit(x, y, washout=10).predict(x)
    linear = torch.nn.Linear(8, 3).double()
    with torch.no_grad():
        linear.weight.copy_(network.readout[:, :8])
        linear.bias.copy_(network.readout[:, 8])
    same(out, linear(torch.cat([network.states(x), x], 1)).detach())
    assert network(x).equal(out)


def test_only_predicting_moves_the_network(series):
    network = EchoStateNetwork(1, 20, ridge=1e-6).fit(series[:300], series[1:301])
    kept = {name: value.clone() for name, value in network.state_dict().items()}
    network(series[500:600])
    torch.testing.assert_close(network.state_dict(), kept, rtol=0, atol=0)
    out = network.predict(series[500:600])
    assert network.last.equal(out[-1])
    assert network.state.equal(network.states(series[500:600])[-1])


@settings(max_examples=15, deadline=None)
@given(p=st.integers(1, 8), t=st.integers(1, 30), ridge=st.sampled_from([1e-3, 0.1, 10.0]))
def test_the_repaired_answer_is_that_of_the_rotations(p, t, ridge):
    features, wanted = noise(t, p), noise(t, 3, seed=1)
    wanted[:, 1] = 0
    same(_repaired(features, wanted, ridge), ridge_regression(features, wanted, ridge))


def test_the_repaired_answer_loses_no_digit_on_a_reservoir(series):
    """It is as good as rounding lets QR be, which the normal equations alone miss by decades."""
    network = EchoStateNetwork(1, 200, ridge=1e-8, bias_scaling=0.2)
    features = network._features(network.states(series[:-1]), series[:-1])[100:]
    wanted = torch.cat([series[101:], 1e-6 * series[100:-1].roll(7)], 1)  # of different sizes
    exact = ridge_regression(features, wanted, 1e-8)
    gram = features.T @ features + 1e-8 * torch.eye(202).double()
    plain = torch.cholesky_solve(features.T @ wanted, torch.linalg.cholesky(gram))
    lost, kept = (
        ((answer - exact).norm(dim=0) / exact.norm(dim=0)).max()
        for answer in (plain, _repaired(features, wanted, 1e-8))
    )
    rounding = 2.0**-52 * torch.linalg.cond(gram).sqrt()  # the condition of the taller matrix
    assert kept < 10 * rounding < 1e-2 * lost
    fitted = network.fit(series[:-1], series[1:]).readout.T
    assert (fitted - exact[:, :1]).norm() < 10 * rounding * exact[:, :1].norm()


@pytest.mark.parametrize(("dtype", "ridge"), [(torch.float64, 1e-16), (torch.float32, 1e-6)])
def test_where_the_normal_equations_are_too_rough_the_rotations_answer(series, dtype, ridge):
    network = EchoStateNetwork(1, 200, ridge=ridge, bias_scaling=0.2, dtype=dtype)
    network.recurrent[1], network.input[1] = network.recurrent[0], network.input[0]
    network.bias[1] = network.bias[0]  # one unit twice
    features = network._features(network.states(series[:-1]), series[:-1])[100:]
    wanted = series[101:].to(dtype)
    assert _repaired(features, wanted, ridge) is None
    network.fit(series[:-1], series[1:])
    assert network.readout.T.equal(ridge_regression(features, wanted, ridge))


@pytest.mark.parametrize("dtype", [None, torch.float32])
def test_it_stands_where_it_is_asked_for_with_the_numbers_of_its_seed(dtype):
    network = EchoStateNetwork(2, 5, bias_scaling=0.1, dtype=dtype)
    double = EchoStateNetwork(2, 5, bias_scaling=0.1)
    for name, value in network.state_dict().items():
        assert value.dtype == (dtype or torch.float64)
        torch.testing.assert_close(value.double(), getattr(double, name), rtol=1e-6, atol=1e-7)
    with torch.device("meta"):
        inside = EchoStateNetwork(2, 5)
    for made in (EchoStateNetwork(2, 5, device="meta"), inside):
        assert all(value.is_meta for value in made.buffers())
    assert inside.states(torch.empty(7, 2, device="meta")).shape == (7, 5)


def test_it_compiles_as_one_graph(series, monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    network = EchoStateNetwork(1, 8).fit(series[:200], series[1:201])
    torch.compiler.reset()
    compiled = torch.compile(network, fullgraph=True, backend="eager")
    same(compiled(series[:9]), network(series[:9]))


@pytest.mark.equation("echo-state-objective", "echo-state-ridge")
@settings(max_examples=15, deadline=None)
@given(
    p=st.integers(1, 8),
    t=st.integers(1, 30),
    k=st.integers(1, 3),
    ridge=st.sampled_from([1e-3, 0.1, 10.0]),
)
def test_the_readout_is_where_the_objective_has_no_slope(p, t, k, ridge):
    features, wanted = noise(t, p), noise(t, k, seed=1)
    found = ridge_regression(features, wanted, ridge)
    weights = found.clone().requires_grad_()
    loss = (features @ weights - wanted).pow(2).sum() + ridge * weights.pow(2).sum()
    (slope,) = torch.autograd.grad(loss, weights)
    same(slope, torch.zeros_like(slope), atol=1e-9)
    f, y = features.numpy().T, wanted.numpy().T  # columns are steps, as in the chapter
    closed = y @ f.T @ np.linalg.inv(f @ f.T + ridge * np.eye(p))
    same(found.T, closed, atol=1e-9)


@pytest.mark.equation("echo-state-stacked")
def test_the_penalty_is_the_same_as_more_rows():
    features, wanted = noise(40, 9), noise(40, 2, seed=1)
    taller = np.vstack([features.numpy(), 0.7**0.5 * np.eye(9)])
    target = np.vstack([wanted.numpy(), np.zeros((9, 2))])
    same(ridge_regression(features, wanted, 0.7), scipy.linalg.lstsq(taller, target)[0])


def test_without_a_penalty_it_is_least_squares_of_least_norm():
    features = noise(5, 9)  # fewer rows than columns
    wanted = noise(5, 1, seed=1)
    same(
        ridge_regression(features, wanted, 0),
        np.linalg.pinv(features.numpy()) @ wanted.numpy(),
        1e-10,
    )


def test_in_single_precision_the_solver_survives_where_an_inverse_does_not(series):
    network = EchoStateNetwork(1, 200, ridge=1e-8, bias_scaling=0.2).fit(series[:-1], series[1:])
    features = network._features(network.states(series[:-1]), series[:-1])[100:].float()
    wanted = series[101:].float()
    gram = features.T @ features + 1e-8 * torch.eye(202)
    inverse = torch.linalg.inv_ex(gram)[0] @ (features.T @ wanted)
    assert torch.linalg.cholesky_ex(gram)[1] > 0  # rounding took its positive definiteness
    errors = [
        (features @ weights - wanted).pow(2).mean().sqrt()
        for weights in (ridge_regression(features, wanted, 1e-8), inverse)
    ]
    assert errors[0] < 1e-4
    assert not errors[1] < 1e-2


def test_fitted_with_reservoirpys_ridge_it_predicts_the_same(series):
    network = EchoStateNetwork(1, 60, leak=0.5, ridge=1e-4, bias_scaling=0.2)
    x, y = series[:800], series[1:801]
    out = network.fit(x, y, washout=100).predict(x)
    features = np.hstack([theirs(network).run(x.numpy()), x.numpy(), np.ones((len(x), 1))])
    ridge = nodes.Ridge(ridge=1e-4, fit_bias=False).fit(features, y.numpy(), warmup=100)
    same(out, ridge.run(features), atol=1e-8)


@pytest.mark.equation("echo-state-free-run")
def test_generating_feeds_each_output_back(series):
    network = EchoStateNetwork(1, 40, ridge=1e-6, bias_scaling=0.2).fit(series[:500], series[1:501])
    state, x, wanted = network.states(series[:500])[-1], series[500], []
    for _ in range(20):
        state = network.states(x[None], state)[0]
        x = network.readout @ torch.cat([state, x, torch.ones(1).double()])
        wanted.append(x)
    same(network.generate(20), torch.stack(wanted))


def test_generating_in_two_parts_is_generating_once(series):
    network = EchoStateNetwork(1, 40, ridge=1e-6).fit(series[:500], series[1:501])
    whole = network.generate(12)
    network.fit(series[:500], series[1:501])
    same(torch.cat([network.generate(5), network.generate(7)]), whole)


def test_it_goes_on_with_mackey_glass_for_hundreds_of_steps():
    series = mackey_glass(2300)[:, None] - 0.93
    network = EchoStateNetwork(1, 300, 0.9, ridge=1e-8, bias_scaling=0.2)
    network.fit(series[:2000], series[1:2001])
    assert (network.generate(290) - series[2001:2291]).abs().max() < 0.5 * series.std()


@pytest.mark.equation("echo-state-mackey-glass")
def test_the_series_has_the_slope_of_its_equation():
    fine = mackey_glass(17 * 20 + 60, substeps=20).numpy()
    now, delayed = fine[17:], fine[:-17]
    middle = slice(3, -3)
    # Derivative by central differences of sixth order, one unit of time apart.
    slope = sum(
        c * (np.roll(now, -k) - np.roll(now, k)) for k, c in ((1, 3 / 4), (2, -3 / 20), (3, 1 / 60))
    )
    wanted = 0.2 * delayed / (1 + delayed**10) - 0.1 * now
    np.testing.assert_allclose(slope[middle], wanted[middle], atol=2e-3)


@pytest.mark.equation("echo-state-pencil")
def test_the_pencil_example():
    first = 0.5 * np.tanh(1.0)
    second = 0.5 * first + 0.5 * np.tanh(0.5 * first)
    u = (first + second) / (first**2 + second**2 + 0.1)
    states = torch.tensor([[first], [second]])
    same(ridge_regression(states, torch.ones(2, 1).double(), 0.1), [[u]])
    assert [round(v, d) for v, d in ((first, 4), (second, 4), (u, 2))] == [0.3808, 0.2845, 2.04]


def test_states_in_pieces_are_the_states():
    network = EchoStateNetwork(2, 8, leak=0.3)
    x = noise(20, 2)
    whole = network.states(x)
    same(torch.cat([whole[:9], network.states(x[9:], whole[8])]), whole)


@pytest.mark.equation("echo-state-property")
@pytest.mark.parametrize("leak", [1.0, 0.3])
def test_two_starts_become_one_below_radius_one_and_with_strong_input_above(leak):
    starts = noise(2, 60).clamp(-1, 1)

    def apart(radius, amplitude):
        network = EchoStateNetwork(1, 60, radius, leak, input_scaling=2.0)
        a, b = (network.states(amplitude * noise(800, 1, seed=3), start) for start in starts)
        return (a[-1] - b[-1]).norm()

    assert apart(0.8, 0.1) < 1e-10
    assert apart(1.6, 0.0) > 0.1
    assert apart(1.6, 3.0) < 1e-10


@pytest.mark.equation("echo-state-sufficient")
@settings(max_examples=20, deadline=None)
@given(leak=st.floats(0.05, 1), gain=st.floats(0.1, 3), seed=st.integers(0, 99))
def test_no_step_stretches_a_distance_by_more_than_the_bound(leak, gain, seed):
    network = EchoStateNetwork(1, 5, gain, leak, seed=seed)
    x, starts = noise(1, 1, seed=seed), noise(2, 5, seed=seed + 1)
    after = torch.stack([network.states(x, start)[0] for start in starts])
    largest = np.linalg.svd(network.recurrent.numpy(), compute_uv=False)[0]
    stretched = (after[0] - after[1]).norm() / (starts[0] - starts[1]).norm()
    assert stretched <= (1 - leak) + leak * largest + 1e-12


@pytest.mark.equation("echo-state-leaky-linear")
@pytest.mark.parametrize("leak", [1.0, 0.3])
def test_the_jacobian_at_rest_mixes_the_identity_in(leak):
    network = EchoStateNetwork(1, 6, 0.99, leak)
    zero = torch.zeros(1, 1).double()
    jacobian = torch.autograd.functional.jacobian(
        lambda h: network.states(zero, h)[0], torch.zeros(6).double()
    )
    same(jacobian, (1 - leak) * np.eye(6) + leak * network.recurrent.numpy())


@pytest.mark.equation("echo-state-nilpotent")
def test_the_nilpotent_reservoir_has_radius_zero_and_a_large_singular_value():
    assert (NILPOTENT == [[-2, 16], [-0.25, 2]]).all()
    assert V_VECTOR @ U_VECTOR == 0
    assert (NILPOTENT @ NILPOTENT == 0).all()
    assert np.linalg.svd(NILPOTENT, compute_uv=False)[0] == pytest.approx(16.25, abs=0.01)


def test_radius_zero_lets_small_states_die_to_first_order_only():
    """W² is zero, and yet two steps leave about 42 s³ of a small s."""
    assert not (NILPOTENT @ NILPOTENT).any()
    for s in (1e-3, 1e-4):
        left = V_VECTOR @ np.tanh(s * U_VECTOR)
        assert left == pytest.approx(42 * s**3, rel=2e-3, abs=1e-18)
        twice = np.tanh(NILPOTENT @ np.tanh(s * U_VECTOR))
        assert twice == pytest.approx(42 * s**3 * U_VECTOR, rel=2e-3)
        assert twice.all()


@pytest.mark.equation("echo-state-scalar")
def test_the_nilpotent_reservoir_has_three_attractors_and_their_basins():
    edge = brentq(lambda s: 2 * np.tanh(s) - np.tanh(8 * s) / 4 - s, 0.1, 1.0)
    far = brentq(lambda s: 2 * np.tanh(s) - np.tanh(8 * s) / 4 - s, 1.0, 3.0)
    axis = np.linspace(-1, 1, 301)
    starts = np.stack(np.meshgrid(axis, axis), -1).reshape(-1, 2)
    states = starts
    for _ in range(400):  # the two-unit network itself, by brute force
        states = np.tanh(states @ NILPOTENT.T)
    drive = starts @ V_VECTOR
    wanted = np.tanh(far * U_VECTOR)[None] * (np.sign(drive) * (abs(drive) > edge))[:, None]
    assert abs(states - wanted).max() < 1e-6
    assert wanted[-1] == pytest.approx([1, 0.92], abs=1e-3)
    assert (abs(states).max(1) < 1e-6).mean() == pytest.approx(edge / 2, abs=0.005)  # 12.5 %


def test_a_leaky_unit_forgets_at_radius_three():
    """The slope of one step is (1 − α) + αws with 0 ≤ s ≤ 1: within ±0.7 for w = −3, α = 0.3."""
    network = EchoStateNetwork(1, 1, 3.0, 0.3)
    network.recurrent.fill_(-3.0)
    x = noise(200, 1)
    a, b = (network.states(x, torch.tensor([start]).double()) for start in (-1.0, 1.0))
    assert ((a - b).abs()[:, 0] <= 2 * 0.7 ** torch.arange(1.0, 201.0) + 1e-14).all()


@pytest.mark.equation("echo-state-memory")
def test_a_linear_reservoir_remembers_as_many_inputs_as_it_has_units():
    """A shift register keeps its last 8 inputs, and independent inputs beyond not at all."""
    n, t = 8, 4000
    network = EchoStateNetwork(1, n, ridge=1e-12, input_scaling=1e-4)
    network.recurrent.copy_(torch.diag(torch.ones(n - 1), -1))
    network.input.zero_()[0] = 1e-4  # so small that tanh is straight
    x = noise(t, 1)
    delayed = torch.cat([torch.roll(x, k) for k in range(1, 16)], 1)
    network.fit(x * 1.0, delayed, washout=20)
    out = network.predict(x)
    r2 = [np.corrcoef(out[20:, k], delayed[20:, k])[0, 1] ** 2 for k in range(15)]
    assert sum(r2) <= n
    assert sum(r2) == pytest.approx(n - 1, abs=0.1)  # one place holds the input of now


def test_the_spectral_radius_and_the_density_are_as_asked():
    network = EchoStateNetwork(1, 80, 1.3, density=0.1)
    assert np.abs(np.linalg.eigvals(network.recurrent.numpy())).max() == pytest.approx(1.3)
    assert 0.07 < (network.recurrent != 0).double().mean() < 0.13
    assert not EchoStateNetwork(1, 5, 0.0).recurrent.any()


def test_seeds_draw_and_repeat():
    a, b, c = (EchoStateNetwork(1, 6, seed=seed).recurrent for seed in (3, 3, 4))
    assert a.equal(b)
    assert not a.equal(c)


def test_a_saved_network_goes_on_where_it_stood(tmp_path, series):
    network = EchoStateNetwork(1, 20, ridge=1e-6).fit(series[:300], series[1:301])
    save_file(network.state_dict(), tmp_path / "it")
    fresh = EchoStateNetwork(1, 20, seed=7)
    fresh.load_state_dict(load_file(tmp_path / "it"))
    same(fresh.generate(9), network.generate(9), atol=0)


def test_single_precision_input_is_read_in_double(series):
    network = EchoStateNetwork(1, 20).fit(series[:300].float(), series[1:301].float())
    assert network.predict(series[:5].float()).dtype == torch.float64


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"input_size": 0}, ValueError, "input_size=0"),
        ({"reservoir_size": 0}, ValueError, "reservoir_size=0"),
        ({"reservoir_size": 2.5}, TypeError, "reservoir_size=2.5"),
        ({"spectral_radius": -0.1}, ValueError, "spectral_radius=-0.1"),
        ({"leak": 0}, ValueError, "leak=0"),
        ({"leak": 1.5}, ValueError, "leak=1.5"),
        ({"ridge": -1e-3}, ValueError, "ridge=-0.001"),
        ({"input_scaling": 0}, ValueError, "input_scaling=0"),
        ({"bias_scaling": -1}, ValueError, "bias_scaling=-1"),
        ({"density": 0}, ValueError, "density=0"),
        ({"seed": -1}, ValueError, "seed=-1"),
    ],
)
def test_bad_arguments_are_named(changes, error, message):
    with refuses(error, message):
        EchoStateNetwork(**{"input_size": 1, "reservoir_size": 4, **changes})


def test_bad_use_is_named():
    network, x = EchoStateNetwork(2, 4), noise(10, 2)
    for use in (lambda: network.predict(x), lambda: network.generate(3)):
        with refuses(RuntimeError, "call fit(x, y) first"):
            use()
    for bad, message in (
        (x[:0], "x must not be empty"),
        (x[:, :1], "x must have shape (t, 2), got (10, 1)"),
        (x[None], "x must have shape (t, 2), got (1, 10, 2)"),
        (x / 0, "x must be finite"),
    ):
        with refuses(ValueError, message):
            network.fit(bad, x)
    with refuses(TypeError, "x must be floating point"):
        network.states(torch.ones(3, 2, dtype=torch.long))
    with refuses(ValueError, "state must have shape (4)"):
        network.states(x, noise(5))
    with refuses(ValueError, "y must have shape (10, k), got (9, 2)"):
        network.fit(x, x[1:], washout=0)
    with refuses(ValueError, "washout=10 leaves none of the 10 steps"):
        network.fit(x, x, washout=10)
    with refuses(ValueError, "washout=-1"):
        network.fit(x, x, washout=-1)
    network.fit(x, x[:, :1], washout=0)
    with refuses(ValueError, "as many outputs as inputs, got 1 and 2"):
        network.generate(3)
    with refuses(ValueError, "steps=0"):
        network.fit(x, x, washout=0).generate(0)
    with refuses(ValueError, "ridge=-1"):
        ridge_regression(x, x, -1)
    with refuses(ValueError, "wanted must have shape (10, k)"):
        ridge_regression(x, x[1:], 1)
