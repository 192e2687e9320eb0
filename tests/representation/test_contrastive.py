"""Contrastive losses against loops, closed forms and pytorch-metric-learning; CLIP against theirs.

What all models promise is in tests/test_contract.py.
"""

import math
from itertools import permutations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from nnlib.representation import contrastive as module
from nnlib.representation.contrastive import (
    CLIP,
    DualEncoder,
    MaskedAutoencoder,
    alignment,
    barlow_twins_loss,
    byol_loss,
    clip_loss,
    contrastive_loss,
    cosine_logits,
    dino_loss,
    dual_encoder_loss,
    info_nce,
    masked_loss,
    mine_triplets,
    nt_xent,
    random_mask,
    sigmoid_loss,
    squared_distances,
    supervised_contrastive_loss,
    triplet_loss,
    uniformity,
    vicreg_loss,
)
from tests.support import Example, Peer, configure, refuses

losses = Peer("pytorch_metric_learning.losses")
miners = Peer("pytorch_metric_learning.miners")
distances = Peer("pytorch_metric_learning.distances")
reducers = Peer("pytorch_metric_learning.reducers")
transformers = Peer("transformers")
CLOSE = {"rtol": 1e-10, "atol": 1e-12}  # float64, sums of some hundred terms

SMALL = {
    "image_size": 16, "patch_size": 8, "vocab_size": 23, "embed_dim": 6, "in_channels": 3,
    "vision_width": 8, "vision_layers": 2, "vision_heads": 2, "text_width": 12, "text_layers": 1,
    "text_heads": 3, "max_length": 9,
}  # fmt: skip


def example() -> Example:
    """What the contract runs: see `tests/test_contract.py`."""
    return Example(
        SMALL, (torch.randn(5, 3, 16, 16), torch.arange(20, dtype=torch.long).view(5, 4))
    )


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def views(b: int = 5, d: int = 4) -> tuple[Tensor, Tensor]:
    return drawn(b, d, seed=1), drawn(b, d, seed=2)


def cosine(a: Tensor, b: Tensor) -> float:
    """Equation `contrastive-cosine` in plain numbers."""
    dot = sum(x * y for x, y in zip(a.tolist(), b.tolist(), strict=True))
    return dot / math.sqrt(sum(x * x for x in a.tolist()) * sum(y * y for y in b.tolist()))


# ----------------------------------------------------------------------------- pairs and triplets
@pytest.mark.equation("contrastive-pair", "contrastive-distance")
def test_the_contrastive_loss_is_the_loop_over_pairs():
    a, b = views(6)
    a, b = 0.25 * a, 0.25 * b
    y = [0, 1, 1, 0, 1, 0]
    total, far = 0.0, 0
    for first, second, different in zip(a.tolist(), b.tolist(), y, strict=True):
        d = math.dist(first, second)
        far += bool(different) and d > 0.8
        total += (1 - different) * d**2 / 2 + different * max(0.0, 0.8 - d) ** 2 / 2
    assert 0 < far < 3, "both sides of the margin are there"
    assert contrastive_loss(a, b, torch.tensor(y), 0.8).item() == pytest.approx(total / 6)


def test_the_contrastive_loss_is_that_of_metric_learning_with_squares():
    """Theirs is max(0, d) and max(0, m - d); ours is half of the squares, as published."""
    z = 0.5 * drawn(4, 3, seed=3)
    labels = torch.tensor([0, 0, 1, 1])
    theirs = losses.ContrastiveLoss(
        pos_margin=0, neg_margin=1, distance=distances.LpDistance(normalize_embeddings=False),
        reducer=reducers.DoNothingReducer(),
    )(z, labels)  # fmt: skip
    for name, same in (("pos_loss", True), ("neg_loss", False)):
        first, second = theirs[name]["indices"][:2]
        ours = contrastive_loss(z[first], z[second], torch.full((len(first),), not same))
        torch.testing.assert_close(ours, theirs[name]["losses"].square().mean() / 2)


def test_labels_of_pairs_may_be_bools():
    a, b = views(3)
    y = torch.tensor([True, False, True])
    assert contrastive_loss(a, b, y).equal(contrastive_loss(a, b, y.long()))


def test_the_gradient_of_equal_and_dissimilar_embeddings_is_zero_and_not_nan():
    z = torch.ones(2, 3, dtype=torch.float64, requires_grad=True)
    contrastive_loss(z, torch.ones(2, 3, dtype=torch.float64), torch.tensor([1, 0])).backward()
    assert z.grad is not None and not z.grad.any()


@pytest.mark.equation("contrastive-triplet")
@pytest.mark.parametrize("squared", [True, False])
def test_the_triplet_loss_is_the_loop_and_unsquared_that_of_torch(squared):
    a, p, n = (0.5 * drawn(7, 3, seed=s) for s in (1, 2, 3))
    total = 0.0
    for x, y, z in zip(a.tolist(), p.tolist(), n.tolist(), strict=True):
        near, far = math.dist(x, y), math.dist(x, z)
        total += max(0.0, near**2 - far**2 + 0.3 if squared else near - far + 0.3)
    ours = triplet_loss(a, p, n, 0.3, squared=squared)
    assert ours.item() == pytest.approx(total / 7)
    if not squared:
        theirs = F.triplet_margin_loss(a, p, n, margin=0.3, eps=0)
        torch.testing.assert_close(ours, theirs, **CLOSE)


def test_the_same_triplet_costs_0_squared_and_a_half_unsquared():
    """Erratum 26c: FaceNet squares, `nn.TripletMarginLoss` does not."""
    a, p, n = (torch.tensor([[x]]) for x in (0.0, 1.0, 1.5))
    assert triplet_loss(a, p, n, 1.0).item() == 0.0  # 1 - 2.25 + 1 < 0
    assert nn.TripletMarginLoss(1.0)(a, p, n).item() == pytest.approx(0.5, abs=1e-5)


def test_no_triplets_cost_nothing():
    z = drawn(0, 3).requires_grad_()
    assert triplet_loss(z, z, z).item() == 0.0


LABELS = torch.tensor([0, 0, 1, 2, 1, 0, 3])


def triplets_by_loop(z: Tensor, labels: Tensor, kind: str, margin: float) -> set:
    """Every triplet by its definition, one after the other."""
    far = [[math.dist(a, b) ** 2 for b in z.tolist()] for a in z.tolist()]
    found, y = set(), labels.tolist()
    for a, p, n in permutations(range(len(y)), 3):
        if y[a] != y[p] or y[a] == y[n]:
            continue
        gap = far[a][n] - far[a][p]
        wanted = {
            "all": True, "violating": gap < margin, "hard": gap <= 0,
            "semihard": 0 < gap < margin,
            "hardest": far[a][p] == max(far[a][q] for q in range(len(y)) if y[q] == y[a] and q != a)
            and far[a][n] == min(far[a][q] for q in range(len(y)) if y[q] != y[a]),
        }  # fmt: skip
        if wanted[kind]:
            found.add((a, p, n))
    return found


@pytest.mark.equation("contrastive-mining")
@pytest.mark.parametrize("kind", ["all", "violating", "hard", "semihard", "hardest"])
def test_mining_finds_what_the_loop_finds(kind):
    z = drawn(7, 2, seed=5)
    mined = mine_triplets(z, LABELS, kind, 0.5)
    wanted = triplets_by_loop(z, LABELS, kind, 0.5)
    assert wanted and set(zip(*(part.tolist() for part in mined), strict=True)) == wanted
    assert len(mined.anchor) == len(wanted)
    assert mined.anchor.equal(mined.anchor.sort().values)


@pytest.mark.parametrize(("ours", "theirs"), [("violating", "all"), ("hard", "hard"),
                                              ("semihard", "semihard")])  # fmt: skip
def test_mining_is_that_of_metric_learning(ours, theirs):
    z, y = drawn(24, 3, seed=6), torch.arange(24) % 5
    squared = distances.LpDistance(normalize_embeddings=False, power=2)
    told = miners.TripletMarginMiner(0.7, theirs, distance=squared)(z, y)
    mined = mine_triplets(z, y, ours, 0.7)
    rows = [set(zip(*(part.tolist() for part in it), strict=True)) for it in (mined, told)]
    assert rows[0] and rows[0] == rows[1]


def test_the_hardest_of_a_batch_are_those_of_metric_learning_with_loss_and_gradient():
    z, y = drawn(24, 3, seed=7).requires_grad_(), torch.arange(24) % 5
    squared = distances.LpDistance(normalize_embeddings=False, power=2)
    told = miners.BatchHardMiner(distance=squared)(z, y)
    mined = mine_triplets(z, y, "hardest")
    assert [part.tolist() for part in mined] == [part.tolist() for part in told]
    theirs = losses.TripletMarginLoss(margin=0.3, distance=squared, reducer=reducers.MeanReducer())(
        z, y, told
    )
    ours = triplet_loss(*mined.of(z), 0.3)
    torch.testing.assert_close(ours, theirs, rtol=1e-8, atol=1e-8)
    slopes = [torch.autograd.grad(loss, z)[0] for loss in (ours, theirs)]
    torch.testing.assert_close(*slopes, rtol=1e-6, atol=1e-8)


def test_squared_distances_are_the_loop_and_lose_no_digits_far_from_zero():
    z = drawn(5, 3, seed=8)
    wanted = [[math.dist(a, b) ** 2 for b in z.tolist()] for a in z.tolist()]
    torch.testing.assert_close(squared_distances(z), torch.tensor(wanted).double())
    far = torch.tensor([[1e4, 0.0], [1e4 + 0.5, 0.0]])
    assert squared_distances(far).tolist() == [[0.0, 0.25], [0.25, 0.0]]
    assert squared_distances(far.bfloat16()).dtype == torch.bfloat16


# -------------------------------------------------------------------------- one among many
@pytest.mark.equation("contrastive-ntxent", "contrastive-cosine")
@pytest.mark.parametrize("tau", [0.1, 0.5, 2.0])
def test_nt_xent_is_the_loop_over_all_views(tau):
    z1, z2 = views()
    both, b = torch.cat([z1, z2]), len(z1)
    total = 0.0
    for i in range(2 * b):
        s = [math.exp(cosine(both[i], both[k]) / tau) for k in range(2 * b)]
        partner = (i + b) % (2 * b)
        total -= math.log(s[partner] / sum(s[k] for k in range(2 * b) if k != i))
    assert nt_xent(z1, z2, tau).item() == pytest.approx(total / (2 * b), rel=1e-12)


def test_n_images_give_two_n_examples_with_2n_minus_2_negatives():
    """Erratum 26a: with orthogonal embeddings and equal views the denominator counts them."""
    for n in (2, 5, 9):
        z = torch.eye(n, dtype=torch.float64)
        wanted = math.log(math.e + 2 * n - 2) - 1
        assert nt_xent(z, z, 1.0).item() == pytest.approx(wanted)


def test_nt_xent_is_that_of_metric_learning_with_its_gradient():
    z1, z2 = (z.requires_grad_() for z in views(8, 5))
    labels = torch.arange(8).repeat(2)
    theirs = losses.NTXentLoss(temperature=0.2)(torch.cat([z1, z2]), labels)
    ours = nt_xent(z1, z2, 0.2)
    torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)
    slopes = [torch.autograd.grad(loss, (z1, z2)) for loss in (ours, theirs)]
    torch.testing.assert_close(*slopes, rtol=1e-7, atol=1e-9)


def test_nt_xent_is_symmetric_and_blind_to_lengths():
    z1, z2 = views()
    torch.testing.assert_close(nt_xent(z1, z2, 0.3), nt_xent(z2, z1, 0.3), **CLOSE)
    torch.testing.assert_close(nt_xent(7 * z1, 0.1 * z2, 0.3), nt_xent(z1, z2, 0.3), **CLOSE)


def test_collapsed_embeddings_cost_the_logarithm_of_all_others():
    z = torch.ones(6, 3, dtype=torch.float64)
    assert nt_xent(z, z, 0.5).item() == pytest.approx(math.log(11))


@pytest.mark.parametrize("tau", [1e-3, 1e-2])
def test_low_temperatures_stay_finite_also_with_their_gradient(tau):
    z1, z2 = (z.float().requires_grad_() for z in views())
    loss = nt_xent(z1, z2, tau)
    loss.backward()
    assert torch.isfinite(loss) and torch.isfinite(z1.grad).all()


@pytest.mark.equation("contrastive-gradient")
def test_the_gradient_pushes_by_the_softmax_and_pulls_by_what_it_lacks():
    s = drawn(6).requires_grad_()
    (-(s[0] / 0.3) + (s / 0.3).logsumexp(0)).backward()
    p = [math.exp(x / 0.3) for x in s.tolist()]
    p = [x / sum(p) for x in p]
    wanted = [(p[0] - 1) / 0.3, *(x / 0.3 for x in p[1:])]
    assert s.grad is not None and s.grad.tolist() == pytest.approx(wanted)


@pytest.mark.equation("contrastive-infonce")
def test_info_nce_is_the_loop_and_with_one_query_a_row_of_nt_xent():
    q, p, n = drawn(3, 4, seed=1), drawn(3, 4, seed=2), drawn(5, 4, seed=3)
    total = 0.0
    for i in range(3):
        own = math.exp(cosine(q[i], p[i]) / 0.4)
        rest = sum(math.exp(cosine(q[i], n[j]) / 0.4) for j in range(5))
        total -= math.log(own / (own + rest))
    assert info_nce(q, p, n, 0.4).item() == pytest.approx(total / 3)


@pytest.mark.equation("contrastive-bound")
@given(st.integers(2, 8), st.integers(0, 5))
def test_info_nce_never_claims_more_information_than_the_logarithm_of_the_batch(b, seed):
    """Also for a perfect critic, whose pairs determine one another."""
    z = 50 * torch.eye(b, dtype=torch.float64)
    logits = z if seed == 0 else drawn(b, b, seed=seed) * 9
    bound = math.log(b) - F.cross_entropy(logits, torch.arange(b)).item()
    assert bound <= math.log(b) + 1e-12
    if seed == 0:  # each of b equally likely pairs determines the other: ln b nats, and tight
        assert bound == pytest.approx(math.log(b), abs=1e-9)


@pytest.mark.equation("contrastive-supcon")
def test_the_supervised_loss_is_the_loop_and_that_of_metric_learning():
    z, y = drawn(7, 4).requires_grad_(), LABELS
    total, counted = 0.0, 0
    for i in range(7):
        mates = [j for j in range(7) if j != i and y[j] == y[i]]
        if not mates:
            continue
        rest = sum(math.exp(cosine(z[i], z[k]) / 0.2) for k in range(7) if k != i)
        told = [math.log(math.exp(cosine(z[i], z[j]) / 0.2) / rest) for j in mates]
        total, counted = total - sum(told) / len(mates), counted + 1
    ours = supervised_contrastive_loss(z, y, 0.2)
    assert ours.item() == pytest.approx(total / counted)
    theirs = losses.SupConLoss(0.2)(z, y)
    torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-8)


def test_with_two_views_as_classes_the_supervised_loss_is_nt_xent():
    z1, z2 = views()
    ours = supervised_contrastive_loss(torch.cat([z1, z2]), torch.arange(5).repeat(2), 0.3)
    torch.testing.assert_close(ours, nt_xent(z1, z2, 0.3), **CLOSE)


@pytest.mark.equation("contrastive-alignment", "contrastive-uniformity")
def test_alignment_and_uniformity_are_loops_over_pairs():
    z1, z2 = views()
    apart = [2 - 2 * cosine(a, b) for a, b in zip(z1, z2, strict=True)]
    assert alignment(z1, z2).item() == pytest.approx(sum(apart) / 5)
    pairs = [(i, j) for i in range(5) for j in range(i)]
    near = [math.exp(-3 * (2 - 2 * cosine(z1[i], z1[j]))) for i, j in pairs]
    assert uniformity(z1, 3.0).item() == pytest.approx(math.log(sum(near) / len(near)))
    assert uniformity(torch.ones(4, 3)).item() == pytest.approx(0, abs=1e-6)


@pytest.mark.equation("contrastive-limit")
def test_with_many_negatives_nt_xent_splits_into_alignment_and_spread():
    """ln(2b - 2) aside, the loss tends to -E s/τ + E log E exp(s'/τ) as the batch grows."""
    torch.manual_seed(0)
    tau, off = 0.5, []
    for b in (8, 512):
        z1 = F.normalize(drawn(b, 3, seed=b), dim=1)
        z2 = F.normalize(z1 + 0.2 * drawn(b, 3, seed=b + 1), dim=1)
        both = torch.cat([z1, z2])
        s = both @ both.T / tau
        pull = -(z1 * z2).sum(1).mean() / tau
        spread = s.exp().mean(1).log().mean()  # over all, itself included
        off.append(abs(nt_xent(z1, z2, tau) - math.log(2 * b - 2) - pull - spread).item())
    assert off[1] < 0.02 < off[0]


# ------------------------------------------------------------------------------ images and texts
@pytest.mark.equation("contrastive-clip", "contrastive-clip-logits")
def test_clips_loss_is_the_loop_both_ways():
    images, texts = views()
    s = [[3.5 * cosine(a, b) for b in texts] for a in images]
    rows = sum(-s[i][i] + math.log(sum(map(math.exp, s[i]))) for i in range(5)) / 5
    columns = sum(-s[i][i] + math.log(sum(math.exp(s[j][i]) for j in range(5))) for i in range(5))
    assert rows != pytest.approx(columns / 5), "or a missing transpose would not show"
    assert clip_loss(images, texts, 3.5).item() == pytest.approx((rows + columns / 5) / 2)
    torch.testing.assert_close(
        cosine_logits(images, texts[:2], 3.5), torch.tensor(s).double()[:, :2]
    )


def test_clips_loss_does_not_depend_on_lengths_as_a_raw_product_does():
    """Erratum 26b."""
    images, texts = views()
    told = [clip_loss(k * images, texts, 5.0).item() for k in (1, 3, 10)]
    assert told == pytest.approx([told[0]] * 3)
    raw = [F.cross_entropy(k * images @ texts.T, torch.arange(5)).item() for k in (1, 3, 10)]
    assert max(raw) > 2 * min(raw)


@pytest.mark.equation("contrastive-siglip")
def test_siglips_loss_is_the_loop_over_all_pairs():
    images, texts = views()
    total = 0.0
    for i in range(5):
        for j in range(5):
            logit = 4.0 * cosine(images[i], texts[j]) - 1.5
            total += math.log1p(math.exp(-logit if i == j else logit))
    ours = sigmoid_loss(images, texts, 4.0, -1.5)
    assert ours.item() == pytest.approx(total / 5)


def test_the_learned_scale_gets_a_gradient_and_is_kept_below_its_limit():
    both = DualEncoder(nn.Linear(3, 4), nn.Embedding(6, 4), temperature=0.07)
    assert both.logit_scale.item() == pytest.approx(math.log(1 / 0.07))
    dual_encoder_loss(both, torch.randn(6, 3), torch.arange(6)).backward()
    assert both.logit_scale.grad is not None and both.logit_scale.grad.abs() > 0
    with torch.no_grad():
        both.logit_scale.fill_(9.0)
    both.limit_scale_()
    assert both.logit_scale.item() == pytest.approx(math.log(100))
    both.limit_scale_(3.0)
    assert both.logit_scale.exp().item() == pytest.approx(3.0)


def test_the_loss_of_two_encoders_is_that_of_their_logits():
    torch.manual_seed(0)
    both = DualEncoder(nn.Linear(3, 4), nn.Embedding(6, 4), temperature=0.5)
    x, words = torch.randn(6, 3), torch.arange(6)
    logits = both(x, words)
    right = torch.arange(6)
    wanted = (F.cross_entropy(logits, right) + F.cross_entropy(logits.T, right)) / 2
    torch.testing.assert_close(dual_encoder_loss(both, x, words), wanted)
    assert both(x, words[:2]).shape == (6, 2)


def their_clip(eos: int = 22, act: str = "quick_gelu"):
    text = {
        "vocab_size": 23, "hidden_size": 12, "intermediate_size": 20, "num_hidden_layers": 2,
        "num_attention_heads": 3, "max_position_embeddings": 9, "eos_token_id": eos,
        "bos_token_id": 21, "hidden_act": act,
    }  # fmt: skip
    vision = {
        "hidden_size": 8, "intermediate_size": 24, "num_hidden_layers": 1,
        "num_attention_heads": 2, "image_size": 16, "patch_size": 8, "hidden_act": act,
    }  # fmt: skip
    config = transformers.CLIPConfig(text_config=text, vision_config=vision, projection_dim=6)
    torch.manual_seed(4)
    made = transformers.CLIPModel(config).eval()
    with torch.no_grad():  # biases and norms that a fresh model has not
        for value in made.parameters():
            value.add_(0.1 * torch.randn_like(value))
    return made


WORDS = torch.tensor([[21, 3, 5, 22, 0, 0], [21, 9, 1, 7, 4, 22], [21, 22, 22, 22, 22, 22]])


@pytest.mark.parametrize(("eos", "act"), [(22, "quick_gelu"), (2, "quick_gelu"), (22, "gelu")])
def test_the_logits_and_embeddings_are_those_of_transformers(eos, act):
    peer = their_clip(eos, act)
    ours = CLIP.from_hugging_face(peer)
    x = torch.randn(4, 3, 16, 16)
    with torch.no_grad():
        told = peer(input_ids=WORDS, pixel_values=x)
        torch.testing.assert_close(ours(x, WORDS), told.logits_per_image, rtol=1e-4, atol=1e-5)
        seen = F.normalize(ours.image_encoder(x), dim=1)
        torch.testing.assert_close(seen, told.image_embeds, rtol=1e-4, atol=1e-6)
        paired = peer(input_ids=WORDS, pixel_values=x[:3], return_loss=True)
        torch.testing.assert_close(
            dual_encoder_loss(ours, x[:3], WORDS), paired.loss, rtol=1e-4, atol=1e-5
        )
    assert not ours.training


def test_a_saved_model_is_read_from_its_folder(tmp_path):
    peer = their_clip()
    peer.save_pretrained(tmp_path)
    x = torch.randn(2, 3, 16, 16)
    with torch.no_grad():
        torch.testing.assert_close(
            CLIP.from_hugging_face(tmp_path)(x, WORDS),
            peer(input_ids=WORDS, pixel_values=x).logits_per_image, rtol=1e-4, atol=1e-5,
        )  # fmt: skip
    configure(tmp_path, {"model_type": "siglip"})
    with refuses(ValueError, "model of type 'clip', got 'siglip'"):
        CLIP.from_hugging_face(tmp_path)


def test_towers_that_differ_where_ours_cannot_are_refused():
    peer = their_clip()
    peer.config.text_config.hidden_act = "gelu"
    with refuses(ValueError, "two values of hidden_act, 'gelu' and 'quick_gelu'"):
        CLIP.from_hugging_face(peer)


def test_clip_has_the_parameters_that_openai_published():
    model = CLIP(device="meta")
    assert sum(p.numel() for p in model.parameters()) == 151_277_313


def test_what_stands_after_the_end_of_a_text_is_not_read():
    torch.manual_seed(0)
    model = CLIP(**SMALL, end_token=20).eval()
    one = torch.tensor([[1, 2, 20, 5, 6]]), torch.tensor([[1, 2, 20, 22, 0]])
    first, second = (model.text_encoder(ids) for ids in one)
    torch.testing.assert_close(first, second)
    other = model.text_encoder(torch.tensor([[1, 3, 20, 5, 6]]))
    assert not torch.allclose(first, other)


def test_parameters_begin_as_the_authors_draw_them():
    torch.manual_seed(0)
    model = CLIP(32, 4, 500, 64, vision_width=128, vision_layers=3, vision_heads=4,
                 text_width=128, text_layers=3, text_heads=4)  # fmt: skip
    layer = model.text_encoder.layers[0]
    for value, std in (
        (model.text_encoder.token_embedding, 0.02), (model.text_encoder.position_embedding, 0.01),
        (layer.self_attn.in_proj_weight, 128**-0.5), (layer.linear2.weight, (128 * 6) ** -0.5),
        (layer.self_attn.out_proj.weight, (128 * 6) ** -0.5), (layer.linear1.weight, 256**-0.5),
        (model.image_encoder.class_token, 128**-0.5),
        (model.image_encoder.projection.weight, 128**-0.5),
        (model.text_encoder.projection.weight, 128**-0.5),
        (model.image_encoder.position_embedding, 128**-0.5),
        (model.image_encoder.patch_embedding.weight, 0.02),
    ):  # fmt: skip
        assert value.std().item() == pytest.approx(std, rel=0.25)
    with torch.no_grad():
        for value in model.parameters():
            value.fill_(3.0)
    model.reset_parameters()
    assert all((value != 3.0).all() for value in model.parameters())
    assert model.logit_scale.exp().item() == pytest.approx(1 / 0.07)


# --------------------------------------------------------------------------- without negatives
@pytest.mark.equation("contrastive-byol", "contrastive-simsiam")
def test_byols_loss_is_the_squared_distance_on_the_sphere_and_twice_simsiams_plus_two():
    """Erratum 26d: both views predict each other."""
    q1, z2 = views()
    apart = (F.normalize(q1, dim=1) - F.normalize(z2, dim=1)).square().sum(1).mean()
    torch.testing.assert_close(byol_loss(q1, z2), apart, **CLOSE)
    simsiam = -sum(cosine(q, z) for q, z in zip(q1, z2, strict=True)) / 5
    assert byol_loss(q1, z2).item() == pytest.approx(2 + 2 * simsiam)


def test_no_gradient_flows_into_targets():
    q, z = (part.requires_grad_() for part in views())
    byol_loss(q, z).backward()
    assert z.grad is None and q.grad is not None and q.grad.any()
    dino_loss(q, z).backward()
    assert z.grad is None


@pytest.mark.equation("contrastive-dino")
def test_dinos_loss_is_the_loop_over_outputs():
    s, t, center = drawn(3, 4, seed=1), drawn(3, 4, seed=2), drawn(4, seed=3)
    total = 0.0
    for i in range(3):
        up = [math.exp((t[i, k] - center[k]).item() / 0.2) for k in range(4)]
        own = [math.exp(s[i, k].item() / 0.5) for k in range(4)]
        total -= sum(u / sum(up) * math.log(o / sum(own)) for u, o in zip(up, own, strict=True))
    assert dino_loss(s, t, center, 0.5, 0.2).item() == pytest.approx(total / 3)
    even = dino_loss(s, t, 0.0, 0.5, 0.2)
    assert even.item() == pytest.approx(dino_loss(s, t, torch.zeros(4).double(), 0.5, 0.2).item())


@pytest.mark.equation("contrastive-ema")
def test_the_momentum_encoder_is_the_average_of_the_formula():
    from nnlib.train.average import ExponentialMovingAverage

    layer = nn.Linear(2, 2)
    slow = ExponentialMovingAverage(layer, decay=0.9)
    wanted = layer.weight.detach().clone()
    for _ in range(3):
        with torch.no_grad():
            layer.weight.add_(1.0)
        slow.update()
        wanted = 0.9 * wanted + 0.1 * layer.weight.detach()
    torch.testing.assert_close(slow.model.weight.detach(), wanted)


@pytest.mark.equation("contrastive-barlow")
def test_barlow_twins_is_the_loop_over_correlations():
    z1, z2 = views(9, 3)
    total = 0.0
    for i in range(3):
        for j in range(3):
            c = torch.corrcoef(torch.stack([z1[:, i], z2[:, j]]))[0, 1].item()
            total += (1 - c) ** 2 if i == j else 0.01 * c**2
    assert barlow_twins_loss(z1, z2, 0.01).item() == pytest.approx(total, rel=1e-8)


@pytest.mark.equation("contrastive-vicreg")
def test_vicreg_is_the_loop_over_features():
    z1, z2 = (0.3 * z for z in views(9, 3))
    agree = (z1 - z2).square().mean().item()
    spread = repeat = 0.0
    for z in (z1, z2):
        cov = torch.cov(z.T)
        for i in range(3):
            spread += max(0.0, 1 - math.sqrt(cov[i, i].item() + 1e-4)) / 3
            repeat += sum(cov[i, j].item() ** 2 for j in range(3) if j != i) / 3
    for weights in ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0), (25.0, 25.0, 1.0)):
        wanted = sum(w * t for w, t in zip(weights, (agree, spread, repeat), strict=True))
        assert vicreg_loss(z1, z2, *weights).item() == pytest.approx(wanted)


# ------------------------------------------------------------------------------- hidden patches
def test_a_mask_hides_its_share_and_puts_patches_back():
    noise = torch.rand(4, 16, generator=torch.Generator().manual_seed(0))
    mask = random_mask(noise, 0.75)
    assert mask.kept.shape == (4, 4) and mask.hidden.sum(1).tolist() == [12] * 4
    assert not mask.hidden.gather(1, mask.kept).any()
    shown = noise.masked_fill(mask.hidden, 9).min(1).values
    assert shown.equal(noise.min(1).values), "the least noise stays"
    assert (mask.back.gather(1, mask.kept) == torch.arange(4)).all()
    assert mask.back.sort(1).values.equal(torch.arange(16).expand(4, -1))
    assert random_mask(noise, 0.999).kept.shape == (4, 1)
    assert not random_mask(noise, 0.0).hidden.any()


def painter() -> MaskedAutoencoder:
    torch.manual_seed(0)
    return MaskedAutoencoder(8, 2, 16, 1, 2, 8).double()


def test_the_encoder_sees_visible_patches_only():
    model, noise = painter(), torch.rand(2, 16, generator=torch.Generator().manual_seed(1))
    x = drawn(2, 1, 8, 8)
    hidden = random_mask(noise).hidden
    blanks = model.pictures(hidden[..., None].expand(-1, -1, 4).double())
    painted, told = model(x, noise)
    other, _ = model(x + 100 * blanks, noise)
    torch.testing.assert_close(painted, other, **CLOSE)
    assert told.equal(hidden)
    assert not torch.allclose(painted, model(x + (1 - blanks), noise)[0])


def test_the_order_in_which_patches_are_kept_changes_nothing():
    """Noise that hides the same patches in another order gives the same picture."""
    model, x = painter(), drawn(1, 1, 8, 8)
    noise = torch.arange(16.0)[None]
    swapped = noise.clone()
    swapped[0, :4] = torch.tensor([3.0, 1.0, 0.0, 2.0])
    torch.testing.assert_close(model(x, noise)[0], model(x, swapped)[0], rtol=1e-9, atol=1e-9)


@pytest.mark.equation("contrastive-mae")
def test_the_loss_is_the_error_of_hidden_patches_alone():
    model, noise = painter(), torch.rand(3, 16, generator=torch.Generator().manual_seed(2))
    x = drawn(3, 1, 8, 8)
    painted, hidden = model(x, noise)
    wanted = (painted - model.patches(x))[hidden].square().mean()
    torch.testing.assert_close(masked_loss(model, x, noise), wanted, **CLOSE)
    torch.testing.assert_close(model.pictures(model.patches(x)), x)
    assert model.patches(x)[0, 1].tolist() == x[0, 0, :2, 2:4].flatten().tolist()


def test_hidden_patches_are_told_apart_by_their_place():
    model, noise = painter(), torch.arange(16.0)[None]
    painted, hidden = model(drawn(1, 1, 8, 8), noise)
    first, second = painted[0, hidden[0]][:2]
    assert not torch.allclose(first, second, atol=1e-3)


def test_without_a_mask_the_encoder_reads_all_patches():
    model = painter()
    assert model.encode(drawn(2, 1, 8, 8)).shape == (2, 16, 16)
    assert model(drawn(2, 1, 8, 8))[1].sum(1).tolist() == [12, 12]


# ------------------------------------------------------------------------------------ bad input
def test_bad_input_is_refused_by_name():
    a, b = views()
    y = torch.tensor([0, 1, 0, 1, 0])
    with refuses(ValueError, "z1 must hold 2 rows or more, got 1"):
        nt_xent(a[:1], b[:1])
    with refuses(ValueError, "temperature=0 must be a finite number > 0"):
        nt_xent(a, b, 0)
    with refuses(ValueError, "temperature=-1.0"):
        info_nce(a, b, b, -1.0)
    with refuses(ValueError, "z2 must have the shape of z1, (5, 4), got (4, 4)"):
        nt_xent(a, b[:4])
    with refuses(TypeError, "z2 must be torch.float64 as z1 is"):
        nt_xent(a, b.float())
    with refuses(ValueError, "images must hold 2 rows or more"):
        clip_loss(a[:1], b[:1])
    with refuses(ValueError, "scale=0.0 must be a finite number > 0"):
        clip_loss(a, b, torch.tensor(0.0))
    with refuses(ValueError, "scale=-2.0"):
        cosine_logits(a, b, -2.0)
    with refuses(ValueError, "negatives must hold one row or more"):
        info_nce(a, b, b[:0])
    with refuses(ValueError, "different must hold 0 (similar) and 1"):
        contrastive_loss(a, b, torch.tensor([0, 1, 2, 0, 0]))
    with refuses(ValueError, "margin=0 "):
        contrastive_loss(a, b, y, 0)
    with refuses(ValueError, "margin=-1 "):
        triplet_loss(a, b, b, -1)
    with refuses(ValueError, "positive must have shape (5, 4)"):
        triplet_loss(a, b[:3], b)
    with refuses(ValueError, "labels must hold some class twice"):
        supervised_contrastive_loss(a, torch.arange(5))
    with refuses(ValueError, "student_temperature=0 "):
        dino_loss(a, b, 0.0, 0)
    with refuses(ValueError, "teacher_temperature=0 "):
        dino_loss(a, b, 0.0, 0.1, 0)
    with refuses(ValueError, "weight=-1 "):
        barlow_twins_loss(a, b, -1)
    with refuses(ValueError, "variance=-1 "):
        vicreg_loss(a, b, 1, -1)
    with refuses(ValueError, "z must hold 2 rows or more, got 1"):
        uniformity(a[:1])
    with refuses(ValueError, "t=0 "):
        uniformity(a, 0)


@pytest.mark.parametrize("labels", [[0, 0, 0, 0, 0], [0, 1, 2, 3, 4]])
def test_labels_that_make_no_triplet_are_refused(labels):
    z, _ = views()
    with refuses(ValueError, "labels must make a triplet: some class twice, and another"):
        mine_triplets(z, torch.tensor(labels))


def test_bad_models_are_refused_by_name():
    with refuses(ValueError, "patch_size=5 does not divide image_size=16"):
        CLIP(**SMALL | {"patch_size": 5})
    with refuses(ValueError, "text_heads=5 does not divide text_width=12"):
        CLIP(**SMALL | {"text_heads": 5})
    with refuses(ValueError, "end_token=23 must be below vocab_size=23"):
        CLIP(**SMALL, end_token=23)
    with refuses(ValueError, "activation='bend' must be one of"):
        CLIP(**SMALL, activation="bend")
    with refuses(ValueError, "temperature=0 "):
        DualEncoder(nn.Identity(), nn.Identity(), 0)
    with refuses(TypeError, "text_encoder must be a module, got str"):
        DualEncoder(nn.Identity(), "text")
    with refuses(ValueError, "texts must have at most max_length=9 tokens, got 10"):
        CLIP(**SMALL).text_encoder(torch.zeros(1, 10, dtype=torch.long))
    with refuses(ValueError, "num_heads=3 does not divide embed_dim=16"):
        MaskedAutoencoder(8, 2, 16, 1, 3, 9)
    with refuses(ValueError, "patch_size=3 does not divide image_size=8"):
        MaskedAutoencoder(8, 3, 16, 1, 2, 8)
    with refuses(ValueError, "mask_ratio=1 "):
        MaskedAutoencoder(8, 2, 16, 1, 2, 8, mask_ratio=1)
    with refuses(ValueError, "noise must have shape (2, 16)"):
        painter()(drawn(2, 1, 8, 8), torch.rand(2, 9))


def test_every_public_name_is_there():
    assert all(hasattr(module, name) for name in module.__all__)


# ------------------------------------------------------------------------------------- the corners
LOSSES = [nt_xent, clip_loss, sigmoid_loss, alignment, byol_loss, barlow_twins_loss, vicreg_loss]


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_embeddings_that_are_zeros_cost_a_finite_loss_with_a_bounded_gradient(loss, dtype):
    """Divided by the usual 1e-12, which is 0 in float16, they would get NaN, or 1e12."""
    z = drawn(5, 3).to(dtype)
    z[1] = 0
    value = loss(z.requires_grad_(), drawn(5, 3, seed=1).to(dtype))
    value.backward()
    assert value.isfinite() and z.grad.isfinite().all() and z.grad.abs().max() < 1e3


@pytest.mark.parametrize("size", [1e-25, 1e-6, 1e6, 1e25])
def test_losses_by_direction_are_blind_to_any_size_in_single_precision(size):
    """1e25 squared is beyond float32."""
    z1, z2 = (z.float() for z in views())
    negatives, labels = drawn(3, 4, seed=9).float(), torch.tensor([0, 1, 0, 1, 1])
    for loss in (
        lambda a, b: nt_xent(a, b), lambda a, b: clip_loss(a, b), alignment, byol_loss,
        lambda a, b: info_nce(a, b, negatives),
        lambda a, _: supervised_contrastive_loss(a, labels), lambda a, _: uniformity(a),
    ):  # fmt: skip
        torch.testing.assert_close(loss(size * z1, z2), loss(z1, z2), rtol=1e-5, atol=1e-6)


def test_a_dissimilar_pair_that_is_far_apart_costs_nothing_also_where_its_square_overflows():
    for dtype, far in ((torch.float16, 20.0), (torch.float32, 1e25)):
        z = torch.full((1, 256), far, dtype=dtype, requires_grad=True)
        loss = contrastive_loss(torch.zeros(1, 256, dtype=dtype), z, torch.tensor([1]))
        loss.backward()
        assert loss == 0 and not z.grad.any()


def test_what_stands_beside_a_diagonal_is_no_difference_of_squares():
    z = 1e4 * torch.tensor([[1.0, 1], [1, -1], [-1, 1], [-1, -1]])
    z[0, 0] += 1  # a covariance of about 3e3 beside variances of 1e8
    wanted = 2 * z.double().T.cov()[0, 1].square().item()  # of either view
    assert vicreg_loss(z, z, 0, 0, 1).item() == pytest.approx(wanted, rel=1e-3)


def test_a_masked_autoencoder_can_be_drawn_anew():
    model = MaskedAutoencoder(8, 2, 16, 1, 2, 8)
    with torch.no_grad():
        for value in model.parameters():
            value.fill_(3.0)
    torch.manual_seed(0)
    model.reset_parameters()
    assert all((value != 3.0).all() for value in model.parameters())
    torch.manual_seed(0)
    kept = [value.clone() for value in model.parameters()]
    model.reset_parameters()
    assert all(map(torch.equal, kept, model.parameters()))


def test_a_bias_that_is_none_and_a_text_without_an_end_are_refused_by_name():
    a, b = views()
    with refuses(TypeError, "bias=None must be a finite number"):
        sigmoid_loss(a, b, 1.0, None)
    with refuses(ValueError, "bias must have shape (), got (5,)"):
        sigmoid_loss(a, b, 1.0, torch.zeros(5))
    with refuses(ValueError, "bias must be finite"):
        sigmoid_loss(a, b, 1.0, torch.tensor(math.nan))
    with refuses(ValueError, "texts must each hold end_token=20"):
        CLIP(**SMALL, end_token=20).text_encoder(torch.tensor([[1, 20, 3], [1, 2, 3]]))
