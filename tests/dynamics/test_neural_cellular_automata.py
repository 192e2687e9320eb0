"""The neural cellular automaton against loops over cells, convolutions and symmetries."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage
from torch import nn
from torch.nn import functional as F

from nnlib.dynamics._perception import BANDED
from nnlib.dynamics.neural_cellular_automata import (
    NeuralCellularAutomaton,
    SamplePool,
    disc_masks,
    half_plane_masks,
    living,
    normalize_gradients,
    perceive,
    perceive_reference,
)
from tests.support import Example, refuses

PERCEPTIONS = ("sobel", "laplacian", "both")
PADDINGS = ("zeros", "circular")
SOBEL = [[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]]
both_paddings = pytest.mark.parametrize("padding", PADDINGS)
all_perceptions = pytest.mark.parametrize("perception", PERCEPTIONS)


def example() -> Example:
    """What the contract runs: see `tests/test_contract.py`."""

    def prepare(automaton):
        torch.nn.init.normal_(automaton.out.weight, std=0.2)
        return automaton

    arguments = {"channels": 5, "hidden_size": 7, "fire_rate": 1.0, "threshold": 0.1}
    return Example(arguments, (torch.rand(2, 5, 6, 4),), {"num_steps": 3}, prepare)


def grid(*shape: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(*shape, generator=generator, dtype=torch.float64) - 0.4


def automaton(**changes) -> NeuralCellularAutomaton:
    """One whose last layer is not zero, so that it moves, in float64."""
    torch.manual_seed(3)
    given = {"channels": 4, "hidden_size": 6, "fire_rate": 1.0, "dtype": torch.float64} | changes
    made = NeuralCellularAutomaton(**given)
    torch.nn.init.normal_(made.out.weight, std=0.3)
    return made


def at(s, y, x, padding):
    """The state of a cell, by its place; beyond the edge there is nothing, or the other side."""
    rows, columns = s.shape[-2:]
    if padding == "circular":
        return s[..., y % rows, x % columns]
    inside = 0 <= y < rows and 0 <= x < columns
    return s[..., y, x] if inside else torch.zeros_like(s[..., 0, 0])


def seen_by_a_cell(s, y, x, perception, padding):
    """Sums over the eight neighbours, one after the other."""
    gx = gy = lap = 0
    for down in (-1, 0, 1):
        for across in (-1, 0, 1):
            there = at(s, y + down, x + across, padding)
            gx = gx + SOBEL[down + 1][across + 1] * there / 8
            gy = gy + SOBEL[across + 1][down + 1] * there / 8
            weight = (2 - abs(down)) * (2 - abs(across)) - 16 * (down == across == 0)
            lap = lap + weight * there / 16
    here = at(s, y, x, padding)
    parts = {"sobel": [here, gx, gy], "laplacian": [here, lap], "both": [here, gx, gy, lap]}
    return torch.cat(parts[perception], -1)


# -------------------------------------------------------------------------------------- perception
@pytest.mark.equation("neural-cellular-automata-perception", "neural-cellular-automata-laplacian")
@all_perceptions
@both_paddings
def test_what_a_cell_sees_is_a_sum_over_its_neighbours(perception, padding):
    s = grid(2, 3, 5, 4)
    seen = perceive(s, perception, padding=padding)
    for y in range(5):
        for x in range(4):
            wanted = seen_by_a_cell(s, y, x, perception, padding)
            torch.testing.assert_close(seen[..., y, x], wanted)


@all_perceptions
@both_paddings
@pytest.mark.parametrize("sides", [(1, 1), (2, 3), (7, 2), (16, 9)])
def test_two_banded_matrices_do_what_convolutions_do(perception, padding, sides):
    s = grid(2, 3, *sides)
    got = perceive(s, perception, angle=0.7, padding=padding)
    wanted = perceive_reference(s, perception, angle=0.7, padding=padding)
    torch.testing.assert_close(got, wanted, rtol=0, atol=1e-14)


@pytest.mark.parametrize(("mode", "padding"), [("constant", "zeros"), ("wrap", "circular")])
def test_scipys_sobel_over_eight_is_the_slope(mode, padding):
    s = grid(1, 1, 7, 6)
    seen = perceive(s, padding=padding)[0].numpy()
    for channel, axis in ((1, 1), (2, 0)):
        wanted = ndimage.sobel(s[0, 0].numpy(), axis=axis, mode=mode) / 8
        np.testing.assert_allclose(seen[channel], wanted, atol=1e-15)


def test_the_slope_of_a_ramp_is_its_slope_and_its_laplacian_nothing():
    y, x = torch.meshgrid(torch.arange(5.0), torch.arange(6.0), indexing="ij")
    seen = perceive((3 * x - 2 * y)[None, None], "both")[0, :, 1:-1, 1:-1]
    for channel, slope in ((1, 3.0), (2, -2.0), (3, 0.0)):
        torch.testing.assert_close(seen[channel], torch.full((3, 4), slope))


def test_the_laplacian_of_a_paraboloid_is_its_curvature():
    """It averages over the eight neighbours: of x² + y² it is 1 everywhere, a quarter of ∇²."""
    y, x = torch.meshgrid(torch.arange(6.0), torch.arange(6.0), indexing="ij")
    seen = perceive((x**2 + y**2)[None, None], "laplacian")[0, 1, 1:-1, 1:-1]
    torch.testing.assert_close(seen, torch.ones(4, 4))


@all_perceptions
def test_a_large_grid_is_convolved_and_nothing_changes(perception):
    wide = automaton(perception=perception)
    s = grid(1, 4, 3, BANDED + 1)
    left = wide.step(s)[..., : BANDED - 2]  # the same cells in a grid that matrices filter
    torch.testing.assert_close(left, wide.step(s[..., :BANDED])[..., : BANDED - 2])
    seen = perceive(s, perception, padding="circular")
    torch.testing.assert_close(seen, perceive_reference(s, perception, padding="circular"))


# --------------------------------------------------------------------------------------- symmetries
@pytest.mark.equation("neural-cellular-automata-rotation")
def test_turned_axes_see_the_gradient_in_turned_coordinates():
    s = grid(1, 2, 5, 5)
    angle = 0.4
    _, _, gx0, gx1, gy0, gy1 = perceive(s)[0]
    turned = perceive(s, angle=angle)[0]
    matrix = torch.tensor([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    for channel, (gx, gy) in enumerate(((gx0, gy0), (gx1, gy1))):
        wanted = torch.einsum("ij,jyx->iyx", matrix.double(), torch.stack([gx, gy]))
        torch.testing.assert_close(turned[2 + channel], wanted[0])
        torch.testing.assert_close(turned[4 + channel], wanted[1])


@both_paddings
@pytest.mark.parametrize("quarters", [1, 2, 3])
def test_a_grid_turned_by_quarters_grows_turned_if_its_cells_are_turned_back(padding, quarters):
    made = automaton(padding=padding)
    s = grid(1, 4, 6, 6)
    # rot90 turns from y towards −x … so the cells' axes turn the other way
    got = made.grow(s.rot90(quarters, (2, 3)), 3, angle=quarters * math.pi / 2)
    torch.testing.assert_close(got, made.grow(s, 3).rot90(quarters, (2, 3)))


def test_cells_that_know_their_axes_tell_a_turned_grid_apart():
    made = automaton()
    s = grid(1, 4, 6, 6)
    assert (made.step(s.rot90(1, (2, 3))) - made.step(s).rot90(1, (2, 3))).abs().max() > 0.01


@both_paddings
@pytest.mark.parametrize("change", [lambda s: s.rot90(1, (2, 3)), lambda s: s.flip(-1)])
def test_cells_that_see_a_laplacian_have_no_direction(padding, change):
    made = automaton(perception="laplacian", padding=padding)
    s = grid(1, 4, 6, 6)
    torch.testing.assert_close(made.grow(change(s), 3), change(made.grow(s, 3)))


@given(down=st.integers(-9, 9), across=st.integers(-9, 9))
def test_on_a_torus_a_moved_grid_grows_moved(down, across):
    made = automaton(padding="circular")
    s = grid(1, 4, 6, 5)

    def moved(state):
        return state.roll((down, across), (2, 3))

    torch.testing.assert_close(made.grow(moved(s), 3), moved(made.grow(s, 3)))


def test_away_from_the_border_zeros_do_not_matter_and_at_the_border_they_do():
    inner, torus = automaton(), automaton(padding="circular")
    for made in (inner, torus):
        made.out.weight.data.abs_()  # what lives grows
    s = torch.zeros(1, 4, 9, 9, dtype=torch.float64)
    s[..., 4, 4] = 1
    torch.testing.assert_close(inner.grow(s, 3), torus.grow(s, 3))
    assert (inner.grow(s, 8) - torus.grow(s, 8)).abs().max() > 1e-3


def test_nothing_travels_faster_than_a_cell_a_step():
    made = automaton(alive=None)
    s, other = grid(1, 4, 9, 9), grid(1, 4, 9, 9)
    other[..., 4, 4] += 1
    changed = (made.path(s, 3) != made.path(other, 3)).any(2)[:, 0]
    for step, cells in enumerate(changed):
        reach = torch.zeros(9, 9, dtype=torch.bool)
        reach[4 - step : 5 + step, 4 - step : 5 + step] = True
        assert torch.equal(cells, reach)


# -------------------------------------------------------------------------------------------- alive
@pytest.mark.equation("neural-cellular-automata-alive")
@both_paddings
def test_a_cell_lives_if_it_or_a_neighbour_exceeds_the_threshold(padding):
    s = grid(2, 4, 5, 6)
    alive = living(s, 2, 0.45, padding=padding)
    for y in range(5):
        for x in range(6):
            near = [at(s, y + dy, x + dx, padding) for dy in (-1, 0, 1) for dx in (-1, 0, 1)]
            wanted = torch.stack(near).amax(0)[:, 2] > 0.45
            assert torch.equal(alive[:, 0, y, x], wanted)
    assert 0.1 < alive.double().mean() < 0.9


def test_the_threshold_itself_does_not_live():
    s = torch.zeros(1, 1, 3, 3)
    s[..., 1, 1] = 0.5
    assert not living(s, 0, 0.5).any() and living(s, 0, 0.4999).all()


@pytest.mark.parametrize("sides", [(6, 5), (3, BANDED + 1)])
def test_what_does_not_live_before_and_after_is_set_to_zero(sides):
    made = automaton(threshold=0.3)
    s = 0.8 * grid(2, 4, *sides)
    free = automaton(alive=None).step(s)
    mask = living(s, 3, 0.3) & living(free, 3, 0.3)
    torch.testing.assert_close(made.step(s), free * mask)
    assert (living(s, 3, 0.3) != living(free, 3, 0.3)).any()


def test_an_empty_grid_stays_empty_with_the_mask_and_need_not_without():
    empty = torch.zeros(1, 4, 5, 5, dtype=torch.float64)
    assert not automaton().grow(empty, 4).any()
    assert automaton(alive=None).step(empty).any()  # a bias speaks without being asked


# ------------------------------------------------------------------------------------------- a step
@pytest.mark.equation("neural-cellular-automata-update", "neural-cellular-automata-step")
@all_perceptions
@both_paddings
def test_a_step_is_that_of_a_loop_over_cells(perception, padding):
    made = automaton(perception=perception, padding=padding)
    s = grid(1, 4, 4, 5)
    changed = s.clone()
    for y in range(4):
        for x in range(5):
            p = seen_by_a_cell(s, y, x, perception, padding)[0]
            hidden = (made.hidden.weight @ p + made.hidden.bias).clamp(min=0)
            changed[0, :, y, x] += made.out.weight @ hidden
    alive = living(s, padding=padding) & living(changed, padding=padding)
    torch.testing.assert_close(made.step(s), changed * alive)


def test_a_fresh_automaton_does_nothing_to_what_lives():
    fresh = NeuralCellularAutomaton(4, 6)
    s = torch.rand(2, 4, 5, 5) + 0.2
    assert torch.equal(fresh.grow(s, 5), s)
    assert not fresh.out.weight.any() and fresh.hidden.weight.any()


@pytest.mark.equation("neural-cellular-automata-mask")
def test_a_cell_fires_with_all_of_its_channels_or_none_and_as_often_as_the_rate_says():
    made = automaton(fire_rate=0.3, alive=None)
    s = grid(4, 4, 40, 40)
    whole = automaton(alive=None).step(s) - s
    torch.manual_seed(0)
    some = made.step(s) - s
    fired = (some != 0).any(1, keepdim=True)
    torch.testing.assert_close(some, whole * fired)
    share, n = fired.double().mean().item(), fired.numel()
    assert abs(share - 0.3) < 4 * math.sqrt(0.3 * 0.7 / n)
    rows = fired.double().mean((1, 2, 3))  # each grid draws its own
    assert len(rows.unique()) == 4 and fired.double().mean((0, 1, 2)).max() < 0.6


def test_draws_follow_a_generator_and_a_rate_of_one_draws_nothing():
    made = automaton(fire_rate=0.5)
    s = grid(1, 4, 6, 6)
    first, second = (made.grow(s, 3, generator=torch.Generator().manual_seed(7)) for _ in "ab")
    assert torch.equal(first, second)
    assert not torch.equal(first, made.grow(s, 3, generator=torch.Generator().manual_seed(8)))
    quiet, before = automaton(), torch.get_rng_state()
    quiet.grow(s, 3)
    assert torch.equal(before, torch.get_rng_state())


def test_growing_is_step_after_step_and_a_path_keeps_them_all():
    made = automaton()
    s = grid(2, 4, 5, 6)
    way = [s]
    for _ in range(4):
        way.append(made.step(way[-1], angle=0.3))
    path = made.path(s, 4, angle=0.3)
    torch.testing.assert_close(path, torch.stack(way))
    torch.testing.assert_close(made.grow(s, 4, angle=0.3), way[-1])
    assert torch.equal(made.grow(s, 0), s) and made.path(s, 0).shape == (1, 2, 4, 5, 6)
    torch.testing.assert_close(made(s), made.step(s))
    torch.testing.assert_close(made(s, 3), made.grow(s, 3))


def test_gradients_through_steps_are_those_of_finite_differences():
    made = automaton(channels=2, hidden_size=3, alive=None)
    s = grid(1, 2, 3, 3).requires_grad_()
    assert torch.autograd.gradcheck(lambda state: made.grow(state, 2), (s,))


def test_it_grows_in_bfloat16():
    made = automaton(dtype=torch.bfloat16)
    grown = made.grow(grid(1, 4, 5, 5).bfloat16(), 2)
    assert grown.dtype == torch.bfloat16 and torch.isfinite(grown).all()


# --------------------------------------------------------------------------------- seeds and sizes
def test_a_seed_is_one_cell_without_colour():
    made = NeuralCellularAutomaton()
    state = made.seed(7, 5)
    assert state.shape == (1, 16, 7, 5)
    assert state[0, :, 3, 2].tolist() == [0.0] * 3 + [1.0] * 13
    assert state.sum() == 13
    elsewhere = made.seed(4, at=(0, 3), visible=10)
    assert elsewhere[0, :, 0, 3].sum() == 6 and elsewhere.shape[2:] == (4, 4)
    grey = NeuralCellularAutomaton(8, 48, alive=0).seed(4)
    assert grey[0, :, 2, 2].tolist() == [1.0] * 8
    assert NeuralCellularAutomaton(3, 4, alive=None).seed(4).sum() == 3


@pytest.mark.parametrize(("perception", "sees"), [("sobel", 48), ("laplacian", 32), ("both", 64)])
def test_the_published_size(perception, sees):
    made = NeuralCellularAutomaton(perception=perception)
    numbers = sum(p.numel() for p in made.parameters())
    assert numbers == sees * 128 + 128 + 128 * 16
    assert "fire_rate=0.5, alive=3" in repr(made)


# --------------------------------------------------------------------------------- pool and damage
def test_the_worst_of_a_batch_becomes_the_seed_and_the_rest_is_what_the_pool_holds():
    seed = torch.full((1, 2, 3, 3), -1.0)
    pool = SamplePool(seed, 6, generator=torch.Generator().manual_seed(0))
    pool.put(torch.arange(6), torch.arange(6.0).view(6, 1, 1, 1).expand(6, 2, 3, 3))
    for _ in range(5):
        places, batch = pool.sample(4, lambda states: (states.mean((1, 2, 3)) - 2).square())
        values = pool.states[places].mean((1, 2, 3))
        assert len(places.unique()) == 4 and torch.equal(values, places.float())
        errors = (values - 2).square()
        assert torch.equal(errors, errors.sort(descending=True).values)
        assert torch.equal(batch[0], seed[0]) and torch.equal(batch[1:], pool.states[places[1:]])
    before = pool.states.clone()
    batch += 1  # a copy
    assert torch.equal(pool.states, before)


def test_what_is_put_back_stands_in_its_place_and_off_the_graph():
    pool = SamplePool(torch.zeros(1, 2, 3, 3), 5)
    assert pool.states.shape == (5, 2, 3, 3)
    grown = torch.ones(2, 2, 3, 3, requires_grad=True)
    pool.put(torch.tensor([3, 1]), grown * torch.tensor([1.0, 2.0]).view(2, 1, 1, 1))
    assert pool.states[:, 0, 0, 0].tolist() == [0, 2, 0, 1, 0]
    assert not pool.states.requires_grad
    assert sorted(pool.sample(5, lambda s: s.sum((1, 2, 3)))[0].tolist()) == [0, 1, 2, 3, 4]


def test_a_disc_is_a_disc_of_a_radius_and_a_centre_in_range():
    masks = disc_masks(400, 40, 60, generator=torch.Generator().manual_seed(0))
    assert set(masks.unique().tolist()) == {0.0, 1.0}
    y = ((torch.arange(40) + 0.5) / 20 - 1)[:, None].expand(40, 60)
    x = ((torch.arange(60) + 0.5) / 30 - 1).expand(40, 60)
    holes = 1 - masks[:, 0]
    area = holes.sum((1, 2)) * (2 / 40) * (2 / 60)
    radius = (area / math.pi).sqrt()
    assert 0.09 < radius.min() < 0.12 and 0.38 < radius.max() < 0.41
    centres = [(holes * side).sum((1, 2)) / holes.sum((1, 2)) for side in (y, x)]
    for centre in centres:
        assert -0.52 < centre.min() < -0.45 and 0.45 < centre.max() < 0.52
    far = holes * ((y - centres[0][:, None, None]) ** 2 + (x - centres[1][:, None, None]) ** 2)
    assert (far.amax((1, 2)).sqrt() < radius + 0.06).all()  # round, and in one piece
    assert not disc_masks(3, 5, 5, radius=(9, 9)).any()


def test_a_half_plane_lies_on_one_side_of_a_line_in_any_direction():
    draw = torch.Generator().manual_seed(0)
    masks = half_plane_masks(300, 16, 16, offset=0.0, generator=draw)
    torch.testing.assert_close(masks.mean((1, 2, 3)), torch.full((300,), 0.5), atol=0.05, rtol=0)
    assert torch.equal(masks + masks.flip(2, 3), torch.ones_like(masks))  # through the middle
    corners = masks[:, 0, [0, 0, -1, -1], [0, -1, 0, -1]].mean(0)
    assert (corners - 0.5).abs().max() < 0.15
    away = half_plane_masks(300, 16, 16, offset=0.4, generator=draw).mean((1, 2, 3))
    assert 0.2 < away.min() < 0.36 and 0.64 < away.max() < 0.8
    assert (half_plane_masks(40, 16, 16, generator=draw).mean((1, 2, 3)) - 0.5).abs().max() > 0.1


def test_draws_of_damage_follow_their_generator():
    for masks in (disc_masks, half_plane_masks):
        one, other = (masks(4, 9, 7, generator=torch.Generator().manual_seed(1)) for _ in "ab")
        assert one.shape == (4, 1, 9, 7) and torch.equal(one, other)
        assert not torch.equal(one, masks(4, 9, 7, generator=torch.Generator().manual_seed(2)))


# ----------------------------------------------------------------------------------------- training
@pytest.mark.equation("neural-cellular-automata-loss")
def test_the_loss_is_a_mean_over_the_last_steps_of_the_visible_channels():
    """What the chapter trains by, against sums over cells; hidden channels are free."""
    made = automaton(alive=0)
    s, target = grid(2, 4, 5, 5), grid(1, 1, 5, 5, seed=1)
    path = made.path(s, 6)
    loss = F.mse_loss(path[-3:, :, :1], target.expand(3, 2, 1, 5, 5))
    total = 0.0
    for state in path[4:]:
        for one in state:
            for y in range(5):
                for x in range(5):
                    total += (one[0, y, x] - target[0, 0, y, x]).square().item()
    assert loss.item() == pytest.approx(total / (3 * 2 * 25))
    other = path.detach().clone()
    other[:, :, 1:] = 9.0
    torch.testing.assert_close(F.mse_loss(other[-3:, :, :1], target.expand(3, 2, 1, 5, 5)), loss)


@pytest.mark.equation("neural-cellular-automata-normalized")
def test_each_gradient_is_scaled_to_length_one_and_keeps_its_direction():
    weights = [torch.nn.Parameter(grid(3, 4, seed=k)) for k in range(3)]
    (5 * weights[0].square().sum() + 1e-3 * weights[1].sin().sum()).backward()
    before = [w.grad.clone() if w.grad is not None else None for w in weights]
    normalize_gradients(weights)
    for weight, old in zip(weights[:2], before, strict=False):
        assert np.linalg.norm(weight.grad.numpy()) == pytest.approx(1, abs=1e-4)
        cosine = F.cosine_similarity(weight.grad.flatten(), old.flatten(), 0)
        assert cosine.item() == pytest.approx(1)
    assert weights[2].grad is None
    weights[0].grad.zero_()
    normalize_gradients(weights[:1])
    assert not weights[0].grad.any()  # zero stays zero, and no NaN
    weights[0].grad.fill_(1.0)
    normalize_gradients(weights[:1], eps=math.sqrt(12))
    torch.testing.assert_close(weights[0].grad, torch.full((3, 4), 0.5 / math.sqrt(12)).double())
    with refuses(ValueError, "eps=0"):
        normalize_gradients(weights, eps=0)


def test_a_few_steps_of_training_learn_to_grow_a_square():
    torch.manual_seed(0)
    made = NeuralCellularAutomaton(4, 24, fire_rate=1.0, alive=0)
    seed = made.seed(8)
    target = torch.zeros(1, 1, 8, 8)
    target[..., 2:7, 2:7] = 1
    adam = torch.optim.Adam(made.parameters(), lr=5e-3)
    first = F.mse_loss(made.grow(seed, 6)[:, :1], target).item()
    for _ in range(80):
        loss = F.mse_loss(made.grow(seed, 6)[:, :1], target)
        adam.zero_grad()
        loss.backward()
        normalize_gradients(made.parameters())
        adam.step()
    assert loss.item() < first / 3


# ----------------------------------------------------------------------------------------- refusals
@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"fire_rate": 0.0}, ValueError, "fire_rate=0.0 must be a finite number > 0 and ≤ 1"),
        ({"fire_rate": 1.5}, ValueError, "fire_rate=1.5"),
        ({"threshold": -0.1}, ValueError, "threshold=-0.1"),
        ({"channels": 3}, ValueError, "alive=3 must be one of channels=3"),
        ({"alive": -1}, ValueError, "alive=-1"),
        ({"perception": "scharr"}, ValueError, "perception='scharr' must be one of"),
        ({"padding": "reflect"}, ValueError, "padding='reflect' must be one of"),
        ({"hidden_size": 0}, ValueError, "hidden_size=0"),
    ],
)
def test_bad_settings_are_refused_by_name(arguments, error, message):
    with refuses(error, message):
        NeuralCellularAutomaton(**arguments)


def test_bad_states_steps_and_places_are_refused_by_name():
    made = NeuralCellularAutomaton(4, 6)
    with refuses(ValueError, "state must have shape (b, 4, y, x), got (1, 5, 3, 3)"):
        made.step(torch.rand(1, 5, 3, 3))
    with refuses(ValueError, "num_steps=-1"):
        made.grow(torch.rand(1, 4, 3, 3), -1)
    with refuses(ValueError, "angle=nan"):
        made.grow(torch.rand(1, 4, 3, 3), 1, angle=math.nan)
    with refuses(ValueError, "at=(3, 0) must lie in a grid of 3 × 3"):
        made.seed(3, at=(3, 0))
    with refuses(ValueError, "at=(0, 3) must lie in"):
        made.seed(3, at=(0, 3))
    with refuses(ValueError, "at=-1"):
        made.seed(3, at=(0, -1))
    with refuses(ValueError, "height=0"):
        made.seed(0)
    with refuses(ValueError, "width=0"):
        made.seed(3, 0)
    with refuses(ValueError, "channel=4"):
        living(torch.rand(1, 4, 3, 3), 4)
    with refuses(ValueError, "perception='other'"):
        perceive(torch.rand(1, 4, 3, 3), "other")
    with refuses(ValueError, "padding='other'"):
        living(torch.rand(1, 4, 3, 3), padding="other")


def test_bad_pools_and_masks_are_refused_by_name():
    pool = SamplePool(torch.rand(1, 2, 3, 3), 4)
    with refuses(ValueError, "seed must be one state, got 2"):
        SamplePool(torch.rand(2, 2, 3, 3), 4)
    with refuses(ValueError, "size=0"):
        SamplePool(torch.rand(1, 2, 3, 3), 0)
    with refuses(ValueError, "batch_size=5 must be a finite number ≤ 4"):
        pool.sample(5, lambda s: s.sum((1, 2, 3)))
    with refuses(ValueError, "states must have shape (2, 2, 3, 3)"):
        pool.put(torch.tensor([0, 1]), torch.rand(3, 2, 3, 3))
    with refuses(ValueError, "radius=(0.4, 0.1) must rise"):
        disc_masks(1, 3, 3, radius=(0.4, 0.1))
    with refuses(ValueError, "offset=-1"):
        half_plane_masks(1, 3, 3, offset=-1)
    with refuses(ValueError, "n=0"):
        disc_masks(0, 3, 3)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_cells_fire_as_often_in_half_precision(dtype):
    made = NeuralCellularAutomaton(4, 8, fire_rate=0.001, alive=None, dtype=dtype)
    for part in (made.out.weight, made.hidden.bias):
        nn.init.ones_(part)
    torch.manual_seed(0)
    fired = made(torch.zeros(1, 4, 300, 300, dtype=dtype))[0, 0] != 0
    assert float(fired.float().mean()) == pytest.approx(0.001, rel=0.5)  # five deviations


def test_gradients_in_half_precision_get_length_one_or_stay_zero():
    for slopes, wanted in (([0.0, 0.0], [0.0, 0.0]), ([6e4, 6e4], [0.5**0.5] * 2)):
        weight = nn.Parameter(torch.zeros(2, dtype=torch.float16))
        weight.grad = torch.tensor(slopes, dtype=torch.float16)
        normalize_gradients([weight])
        assert weight.grad.tolist() == pytest.approx(wanted, abs=1e-3)


def test_what_a_pool_and_a_seed_cannot_take_is_refused_by_name():
    pool, made = SamplePool(torch.ones(1, 4, 3, 3), 8), NeuralCellularAutomaton(4)
    for places, message in (([8], "places must be 0 … 7 (size), got 8 … 8"), ([-1], "got -1 … -1")):
        with refuses(ValueError, message):
            pool.put(torch.tensor(places), torch.ones(1, 4, 3, 3))
    with refuses(ValueError, "error(states) must have shape (2), got ()"):
        pool.sample(2, torch.mean)
    with refuses(ValueError, "visible=4 must be below channels=4: one is to be 1"):
        made.seed(3, visible=4)
    with refuses(TypeError, "at=(1, 2, 3) must be a row and a column"):
        made.seed(3, at=(1, 2, 3))
    with refuses(TypeError, "radius=0.4 must be two numbers"):
        disc_masks(1, 4, 4, radius=0.4)
    with refuses(ValueError, "angle=nan must be a finite number"):
        perceive_reference(torch.ones(1, 4, 3, 3), angle=math.nan)
