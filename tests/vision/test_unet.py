"""U-Net against sizes and counts by hand, loops, brute force, autograd and scikit-image."""

import itertools
import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from nnlib.vision.unet import (
    UPSAMPLINGS,
    ConditionalUNet,
    ConditionedBlock,
    ConvBlock,
    SpatialAttention,
    UNet,
    border_weights,
    dice,
    iou,
    join,
    otsu_threshold,
    output_side,
    overlap_tile,
    soft_dice,
    timestep_embedding,
)
from tests.support import Example, Peer, refuses

filters = Peer("skimage.filters")


def example() -> Example:
    """What the contract runs: see `tests/test_contract.py`."""
    arguments = {"in_channels": 2, "out_channels": 3, "channels": (4, 6)}
    return Example(arguments, (torch.randn(5, 2, 20, 22),))


def count(model):
    return sum(p.numel() for p in model.parameters())


@torch.no_grad()
def stirred(model, seed=0):
    """Give every parameter a number, also where training begins at zero; double precision."""
    generator = torch.Generator().manual_seed(seed)
    for p in model.double().parameters():
        p.add_(0.3 * torch.randn(p.shape, generator=generator, dtype=p.dtype))
    return model.eval()


# ---------------------------------------------------------------------------- sizes and counts
@pytest.mark.equation("unet-side")
def test_572_pixels_make_388():
    """Step by step through figure 1 of the paper."""
    sides = [572]
    for _ in range(4):
        kept = sides[-1] - 2 - 2
        sides.append(kept // 2)
    assert sides == [572, 284, 140, 68, 32]
    side = sides[-1] - 4
    for _ in range(4):
        side = 2 * side - 4
    assert side == 388 == output_side(572)
    scores = UNet(1, 2, device="meta")(torch.zeros(1, 1, 572, 572, device="meta"))
    assert scores.shape == (1, 2, 388, 388)


@pytest.mark.equation("unet-side", "unet-fits")
@pytest.mark.parametrize("levels", [1, 2, 3, 4])
@pytest.mark.parametrize("padding", [0, 1])
def test_exactly_these_sides_fit(levels, padding):
    """Against a walk down and up, in which every pooling must meet an even number of rows."""

    def walked(side):
        kept = []
        for level in range(levels):
            side -= 0 if padding else 4
            kept.append(side)
            if level < levels - 1:
                if side % 2:
                    return None
                side //= 2
        for _ in range(levels - 1):
            side = 2 * side - (0 if padding else 4)
        return side if min(*kept, side) >= 1 else None

    for side in range(1, 130):
        wanted = walked(side)
        if wanted is None:
            with refuses(ValueError, f"side={side} does not fit"):
                output_side(side, levels, padding)
        else:
            assert output_side(side, levels, padding) == wanted
            step = 2 ** (levels - 1)
            assert (side if padding else side + 4) % step == 0


@pytest.mark.parametrize("padding", [0, 1])
@pytest.mark.parametrize("upsampling", UPSAMPLINGS)
def test_scores_have_the_promised_side(padding, upsampling):
    model = UNet(2, 3, (2, 4, 6), padding, upsampling=upsampling)
    scores = model(torch.zeros(1, 2, 52, 60))
    wanted = [output_side(side, 3, padding) for side in (52, 60)]
    assert scores.shape == (1, 3, *wanted)


def test_counts_are_exact():
    """By hand: kernels and biases of each convolution, summed."""

    def convolution(c, d, k):
        return c * d * k * k + d

    c = [1, 64, 128, 256, 512, 1024]
    total = sum(convolution(a, b, 3) + convolution(b, b, 3) for a, b in itertools.pairwise(c))
    for a, b in itertools.pairwise(c[1:]):
        total += convolution(b, a, 2) + convolution(2 * a, a, 3) + convolution(a, a, 3)
    total += convolution(64, 2, 1)
    assert total == 31_030_658 == count(UNet(1, 2, padding=1, device="meta"))
    assert count(UNet(1, 2, device="meta")) == total
    normed = UNet(1, 2, padding=1, batch_norm=True, device="meta")
    assert count(normed) == 31_036_546
    convolutions = [m for m in UNet(1, 2, device="meta").modules()
                    if isinstance(m, nn.Conv2d | nn.ConvTranspose2d)]  # fmt: skip
    assert len(convolutions) == 23  # as the paper counts them


# --------------------------------------------------------------------- the forward pass, by parts
def convolved(x, weight, bias, padding):
    """A 3 × 3 convolution as a sum over its nine offsets."""
    x = F.pad(x, (padding,) * 4)
    rows, columns = x.shape[2] - 2, x.shape[3] - 2
    total = bias[:, None, None]
    for i, j in itertools.product(range(3), repeat=2):
        part = x[:, :, i : i + rows, j : j + columns]
        total = total + torch.einsum("bcyx,dc->bdyx", part, weight[:, :, i, j])
    return total


def block_by_hand(x, block, padding):
    for conv in (block[0], block[2]):
        x = convolved(x, conv.weight, conv.bias, padding).clamp_min(0)
    return x


def pooled(x):
    return torch.stack([x[:, :, i::2, j::2] for i in (0, 1) for j in (0, 1)]).amax(0)


def grown(x, up):
    """A transposed convolution of stride 2 and size 2: each pixel stamps its own 2 × 2 square."""
    b, _, rows, columns = x.shape
    out = torch.zeros(b, up.out_channels, 2 * rows, 2 * columns, dtype=x.dtype)
    for i, j in itertools.product(range(2), repeat=2):
        out[:, :, i::2, j::2] = torch.einsum("bdyx,dc->bcyx", x, up.weight[:, :, i, j])
    return out + up.bias[:, None, None]


@pytest.mark.equation("unet-block")
@pytest.mark.parametrize("padding", [0, 1])
def test_a_block_is_two_convolutions_each_rectified(padding):
    block = ConvBlock(3, 5, padding).double()
    x = torch.randn(2, 3, 8, 7).double()
    torch.testing.assert_close(block(x), block_by_hand(x, block, padding))


@pytest.mark.equation("unet-block-norm")
def test_batch_norm_stands_between_a_convolution_without_bias_and_its_relu():
    """Mean 0 and variance 1 of each channel over batch and pixels, then its scale and shift."""
    block = stirred(ConvBlock(3, 5, 1, batch_norm=True)).train()
    x = torch.randn(2, 3, 8, 7).double()
    wanted = x
    for conv, norm in ((block[0], block[1]), (block[3], block[4])):
        assert conv.bias is None
        wanted = convolved(wanted, conv.weight, torch.zeros(5).double(), 1)
        variance, mean = torch.var_mean(wanted, (0, 2, 3), correction=0, keepdim=True)
        wanted = (wanted - mean) / (variance + norm.eps).sqrt()
        wanted = wanted * norm.weight[:, None, None] + norm.bias[:, None, None]
        wanted = wanted.clamp_min(0)
    torch.testing.assert_close(block(x), wanted)


@pytest.mark.equation("unet-encoder", "unet-decoder", "unet-head")
@pytest.mark.parametrize("padding", [0, 1])
def test_skips_are_taken_before_the_pooling_and_joined_going_up(padding):
    model = stirred(UNet(2, 3, (4, 5, 6), padding))
    x = torch.randn(2, 2, 52, 48).double()
    kept, e = [], x
    for block in model.encoder:
        kept.append(block_by_hand(e, block, padding))
        e = pooled(kept[-1]) if block is not model.encoder[-1] else None
    d = kept[-1]
    for level in (1, 0):
        up = grown(d, model.up[level])
        edge = (kept[level].shape[2] - up.shape[2]) // 2
        middle = kept[level][:, :, edge : edge + up.shape[2], edge : edge + up.shape[3]]
        d = block_by_hand(torch.cat([middle, up], 1), model.decoder[level], padding)
    scores = torch.einsum("bcyx,kc->bkyx", d, model.head.weight[:, :, 0, 0])
    scores = scores + model.head.bias[:, None, None]
    torch.testing.assert_close(model(x), scores)


@pytest.mark.equation("unet-pencil")
def test_the_pencils_row_in_whole_numbers():
    """In lists, and with a network of two levels and one channel."""
    x = [0, 1, 0, 0, 1, 1, 1, 0]
    e = [max(x[2 * i], x[2 * i + 1]) for i in range(4)]
    assert e == [1, 0, 1, 1]
    padded = [0, *e, 0]
    d = [max(0, sum(padded[i : i + 3]) - 1) for i in range(4)]
    assert d == [0, 1, 1, 1]
    up = [d[i // 2] for i in range(8)]
    found = [max(0, s + u - 1) for s, u in zip(x, up, strict=True)]
    assert found == [0, 0, 0, 0, 1, 1, 1, 0]
    net = UNet(1, 1, (1, 1), padding=1)
    with torch.no_grad():
        for p in net.parameters():
            p.zero_()
        for block in (*net.encoder, net.decoder[0]):
            for at in (0, 2):
                block[at].weight[0, 0, 1, 1] = 1
        net.encoder[1][0].weight[0, 0, 1] = 1
        net.decoder[0][0].weight[0, 1, 1, 1] = 1
        net.up[0].weight.fill_(1)
        net.encoder[1][0].bias.fill_(-1)
        net.decoder[0][0].bias.fill_(-1)
        net.head.weight.fill_(1)
        rows = torch.tensor(x).float().repeat(2, 1)[None, None]
        assert net(rows)[0, 0].tolist() == [found, found]


def test_what_is_handed_across_tells_pixels_apart_that_pooling_does_not():
    one, other = torch.zeros(1, 1, 8, 8), torch.zeros(1, 1, 8, 8)
    one[..., 2, 2], other[..., 3, 3] = 1, 1
    model = UNet(1, 2, (4, 8), padding=1)
    before = [model.encode(x)[0] for x in (one, other)]
    assert (before[0] - before[1]).abs().max() > 1e-3
    assert torch.equal(F.max_pool2d(one, 2), F.max_pool2d(other, 2))


@pytest.mark.equation("unet-resize")
@pytest.mark.parametrize("mode", ["nearest", "bilinear"])
def test_resizing_and_a_1_by_1_convolution_may_change_places(mode):
    model = stirred(UNet(1, 2, (3, 6), padding=1, upsampling=mode))
    x = torch.randn(2, 6, 5, 4).double()
    first = nn.Upsample(scale_factor=2, mode=mode)(x)
    torch.testing.assert_close(model.grow(x, 0), model.up[0](first))


def test_weights_begin_with_the_papers_variance():
    torch.manual_seed(0)
    model = UNet(8, 2, (64, 128))
    for layer, inputs in ((model.encoder[1][0], 9 * 64), (model.decoder[0][0], 9 * 128),
                          (model.up[0], 128)):  # fmt: skip
        variance = layer.weight.double().var().item()
        n = layer.weight.numel()
        assert variance == pytest.approx(2 / inputs, rel=5 * math.sqrt(2 / n))
        assert not layer.bias.any()


def test_dropout_falls_on_the_lowest_level_alone():
    model = UNet(1, 2, (3, 4), padding=1, dropout=1.0).train()
    kept = model.encode(torch.randn(1, 1, 8, 8))
    assert kept[0].any() and not kept[1].any()
    assert model.eval().encode(torch.randn(1, 1, 8, 8))[1].any()


# ------------------------------------------------------------------------------------ overlap-tile
@pytest.mark.parametrize("tile", [44, 48, 60, 68])
@pytest.mark.parametrize("size", [(45, 41), (61, 70), (100, 43)])
def test_tiles_together_are_one_pass_over_the_mirrored_picture(tile, size):
    model = stirred(UNet(1, 2, (2, 3, 4)))
    answer = output_side(tile, 3)
    if answer < 4:
        with refuses(ValueError, f"tile={tile} makes"):
            overlap_tile(model, torch.zeros(1, 1, *size).double(), tile)
        return
    x = torch.randn(1, 1, *size).double()
    margin = (tile - answer) // 2
    whole = F.pad(x, [margin, size[1] - 1, margin, size[0] - 1], "reflect")
    rows, columns = (-(-(side + 2 * margin) // 4) * 4 for side in size)
    whole = model(whole[:, :, :rows, :columns])[:, :, : size[0], : size[1]]
    torch.testing.assert_close(overlap_tile(model, x, tile), whole)


@pytest.mark.parametrize("tile", [100, 108, 116])
def test_tiles_of_four_levels_lie_closer_than_their_answers_are_wide(tile):
    """Answers of four levels or more are 4 rows larger than a multiple of the poolings."""
    model = stirred(UNet(1, 1, (1, 2, 2, 2)))
    answer = output_side(tile, 4)
    assert answer % 8 == 4
    x = torch.randn(1, 1, 50, 60).double()
    margin = (tile - answer) // 2
    whole = F.pad(x, [margin, 59, margin, 49], "reflect")
    rows, columns = (-(-(side + 2 * margin + 4) // 8) * 8 - 4 for side in (50, 60))
    whole = model(whole[:, :, :rows, :columns])[:, :, :50, :60]
    torch.testing.assert_close(overlap_tile(model, x, tile), whole)


def test_the_rest_of_answers_by_the_poolings():
    for levels in range(1, 8):
        step = 2 ** (levels - 1)
        fitting = [n for n in range(2000) if n > 12 * step - 8 and (n + 4) % step == 0]
        rests = {output_side(n, levels) % step for n in fitting[:40]}
        assert rests == ({0} if levels <= 3 else {4})


def test_at_a_distance_that_pooling_does_not_divide_tiles_differ():
    """Why the tiles of `overlap_tile` are not laid edge to edge at any distance."""
    model = stirred(UNet(1, 1, (2, 3)))
    x = torch.randn(1, 1, 40, 40).double()
    near, far = model(x[:, :, :24, :24]), model(x[:, :, 1:25, :24])
    assert (near[:, :, 1:] - far[:, :, :-1]).abs().max() > 1e-3
    torch.testing.assert_close(near[:, :, 2:], model(x[:, :, 2:26, :24])[:, :, :-2])


# ------------------------------------------------------------------------------ losses, measures
@pytest.mark.equation("unet-objective", "unet-softmax")
def test_the_objective_is_a_weighted_cross_entropy_of_each_pixel():
    scores, y = torch.randn(2, 3, 4, 5).double(), torch.randint(3, (2, 4, 5))
    w = torch.rand(2, 4, 5).double()
    total = 0.0
    for b, i, j in itertools.product(range(2), range(4), range(5)):
        place = [math.exp(v) for v in scores[b, :, i, j].tolist()]
        total -= w[b, i, j].item() * math.log(place[y[b, i, j]] / sum(place))
    got = (w * F.cross_entropy(scores, y, reduction="none")).sum() / w.numel()
    assert got.item() == pytest.approx(total / w.numel())


@pytest.mark.equation("unet-border")
def test_border_weights_by_brute_force():
    labels = torch.zeros(9, 11, dtype=torch.int64)
    labels[1:4, 1:4], labels[1:4, 6:9], labels[6:8, 2:9] = 1, 2, 3
    got = border_weights(labels, strength=10, width=2.0)
    for i, j in itertools.product(range(9), range(11)):
        far = sorted(
            min(math.hypot(i - u, j - v) for u, v in (labels == n).nonzero().tolist())
            for n in (1, 2, 3)
        )
        wanted = 10 * math.exp(-((far[0] + far[1]) ** 2) / (2 * 2.0**2))
        assert got[i, j].item() == pytest.approx(0 if labels[i, j] else wanted, rel=1e-5)


def test_one_object_has_no_border_to_another():
    assert not border_weights(torch.tensor([[0, 1, 1, 0]])).any()
    assert not border_weights(torch.zeros(3, 3, dtype=torch.int64)).any()


@pytest.mark.equation("unet-iou", "unet-dice", "unet-dice-of-iou", "unet-soft-dice")
def test_iou_and_dice_as_sets_of_pixels():
    generator = torch.Generator().manual_seed(0)
    for _ in range(20):
        a, b = torch.rand(2, 6, 7, generator=generator) < 0.4
        one, other = ({tuple(p) for p in m.nonzero().tolist()} for m in (a, b))
        j = len(one & other) / len(one | other)
        assert iou(a, b) == pytest.approx(j)
        assert dice(a, b) == pytest.approx(2 * len(one & other) / (len(one) + len(other)))
        assert dice(a, b) == pytest.approx(2 * j / (1 + j))
        assert soft_dice(a.double(), b, 0).item() == pytest.approx(dice(a, b))
    nothing = torch.zeros(3, 3)
    assert iou(nothing, nothing) == dice(nothing, nothing) == soft_dice(nothing, nothing) == 1
    assert iou(nothing, nothing + 1) == 0


@pytest.mark.equation("unet-dice-gradient")
def test_gradient_of_dice():
    p = torch.rand(30, dtype=torch.float64, requires_grad=True)
    g = (torch.rand(30) < 0.3).double()
    (got,) = torch.autograd.grad(soft_dice(p, g, 0), p)
    total = p.sum() + g.sum()
    wanted = [2 * (g[i] * total - (p * g).sum()) / total**2 for i in range(30)]
    torch.testing.assert_close(got, torch.stack(wanted))


@pytest.mark.equation("unet-otsu")
def test_otsu_by_trying_every_threshold():
    generator = torch.Generator().manual_seed(1)
    for _ in range(5):
        x = torch.rand(12, 12, generator=generator).square().double()
        x = (x * 40).round() / 40
        at = otsu_threshold(x, bins=4000)
        values = x.unique()

        def between(t, x=x):
            low, high = x[x <= t], x[x > t]
            share = len(low) / x.numel()
            return share * (1 - share) * (low.mean() - high.mean()) ** 2

        best = max(between(t) for t in values[:-1])
        assert between(at).item() == pytest.approx(best.item(), rel=1e-6)


def test_otsu_is_scikit_images():
    x = torch.rand(64, 64, generator=torch.Generator().manual_seed(2)).square()
    wanted = filters.threshold_otsu(x.numpy())
    assert otsu_threshold(x) == pytest.approx(wanted, abs=1.5 / 256)
    assert otsu_threshold(torch.full((3, 3), 0.5)) == 0.5


@pytest.mark.equation("unet-gate")
def test_an_attention_gate_lets_through_what_it_weighs():
    """The gate of Attention U-Net, at one place, by hand."""
    generator = torch.Generator().manual_seed(0)
    s, g = torch.randn(2, 3, 4, 4, generator=generator).double()
    ws, wg = torch.randn(2, 5, 3, generator=generator).double()
    v, b, c = torch.randn(5, generator=generator).double(), 0.1, -0.2
    hidden = F.relu(
        F.conv2d(s[None], ws[..., None, None]) + F.conv2d(g[None], wg[..., None, None]) + b
    )
    share = torch.sigmoid(F.conv2d(hidden, v[None, :, None, None]) + c)
    got = (share * s)[0]
    for i, j in itertools.product(range(4), repeat=2):
        inner = (ws @ s[:, i, j] + wg @ g[:, i, j] + b).clamp_min(0)
        weight = 1 / (1 + math.exp(-(v @ inner + c).item()))
        torch.testing.assert_close(got[:, i, j], weight * s[:, i, j])


# ---------------------------------------------------------------------------------- with conditions
@pytest.mark.equation("unet-timestep")
def test_a_time_becomes_waves():
    t = torch.tensor([0.0, 3.0, 250.5]).double()
    got = timestep_embedding(t, 6)
    for row, time in zip(got, t.tolist(), strict=True):
        rates = [10000 ** (-2 * i / 6) for i in range(3)]
        wanted = [math.cos(time * r) for r in rates] + [math.sin(time * r) for r in rates]
        assert row.tolist() == pytest.approx(wanted, abs=1e-12)


def group_normalized(x, norm):
    """Each group of channels of each picture to mean 0 and variance 1, then scale and shift."""
    parts = x.unflatten(1, (norm.num_groups, -1))
    mean = parts.mean((2, 3, 4), keepdim=True)
    spread = (parts - mean).square().mean((2, 3, 4), keepdim=True)
    x = ((parts - mean) / (spread + norm.eps).sqrt()).flatten(1, 2)
    return x * norm.weight[:, None, None] + norm.bias[:, None, None]


def silu(x):
    return x / (1 + (-x).exp())


@pytest.mark.equation("unet-film", "unet-conditioned")
@pytest.mark.parametrize("out", [4, 6])
def test_a_conditioned_block_by_hand(out):
    block = stirred(ConditionedBlock(4, out, 5, num_groups=2))
    x, time = torch.randn(3, 4, 6, 5).double(), torch.randn(3, 5).double()
    h = convolved(silu(group_normalized(x, block.norm1)), block.conv1.weight, block.conv1.bias, 1)
    h = group_normalized(h, block.norm2)
    for b in range(3):
        numbers = block.film.weight @ silu(time[b]) + block.film.bias
        for c in range(out):
            h[b, c] = (1 + numbers[c]) * h[b, c] + numbers[out + c]
    wanted = convolved(silu(h), block.conv2.weight, block.conv2.bias, 1)
    short = x
    if out != 4:
        short = torch.einsum("bcyx,dc->bdyx", x, block.shortcut.weight[:, :, 0, 0])
        short = short + block.shortcut.bias[:, None, None]
    torch.testing.assert_close(block(x, time), short + wanted)


@pytest.mark.equation("unet-cross-attention")
def test_cross_attention_by_loops():
    part = stirred(SpatialAttention(4, 2, context_dim=3, num_groups=2))
    x, context = torch.randn(2, 4, 3, 2).double(), torch.randn(2, 5, 3).double()

    def attended(asks, tokens, mha):
        wq, wk, wv = mha.in_proj_weight.chunk(3)
        bq, bk, bv = mha.in_proj_bias.chunk(3)
        rows = []
        for ask in asks:
            heads = []
            for at in (slice(0, 2), slice(2, 4)):
                q = (wq @ ask + bq)[at]
                keys = [(wk @ token + bk)[at] for token in tokens]
                values = [(wv @ token + bv)[at] for token in tokens]
                score = torch.stack([q @ key / math.sqrt(2) for key in keys])
                share = score.exp() / score.exp().sum()
                heads.append(sum(s * v for s, v in zip(share, values, strict=True)))
            rows.append(mha.out_proj.weight @ torch.cat(heads) + mha.out_proj.bias)
        return torch.stack(rows)

    got = part(x, context)
    for b in range(2):
        tokens = group_normalized(x, part.norm)[b].flatten(1).T
        u = x[b].flatten(1).T
        u = u + attended(tokens, tokens, part.own)
        asks = (u - u.mean(1, keepdim=True)) / (
            u.var(1, correction=0, keepdim=True) + part.context_norm.eps
        ).sqrt()
        asks = asks * part.context_norm.weight + part.context_norm.bias
        u = u + attended(asks, context[b] @ part.read.weight.T, part.across)
        torch.testing.assert_close(got[b].flatten(1).T, u)


def conditional(**options):
    return ConditionalUNet(2, 3, (4, 8, 8), num_heads=2, num_groups=2, **options)


@pytest.mark.parametrize("size", [(28, 28), (32, 32), (9, 4), (7, 13)])
@pytest.mark.parametrize("num_blocks", [1, 2])
def test_answers_have_the_pictures_size(size, num_blocks):
    model = stirred(conditional(num_blocks=num_blocks, attention=(1, 2)))
    x = torch.randn(2, 2, *size).double()
    got = model(x, torch.tensor([0, 999]))
    assert got.shape == (2, 3, *size) and torch.isfinite(got).all()


def test_the_conditional_form_by_its_parts():
    """Down by a convolution of stride 2, up by doubling pixels, and the skips in their order."""
    model = stirred(ConditionalUNet(2, 3, (4, 8), context_dim=5, num_heads=2, num_groups=2))
    x, context = torch.randn(2, 2, 8, 6).double(), torch.randn(2, 3, 5).double()
    t = torch.tensor([3, 700])
    first, _, second = model.time
    tau = silu(timestep_embedding(t.double(), 4) @ first.weight.T + first.bias)
    tau = tau @ second.weight.T + second.bias

    def conv(layer, h):
        return convolved(h, layer.weight, layer.bias, 1)

    top = model.down[0][0](conv(model.stem, x), tau)
    low = model.down[1][0](conv(model.shrink[0], top)[:, :, ::2, ::2], tau)
    low = model.down[1][1](low, context)
    assert low.shape == (2, 8, 4, 3)
    h = model.middle[1](model.middle[0](low, tau), context)
    h = model.middle[2](h, tau)
    h = model.up[0][1](model.up[0][0](torch.cat([h, low], 1), tau), context)
    h = conv(model.widen[0], h.repeat_interleave(2, 2).repeat_interleave(2, 3))
    h = model.up[1][0](torch.cat([h, top], 1), tau)
    wanted = conv(model.head, silu(group_normalized(h, model.norm)))
    torch.testing.assert_close(model(x, t, context), wanted)


def test_it_begins_by_answering_zero_and_every_parameter_learns():
    model = conditional(context_dim=5)
    x, t = torch.randn(6, 2, 8, 8), torch.arange(6)
    assert not model(x, t, torch.randn(6, 3, 5)).any()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    reached = set()
    for step in range(6):
        context = torch.randn(6, 3, 5) if step % 2 else None
        wanted = x.mean(1, keepdim=True) * t.view(-1, 1, 1, 1)
        loss = (model(x, t, context) - wanted).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        reached |= {n for n, p in model.named_parameters() if p.grad is not None and p.grad.any()}
    assert reached == {name for name, _ in model.named_parameters()}


def test_the_answer_depends_on_time_and_on_context():
    model = stirred(conditional(context_dim=5))
    x, t = torch.randn(3, 2, 8, 8).double(), torch.tensor([5, 5, 5])
    context = torch.randn(3, 4, 5).double()
    base = model(x, t, context)
    for other in (model(x, t + 1, context), model(x, t, context + 1), model(x, t)):
        assert (other - base).abs().max() > 1e-4
    torch.testing.assert_close(model(x, 5, context), base)
    torch.testing.assert_close(model(x, torch.tensor(5.0), context), base)


def test_pictures_do_not_see_each_other_and_tokens_have_no_order():
    model = stirred(conditional(context_dim=5))
    x, t = torch.randn(3, 2, 8, 12).double(), torch.tensor([1, 50, 700])
    context = torch.randn(3, 4, 5).double()
    whole = model(x, t, context)
    for at in range(3):
        one = slice(at, at + 1)
        torch.testing.assert_close(model(x[one], t[one], context[one]), whole[one])
    torch.testing.assert_close(model(x, t, context.flip(1)), whole)


def test_masked_tokens_are_as_if_they_were_not_there():
    model = stirred(conditional(context_dim=5))
    x, t = torch.randn(2, 2, 8, 8).double(), torch.tensor([1, 2])
    context = torch.randn(2, 4, 5).double()
    mask = torch.tensor([[True, True, False, False]] * 2)
    torch.testing.assert_close(model(x, t, context, mask), model(x, t, context[:, :2]))


def test_without_a_caption_it_looks_at_the_learned_empty_one():
    model = stirred(conditional(context_dim=5))
    x, t = torch.randn(2, 2, 8, 8).double(), torch.tensor([1, 2])
    empty = model.null_context.expand(2, -1, -1)
    torch.testing.assert_close(model(x, t), model(x, t, empty))


def test_times_from_zero_to_one_are_scaled():
    torch.manual_seed(0)
    one = stirred(conditional(time_scale=1000.0))
    other = stirred(conditional())
    other.load_state_dict(one.state_dict())
    x = torch.randn(2, 2, 8, 8).double()
    torch.testing.assert_close(
        one(x, torch.tensor([0.25, 1.0])), other(x, torch.tensor([250, 1000]))
    )


@pytest.mark.equation("unet-denoising")
def test_it_learns_to_tell_noise_from_a_picture():
    """One picture, many noises: the best answer is (x_t - a x) / s, and training finds it."""
    torch.manual_seed(0)
    model = ConditionalUNet(1, 1, (8, 16), num_heads=2)
    picture = torch.zeros(1, 1, 8, 8)
    picture[..., 2:6, 2:6] = 1
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    losses = []
    for _ in range(150):
        t = torch.rand(16)
        a, s = (t * math.pi / 2).cos(), (t * math.pi / 2).sin().clamp_min(0.05)
        noise = torch.randn(16, 1, 8, 8)
        x = a.view(-1, 1, 1, 1) * picture + s.view(-1, 1, 1, 1) * noise
        loss = (model(x, 1000 * t) - noise).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[0] == pytest.approx(1, abs=0.2)  # it begins by answering zero
    assert sum(losses[-10:]) / 10 < 0.35


def test_it_saves_and_loads_and_traces_without_the_hook():
    model = stirred(conditional(context_dim=5))
    twin = conditional(context_dim=5).double().eval()
    twin.load_state_dict(model.state_dict())
    x, t = torch.randn(1, 2, 8, 8).double(), torch.tensor([3])
    assert torch.equal(model(x, t), twin(x, t))


# --------------------------------------------------------------------------------------- bad input
@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: UNet(0, 2), ValueError, "in_channels=0"),
        (lambda: UNet(1, 2, ()), ValueError, "channels=() must hold a number for each level"),
        (lambda: UNet(1, 2, (4, 0)), ValueError, "channels[1]=0"),
        (lambda: UNet(1, 2, (4, 8), padding=2), ValueError, "padding=2 must be one of [0, 1]"),
        (lambda: UNet(1, 2, (4, 8), upsampling="cubic"), ValueError, "upsampling='cubic'"),
        (lambda: UNet(1, 2, (4, 8), batch_norm=1), TypeError, "batch_norm=1"),
        (lambda: UNet(1, 2, (4, 8), dropout=2), ValueError, "dropout=2"),
        (lambda: output_side(570), ValueError, "near it, 556 and 572 do"),
        (lambda: output_side(10), ValueError, "near it, 188 does"),
        (lambda: output_side(100, 3, 1) and output_side(30, 3, 1), ValueError, "28 and 32 do"),
        (lambda: ConditionalUNet(1, 1, (8,), num_heads=3), ValueError, "num_heads=3 does not"),
        (lambda: ConditionalUNet(1, 1, (8, 8), attention=(2,)), ValueError, "attention=2 must be"),
        (lambda: ConditionalUNet(1, 1, num_blocks=0), ValueError, "num_blocks=0"),
        (lambda: ConditionalUNet(1, 1, time_scale=0), ValueError, "time_scale=0"),
        (lambda: ConditionalUNet(1, 1, context_dim=0), ValueError, "context_dim=0"),
        (lambda: timestep_embedding(torch.zeros(2), 3), ValueError, "embed_dim=3 must be even"),
        (lambda: border_weights(torch.zeros(2, 2)), TypeError, "labels must hold integers"),
        (lambda: border_weights(torch.zeros(2, 2).long(), width=0), ValueError, "width=0"),
        (lambda: soft_dice(torch.rand(2), torch.rand(3)), ValueError, "target must have shape"),
        (lambda: iou(torch.rand(2), torch.rand(3)), ValueError, "target must have shape"),
        (lambda: otsu_threshold(torch.zeros(0)), ValueError, "x must not be empty"),
        (lambda: join(torch.zeros(1, 1, 2, 2), torch.zeros(1, 1, 4, 4)), ValueError, "kept must"),
    ],
)  # fmt: skip
def test_a_bad_argument_is_named(make, error, message):
    with refuses(error, message):
        make()


SMALL, FREE = UNet(1, 2, (2, 4, 4), padding=1), UNet(1, 2, (2, 4, 4))
WITH, WITHOUT = conditional(context_dim=5), conditional()


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: SMALL(torch.zeros(1, 1, 8, 8).byte()), TypeError, "x must be floating point"),
        (lambda: SMALL(torch.zeros(1, 2, 8, 8)), ValueError, "x must have shape (b, 1, y, x)"),
        (lambda: SMALL(torch.zeros(1, 1, 8, 10)), ValueError, "side=10 does not fit"),
        (lambda: FREE(torch.zeros(1, 1, 44, 46)), ValueError, "near it, 44 and 48 do"),
        (lambda: overlap_tile(SMALL, torch.zeros(1, 1, 60, 60)), ValueError, "padding=0"),
        (lambda: overlap_tile(FREE, torch.zeros(1, 1, 9, 60), 60), ValueError, "to mirror"),
        (lambda: WITH(torch.zeros(2, 2, 3, 8), 0), ValueError, "at least 4 rows"),
        (lambda: WITH(torch.zeros(2, 2, 8, 8), torch.zeros(3)), ValueError, "t must have shape"),
        (lambda: WITH(torch.zeros(2, 2, 8, 8), float("nan")), ValueError, "t=nan"),
        (lambda: WITHOUT(torch.zeros(2, 2, 8, 8), 0, torch.zeros(2, 3, 5)), ValueError,
         "context needs a network"),
        (lambda: WITH(torch.zeros(2, 2, 8, 8), 0, torch.zeros(2, 3, 4)), ValueError,
         "context must have shape (2, s, 5)"),
        (lambda: WITH(torch.zeros(2, 2, 8, 8), 0, context_mask=torch.ones(2, 3).bool()),
         ValueError, "context_mask needs a context"),
        (lambda: SpatialAttention(4, 2, 3)(torch.zeros(1, 4, 2, 2)), ValueError, "context is None"),
    ],
)  # fmt: skip
def test_a_bad_input_is_named(call, error, message):
    with refuses(error, message):
        call()
