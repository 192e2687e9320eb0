"""ResNet, EfficientNet and ConvNeXt's block against torchvision, autograd, loops and counts."""

import itertools
import math
from functools import reduce

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from nnlib.blocks.batch_norm import BatchNorm2d
from nnlib.vision.resnet import (
    EFFICIENTNETS,
    STAGES,
    BasicBlock,
    Bottleneck,
    ConvNeXtBlock,
    EfficientNet,
    MBConv,
    PreActivationBlock,
    PreActivationBottleneck,
    ResNet,
    SqueezeExcitation,
    StochasticDepth,
    fold_batch_norms,
    zero_residuals_,
)
from tests.support import Example, Peer, refuses

models = Peer("torchvision.models")
ops = Peer("torchvision.ops")

BLOCKS = [BasicBlock, Bottleneck, PreActivationBlock, PreActivationBottleneck]


def example() -> Example:
    """What the contract runs: see `tests/test_contract.py`."""
    return Example({"depth": 18, "num_classes": 7, "width": 4}, (torch.randn(5, 3, 33, 40),))


@torch.no_grad()
def used(model, seed=0):
    """Give batch norms the statistics and weights of a model that was trained; return it."""
    generator = torch.Generator().manual_seed(seed)
    for name, value in model.state_dict().items():
        if name.endswith("running_var"):
            value.uniform_(0.5, 2.0, generator=generator)
        elif name.endswith("running_mean"):
            value.normal_(0, 0.3, generator=generator)
        elif value.is_floating_point() and value.ndim == 1:
            value.add_(0.1 * torch.randn(value.shape, generator=generator))
    return model


def ready(block):
    return used(block.double()).eval()


def count(model):
    return sum(p.numel() for p in model.parameters())


# ------------------------------------------------------------------------------------ torchvision
@pytest.mark.equation("resnet-block", "resnet-pool", "resnet-projection")
@pytest.mark.parametrize("depth", STAGES)
def test_torchvisions_weights_give_its_answers(depth):
    theirs = used(getattr(models, f"resnet{depth}")()).eval()
    ours = ResNet(depth, device="meta").eval()
    assert list(ours.state_dict()) == list(theirs.state_dict())
    ours.load_state_dict(theirs.state_dict(), assign=True)
    x = torch.randn(2, 3, 64, 72)
    with torch.no_grad():
        wanted = theirs(x)
        scale = wanted.abs().max().item()  # of a hundred random layers it is not near 1
        torch.testing.assert_close(ours(x) / scale, wanted / scale, rtol=0, atol=1e-5)


COUNTS = {18: 11_689_512, 34: 21_797_672, 50: 25_557_032, 101: 44_549_160, 152: 60_192_808}


@pytest.mark.parametrize(("depth", "wanted"), COUNTS.items())
def test_counts_are_exact(depth, wanted):
    assert count(ResNet(depth, device="meta")) == wanted


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        ({"groups": 32, "width_per_group": 4}, 25_028_904),  # ResNeXt-50 32x4d
        ({"width_per_group": 128}, 68_883_240),  # Wide ResNet-50-2
    ],
)
def test_resnext_and_wide_resnet_are_arguments(arguments, wanted):
    ours = ResNet(50, device="meta", **arguments)
    with torch.device("meta"):
        theirs = models.ResNet(models.resnet.Bottleneck, [3, 4, 6, 3], **arguments)
    shapes = {name: value.shape for name, value in theirs.state_dict().items()}
    assert {name: value.shape for name, value in ours.state_dict().items()} == shapes
    assert count(ours) == wanted


@pytest.mark.parametrize(
    ("mine", "name"), [(lambda: ResNet(18), "resnet18"), (EfficientNet, "efficientnet_b0")]
)
def test_equal_seeds_give_torchvisions_weights(mine, name):
    torch.manual_seed(3)
    wanted = getattr(models, name)().state_dict()
    torch.manual_seed(3)
    got = mine().state_dict()
    assert all(torch.equal(got[key], value) for key, value in wanted.items())


@pytest.mark.equation("resnet-objective")
def test_a_step_of_training_is_torchvisions():
    """Outputs, gradients, running statistics, and the step with weight decay."""
    theirs = models.resnet18(num_classes=5)
    ours = ResNet(18, 5)
    ours.load_state_dict(theirs.state_dict())
    x, y = torch.randn(4, 3, 64, 64), torch.tensor([0, 3, 1, 4])
    losses = []
    for model, decay in ((ours, 0.0), (theirs, 0.01)):
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1, weight_decay=decay)
        loss = F.cross_entropy(model(x), y)
        losses.append(loss.item())
        if not decay:  # the penalty stands in the loss itself
            loss = loss + 0.01 / 2 * sum(p.square().sum() for p in model.parameters())
        loss.backward()
        optimizer.step()
    assert losses[0] == pytest.approx(losses[1], abs=1e-5)
    wanted = theirs.state_dict()
    for name, value in ours.state_dict().items():
        torch.testing.assert_close(value, wanted[name], rtol=1e-4, atol=1e-5, msg=name)


# ------------------------------------------------------------------------- blocks, by their parts
def normalized(x, norm):
    """Batch norm with running statistics, written out."""
    along = (slice(None), None, None)
    weight = norm.weight / (norm.running_var + norm.eps).sqrt()
    return (x - norm.running_mean[along]) * weight[along] + norm.bias[along]


def convolved(x, conv):
    """A convolution as a sum over the offsets of its kernel: no operator of torch's."""
    size, step, edge = conv.kernel_size[0], conv.stride[0], conv.padding[0]
    padded = F.pad(x, (edge,) * 4)
    rows, columns = ((length + 2 * edge - size) // step + 1 for length in (x.shape[2], x.shape[3]))
    groups = conv.groups
    per_group = padded.unflatten(1, (groups, -1))
    weight = conv.weight.unflatten(0, (groups, -1))
    total = 0
    for i, j in itertools.product(range(size), repeat=2):
        part = per_group[..., i : i + step * (rows - 1) + 1 : step, :]
        part = part[..., j : j + step * (columns - 1) + 1 : step]
        total = total + torch.einsum("bgcyx,gdc->bgdyx", part, weight[..., i, j])
    return total.flatten(1, 2)


def relu(x):
    return x.clamp_min(0)


@pytest.mark.equation("resnet-block", "resnet-basic")
def test_a_basic_block_is_two_convolutions_and_a_sum():
    block, x = ready(BasicBlock(4, 4)), torch.randn(3, 4, 6, 5).double()
    h = relu(normalized(convolved(x, block.conv1), block.bn1))
    correction = normalized(convolved(h, block.conv2), block.bn2)
    torch.testing.assert_close(block.branch(x), correction)
    torch.testing.assert_close(block(x), relu(x + correction))


@pytest.mark.equation("resnet-block", "resnet-bottleneck", "resnet-projection")
@pytest.mark.parametrize(("stride", "groups"), [(1, 1), (2, 1), (2, 2)])
def test_a_bottleneck_narrows_convolves_and_widens(stride, groups):
    made = Bottleneck(6, 4, stride, groups=groups, width_per_group=64)
    block, x = ready(made), torch.randn(3, 6, 7, 5).double()
    h = relu(normalized(convolved(x, block.conv1), block.bn1))
    h = relu(normalized(convolved(h, block.conv2), block.bn2))
    correction = normalized(convolved(h, block.conv3), block.bn3)
    conv, norm = block.downsample
    assert conv.kernel_size == (1, 1) and conv.stride == (stride, stride)
    assert block.conv2.stride == (stride, stride) and block.conv1.stride == (1, 1)
    torch.testing.assert_close(block.branch(x), correction)
    torch.testing.assert_close(block(x), relu(correction + normalized(convolved(x, conv), norm)))


@pytest.mark.equation("resnet-preactivation")
@pytest.mark.parametrize("kind", [PreActivationBlock, PreActivationBottleneck])
@pytest.mark.parametrize("stride", [1, 2])
def test_nothing_follows_the_sum_of_a_pre_activation_block(kind, stride):
    channels = 4 * kind.expansion
    block, x = ready(kind(channels, 4, stride)), torch.randn(3, channels, 6, 5).double()
    active = relu(normalized(x, block.bn1))
    h = convolved(active, block.conv1)
    h = convolved(relu(normalized(h, block.bn2)), block.conv2)
    if kind is PreActivationBottleneck:
        h = convolved(relu(normalized(h, block.bn3)), block.conv3)
    shortcut = x if stride == 1 else convolved(active, block.downsample)
    torch.testing.assert_close(block.branch(active), h)
    torch.testing.assert_close(block(x), shortcut + h)


def test_a_pre_activation_network_is_its_parts():
    model = ready(ResNet(18, 5, pre_activation=True, width=4))
    x = torch.randn(2, 3, 40, 33).double()
    h = F.max_pool2d(convolved(x, model.conv1), 3, 2, 1)
    for stage in (model.layer1, model.layer2, model.layer3, model.layer4):
        for block in stage:
            h = block(h)
    h = relu(normalized(h, model.norm)).mean((2, 3))
    torch.testing.assert_close(model(x), h @ model.fc.weight.T + model.fc.bias)
    assert not any(isinstance(m, BasicBlock) for m in model.modules())


@pytest.mark.parametrize("depth", STAGES)
@pytest.mark.parametrize("pre_activation", [False, True])
def test_depth_counts_the_layers_with_weights(depth, pre_activation):
    model = ResNet(depth, pre_activation=pre_activation, device="meta")
    layers = [m for n, m in model.named_modules() if isinstance(m, nn.Conv2d | nn.Linear)
              and "downsample" not in n]  # fmt: skip
    assert len(layers) == depth


@pytest.mark.equation("resnet-pool")
def test_features_are_means_over_the_picture():
    model = ready(ResNet(18, 5, width=4))
    seen = []
    model.layer4.register_forward_hook(lambda *given: seen.append(given[2]))
    x = torch.randn(2, 3, 70, 64).double()
    features = model.features(x)
    means = torch.stack([seen[0][:, c].flatten(1).mean(1) for c in range(32)], 1)
    torch.testing.assert_close(features, means)
    torch.testing.assert_close(model(x), features @ model.fc.weight.T + model.fc.bias)


def test_any_picture_of_a_pixel_or_more_is_taken_in_use():
    model = ResNet(18, 5, width=4).eval()
    for size in (1, 7, 31, 32, 33):
        assert model(torch.randn(1, 3, size, size)).shape == (1, 5)


@pytest.mark.equation("resnet-residual")
def test_any_map_is_its_input_plus_a_correction():
    """A block whose branch computes H(x) - x computes H(x): here a shift of every channel."""
    block, x = ready(BasicBlock(4, 4)), torch.rand(2, 4, 5, 5).double()
    wanted = x + torch.tensor([0.5, 1.0, 0.0, 2.0]).double()[:, None, None]  # H, here
    block.branch = lambda x: wanted - x
    torch.testing.assert_close(block(x), wanted)


@pytest.mark.equation("resnet-pencil")
def test_the_pencils_block_in_whole_numbers():
    w1, w2, x = [[1, -1], [0, 1]], [[1, 0.5], [0, -1.5]], [1, 2]

    def times(w, v):
        return [sum(a * b for a, b in zip(row, v, strict=True)) for row in w]

    correction = times(w2, [max(0, v) for v in times(w1, x)])
    assert correction == [1, -3]
    assert [max(0, a + f) for a, f in zip(x, correction, strict=True)] == [2, 0]
    block = BasicBlock(2, 2).eval()
    block.bn1, block.bn2 = nn.Identity(), nn.Identity()
    with torch.no_grad():
        for conv, weight in ((block.conv1, w1), (block.conv2, w2)):
            conv.weight.zero_()
            conv.weight[:, :, 1, 1] = torch.tensor(weight)
        assert block(torch.tensor([1.0, 2.0]).view(1, 2, 1, 1)).flatten().tolist() == [2, 0]


@pytest.mark.equation("resnet-highway")
@pytest.mark.parametrize(("bias", "wanted"), [(-40.0, "input"), (40.0, "output"), (0.0, "middle")])
def test_a_highway_gate_chooses_between_input_and_output(bias, wanted):
    x, h = torch.randn(3, 4).double(), torch.randn(3, 4).double()
    gate = torch.sigmoid(x @ torch.zeros(4, 4).double() + bias)
    expected = {"input": x, "output": h, "middle": (x + h) / 2}
    torch.testing.assert_close(gate * h + (1 - gate) * x, expected[wanted])


# ------------------------------------------------------------------------------ the gradient claim
def stack(blocks=6, width=5, after=lambda x: x):
    """Corrections F_i of a residual stack, and the states that they make of one input."""
    torch.manual_seed(1)
    corrections = [
        nn.Sequential(nn.Linear(width, 7), nn.Tanh(), nn.Linear(7, width)).double()
        for _ in range(blocks)
    ]
    states = [torch.randn(width).double().requires_grad_()]
    for correction in corrections:
        states.append(after(states[-1] + correction(states[-1])))
    return corrections, states


def jacobian(outputs, inputs):
    return torch.stack([torch.autograd.grad(out, inputs, retain_graph=True)[0] for out in outputs])


@pytest.mark.equation("resnet-unrolled", "resnet-gradient")
def test_the_gradient_is_the_identity_plus_that_of_all_corrections():
    """ResNet's claim, for blocks with nothing after the sum."""
    corrections, states = stack()
    added = [f(x) for f, x in zip(corrections, states, strict=False)]
    torch.testing.assert_close(states[-1], states[2] + sum(added[2:]))
    loss = states[-1].square().sum()
    (at_end,) = torch.autograd.grad(loss, states[-1], retain_graph=True)
    (at_two,) = torch.autograd.grad(loss, states[2], retain_graph=True)
    whole = torch.eye(5) + jacobian(sum(added[2:]), states[2])
    torch.testing.assert_close(at_two, whole.T @ at_end, rtol=0, atol=1e-14)


@pytest.mark.equation("resnet-product", "resnet-paths")
def test_the_jacobian_is_a_product_and_a_sum_over_paths():
    corrections, states = stack(blocks=5)
    own = [torch.autograd.functional.jacobian(f, x.detach())
           for f, x in zip(corrections, states, strict=False)]  # fmt: skip
    eye = torch.eye(5).double()
    whole = jacobian(states[-1], states[0])
    product = reduce(lambda total, j: (eye + j) @ total, own, eye)
    torch.testing.assert_close(whole, product, rtol=0, atol=1e-13)
    paths = [
        reduce(lambda total, at: own[at] @ total, chosen, eye)
        for size in range(6)
        for chosen in itertools.combinations(range(5), size)
    ]
    assert len(paths) == 2**5
    torch.testing.assert_close(whole, sum(paths), rtol=0, atol=1e-13)


@pytest.mark.equation("resnet-path-lengths")
def test_so_many_paths_pass_through_k_of_n_blocks():
    n, q = 9, 0.3
    lengths = [sum(chosen) for chosen in itertools.product((0, 1), repeat=n)]
    shares = [q**length / (1 + q) ** n for length in lengths]
    assert [lengths.count(k) for k in range(n + 1)] == [math.comb(n, k) for k in range(n + 1)]
    assert sum(shares) == pytest.approx(1)
    mean = sum(length * share for length, share in zip(lengths, shares, strict=True))
    assert mean == pytest.approx(n * q / (1 + q))


@pytest.mark.equation("resnet-relu-jacobian")
def test_with_a_relu_after_the_sum_the_identity_is_masked():
    corrections, states = stack(after=relu)
    own = [torch.autograd.functional.jacobian(f, x.detach())
           for f, x in zip(corrections, states, strict=False)]  # fmt: skip
    whole = jacobian(states[-1], states[0])
    eye, product = torch.eye(5).double(), torch.eye(5).double()
    for j, state in zip(own, states[1:], strict=True):
        product = torch.diag((state > 0).double()) @ (eye + j) @ product
    torch.testing.assert_close(whole, product, rtol=0, atol=1e-13)
    summed = eye + jacobian(sum(f(x) for f, x in zip(corrections, states, strict=False)), states[0])
    assert (whole - summed).abs().max() > 0.1  # the formula without the ReLU is another matrix


@pytest.mark.equation("resnet-shrink")
@pytest.mark.parametrize(("slope", "wanted"), [(-0.9, 1e-20), (0.9, 1.9**20), (-1.0, 0.0)])
def test_an_identity_does_not_keep_the_gradient_from_vanishing(slope, wanted):
    x = torch.ones(3, dtype=torch.float64, requires_grad=True)
    h = x
    for _ in range(20):
        h = h + slope * h
    (got,) = torch.autograd.grad(h.sum(), x)
    torch.testing.assert_close(got, torch.full_like(got, wanted), rtol=1e-12, atol=1e-30)


@pytest.mark.equation("resnet-doubling", "resnet-linear-growth")
def test_variance_doubles_without_norm_and_grows_linearly_with_one_in_the_branch():
    """Wide layers, so that variances are near their expected values."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(400, 400, generator=generator, dtype=torch.float64)
    free, normed = x, x
    ratios = []
    for _ in range(8):
        w = torch.randn(400, 400, generator=generator, dtype=torch.float64) / 20
        before = free.var()
        free, normed = free + free @ w.T, normed + (normed / normed.std(0)) @ w.T
        ratios.append((free.var() / before).item())
    assert ratios == pytest.approx([2] * 8, rel=0.05)
    assert normed.var().item() == pytest.approx(9, rel=0.05)


# ------------------------------------------------------------------------- what it costs, and less
@pytest.mark.equation("resnet-cost")
@pytest.mark.parametrize("channels", [16, 64])
def test_weights_of_both_blocks(channels):
    c = channels

    def norms(block):
        return sum(count(m) for m in block.modules() if isinstance(m, BatchNorm2d))

    basic, narrow = BasicBlock(c, c), Bottleneck(4 * c, c)
    assert count(basic) - norms(basic) == 18 * c**2
    assert count(narrow) - norms(narrow) == 17 * c**2


@pytest.mark.equation("resnet-flops")
def test_half_the_picture_and_twice_the_channels_cost_the_same():
    found = []
    for channels, size in ((8, 16), (16, 8)):
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            BasicBlock(channels, channels)(torch.randn(2, channels, size, size))
        found.append(counter.get_total_flops())
        assert found[-1] == 2 * 2 * 2 * 9 * channels**2 * size**2  # 2 pictures, 2 layers, 2 FLOPs
    assert found[0] == found[1]


@pytest.mark.equation("resnet-fold")
@pytest.mark.parametrize("depth", [18, 50])
def test_folded_batch_norms_give_the_same_scores(depth):
    model = ready(ResNet(depth, 5, width=8))
    folded = fold_batch_norms(model)
    assert not any(isinstance(m, BatchNorm2d) for m in folded.modules())
    assert any(isinstance(m, BatchNorm2d) for m in model.modules())
    x = torch.randn(2, 3, 48, 48).double()
    torch.testing.assert_close(folded(x), model(x), rtol=1e-10, atol=1e-10)


@pytest.mark.equation("resnet-fold")
def test_a_folded_convolution_is_torchs_fusion():
    model = ready(ResNet(18, 5, width=8))
    wanted = nn.utils.fusion.fuse_conv_bn_eval(model.conv1, model.bn1)
    got = fold_batch_norms(model).conv1
    torch.testing.assert_close(got.weight, wanted.weight)
    torch.testing.assert_close(got.bias, wanted.bias)


def test_what_cannot_be_folded_is_refused():
    with refuses(ValueError, "pre_activation"):
        fold_batch_norms(ResNet(18, 5, True, width=4))
    with refuses(TypeError, "model"):
        fold_batch_norms(nn.Linear(2, 2))


@pytest.mark.equation("resnet-zero")
@pytest.mark.parametrize("kind", BLOCKS)
def test_a_block_without_a_correction_is_the_identity(kind):
    channels = 4 * kind.expansion
    block = zero_residuals_(kind(channels, 4)).train()
    x = torch.rand(3, channels, 5, 5)
    assert torch.equal(block(x), x)
    model = zero_residuals_(nn.Sequential(nn.Linear(2, 2), kind(channels, 4)))
    assert torch.equal(model[1](x), x)


def test_zero_residuals_refuses_what_has_none():
    with refuses(ValueError, "no residual block"):
        zero_residuals_(nn.Linear(2, 2))
    with refuses(TypeError, "model"):
        zero_residuals_("resnet")


# ------------------------------------------------------------------------------------ EfficientNet
@pytest.mark.equation("resnet-mbconv")
def test_efficientnet_b0_gives_torchvisions_answers():
    theirs = used(models.efficientnet_b0()).eval()
    ours = EfficientNet("b0", device="meta").eval()
    assert list(ours.state_dict()) == list(theirs.state_dict())
    ours.load_state_dict(theirs.state_dict(), assign=True)
    x = torch.randn(2, 3, 96, 80)
    with torch.no_grad():
        wanted = theirs(x)
        scale = max(1.0, wanted.abs().max().item())
        torch.testing.assert_close(ours(x) / scale, wanted / scale, rtol=0, atol=1e-5)


EFFICIENT = {
    "b0": 5_288_548, "b1": 7_794_184, "b2": 9_109_994, "b3": 12_233_232,
    "b4": 19_341_616, "b5": 30_389_784, "b6": 43_040_704, "b7": 66_347_960,
}  # fmt: skip


@pytest.mark.parametrize(("variant", "wanted"), EFFICIENT.items())
def test_every_variant_has_torchvisions_shapes(variant, wanted):
    ours = EfficientNet(variant, device="meta")
    with torch.device("meta"):
        theirs = getattr(models, f"efficientnet_{variant}")()
    shapes = {name: value.shape for name, value in theirs.state_dict().items()}
    assert {name: value.shape for name, value in ours.state_dict().items()} == shapes
    assert count(ours) == wanted

    def same(kind):
        return [(m.eps, m.momentum) for m in kind.modules() if hasattr(m, "momentum")]

    assert same(ours) == same(theirs)

    def drops(kind):
        return [m.p for m in kind.modules() if type(m).__name__ == "StochasticDepth"]

    assert drops(ours) == pytest.approx(drops(theirs))
    assert ours.classifier[0].p == theirs.classifier[0].p == EFFICIENTNETS[variant].dropout


def test_a_step_of_efficientnet_is_torchvisions_with_its_drops():
    theirs, ours = models.efficientnet_b0(num_classes=5), EfficientNet("b0", 5)
    ours.load_state_dict(theirs.state_dict())
    x, grads = torch.randn(4, 3, 64, 64), []
    for model in (ours, theirs):
        torch.manual_seed(7)
        model(x).square().sum().backward()
        grads.append({name: p.grad for name, p in model.named_parameters()})
    scale = max(g.abs().max().item() for g in grads[1].values())
    for name, grad in grads[0].items():
        torch.testing.assert_close(grad / scale, grads[1][name] / scale, rtol=1e-3, atol=1e-5)


@pytest.mark.equation("resnet-squeeze", "resnet-excite")
def test_squeeze_and_excitation_is_a_small_network_on_the_means():
    part, x = SqueezeExcitation(6, 2).double(), torch.randn(3, 6, 4, 5).double()
    w1, w2 = part.fc1.weight[:, :, 0, 0], part.fc2.weight[:, :, 0, 0]
    for picture, got in zip(x, part(x), strict=True):
        mean = torch.stack([channel.sum() / 20 for channel in picture])
        hidden = w1 @ mean + part.fc1.bias
        hidden = hidden / (1 + (-hidden).exp())
        share = 1 / (1 + (-(w2 @ hidden + part.fc2.bias)).exp())
        torch.testing.assert_close(got, share[:, None, None] * picture)
    theirs = ops.SqueezeExcitation(6, 2, activation=nn.SiLU).double()
    theirs.load_state_dict(part.state_dict())
    torch.testing.assert_close(part(x), theirs(x))


@pytest.mark.equation("resnet-mbconv")
@pytest.mark.parametrize(("out", "stride"), [(6, 1), (6, 2), (8, 1)])
def test_mbconv_widens_first_and_has_a_shortcut_where_shapes_agree(out, stride):
    block, x = ready(MBConv(6, out, 5, stride, expansion=3)), torch.randn(2, 6, 7, 8).double()
    widen, depthwise, squeeze, narrow = block.block
    h = F.silu(normalized(convolved(x, widen[0]), widen[1]))
    h = F.silu(normalized(convolved(h, depthwise[0]), depthwise[1]))
    assert depthwise[0].groups == 18 and len(narrow) == 2
    h = normalized(convolved(squeeze(h), narrow[0]), narrow[1])
    torch.testing.assert_close(block(x), h + x if (out, stride) == (6, 1) else h)


@pytest.mark.equation("resnet-stochastic-depth")
@pytest.mark.parametrize("p", [0.0, 0.3, 1.0])
def test_stochastic_depth_drops_the_examples_that_torchvision_drops(p):
    x = torch.randn(200, 3, 2)
    torch.manual_seed(5)
    got = StochasticDepth(p)(x)
    torch.manual_seed(5)
    torch.testing.assert_close(got, ops.StochasticDepth(p, "row")(x), rtol=0, atol=0)
    kept = (got != 0).flatten(1)
    assert (kept.all(1) | ~kept.any(1)).all()
    assert torch.equal(StochasticDepth(p).eval()(x), x)


@pytest.mark.equation("resnet-stochastic-depth")
def test_stochastic_depth_is_right_on_average():
    torch.manual_seed(0)
    got = StochasticDepth(0.2)(torch.ones(100_000, 1)).mean().item()
    assert got == pytest.approx(1, abs=5 * 0.5 / 100_000**0.5)  # its spread is √(p / (1 - p)) = ½


@pytest.mark.equation("resnet-compound", "resnet-compound-cost")
def test_compound_scaling_doubles_the_cost():
    """FLOPs of a stack of equal convolutions are depth · width² · resolution², by counting."""

    def flops(depth, width, resolution):
        layers = nn.Sequential(
            *(
                nn.Conv2d(width, width, 3, padding=1, bias=False, device="meta")
                for _ in range(depth)
            )
        )
        with FlopCounterMode(display=False) as counter:
            layers(torch.zeros(1, width, resolution, resolution, device="meta"))
        return counter.get_total_flops()

    alpha, beta, gamma = 1.2, 1.1, 1.15
    assert alpha * beta**2 * gamma**2 == pytest.approx(1.92, abs=0.001)
    base = flops(10, 100, 200)
    for phi in (1, 2, 4):
        scaled = flops(round(10 * alpha**phi), round(100 * beta**phi), round(200 * gamma**phi))
        assert scaled / base == pytest.approx(1.92**phi, rel=0.05)


# ---------------------------------------------------------------------------------------- ConvNeXt
@pytest.mark.equation("resnet-convnext")
def test_convnexts_block_is_torchvisions():
    theirs = models.convnext.CNBlock(12, 0.5, 0.0).double()
    ours = ConvNeXtBlock(12).double()
    with torch.no_grad():
        for p in theirs.parameters():
            p.normal_()
    ours.load_state_dict(theirs.state_dict())
    x = torch.randn(2, 12, 9, 10).double()
    torch.testing.assert_close(ours(x), theirs(x))


@pytest.mark.equation("resnet-convnext")
def test_convnexts_block_acts_on_each_place_after_the_depthwise_convolution():
    block, x = ConvNeXtBlock(6, kernel_size=3, layer_scale=0.7).double(), torch.randn(1, 6, 5, 4)
    x = x.double()
    depthwise, _, norm, widen, _, narrow = block.block
    h = convolved(x, depthwise) + depthwise.bias[:, None, None]
    wanted = x.clone()
    for i, j in itertools.product(range(5), range(4)):
        place = h[0, :, i, j]
        place = (place - place.mean()) / (place.var(correction=0) + norm.eps).sqrt()
        place = widen.weight @ (place * norm.weight + norm.bias) + widen.bias
        place = place * 0.5 * (1 + torch.erf(place / math.sqrt(2)))
        wanted[0, :, i, j] += 0.7 * (narrow.weight @ place + narrow.bias)
    torch.testing.assert_close(block(x), wanted)


# --------------------------------------------------------------------------------------- bad input
@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: ResNet(20), ValueError, "depth=20 must be one of [18, 34, 50, 101, 152]"),
        (lambda: ResNet(18.0), TypeError, "depth=18.0"),
        (lambda: ResNet(18, groups=32), ValueError, "groups=32 needs depth ≥ 50, got 18"),
        (lambda: ResNet(34, width_per_group=4), ValueError, "width_per_group=4 needs depth"),
        (lambda: ResNet(18, num_classes=0), ValueError, "num_classes=0"),
        (lambda: ResNet(18, pre_activation=1), TypeError, "pre_activation=1"),
        (lambda: Bottleneck(8, 4, width_per_group=4), ValueError, "width_per_group=4 leaves no"),
        (lambda: BasicBlock(4, 4, stride=0), ValueError, "stride=0"),
        (lambda: EfficientNet("b8"), ValueError, "variant='b8' must be one of ['b0'"),
        (lambda: EfficientNet("b0", dropout=1.5), ValueError, "dropout=1.5"),
        (lambda: EfficientNet("b0", stochastic_depth=-1), ValueError, "stochastic_depth=-1"),
        (lambda: MBConv(4, 4, kernel_size=4), ValueError, "kernel_size=4 must be odd"),
        (lambda: MBConv(4, 4, dropout=2), ValueError, "dropout=2"),
        (lambda: ConvNeXtBlock(4, kernel_size=2), ValueError, "kernel_size=2 must be odd"),
        (lambda: ConvNeXtBlock(4, dropout=-1), ValueError, "dropout=-1"),
        (lambda: StochasticDepth(2), ValueError, "p=2"),
        (lambda: SqueezeExcitation(4, 0), ValueError, "squeezed=0"),
    ],
)
def test_a_bad_argument_is_named(make, error, message):
    with refuses(error, message):
        make()


PICTURE = torch.zeros(2, 3, 32, 32)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (ResNet(18, width=4), TypeError, "x must be floating point, got torch.uint8"),
        (EfficientNet("b0", 4), TypeError, "x must be floating point, got torch.uint8"),
    ],
)
def test_an_integer_picture_is_refused(call, error, message):
    with refuses(error, message):
        call(PICTURE.to(torch.uint8))


@pytest.mark.parametrize("model", [ResNet(18, width=4), EfficientNet("b0", 4)])
def test_a_picture_of_another_shape_is_refused(model):
    for wrong in (PICTURE[:, :1], PICTURE[0], PICTURE[None], PICTURE[..., :0]):
        with refuses(ValueError, "x must"):
            model(wrong)


@pytest.mark.parametrize("model", [ResNet(18, width=4), EfficientNet("b0", 4)])
def test_one_small_picture_cannot_be_trained_on(model):
    with refuses(ValueError, "two pictures or more, or one larger than 32 × 32, in training"):
        model.train()(PICTURE[:1])
    assert torch.isfinite(model.train()(torch.randn(1, 3, 33, 20))).all()
    assert torch.isfinite(model.eval()(PICTURE[:1])).all()


@pytest.mark.parametrize("kind", BLOCKS)
def test_a_block_refuses_other_channels(kind):
    with refuses(ValueError, "x must have shape"):
        kind(6, 4)(torch.zeros(1, 5, 4, 4))
