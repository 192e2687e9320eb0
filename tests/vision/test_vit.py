"""ViT and Swin against transformers, torchvision, plain formulas, loops and counts."""

import itertools
import math

import pytest
import torch
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from nnlib.vision.vit import (
    PatchMerging,
    SwinBlock,
    SwinTransformer,
    ViT,
    WindowAttention,
    attention_flops,
    attention_rollout,
    hard_distillation_loss_of_logits,
    interpolate_positions,
    patches,
    relative_position_index,
    shift_mask,
    vit_flops,
    vit_parameters,
    window_partition,
)
from tests.support import Example, Peer, configure, refuses

transformers = Peer("transformers")
models = Peer("torchvision.models")


def example() -> Example:
    """What the contract runs: see `tests/test_contract.py`."""
    arguments = {"image_size": (8, 12), "patch_size": 4, "num_classes": 7, "embed_dim": 16}
    return Example(arguments | {"num_layers": 2, "num_heads": 4}, (torch.randn(5, 3, 8, 12),))


@torch.no_grad()
def stirred(module, seed=0):
    """Give a module weights that no fresh one has: norms and biases among them; return it."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in module.parameters():
        parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return module.eval()


def small(**options):
    given = {"image_size": (8, 12), "patch_size": 4, "num_classes": 5, "embed_dim": 16,
             "num_layers": 2, "num_heads": 4} | options  # fmt: skip
    return stirred(ViT(**given).double())


def small_swin(**options):
    given = {"patch_size": 2, "embed_dim": 8, "depths": (2, 2), "num_heads": (2, 4),
             "window_size": 4, "num_classes": 5} | options  # fmt: skip
    return stirred(SwinTransformer(**given).double())


def pictures(*shape):
    return torch.randn(*shape, dtype=torch.float64)


def count(model):
    return sum(p.numel() for p in model.parameters())


# ---------------------------------------------------------------------------- plain formulas
def normed(x, norm):
    """Layer norm, written out."""
    centred = x - x.mean(-1, keepdim=True)
    spread = (centred.square().mean(-1, keepdim=True) + norm.eps).sqrt()
    return centred / spread * norm.weight + norm.bias


def gelu(x):
    return x * (1 + torch.erf(x / math.sqrt(2))) / 2


def affine(x, layer):
    return x @ layer.weight.T + layer.bias


def attended(x, attention):
    """Multi-head attention, one head after the other."""
    e, h = attention.embed_dim, attention.num_heads
    parts = (x @ attention.in_proj_weight.T + attention.in_proj_bias).split(e, -1)
    heads = []
    for q, k, v in zip(*(part.split(e // h, -1) for part in parts), strict=True):
        weights = (q @ k.mT / math.sqrt(e // h)).softmax(-1)
        heads.append(weights @ v)
    return affine(torch.cat(heads, -1), attention.out_proj)


def embedded(model, x):
    """The tokens of the first layer, patch by patch."""
    p, (rows, columns) = model.patch_size, model.grid
    weight = model.patch_embedding.weight.flatten(1)
    tokens = [] if model.class_token is None else [model.class_token.expand(len(x), -1)]
    for i, j in itertools.product(range(rows), range(columns)):
        flat = x[:, :, p * i : p * (i + 1), p * j : p * (j + 1)].reshape(len(x), -1)
        tokens.append(flat @ weight.T + model.patch_embedding.bias)
    return torch.stack(tokens, 1) + model.position_embedding


def scored(model, x):
    """A ViT, by its equations."""
    z = embedded(model, x)
    for layer in model.layers:
        z = z + attended(normed(z, layer.norm1), layer.self_attn)
        z = z + affine(gelu(affine(normed(z, layer.norm2), layer.linear1)), layer.linear2)
    z = normed(z, model.norm)
    return affine(z[:, 0] if model.class_token is not None else z.mean(1), model.head)


@pytest.mark.equation("vit-input", "vit-attention-half", "vit-network-half", "vit-head", "vit-mean")
@pytest.mark.parametrize("pool", ["class", "mean"])
def test_the_network_is_its_equations(pool):
    model, x = small(pool=pool), pictures(3, 3, 8, 12)
    torch.testing.assert_close(model(x), scored(model, x), rtol=1e-10, atol=1e-10)


@pytest.mark.equation("vit-patches", "vit-embedding", "vit-convolution")
def test_a_strided_convolution_is_one_affine_map_of_every_patch():
    model, x = small(), pictures(3, 3, 8, 12)
    cut = patches(x, 4)
    assert cut.shape == (3, (8 * 12) // 4**2, 4**2 * 3)
    for number, (i, j) in enumerate(itertools.product(range(2), range(3))):
        one = [x[:, c, 4 * i + u, 4 * j + v] for c in range(3) for u in range(4) for v in range(4)]
        assert torch.equal(cut[:, number], torch.stack(one, 1))
    weight = model.patch_embedding.weight.flatten(1)
    tokens = cut @ weight.T + model.patch_embedding.bias
    torch.testing.assert_close(model.patch_embedding(x).flatten(2).mT, tokens)
    torch.testing.assert_close(
        model.embed(x)[:, 1:], tokens + model.position_embedding[1:], rtol=1e-12, atol=1e-12
    )


@pytest.mark.equation("vit-permutation")
def test_without_positions_shuffled_patches_give_shuffled_tokens():
    model, x = small(), pictures(2, 3, 8, 12)
    with torch.no_grad():
        model.position_embedding.zero_()
    order = torch.tensor([4, 0, 5, 1, 3, 2])
    cut = patches(x, 4)[:, order].unflatten(2, (3, 4, 4)).unflatten(1, (2, 3))
    shuffled = cut.permute(0, 3, 1, 4, 2, 5).flatten(4).flatten(2, 3)
    got, wanted = model.hidden(shuffled), model.hidden(x)
    torch.testing.assert_close(got[:, 1:], wanted[:, 1:][:, order], rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(model(shuffled), model(x), rtol=1e-9, atol=1e-9)
    with torch.no_grad():
        model.position_embedding.normal_()
    assert (model(shuffled) - model(x)).abs().max() > 0.01


@pytest.mark.equation("vit-embedding-gradient")
def test_every_patch_adds_to_the_gradient_of_the_one_matrix():
    model, x = small(), pictures(3, 3, 8, 12)
    tokens = model.embed(x)
    delta = torch.randn_like(tokens)
    (tokens * delta).sum().backward()
    wanted = sum(
        torch.outer(delta[b, 1 + i], patches(x, 4)[b, i])
        for b, i in itertools.product(range(3), range(6))
    )
    torch.testing.assert_close(model.patch_embedding.weight.grad.flatten(1), wanted)
    torch.testing.assert_close(model.patch_embedding.bias.grad, delta[:, 1:].sum((0, 1)))
    torch.testing.assert_close(model.position_embedding.grad, delta.sum(0))
    torch.testing.assert_close(model.class_token.grad, delta[:, 0].sum(0))


@pytest.mark.equation("vit-objective")
def test_smoothed_cross_entropy_is_its_equation():
    scores, y = pictures(4, 6), torch.tensor([0, 5, 2, 2])
    wanted = 0.0
    for row, label in zip(scores.tolist(), y.tolist(), strict=True):
        whole = math.log(sum(math.exp(value) for value in row))
        for k, value in enumerate(row):
            wanted -= (0.9 * (k == label) + 0.1 / 6) * (value - whole) / 4
    got = F.cross_entropy(scores, y, label_smoothing=0.1).item()
    assert got == pytest.approx(wanted, rel=1e-12)


# ------------------------------------------------------------------------------- transformers
SHAPES = [
    {"image_size": 12, "patch_size": 4, "hidden_size": 16, "num_hidden_layers": 2,
     "num_attention_heads": 4, "intermediate_size": 40},
    {"image_size": [16, 8], "patch_size": 8, "hidden_size": 24, "num_hidden_layers": 3,
     "num_attention_heads": 3, "intermediate_size": 96, "num_channels": 1,
     "hidden_act": "gelu_new"},
]  # fmt: skip


def peer(kind="ViTForImageClassification", **options):
    torch.manual_seed(0)
    config = transformers.ViTConfig(**(SHAPES[0] | {"num_labels": 5} | options))
    return stirred(getattr(transformers, kind)(config))


def pictures_for(model):
    return torch.randn(3, model.in_channels, *model.image_size)


@torch.no_grad()
def same_answers(theirs, ours):
    x = pictures_for(ours)
    answer = theirs(x)
    if hasattr(answer, "logits"):
        torch.testing.assert_close(ours(x), answer.logits, rtol=0, atol=1e-5)
    else:
        torch.testing.assert_close(ours.hidden(x), answer.last_hidden_state, rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", ["ViTForImageClassification", "ViTModel"])
@pytest.mark.parametrize("shape", SHAPES, ids=["small", "oblong"])
def test_an_instance_gives_the_same_logits(kind, shape):
    theirs = peer(kind, **shape)
    ours = ViT.from_hugging_face(theirs)
    assert not ours.training
    same_answers(theirs, ours)


def test_a_saved_folder_gives_the_same_logits(tmp_path):
    """The files keep the names that transformers had before version 5."""
    theirs = peer(**SHAPES[1])
    theirs.save_pretrained(tmp_path)
    assert "attention.attention.query" in (tmp_path / "model.safetensors").read_bytes().decode(
        "latin-1"
    )
    same_answers(theirs, ViT.from_hugging_face(str(tmp_path)))


@torch.no_grad()
def test_at_another_resolution_positions_are_interpolated_as_in_transformers():
    theirs = peer()
    x = torch.randn(2, 3, 20, 16)
    ours = ViT.from_hugging_face(theirs).resized((20, 16))
    wanted = theirs(x, interpolate_pos_encoding=True).logits
    torch.testing.assert_close(ours(x), wanted, rtol=0, atol=1e-5)
    assert ours.grid == (5, 4)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"qkv_bias": False}, "qkv_bias=False"),
        ({"hidden_act": "swish"}, "activation='swish' must be one of"),
        ({"model_type": "deit"}, "'vit', got 'deit'"),
        ({"num_attention_heads": 3}, "num_heads=3 does not divide embed_dim=16"),
        ({"patch_size": 5}, "patch_size=5 does not divide image_size, 12 × 12"),
        ({"hidden_size": None}, "configuration without ['hidden_size']"),
        ({"image_size": 16}, "position_embedding must have shape (17, 16), got (10, 16)"),
    ],
)
def test_a_configuration_that_is_no_vit_is_refused_by_name(tmp_path, change, told):
    peer().save_pretrained(tmp_path)
    configure(tmp_path, change)
    with refuses(ValueError, told):
        ViT.from_hugging_face(tmp_path)


def test_a_lost_tensor_is_named(tmp_path):
    from safetensors.torch import load_file, save_file

    peer().save_pretrained(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    del tensors["vit.encoder.layer.1.attention.attention.key.bias"]
    save_file(tensors, tmp_path / "model.safetensors")
    with refuses(ValueError, "layers.1.self_attn.in_proj_bias[1]"):
        ViT.from_hugging_face(tmp_path)


SWINS = [
    {"image_size": 32, "patch_size": 4, "embed_dim": 8, "depths": [2, 2], "num_heads": [2, 4],
     "window_size": 4},
    {"image_size": 48, "patch_size": 2, "embed_dim": 12, "depths": [1, 2, 1],
     "num_heads": [1, 2, 3], "window_size": 3, "mlp_ratio": 2.0, "num_channels": 1},
]  # fmt: skip


def swin_peer(kind="SwinForImageClassification", **options):
    torch.manual_seed(0)
    config = transformers.SwinConfig(**(SWINS[0] | {"num_labels": 5} | options))
    return stirred(getattr(transformers, kind)(config))


@torch.no_grad()
def same_swin(theirs, ours):
    x = torch.randn(2, ours.in_channels, theirs.config.image_size, theirs.config.image_size)
    answer = theirs(x)
    wanted = answer.logits if hasattr(answer, "logits") else answer.pooler_output
    torch.testing.assert_close(ours(x), wanted, rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", ["SwinForImageClassification", "SwinModel"])
@pytest.mark.parametrize("shape", SWINS, ids=["two stages", "three stages"])
def test_an_instance_of_swin_gives_the_same_logits(kind, shape):
    theirs = swin_peer(kind, **shape)
    same_swin(theirs, SwinTransformer.from_hugging_face(theirs))


def test_a_saved_swin_gives_the_same_logits(tmp_path):
    from safetensors.torch import load_file, save_file

    theirs = swin_peer(**SWINS[1])
    theirs.save_pretrained(tmp_path)
    same_swin(theirs, SwinTransformer.from_hugging_face(tmp_path))
    file = tmp_path / "model.safetensors"
    old = "swin.encoder.layers.0.blocks.0.attention.self.relative_position_index"
    save_file(load_file(file) | {old: relative_position_index(3)}, file)
    same_swin(theirs, SwinTransformer.from_hugging_face(tmp_path))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"use_absolute_embeddings": True}, "use_absolute_embeddings=True"),
        ({"hidden_act": "relu"}, "hidden_act='relu'"),
        ({"model_type": "swinv2"}, "'swin', got 'swinv2'"),
        ({"window_size": 3}, "relative_position_bias_table must have shape (25, 2)"),
        ({"depths": [2, 1]}, "extra: features.3.1"),
    ],
)
def test_a_configuration_that_is_no_swin_is_refused_by_name(tmp_path, change, told):
    swin_peer().save_pretrained(tmp_path)
    configure(tmp_path, change)
    with refuses(ValueError, told):
        SwinTransformer.from_hugging_face(tmp_path)


# -------------------------------------------------------------------------------- torchvision
@pytest.mark.parametrize(("size", "window"), [((32, 64), 4), ((24, 48), 3)])
def test_torchvisions_swin_gives_its_answers_with_its_weights(size, window):
    arguments = [4, 4], 8, [2, 2], [2, 4], [window, window]
    theirs = stirred(models.SwinTransformer(*arguments, num_classes=5))
    ours = SwinTransformer(4, 8, (2, 2), (2, 4), window, num_classes=5).eval()
    assert list(ours.state_dict()) == list(theirs.state_dict())
    ours.load_state_dict(theirs.state_dict())
    x = torch.randn(2, 3, *size)
    torch.testing.assert_close(ours(x), theirs(x), rtol=0, atol=1e-5)


def test_swin_tiny_has_torchvisions_parameters():
    with torch.device("meta"):
        theirs = models.swin_t().state_dict()
    ours = SwinTransformer(device="meta").state_dict()
    assert {n: v.shape for n, v in ours.items()} == {n: v.shape for n, v in theirs.items()}


def test_torchvisions_vit_gives_the_same_scores():
    """Its names are others; the numbers and their order are the same."""
    theirs = stirred(models.VisionTransformer(12, 4, 2, 4, 16, 64, num_classes=5))
    ours = ViT(12, 4, 5, 16, 2, 4).eval()
    renamed = {}
    for name, value in theirs.state_dict().items():
        name = name.replace("encoder.layers.encoder_layer_", "layers.")
        for old, new in {
            "conv_proj": "patch_embedding", "ln_1": "norm1", "ln_2": "norm2",
            "self_attention": "self_attn", "mlp.0": "linear1", "mlp.3": "linear2",
            "encoder.ln": "norm", "heads.head": "head",
            "encoder.pos_embedding": "position_embedding",
        }.items():  # fmt: skip
            name = name.replace(old, new)
        value = value[0] if name == "position_embedding" else value
        renamed[name] = value[0, 0] if name == "class_token" else value
    ours.load_state_dict(renamed)
    x = torch.randn(3, 3, 12, 12)
    torch.testing.assert_close(ours(x), theirs(x), rtol=0, atol=1e-5)


# ------------------------------------------------------------------------------------- counts
LARGE = {"embed_dim": 1024, "num_layers": 24, "num_heads": 16}
HUGE = {"patch_size": 14, "embed_dim": 1280, "num_layers": 32, "num_heads": 16}


@pytest.mark.equation("vit-parameters")
@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        ({}, 86_567_656),
        ({"num_classes": None}, 85_798_656),
        (LARGE, 304_326_632),
        (LARGE | {"num_classes": None}, 303_301_632),
        (LARGE | {"image_size": 384}, 304_715_752),
        (LARGE | {"patch_size": 32}, 306_535_400),
        (HUGE, 632_045_800),
        (HUGE | {"num_classes": None}, 630_764_800),
    ],
)
def test_counts_are_exact(arguments, wanted):
    assert count(ViT(device="meta", **arguments)) == wanted
    given = {"image_size": 224, "patch_size": 16, "num_classes": 1000, "embed_dim": 768,
             "num_layers": 12} | arguments  # fmt: skip
    given["num_classes"] = given["num_classes"] or 0
    given.pop("num_heads", None)
    assert vit_parameters(**given) == wanted


def test_swin_tinys_count_is_exact():
    assert count(SwinTransformer(device="meta")) == 28_288_354


def products(function, *arguments):
    with FlopCounterMode(display=False) as counter:
        function(*arguments)
    return counter.get_total_flops()


@pytest.mark.equation("vit-flops")
def test_flops_are_those_of_the_plain_formulas():
    model = small(image_size=12, num_layers=3)
    counted = products(scored, model, pictures(1, 3, 12, 12))
    assert vit_flops(12, 4, 5, 16, 3) == counted


@pytest.mark.equation("vit-global-cost", "vit-window-cost")
def test_attention_costs_its_products():
    layer = small().layers[0].self_attn
    assert attention_flops(9, 16) == products(attended, pictures(1, 9, 16), layer)
    windows = WindowAttention(8, 2, 4, shift=2)
    counted = products(windows, torch.randn(1, 12, 8, 8))
    assert attention_flops(12 * 8, 8, window_size=4) == counted
    # multiplications and additions as one, as Liu et al. count at 56² tokens of 96 numbers
    assert round(attention_flops(56**2, 96, 7) / 2e8, 2) == 1.45
    assert round(attention_flops(56**2, 96) / 2e9, 2) == 2.00


# ---------------------------------------------------------------------- rollout, distillation
@pytest.mark.equation("vit-rollout")
def test_rollout_is_the_sum_over_all_paths():
    weights = pictures(2, 3, 2, 4, 4).softmax(-1)
    rolled = attention_rollout(weights)
    b, end = 1, 2
    for depth in (1, 2, 3):
        got = torch.zeros(4, dtype=torch.float64)
        for path in itertools.product(range(4), repeat=depth):
            share, at = 1.0, end
            for layer, to in zip(reversed(range(depth)), path, strict=True):
                looked = weights[b, layer, :, at, to].mean()
                share = share * (0.5 * looked + 0.5 * (at == to))
                at = to
            got[at] += share
        torch.testing.assert_close(rolled[b, depth - 1, end], got)
    torch.testing.assert_close(rolled.sum(-1), torch.ones(2, 3, 4, dtype=torch.float64))


def test_attention_weights_are_those_of_the_forward_pass():
    model, x = small(), pictures(2, 3, 8, 12)
    weights = model.attention_weights(x)
    assert weights.shape == (2, 2, 4, 7, 7)
    layer, z = model.layers[0], model.embed(x)
    h = normed(z, layer.norm1)
    q, k, _ = (h @ layer.self_attn.in_proj_weight.T + layer.self_attn.in_proj_bias).split(16, -1)
    wanted = (q[..., 4:8] @ k[..., 4:8].mT / 2).softmax(-1)
    torch.testing.assert_close(weights[:, 0, 1], wanted)


@pytest.mark.equation("vit-distillation")
def test_hard_distillation_is_half_labels_half_teacher():
    logits, distilled, teacher = pictures(3, 4), pictures(3, 4), pictures(3, 4)
    y = torch.tensor([1, 3, 0])
    wanted = 0.0
    for row in range(3):
        for scores, label in ((logits, y[row]), (distilled, teacher[row].argmax())):
            p = math.exp(scores[row, label]) / sum(math.exp(v) for v in scores[row])
            wanted -= math.log(p) / 6
    got = hard_distillation_loss_of_logits(logits, distilled, y, teacher).item()
    assert got == pytest.approx(wanted, rel=1e-12)


# ------------------------------------------------------------------------- positions, pooling
@pytest.mark.equation("vit-similarity")
def test_similarity_of_positions_is_their_cosine():
    positions = pictures(4, 6)
    got = F.cosine_similarity(positions[:, None], positions, dim=-1)
    for i, j in itertools.product(range(4), range(4)):
        u, v = positions[i].tolist(), positions[j].tolist()
        inner = sum(a * b for a, b in zip(u, v, strict=True))
        assert got[i, j].item() == pytest.approx(inner / (math.hypot(*u) * math.hypot(*v)))


def test_interpolated_positions_of_the_same_grid_are_the_old_ones():
    positions = pictures(1 + 6, 4)
    torch.testing.assert_close(interpolate_positions(positions, (2, 3), (2, 3)), positions)


def test_interpolation_keeps_what_is_constant_and_what_stands_before_the_patches():
    positions = torch.ones(2 + 4, 3, dtype=torch.float64)
    positions[:2] = torch.tensor([[5.0], [7.0]])
    got = interpolate_positions(positions, (2, 2), (5, 3))
    assert torch.equal(got[:2], positions[:2])
    torch.testing.assert_close(got[2:], torch.ones(15, 3, dtype=torch.float64))


def test_a_resized_copy_is_independent_and_the_same_size_changes_nothing():
    model, x = small(), pictures(2, 3, 8, 12)
    twin = model.resized((8, 12))
    torch.testing.assert_close(twin(x), model(x))
    with torch.no_grad():
        twin.head.weight.zero_()
    assert model.head.weight.abs().sum() > 0


def test_stochastic_depth_rises_from_layer_to_layer_and_rests_in_use():
    model = ViT(8, 4, 5, 16, 3, 2, stochastic_depth=0.5)
    assert [layer.stochastic_depth.p for layer in model.layers] == [0, 0.25, 0.5]
    x = torch.randn(4, 3, 8, 8)
    assert not torch.equal(model(x), model(x))
    assert torch.equal(model.eval()(x), model(x))


# --------------------------------------------------------------------------------------- Swin
def over_the_whole_map(x, layer):
    """Shifted windows as attention over all tokens, with a mask that is built from places.

    Nothing is rolled and nothing is cut: lines of the map at s, s + M, s + 2M, … are where
    windows end, and two tokens see one another between the same lines.
    """
    b, rows, columns, e = x.shape
    m, h = layer.window_size, layer.num_heads
    places = list(itertools.product(range(rows), range(columns)))
    by = [layer.shift if length > m else 0 for length in (rows, columns)]
    window = [((y - by[0]) // m, (u - by[1]) // m) for y, u in places]
    table = layer.relative_position_bias_table
    n = len(places)
    bias = torch.full((h, n, n), -torch.inf, dtype=x.dtype)
    for (i, (y, u)), (j, (v, w)) in itertools.product(enumerate(places), repeat=2):
        if window[i] == window[j]:
            bias[:, i, j] = table[(y - v + m - 1) * (2 * m - 1) + (u - w + m - 1)]
    flat = x.reshape(b, n, e)
    parts = affine(flat, layer.qkv).split(e, -1)
    heads = []
    for at, (q, k, v) in enumerate(zip(*(p.split(e // h, -1) for p in parts), strict=True)):
        weights = (q @ k.mT / math.sqrt(e // h) + bias[at]).softmax(-1)
        heads.append(weights @ v)
    return affine(torch.cat(heads, -1), layer.proj).reshape(x.shape)


@pytest.mark.equation("vit-window-attention", "vit-shift-mask", "vit-relative-index")
@pytest.mark.parametrize("shift", [0, 1, 2, 3])
@pytest.mark.parametrize("size", [(8, 12), (4, 8), (4, 4)], ids=str)
def test_shifted_windows_are_masked_attention_over_the_whole_map(shift, size):
    layer = stirred(WindowAttention(8, 2, 4, shift).double())
    with torch.no_grad():
        layer.relative_position_bias_table.normal_()
        x = pictures(2, *size, 8)
        torch.testing.assert_close(layer(x), over_the_whole_map(x, layer), rtol=1e-10, atol=1e-10)


def test_the_mask_counts_what_lies_between_the_same_lines():
    seen = shift_mask((8, 8), 4, 2)
    assert seen.sum().item() == 2 * 2 * 16 * 16 - (16 * 16 - 4 * 64) - 2 * (16 * 16 - 2 * 64) - (
        16 * 16 - 4 * 16
    )
    assert shift_mask((8, 8), 4, 0).all()


@pytest.mark.equation("vit-swin-block")
def test_a_swin_block_is_its_equation():
    block = stirred(SwinBlock(8, 2, 4, 2).double())
    x = pictures(2, 8, 8, 8)
    y = x + over_the_whole_map(normed(x, block.norm1), block.attn)
    wanted = y + affine(gelu(affine(normed(y, block.norm2), block.mlp[0])), block.mlp[3])
    torch.testing.assert_close(block(x), wanted, rtol=1e-10, atol=1e-10)


@pytest.mark.equation("vit-merging")
def test_merging_joins_four_neighbours():
    merge = stirred(PatchMerging(3).double())
    x = pictures(2, 4, 6, 3)
    got = merge(x)
    assert got.shape == (2, 2, 3, 6)
    for i, j in itertools.product(range(2), range(3)):
        four = [x[:, 2 * i + u, 2 * j + v] for v in range(2) for u in range(2)]
        wanted = normed(torch.cat(four, -1), merge.norm) @ merge.reduction.weight.T
        torch.testing.assert_close(got[:, i, j], wanted)


def test_every_other_block_is_shifted_by_half_a_window_and_stages_halve_the_map():
    model = small_swin(depths=(2, 3), window_size=4)
    assert [block.attn.shift for block in model.features[1]] == [0, 2]
    assert [block.attn.shift for block in model.features[3]] == [0, 2, 0]
    maps = model.maps(pictures(1, 3, 32, 16))
    assert [tuple(each.shape) for each in maps] == [(1, 16, 8, 8), (1, 8, 4, 16)]


def test_a_picture_of_another_size_needs_no_other_weights():
    model = small_swin()
    assert model(pictures(2, 3, 16, 16)).shape == model(pictures(2, 3, 32, 48)).shape == (2, 5)


def test_windows_never_touch_without_the_shift():
    """A change in one window stays there; with a shift it crosses."""
    x = pictures(1, 8, 8, 8)
    other = x.clone()
    other[:, 0, 0] += 1
    for shift, reached in ((0, False), (2, True)):
        blocks = [stirred(WindowAttention(8, 2, 4, by).double()) for by in (0, shift)]
        apart = blocks[1](blocks[0](other)) - blocks[1](blocks[0](x))
        assert (apart[:, 4:, 4:].abs().max() > 1e-9).item() is reached


# ---------------------------------------------------------------------------------- bad input
@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"patch_size": 5}, "patch_size=5 does not divide image_size, 8 × 12"),
        ({"num_heads": 5}, "num_heads=5 does not divide embed_dim=16"),
        ({"pool": "max"}, "pool='max'"),
        ({"dropout": 1.5}, "dropout=1.5"),
        ({"stochastic_depth": -0.1}, "stochastic_depth=-0.1"),
        ({"num_layers": 0}, "num_layers=0"),
        ({"image_size": (8, 12, 3)}, "image_size=(8, 12, 3)"),
        ({"num_classes": 0}, "num_classes=0"),
        ({"activation": "swish"}, "activation='swish'"),
    ],
)
def test_a_bad_argument_is_named(options, told):
    with refuses(ValueError, told):
        small(**options)


def test_bad_pictures_are_named():
    model = ViT((8, 12), 4, 5, 16, 2, 4)
    for x, told in (
        (torch.randn(2, 1, 8, 12), "x must have shape (b, 3, y, x), got (2, 1, 8, 12)"),
        (torch.randn(2, 3, 12, 8), "x must have 8 rows and 12 columns (image_size), got (12, 8)"),
        (torch.randn(3, 8, 12), "x must have shape (b, 3, y, x)"),
    ):
        with refuses(ValueError, told):
            model(x)
    with refuses(TypeError, "x must be floating point, got torch.uint8"):
        model(torch.zeros(2, 3, 8, 12, dtype=torch.uint8))
    with refuses(ValueError, "patch_size=4 does not divide image_size, 10 × 12"):
        model.resized((10, 12))
    with refuses(TypeError, "model_or_path must be"):
        ViT.from_hugging_face(7)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"num_heads": (2, 5)}, "num_heads=5 does not divide embed_dim=16"),
        ({"num_heads": (2,)}, "one entry for each of depths=(2, 2)"),
        ({"depths": (), "num_heads": ()}, "depths=()"),
        ({"mlp_ratio": 0.0}, "mlp_ratio=0.0"),
        ({"window_size": 0}, "window_size=0"),
        ({"stochastic_depth": 2.0}, "stochastic_depth=2.0"),
    ],
)
def test_a_bad_argument_of_swin_is_named(options, told):
    with refuses(ValueError, told):
        small_swin(**options)


def test_pictures_into_which_windows_do_not_fit_are_named():
    model = SwinTransformer(2, 8, (2, 2), (2, 4), 4)
    for size, told in (
        ((16, 17), "patch_size=2 does not divide x, 16 × 17"),
        ((16, 24), "window_size=4 must fit into the map of every stage, so rows and columns of x"),
    ):
        with refuses(ValueError, told):
            model(torch.randn(2, 3, *size))
    with refuses(ValueError, "x must have shape (b, 3, y, x), got (2, 4, 16, 16)"):
        model(torch.randn(2, 4, 16, 16))
    with refuses(TypeError, "x must be floating point, got torch.int64"):
        model(torch.zeros(2, 3, 16, 16, dtype=torch.int64))
    with refuses(ValueError, "window_size=3 does not divide x, 8 × 8"):
        window_partition(torch.randn(1, 8, 8, 2), 3)
    with refuses(ValueError, "shift=4"):
        WindowAttention(8, 2, 4, shift=4)
    with refuses(ValueError, "window_size=4 does not divide x, 6 × 8"):
        WindowAttention(8, 2, 4)(torch.randn(1, 6, 8, 8))
    with refuses(ValueError, "even number of rows and columns"):
        PatchMerging(4)(torch.randn(1, 3, 4, 4))


def test_other_bad_arguments_are_named():
    with refuses(ValueError, "positions must hold one of each of 3 × 3 patches, got 7"):
        interpolate_positions(torch.randn(7, 4), (3, 3), (4, 4))
    with refuses(ValueError, "patch_size=3 does not divide x, 8 × 8"):
        patches(torch.randn(1, 3, 8, 8), 3)
    with refuses(ValueError, "weights must be square"):
        attention_rollout(torch.rand(1, 2, 3, 4, 5))
    with refuses(ValueError, "window_size=4 does not divide 9 tokens"):
        attention_flops(9, 8, window_size=4)
    with refuses(ValueError, "y must hold classes 0 … 2"):
        scores = torch.zeros(2, 3)
        hard_distillation_loss_of_logits(scores, scores, torch.tensor([0, 3]), scores)
