"""JEPA against loops, sets, closed forms, torch's layers, masked attention and transformers."""

import itertools
import math
import shutil

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad
from torch import nn
from torch.nn import functional as F

from nnlib.representation.jepa import (
    IJEPA,
    VJEPA,
    JEPAEncoder,
    JEPAPredictor,
    MaskedAutoencoder,
    block_masks,
    covariance_penalty,
    effective_rank,
    ema_update,
    feature_std,
    grid_positions,
    half_life,
    jepa_loss,
    latent_distance,
    mae_loss,
    momentum_schedule,
    random_masks,
    sigreg,
    take_patches,
    tube_masks,
    variance_penalty,
)
from tests.support import Example, Peer, configure, refuses

transformers = Peer("transformers")
ONE = torch.zeros(1, 1, 1, 1)
CLOSE = {"rtol": 1e-10, "atol": 1e-12}  # float64, some thousand operations

SMALL = {"embed_dim": 16, "num_layers": 2, "num_heads": 4, "predictor_dim": 8,
         "predictor_layers": 2, "predictor_heads": 2}  # fmt: skip


def example() -> Example:
    """What the contract runs: see `tests/test_contract.py`."""
    masks = block_masks((4, 6), batch=5, num_targets=2, min_keep=3)
    inputs = (torch.randn(5, 3, 8, 12), *masks)
    return Example({"image_size": (8, 12), "patch_size": 2} | SMALL, inputs)


def draw(seed=0):
    return torch.Generator().manual_seed(seed)


@torch.no_grad()
def stirred(module, seed=0):
    """Give a module weights that no fresh one has: norms and biases among them; return it."""
    generator = draw(seed)
    for parameter in module.parameters():
        noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
        parameter.add_(0.1 * noise.to(parameter))
    return module.eval()


def small(**options):
    model = IJEPA((8, 12), 2, **(SMALL | options)).double()
    return stirred(model)


def pictures(batch=3, size=(8, 12), seed=1):
    return torch.randn(batch, 3, *size, generator=draw(seed), dtype=torch.float64)


# --------------------------------------------------------------------------------------- masks
def a_rectangle(patches, columns):
    """Return rows and columns of a block if it is one, else nothing."""
    cells = {divmod(patch, columns) for patch in patches}
    rows, across = {r for r, _ in cells}, {c for _, c in cells}
    whole = set(itertools.product(rows, across)) == cells and len(cells) == len(patches)
    next_to = max(rows) - min(rows) < len(rows) and max(across) - min(across) < len(across)
    return (len(rows), len(across)) if whole and next_to else None


@pytest.mark.equation("jepa-block", "jepa-context")
@settings(max_examples=60, deadline=None)
@given(
    rows=st.integers(4, 14), columns=st.integers(4, 14), batch=st.integers(1, 4),
    m=st.integers(1, 4), seed=st.integers(0, 10**6),
)  # fmt: skip
def test_targets_are_blocks_of_one_size_and_the_context_sees_none_of_them(
    rows, columns, batch, m, seed
):
    context, targets = block_masks((rows, columns), batch, m, generator=draw(seed))
    assert targets.shape[:2] == (batch, m) and len(context) == batch
    found = {a_rectangle(block, columns) for block in targets.flatten(0, 1).tolist()}
    assert len(found) == 1 and None not in found
    (height, width) = found.pop()
    share = height * width / (rows * columns)
    # a side may be rounded by one half: (h ± ½)(w ± ½) holds the drawn area
    assert (height - 0.5) * (width - 0.5) <= 0.2 * rows * columns
    assert (height + 0.5) * (width + 0.5) >= 0.15 * rows * columns, share
    for seen, blocks in zip(context.tolist(), targets.tolist(), strict=True):
        assert seen == sorted(set(seen)) and min(seen) >= 0 and max(seen) < rows * columns
        assert not set(seen) & {patch for block in blocks for patch in block}


def test_masks_are_what_a_loop_over_pictures_and_sets_of_patches_finds():
    """The same random numbers, drawn in the same order, spent patch by patch."""
    rows, columns, batch, m = 9, 7, 6, 3
    context, targets = block_masks((rows, columns), batch, m, generator=draw(4))
    generator, sizes = draw(4), []
    for low, high, flat, tall in ((0.15, 0.2, 0.75, 1.5), (0.85, 1.0, 1.0, 1.0)):
        u, v = torch.rand(2, generator=generator, dtype=torch.float64).tolist()
        area, aspect = (low + u * (high - low)) * rows * columns, flat + v * (tall - flat)
        height, width = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        sizes.append((min(height, rows), min(width, columns)))

    def corners(many, height, width):
        top = torch.randint(rows - height + 1, (batch, many, 1, 1), generator=generator)
        left = torch.randint(columns - width + 1, (batch, many, 1, 1), generator=generator)
        return top[..., 0, 0].tolist(), left[..., 0, 0].tolist()

    def block(top, left, height, width):
        return {(top + i) * columns + left + j for i in range(height) for j in range(width)}

    (tops, lefts), around = corners(m, *sizes[0]), corners(1, *sizes[1])
    free = []
    for b in range(batch):
        blocks = [block(tops[b][i], lefts[b][i], *sizes[0]) for i in range(m)]
        assert targets[b].tolist() == [sorted(patches) for patches in blocks]
        free.append(block(around[0][b][0], around[1][b][0], *sizes[1]).difference(*blocks))
    assert context.shape[1] == min(len(patches) for patches in free)
    assert all(set(context[b].tolist()) <= free[b] for b in range(batch))


def test_every_patch_can_be_predicted_also_in_the_last_row_and_column():
    targets = block_masks((6, 6), 400, 4, generator=draw()).targets
    assert targets.unique().tolist() == list(range(36))


def test_the_context_is_cut_at_random_and_not_from_its_end():
    """Were the first patches kept, the last row would be seen far less often than the first."""
    seen = torch.zeros(64)
    for seed in range(60):
        context = block_masks((8, 8), 8, 4, generator=draw(seed)).context
        seen += context.flatten().bincount(minlength=64)
    first, last = seen[:8].sum().item(), seen[-8:].sum().item()
    assert 0.85 < last / first < 1.18  # about 1000 each: four standard deviations


def test_a_share_of_the_paper_is_left_for_the_context():
    """On 16 × 16 patches, as with a ViT-H/14: blocks of 15–20 % leave between a third and 70 %."""
    left = [block_masks((16, 16), 8, generator=draw(s)).context.shape[1] / 256 for s in range(30)]
    assert min(left) > 0.2 and max(left) < 0.7


def test_a_picture_whose_targets_left_too_little_is_drawn_again():
    masks = block_masks((4, 4), 64, 4, (0.25, 0.25), (1.0, 1.0), (1.0, 1.0), min_keep=5,
                        generator=draw())  # fmt: skip
    assert masks.context.shape[1] >= 5
    with refuses(ValueError, "min_keep=8: too few patches are left by num_targets=1 blocks of 3"):
        block_masks((4, 4), 2, 1, (0.6, 0.6), (1.0, 1.0), min_keep=8)  # 9 of 16 are hidden
    assert (
        block_masks((4, 4), 2, 1, (0.6, 0.6), (1.0, 1.0), (1.0, 1.0), min_keep=7).context.shape[1]
        == 7
    )


@pytest.mark.equation("jepa-tube")
@settings(max_examples=40, deadline=None)
@given(frames=st.integers(1, 5), blocks=st.integers(1, 4), seed=st.integers(0, 10**6))
def test_tubes_hide_the_same_places_in_every_frame(frames, blocks, seed):
    context, targets = tube_masks((frames, 7, 6), 3, blocks, (0.1, 0.3), generator=draw(seed))
    assert targets.shape[:2] == (3, 1)
    for seen, hidden in zip(context.tolist(), targets[:, 0].tolist(), strict=True):
        assert not set(seen) & set(hidden) and seen == sorted(seen) and hidden == sorted(hidden)
        for numbers in (seen, hidden):
            by_frame = [{p % 42 for p in numbers if p // 42 == t} for t in range(frames)]
            assert by_frame.count(by_frame[0]) == frames and len(by_frame[0]) * frames == len(
                numbers
            )


def test_one_block_of_a_video_is_a_box():
    targets = tube_masks((3, 8, 8), 4, 1, (0.2, 0.2), generator=draw()).targets
    for patches in targets[:, 0].tolist():
        assert a_rectangle([p for p in patches if p < 64], 8) is not None


def test_random_masks_part_all_patches_in_two():
    context, targets = random_masks((3, 5), 200, 0.6, generator=draw())
    assert targets.shape == (200, 1, 9)
    both = torch.cat([context, targets[:, 0]], 1).sort(1).values
    assert torch.equal(both, torch.arange(15).expand(200, -1))
    assert torch.equal(context, context.sort(1).values)
    assert 0.5 < (targets == 0).any(-1).float().mean() < 0.7  # each patch is hidden in 60 %


@pytest.mark.parametrize("masks", [block_masks, tube_masks, random_masks])
def test_the_same_generator_draws_the_same_masks(masks):
    grid = (2, 6, 6) if masks is tube_masks else (6, 6)
    one, same, other = (masks(grid, 4, generator=draw(seed)) for seed in (0, 0, 1))
    assert all(map(torch.equal, one, same))
    assert not torch.equal(one.targets[:, :, :3], other.targets[:, :, :3])


# ------------------------------------------------------------------------------------- networks
def test_positions_are_waves_of_each_coordinate():
    e = 12
    table = grid_positions((3, 4), e, dtype=torch.float64)
    for row, column in itertools.product(range(3), range(4)):
        told = []
        for coordinate in (row, column):
            for i in range(3):
                angle = coordinate * 10000 ** (-2 * i / 6)
                told += [math.sin(angle), math.cos(angle)]
        wanted = torch.tensor(told, dtype=torch.float64)
        torch.testing.assert_close(table[4 * row + column], wanted)
    assert grid_positions((2, 3, 4), 16).shape == (24, 16)  # 16 is no multiple of 6
    apart = torch.cdist(grid_positions((4, 5, 6), 16), grid_positions((4, 5, 6), 16))
    assert (apart + 9 * torch.eye(120)).min() > 0.1  # no two places look alike


def plain_layer(layer):
    """The same layer from torch, with the same weights."""
    e, hidden = layer.linear1.in_features, layer.linear1.out_features
    theirs = nn.TransformerEncoderLayer(
        e, layer.self_attn.num_heads, hidden, 0.0, F.gelu, 1e-6, batch_first=True,
        norm_first=True, dtype=torch.float64,
    )  # fmt: skip
    theirs.load_state_dict(layer.state_dict())
    return theirs.eval()


def by_loops(model, x, context, targets):
    """Encode and predict picture by picture and block by block, with torch's layers."""
    encoder, predictor = model.encoder, model.predictor
    e, p = encoder.patch_embedding.weight, encoder.patch_size[0]
    columns, answers = x.shape[3] // p, []
    for picture, seen, blocks in zip(x, context.tolist(), targets.tolist(), strict=True):
        tokens = []
        for number in seen:
            i, j = divmod(number, columns)
            patch = picture[:, p * i : p * i + p, p * j : p * j + p]
            made = e.flatten(1) @ patch.flatten() + encoder.patch_embedding.bias
            tokens.append(made + encoder.position_embedding[number])
        z = torch.stack(tokens)[None]
        for layer in encoder.layers:
            z = plain_layer(layer)(z)
        z = F.layer_norm(z[0], z.shape[-1:], encoder.norm.weight, encoder.norm.bias, 1e-6)
        for block in blocks:
            known = [
                predictor.embed(s) + predictor.position_embedding[number]
                for s, number in zip(z, seen, strict=True)
            ]
            asked = [predictor.mask_token + predictor.position_embedding[n] for n in block]
            w = torch.stack(known + asked)[None]
            for layer in predictor.layers:
                w = plain_layer(layer)(w)
            norm = predictor.norm
            w = F.layer_norm(w[0], w.shape[-1:], norm.weight, norm.bias, 1e-6)
            answers.append(predictor.project(w[len(known) :]))
    return torch.stack(answers).unflatten(0, targets.shape[:2])


@torch.no_grad()
@pytest.mark.equation("jepa-encoder", "jepa-predictor")
def test_prediction_is_that_of_loops_over_patches_with_torch_s_layers():
    model, x = small(), pictures()
    masks = block_masks((4, 6), 3, 2, generator=draw(3), min_keep=3)
    torch.testing.assert_close(model(x, *masks), by_loops(model, x, *masks), **CLOSE)


@torch.no_grad()
def test_leaving_patches_out_is_masked_attention_and_cheaper():
    """Encode all patches, forbid every one to look at a hidden one: the seen ones are the same."""
    encoder, x = small().encoder, pictures()
    context = block_masks((4, 6), 3, 2, generator=draw(3), min_keep=3).context
    visible = torch.zeros(3, 24, dtype=torch.bool).scatter_(1, context, True)
    z = encoder.patch_embedding(x).flatten(2).mT + encoder.position_embedding
    for layer in encoder.layers:
        z = layer(z, key_mask=visible)
    wanted = take_patches(encoder.norm(z), context)
    torch.testing.assert_close(encoder(x, context), wanted, **CLOSE)


@torch.no_grad()
def test_a_hidden_pixel_changes_no_prediction_and_a_seen_one_does():
    model, x = small(), pictures()
    context, targets = block_masks((4, 6), 3, 2, generator=draw(3), min_keep=3)
    hidden = next(n for n in range(24) if n not in context[0].tolist())
    before = model(x, context, targets)
    for number, same in ((hidden, True), (int(context[0, 0]), False)):
        i, j = divmod(number, 6)
        other = x.clone()
        other[0, :, 2 * i, 2 * j] += 1
        assert torch.equal(model(other, context, targets)[0], before[0]) is same


@torch.no_grad()
def test_blocks_are_predicted_each_by_itself():
    model, x = small(), pictures()
    context, targets = block_masks((4, 6), 3, 3, generator=draw(3), min_keep=3)
    alone = torch.cat([model(x, context, targets[:, i : i + 1]) for i in range(3)], 1)
    torch.testing.assert_close(model(x, context, targets), alone, **CLOSE)


@torch.no_grad()
def test_the_order_of_the_context_does_not_matter():
    model, x = small(), pictures()
    context, targets = block_masks((4, 6), 3, 2, generator=draw(3), min_keep=3)
    torch.testing.assert_close(
        model(x, context.flip(1), targets), model(x, context, targets), **CLOSE
    )


def hugging_face(**options):
    torch.manual_seed(0)
    config = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4,
              "intermediate_size": 24, "image_size": 12, "patch_size": 4,
              "layer_norm_eps": 1e-6} | options  # fmt: skip
    return stirred(transformers.IJepaModel(transformers.IJepaConfig(**config)))


@torch.no_grad()
def test_transformers_i_jepa_gives_the_same_vectors(tmp_path):
    theirs = hugging_face()
    x = pictures(2, (12, 12)).float()
    theirs.save_pretrained(tmp_path)
    for source in (theirs, str(tmp_path)):
        ours = JEPAEncoder.from_hugging_face(source)
        assert not ours.training and ours.grid == (3, 3)
        torch.testing.assert_close(ours(x), theirs(x).last_hidden_state, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"layer_norm_eps": 1e-5}, "layer_norm_eps=1e-05, it must be 1e-06"),
        ({"model_type": "vit"}, "'ijepa', got 'vit'"),
        ({"patch_size": 5}, "patch_size=(5, 5) does not divide size"),
        ({"image_size": 16}, "position_embedding must have shape (16, 16), got (9, 16)"),
    ],
)
def test_a_configuration_that_is_no_i_jepa_is_refused_by_name(tmp_path, change, told):
    hugging_face().save_pretrained(tmp_path)
    configure(tmp_path, change)
    with refuses(ValueError, told):
        JEPAEncoder.from_hugging_face(tmp_path)
    shutil.rmtree(tmp_path)


def test_the_default_is_the_paper_s_vit_huge():
    """632 million parameters, as announced, and a predictor of 22 million."""
    model = IJEPA(device="meta")
    assert model.grid == (16, 16)
    counts = [
        sum(p.numel() for p in part.parameters()) for part in (model.encoder, model.predictor)
    ]
    assert counts[0] == 32 * (12 * 1280**2 + 13 * 1280) + (3 * 14**2 + 1) * 1280 + 2 * 1280
    assert 0.995 < counts[0] / 632e6 < 1 and 0.02 < counts[1] / counts[0] < 0.04


def test_fresh_weights_are_xavier_s_and_smaller_where_a_layer_adds_its_answer():
    torch.manual_seed(0)
    encoder = JEPAEncoder((16, 16), (4, 4), 64, 3, 4)
    for number, layer in enumerate(encoder.layers, 1):
        for weight, part in (
            (layer.linear1.weight, 1),
            (layer.self_attn.in_proj_weight, 1),
            (layer.linear2.weight, 2 * number),
            (layer.self_attn.out_proj.weight, 2 * number),
        ):
            std = math.sqrt(2 / sum(weight.shape) / part)
            assert weight.std().item() == pytest.approx(std, rel=0.05)
        assert not layer.linear1.bias.any() and bool((layer.norm1.weight == 1).all())
    assert encoder.patch_embedding.weight.std().item() == pytest.approx(48**-0.5, rel=0.05)


# ---------------------------------------------------------------------------- targets and losses
@torch.no_grad()
@pytest.mark.equation("jepa-target")
def test_targets_have_seen_the_whole_picture_and_are_normalised():
    model, x = small(), pictures()
    stirred(model.target_encoder, 5)
    targets = block_masks((4, 6), 3, 2, generator=draw(3), min_keep=3).targets
    z, wanted = model.target_encoder(x), model.wanted(x, targets)
    for b, m, k in itertools.product(range(3), range(2), range(targets.shape[2])):
        row = z[b, targets[b, m, k]]
        row = (row - row.mean()) / (row.var(correction=0) + 1e-5).sqrt()
        torch.testing.assert_close(wanted[b, m, k], row)
    raw = small(normalize_targets=False)
    wanted = take_patches(raw.target_encoder(x), targets)
    assert torch.equal(raw.wanted(x, targets), wanted)


@pytest.mark.equation("jepa-loss", "jepa-l1")
def test_losses_are_those_of_a_loop():
    predicted, wanted = torch.randn(2, 2, 3, 4, 5, generator=draw(), dtype=torch.float64)
    squares = huber = distance = 0.0
    for b, i, j, a in itertools.product(range(2), range(3), range(4), range(5)):
        off = abs((predicted - wanted)[b, i, j, a].item())
        squares += off**2 / (2 * 3)  # a mean over pictures and blocks, a sum within a block
        distance += off / 120
        huber += (off**2 / 2 if off < 1 else off - 0.5) / 120
    told = [latent_distance(predicted, wanted, kind).item() for kind in ("l2", "l1", "smooth_l1")]
    assert told == pytest.approx([squares, distance, huber])


def test_no_gradient_flows_into_the_target_and_every_other_weight_gets_one():
    model, x = small(), pictures()
    masks = block_masks((4, 6), 3, 2, generator=draw(3), min_keep=3)
    jepa_loss(model, x, *masks).backward()
    for name, parameter in model.named_parameters():
        still = name.startswith("target_encoder")
        assert parameter.requires_grad is not still
        assert (parameter.grad is None) is still, name
    wanted = torch.ones(1, 1, 1, 2, requires_grad=True)
    latent_distance(torch.zeros(1, 1, 1, 2, requires_grad=True), wanted).backward()
    assert wanted.grad is None


def test_the_loss_of_a_model_is_that_of_its_parts():
    model, x = small(), pictures()
    masks = block_masks((4, 6), 3, 2, generator=draw(3), min_keep=3)
    for kind in ("smooth_l1", "l1", "l2"):
        parts = latent_distance(model(x, *masks), model.wanted(x, masks.targets), kind)
        assert torch.equal(jepa_loss(model, x, *masks, kind), parts)


@torch.no_grad()
def test_features_are_the_mean_of_the_slow_copy_s_patches():
    model, x = small(), pictures()
    stirred(model.target_encoder, 5)
    wanted = model.target_encoder(x).sum(1) / 24
    torch.testing.assert_close(model.features(x), wanted, **CLOSE)


@pytest.mark.equation("jepa-ema")
def test_after_t_steps_the_start_counts_alpha_to_the_t():
    torch.manual_seed(0)
    fast, slow = (nn.Linear(3, 2, dtype=torch.float64) for _ in range(2))
    first = [p.detach().clone() for p in slow.parameters()]
    for _ in range(7):
        ema_update(slow, fast, 0.9)
    for mine, start, its in zip(slow.parameters(), first, fast.parameters(), strict=True):
        torch.testing.assert_close(mine, 0.9**7 * start + (1 - 0.9**7) * its)
    ema_update(slow, fast, 1.0)
    assert not torch.equal(slow.weight, fast.weight)
    ema_update(slow, fast, 0.0)
    assert torch.equal(slow.weight, fast.weight)


def test_an_average_takes_buffers_as_they_are_and_remembers_no_gradient():
    fast, slow = nn.BatchNorm1d(2), nn.BatchNorm1d(2)
    fast(torch.randn(8, 2))
    ema_update(slow, fast, 0.9)
    assert torch.equal(slow.running_mean, fast.running_mean) and slow.num_batches_tracked == 1
    assert slow.weight.grad_fn is None and slow.weight.is_leaf


@pytest.mark.equation("jepa-half-life")
@given(momentum=st.floats(0.5, 0.9999))
def test_half_a_life_later_half_of_the_start_is_left(momentum):
    assert momentum ** half_life(momentum) == pytest.approx(0.5)


def test_the_half_lives_of_the_schedule_s_ends():
    assert (round(half_life(0.996)), round(half_life(0.9999))) == (173, 6931)


@pytest.mark.equation("jepa-momentum")
def test_alpha_rises_in_a_straight_line():
    alpha = momentum_schedule(50, 0.9, 0.99)
    told = torch.tensor([alpha(step) for step in range(51)])
    torch.testing.assert_close(told, torch.linspace(0.9, 0.99, 51))
    assert alpha(70) == 0.99


def test_update_target_moves_the_slow_copy_and_reset_makes_it_one_again():
    model = small()
    with torch.no_grad():
        model.encoder.norm.bias.fill_(1.0)
        model.target_encoder.norm.bias.fill_(0.0)
    model.update_target(0.75)
    assert model.target_encoder.norm.bias[0].item() == pytest.approx(0.25)
    model.reset_parameters()
    for slow, fast in zip(
        model.target_encoder.parameters(), model.encoder.parameters(), strict=True
    ):
        assert torch.equal(slow, fast) and not slow.requires_grad


# -------------------------------------------------------------------------------------- collapse
@pytest.mark.equation("jepa-std")
def test_the_standard_deviation_is_that_of_each_feature():
    z = torch.randn(9, 4, generator=draw(), dtype=torch.float64)
    columns = [math.sqrt(sum((x - sum(c) / 9) ** 2 for x in c) / 9) for c in z.T.tolist()]
    assert feature_std(z).item() == pytest.approx(sum(columns) / 4)


@pytest.mark.equation("jepa-rank")
@pytest.mark.parametrize("rank", [1, 3, 5])
def test_the_effective_rank_of_equal_axes_is_their_number(rank):
    axes = torch.linalg.qr(torch.randn(8, 8, generator=draw(), dtype=torch.float64)).Q[:rank]
    cloud = torch.cat([axes, -axes])
    assert effective_rank(cloud + 7).item() == pytest.approx(rank)


def test_the_effective_rank_of_two_axes_is_their_entropy():
    z = torch.tensor([[3.0, 0], [-3, 0], [0, 1], [0, -1]], dtype=torch.float64)
    p = 3 / 4  # singular values 3√2 and √2
    wanted = math.exp(-p * math.log(p) - (1 - p) * math.log(1 - p))
    assert effective_rank(z).item() == pytest.approx(wanted)


@given(scale=st.floats(1e-6, 1e3), shift=st.floats(-5, 5))
def test_rank_is_blind_to_size_and_the_standard_deviation_is_not(scale, shift):
    z = torch.randn(20, 4, generator=draw(), dtype=torch.float64)
    moved = scale * (z + shift)
    torch.testing.assert_close(effective_rank(moved), effective_rank(z), rtol=1e-6, atol=0)
    torch.testing.assert_close(feature_std(moved), scale * feature_std(z), rtol=1e-6, atol=0)


def test_equal_vectors_have_no_spread_and_no_rank():
    z = torch.ones(5, 3)
    assert feature_std(z) == 0 and effective_rank(z) == 0


@pytest.mark.equation("jepa-variance", "jepa-covariance")
def test_penalties_are_those_of_the_covariance_matrix():
    z = torch.randn(12, 3, generator=draw(), dtype=torch.float64) * torch.tensor([0.2, 0.7, 3.0])
    covariance = z.T.cov()
    short = sum(max(0.0, 0.9 - math.sqrt(covariance[i, i] + 1e-3)) for i in range(3)) / 3
    assert variance_penalty(z, 0.9, 1e-3).item() == pytest.approx(short)
    off = sum(covariance[i, j] ** 2 for i in range(3) for j in range(3) if i != j) / 3
    assert covariance_penalty(z).item() == pytest.approx(off.item())


def test_at_total_collapse_the_variance_term_still_has_a_slope():
    z = (1e-3 * torch.randn(16, 4, generator=draw())).requires_grad_()
    variance_penalty(z).backward()
    assert z.grad is not None and z.grad.abs().max() > 1e-5
    assert ((z - z.mean(0)) * z.grad).sum() < 0  # downhill is apart


@pytest.mark.equation("jepa-sigreg")
def test_sigreg_is_the_statistic_of_epps_and_pulley():
    """In one dimension: a closed form of the integral, and a quadrature of its definition."""
    z = torch.tensor([[-1.2], [0.1], [0.4], [1.9]], dtype=torch.float64)
    x, n = z[:, 0].tolist(), 4
    root = math.sqrt(2 * math.pi)
    pairs = sum(root * math.exp(-((a - b) ** 2) / 2) for a in x for b in x) / n**2
    single = sum(math.sqrt(math.pi) * math.exp(-(a**2) / 4) for a in x) / n
    wanted = n * (pairs - 2 * single + math.sqrt(2 * math.pi / 3))
    told = sigreg(z, 3, points=201, reach=8.0, generator=draw()).item()
    assert told == pytest.approx(wanted, rel=1e-6)

    def integrand(u):
        real = sum(math.cos(u * a) for a in x) / n - math.exp(-(u**2) / 2)
        return (real**2 + (sum(math.sin(u * a) for a in x) / n) ** 2) * math.exp(-(u**2) / 2)

    assert n * quad(integrand, -8, 8)[0] == pytest.approx(wanted, rel=1e-6)
    assert sigreg(z, 3, generator=draw()).item() == pytest.approx(wanted, rel=0.02)  # 17 points


def test_sigreg_is_small_for_a_round_cloud_and_large_for_a_flat_or_shifted_one():
    cloud = torch.randn(2000, 6, generator=draw())
    flat, shifted = cloud.clone(), cloud + 1
    flat[:, 1:] = 0
    told = [sigreg(z, 128, generator=draw(1)).item() for z in (cloud, flat, shifted, 2 * cloud)]
    assert told[0] < 2 < 50 < min(told[1:])


# ------------------------------------------------------------------------------ video, and MAE
@torch.no_grad()
@pytest.mark.equation("jepa-video")
def test_a_box_of_a_video_is_flattened_frame_by_frame():
    encoder = JEPAEncoder((4, 4, 6), (2, 2, 3), 5, 1, 1, in_channels=2, dtype=torch.float64)
    x = torch.randn(1, 2, 4, 4, 6, generator=draw(), dtype=torch.float64)
    weight, bias = encoder.patch_embedding.weight.flatten(1), encoder.patch_embedding.bias
    made = encoder.patch_embedding(x).flatten(2).mT
    for t, i, j in itertools.product(range(2), range(2), range(2)):
        box = x[0, :, 2 * t : 2 * t + 2, 2 * i : 2 * i + 2, 3 * j : 3 * j + 3].flatten()
        torch.testing.assert_close(made[0, 4 * t + 2 * i + j], weight @ box + bias)
    assert encoder.grid == (2, 2, 2)


@torch.no_grad()
def test_a_video_of_one_frame_is_a_picture():
    options = SMALL | {"dtype": torch.float64}
    video, still = VJEPA(1, (8, 12), 1, 2, **options), IJEPA((8, 12), 2, **options)
    state = still.state_dict()
    for name in ("encoder", "target_encoder"):
        state[f"{name}.patch_embedding.weight"] = state[f"{name}.patch_embedding.weight"][
            :, :, None
        ]
    for name in ("encoder", "target_encoder", "predictor"):
        state[f"{name}.position_embedding"] = video.state_dict()[f"{name}.position_embedding"]
        still.get_submodule(name).position_embedding.copy_(state[f"{name}.position_embedding"])
    video.load_state_dict(state)
    x, masks = pictures(), block_masks((4, 6), 3, 2, generator=draw(3), min_keep=3)
    told = jepa_loss(video, x[:, :, None], *masks, kind="l1")
    torch.testing.assert_close(told, jepa_loss(still, x, *masks, kind="l1"), **CLOSE)


@pytest.mark.equation("jepa-mae")
def test_mae_is_measured_on_hidden_pixels_alone():
    mae = stirred(MaskedAutoencoder((8, 12), 4, 16, 1, 2, 8, 1, 2).double())
    x = pictures()
    context, targets = random_masks(mae.grid, 3, 0.5, generator=draw())
    told, off = mae(x, context, targets), 0.0
    for b, k in itertools.product(range(3), range(targets.shape[2])):
        i, j = divmod(targets[b, 0, k].item(), 3)
        patch = x[b, :, 4 * i : 4 * i + 4, 4 * j : 4 * j + 4].flatten()
        off += (told[b, 0, k] - patch).square().mean().item() / (3 * targets.shape[2])
    assert mae_loss(mae, x, context, targets).item() == pytest.approx(off)
    torch.testing.assert_close(mae.features(x), mae.encoder(x).mean(1))
    mae.normalize_targets = True
    wanted = mae.wanted(x, targets)
    torch.testing.assert_close(wanted.mean(-1), torch.zeros_like(wanted[..., 0]), **CLOSE)
    torch.testing.assert_close(wanted.var(-1, correction=0), torch.ones_like(wanted[..., 0]),
                               rtol=1e-5, atol=0)  # fmt: skip


def test_training_predicts_better_than_the_mean_of_all_targets():
    """Two kinds of pictures, each all of one tone: what is hidden can be known."""
    torch.manual_seed(0)
    model = IJEPA(8, 2, **(SMALL | {"in_channels": 1}))
    tones = torch.tensor([-1.0, 1.0]).repeat(8)[:, None, None, None].expand(-1, 1, 8, 8)
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], 3e-3)
    for step in range(60):
        masks = block_masks(model.grid, 16, 2, generator=draw(step))
        loss = jepa_loss(model, tones, *masks)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        model.update_target(0.9)
    masks = block_masks(model.grid, 16, 2, generator=draw(99))
    wanted = model.wanted(tones, masks.targets)
    trivial = latent_distance(wanted.mean(0, keepdim=True).expand_as(wanted), wanted)
    assert jepa_loss(model, tones, *masks) < trivial / 2


# -------------------------------------------------------------------------------------- bad input
@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"image_size": 9}, "patch_size=2 does not divide image_size, (9, 9)"),
        ({"image_size": (8, 9)}, "patch_size=2 does not divide image_size, (8, 9)"),
        ({"num_heads": 3}, "num_heads=3 does not divide embed_dim=16"),
        ({"predictor_heads": 3}, "predictor_heads=3 does not divide predictor_dim=8"),
        ({"predictor_layers": 0}, "predictor_layers=0"),
        ({"normalize_targets": 1}, "normalize_targets=1 must be True or False"),
    ],
)
def test_a_model_that_cannot_be_built_is_refused_by_name(arguments, told):
    with refuses((TypeError, ValueError), told):
        IJEPA(**({"image_size": 8, "patch_size": 2} | SMALL | arguments))


def test_videos_are_refused_by_the_names_of_their_own_arguments():
    with refuses(ValueError, "tubelet_size=2 does not divide frames=5"):
        VJEPA(5, 8, 2, 2, **SMALL)
    with refuses(ValueError, "patch_size=3 does not divide image_size, (8, 8)"):
        VJEPA(4, 8, 2, 3, **SMALL)
    with refuses(ValueError, "size=(2, 2, 2, 2) must hold 2 numbers, or 3 for a video"):
        JEPAEncoder((2, 2, 2, 2), (1, 1, 1, 1), 4, 1, 1)


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (lambda: block_masks((4, 4), 0), "batch=0 must be an integer ≥ 1"),
        (lambda: block_masks((4,), 2), "grid=(4,) must hold 2 numbers"),
        (lambda: block_masks((4, 4), 2, 0), "num_targets=0"),
        (lambda: block_masks((4, 4), 2, target_scale=(0.3, 0.2)), "smaller number first"),
        (lambda: block_masks((4, 4), 2, target_scale=(0.0, 0.2)), "target_scale=0.0"),
        (lambda: block_masks((4, 4), 2, context_scale=(0.5, 1.1)), "context_scale=1.1"),
        (lambda: block_masks((4, 4), 2, aspect_ratio=1.0), "aspect_ratio=1.0 must be a pair"),
        (lambda: block_masks((1, 1), 2), "too few patches are left by num_targets=4"),
        (lambda: tube_masks((2, 4, 4), 2, 1, (1.0, 1.0), (1.0, 1.0)), "a frame of (4, 4)"),
        (lambda: tube_masks((4, 4), 2), "grid=(4, 4) must hold 3 numbers"),
        (lambda: random_masks((1, 1), 2), "grid=(1, 1) must hold two patches or more"),
        (lambda: random_masks((4, 4), 2, 1.0), "hidden=1.0"),
        (lambda: momentum_schedule(0), "steps=0"),
        (lambda: momentum_schedule(5, 1.2), "first=1.2"),
        (lambda: half_life(1.0), "momentum=1.0"),
        (lambda: ema_update(nn.Linear(1, 1), nn.Linear(1, 1), 1.5), "momentum=1.5"),
        (lambda: ema_update(nn.Linear(1, 1), nn.Linear(1, 2), 0.5), "the parameters of source"),
        (lambda: latent_distance(ONE, torch.zeros(1, 1, 1, 2)), "wanted must have"),
        (lambda: latent_distance(ONE, ONE, "l3"), "kind='l3'"),
        (lambda: feature_std(torch.zeros(1, 3)), "z must hold two vectors or more, got 1"),
        (lambda: sigreg(torch.zeros(2, 3), 0), "num_slices=0"),
        (lambda: variance_penalty(torch.zeros(2, 3), -1.0), "gamma=-1.0"),
    ],
)  # fmt: skip
def test_what_cannot_be_done_is_refused_by_name(call, told):
    with refuses((TypeError, ValueError), told):
        call()


def test_numbers_of_patches_that_are_not_there_are_refused():
    model, x = small(), pictures()
    context, targets = block_masks((4, 6), 3, 2, generator=draw(3), min_keep=3)
    with refuses(ValueError, "context must be 0 … 23 (patches), got 24 …"):
        model(x, context + 24, targets)
    with refuses(ValueError, "targets must have shape (3, m, k)"):
        model(x, context, targets[:2])
    with refuses(ValueError, "targets must be 0 … 23 (patches)"):
        model.wanted(x, targets + 24)
    with refuses(ValueError, "keep must have shape (3, k)"):
        model.encoder(x, context[:2])
    with refuses(ValueError, "seen must have shape (b, c, 16)"):
        model.predictor(torch.zeros(3, 4, 5).double(), context, targets)
    with refuses(ValueError, "grid=(0, 2) must be an integer ≥ 1".replace("grid=(0, 2)", "grid=0")):
        JEPAPredictor((0, 2), 4, 4, 1, 1)


# ------------------------------------------------------------------------------------- the corners
@pytest.mark.parametrize("value", [0.1, 1 / 3, 7.7])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_equal_vectors_have_no_rank_whatever_their_mean_is_rounded_to(value, dtype):
    z = (value * torch.tensor([1.0, 1.1, 1.3, 0.7, 0.9])).to(dtype).expand(7, 5)
    assert effective_rank(z) == 0
    z = torch.randn(9, 5, generator=draw()).to(dtype)
    torch.testing.assert_close(effective_rank(z), effective_rank(z.float()))


def test_patches_are_taken_of_every_picture_or_refused_by_name():
    z = torch.randn(3, 4, 2)
    with refuses(ValueError, "numbers must have a row for each of 3 pictures, got shape (2, 2)"):
        take_patches(z, torch.zeros(2, 2).long())
    with refuses(ValueError, "numbers must be 0 … 3 (patches), got 0 … 9"):
        take_patches(z, torch.tensor([[0], [9], [1]]))
    with refuses(ValueError, "z must have shape (b, n, e), got (4, 2)"):
        take_patches(z[0], torch.zeros(4, 2).long())
    with refuses(TypeError, "numbers must hold integers"):
        take_patches(z, torch.zeros(3, 2))
    assert take_patches(z, torch.zeros(3, 1, dtype=torch.int32)).shape == (3, 1, 2)


def test_an_average_of_what_does_not_fit_is_refused_by_name():
    with refuses(TypeError, "target must be a module, got int"):
        ema_update(1, nn.Linear(1, 1), 0.5)
    with refuses(ValueError, "target must have the buffers of source, [], got ['running_mean'"):
        ema_update(nn.BatchNorm1d(2), nn.LayerNorm(2), 0.5)


def test_a_masked_autoencoder_refuses_by_the_names_of_its_own_arguments():
    def made(**how):
        return MaskedAutoencoder(**({"image_size": 8, "patch_size": 2, "embed_dim": 16,
                                     "num_layers": 1, "num_heads": 4, "decoder_dim": 8,
                                     "decoder_layers": 1, "decoder_heads": 2} | how))  # fmt: skip

    for how, told in (
        ({"decoder_heads": 3}, "decoder_heads=3 does not divide decoder_dim=8"),
        ({"decoder_dim": 0}, "decoder_dim=0"),
        ({"decoder_layers": 0}, "decoder_layers=0"),
        ({"num_heads": 3}, "num_heads=3 does not divide embed_dim=16"),
    ):
        with refuses(ValueError, told):
            made(**how)
    mae, targets = made(), torch.zeros(2, 1, 1).long()
    with refuses(ValueError, "x must have shape (b, 3, 8, 8), got (2, 3, 16, 16)"):
        mae.wanted(torch.zeros(2, 3, 16, 16), targets)
    with refuses(ValueError, "targets must be 0 … 15 (patches)"):
        mae.wanted(torch.zeros(2, 3, 8, 8), targets + 99)


def test_positions_of_no_grid_are_refused_by_name():
    with refuses(TypeError, "grid=4 must be a tuple of sides"):
        grid_positions(4, 8)
    with refuses(TypeError, "dtype=torch.int64 must be floating point"):
        grid_positions((2, 2), 4, dtype=torch.int64)
