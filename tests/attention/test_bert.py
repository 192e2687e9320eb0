"""BERT against transformers' BERT, its own equations written out, and counted corruption."""

import math
import shutil

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from nnlib.attention.bert import (
    BERT,
    Classifier,
    Tagger,
    mask_tokens,
    masked_language_loss,
    pretraining_loss,
)
from nnlib.train.loop import train
from tests.support import Example, Peer, configure, refuses

transformers = Peer("transformers")


def example() -> Example:
    """What the contract runs: see `tests/test_contract.py`."""
    return Example(
        {
            "vocab_size": 11,
            "embed_dim": 8,
            "num_heads": 2,
            "num_layers": 2,
            "max_length": 8,
            "num_segments": 2,
            "dropout": 0.1,
        },
        (torch.randint(11, (3, 8)),),
        {
            "segments": (torch.arange(8) > 4).long().expand(3, -1),
            "key_mask": torch.arange(8) < torch.tensor([[8], [6], [3]]),
        },
    )


CLS, SEP, MASK, PAD = 1, 2, 3, 0
SPECIAL = [PAD, CLS, SEP]


def small(**kwargs):
    torch.manual_seed(0)
    options = {"vocab_size": 40, "embed_dim": 16, "num_heads": 4, "num_layers": 2, "max_length": 12}
    options |= {"masked_head": True, "next_head": True, "init_std": 0.3} | kwargs
    return BERT(**options).eval()


def stirred(model):
    """Give every weight, the biases and norms among them, a value that no fresh model has."""
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.2 * torch.randn(p.shape, generator=generator))
    if hasattr(model, "tie_weights"):
        model.tie_weights()
    return model.eval()


def texts(b=3, t=9, v=40, seed=0):
    g = torch.Generator().manual_seed(seed)
    ids = torch.randint(4, v, (b, t), generator=g)
    segments = (torch.arange(t) > t // 2).long().expand(b, t)
    lengths = torch.tensor([t, t - 2, 3])[:b]
    return ids, segments, torch.arange(t) < lengths[:, None]


# ---------------------------------------------------------------- the equations, one by one


@pytest.mark.equation("bert-input")
def test_the_input_is_three_vectors_added_and_normalized():
    model, (ids, segments, _) = small(), texts()
    for b, t in ((0, 0), (2, 7)):
        total = (
            model.token_embedding.weight[ids[b, t]]
            + model.position_embedding.weight[t]
            + model.segment_embedding.weight[segments[b, t]]
        )
        wanted = (total - total.mean()) / (total.var(correction=0) + 1e-12).sqrt()
        torch.testing.assert_close(model.embed(ids, segments)[b, t], wanted)


@pytest.mark.equation("bert-mlm-head")
def test_the_masked_head_scores_with_the_input_vectors():
    model = stirred(small())
    hidden = torch.randn(5, 16)
    head = model.masked_head
    z = hidden @ head.linear.weight.T + head.linear.bias
    z = z * (1 + torch.erf(z / math.sqrt(2))) / 2
    z = (z - z.mean(-1, keepdim=True)) / (z.var(-1, correction=0, keepdim=True) + 1e-12).sqrt()
    z = z * head.norm.weight + head.norm.bias
    logits = model.token_logits(hidden)
    torch.testing.assert_close(
        logits, z @ model.token_embedding.weight.T + head.bias, rtol=1e-4, atol=1e-4
    )
    assert "token_embedding.weight" in model.state_dict()
    assert not any("decoder" in name for name in model.state_dict())


@pytest.mark.equation("bert-pooler", "bert-nsp")
def test_the_next_head_is_a_softmax_on_the_tanh_of_the_first_token():
    model, (ids, segments, key_mask) = stirred(small()), texts()
    hidden, pooled = model(ids, segments, key_mask)
    wanted = torch.tanh(hidden[:, 0] @ model.pooler.weight.T + model.pooler.bias)
    torch.testing.assert_close(pooled, wanted)
    p = model.next_logits(pooled).softmax(-1)
    scores = wanted @ model.next_head.weight.T + model.next_head.bias
    torch.testing.assert_close(p, scores.exp() / scores.exp().sum(-1, keepdim=True))


@pytest.mark.equation("bert-nsp-sigmoid")
def test_two_way_softmax_is_a_sigmoid_of_the_difference_of_its_scores():
    pooled, weight, bias = torch.randn(7, 6), torch.randn(2, 6), torch.randn(2)
    softmax = F.linear(pooled, weight, bias).softmax(-1)[:, 0]
    sigmoid = torch.sigmoid(pooled @ (weight[0] - weight[1]) + bias[0] - bias[1])
    torch.testing.assert_close(softmax, sigmoid)


@pytest.mark.equation("bert-mlm")
def test_the_loss_is_the_mean_surprise_at_the_selected_tokens_given_the_corrupted_text():
    model, (ids, segments, key_mask) = small(), texts()
    g = torch.Generator().manual_seed(1)
    corrupted, targets = mask_tokens(ids, MASK, 40, key_mask=key_mask, rate=0.5, generator=g)
    log_p = model.token_logits(model(corrupted, segments, key_mask).hidden).log_softmax(-1)
    surprise = [
        -log_p[b, t, ids[b, t]]
        for b in range(len(ids))
        for t in range(ids.shape[1])
        if targets[b, t] != -100
    ]
    assert len(surprise) > 3
    got = masked_language_loss(model, corrupted, targets, segments, key_mask)
    torch.testing.assert_close(got, sum(surprise) / len(surprise))


@pytest.mark.equation("bert-pretraining")
def test_pretraining_adds_both_losses():
    model, (ids, segments, key_mask) = small(), texts()
    corrupted, targets = mask_tokens(ids, MASK, 40, rate=0.5)
    follows = torch.tensor([0, 1, 0])
    logits = model.next_logits(model(corrupted, segments, key_mask).pooled)
    wanted = masked_language_loss(model, corrupted, targets, segments, key_mask)
    wanted = wanted - logits.log_softmax(-1)[torch.arange(3), follows].mean()
    got = pretraining_loss(model, corrupted, targets, segments, follows, key_mask)
    torch.testing.assert_close(got, wanted)


@pytest.mark.equation("bert-classification", "bert-tagging")
def test_both_heads_of_fine_tuning_are_one_linear_map_and_a_softmax():
    bert, (ids, segments, key_mask) = small(), texts()
    hidden, pooled = bert(ids, segments, key_mask)
    classifier, tagger = Classifier(bert, 5).eval(), Tagger(bert, 4).eval()
    for model, vectors in ((classifier, pooled), (tagger, hidden)):
        scores = vectors @ model.output.weight.T + model.output.bias
        wanted = scores.exp() / scores.exp().sum(-1, keepdim=True)
        torch.testing.assert_close(model(ids, segments, key_mask).softmax(-1), wanted)


@pytest.mark.equation("bert-parameters")
@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        ({"vocab_size": 30522}, 109_482_240),
        ({"vocab_size": 30522, "masked_head": True, "next_head": True}, 110_106_428),
        ({"vocab_size": 28996}, 108_310_272),
        ({"vocab_size": 30522, "embed_dim": 1024, "num_heads": 16, "num_layers": 24}, 335_141_888),
        (
            {"vocab_size": 30522, "embed_dim": 1024, "num_heads": 16, "num_layers": 24,
             "masked_head": True, "next_head": True},
            336_226_108,
        ),
        (
            {"vocab_size": 50265, "embed_dim": 1024, "num_heads": 16, "num_layers": 24,
             "max_length": 514, "num_segments": 1},
            355_359_744,
        ),
        (
            {"vocab_size": 50265, "embed_dim": 1024, "num_heads": 16, "num_layers": 24,
             "max_length": 514, "num_segments": 1, "pooler": False, "masked_head": True},
            355_412_057,
        ),
    ],
    ids=["base", "base-heads", "cased", "large", "large-heads", "roberta", "roberta-head"],
)  # fmt: skip
def test_published_models_are_counted_to_the_last_weight(options, wanted):
    with torch.device("meta"):  # shapes without numbers
        model = BERT(**options)
    assert model.num_parameters() == sum(p.numel() for p in model.parameters()) == wanted
    v, d, depth = options["vocab_size"], model.embed_dim, len(model.layers)
    formula = (v + model.max_length + model.num_segments) * d + 2 * d
    formula += depth * (12 * d**2 + 13 * d)
    formula += (d**2 + d) * (model.pooler is not None)
    formula += (d**2 + 3 * d + v) * (model.masked_head is not None)
    formula += (2 * d + 2) * (model.next_head is not None)
    assert formula == wanted


@pytest.mark.equation("bert-sides")
def test_left_and_right_counts_combine_exactly_where_both_depend_on_the_word_alone():
    g = torch.Generator().manual_seed(0)
    word = torch.rand(4, generator=g).softmax(0).double()
    left, right = (torch.rand(4, 5, generator=g).double().softmax(1) for _ in range(2))
    joint = word[:, None, None] * left[:, :, None] * right[:, None, :]
    exact = joint / joint.sum(0)
    from_left = joint.sum(2) / joint.sum((0, 2))
    from_right = joint.sum(1) / joint.sum((0, 1))
    product = from_left[:, :, None] * from_right[:, None, :] / word[:, None, None]
    torch.testing.assert_close(product / product.sum(0), exact)


@pytest.mark.equation("bert-cosine")
def test_a_static_vector_is_the_same_in_every_text_and_a_contextual_one_is_not():
    model = small()
    ids = torch.tensor([[CLS, 7, 9, SEP], [CLS, 8, 9, SEP]])
    static = model.token_embedding(ids)[:, 2]
    hidden = model(ids).hidden[:, 2]

    def cosine(a, b):
        return (a @ b / (a.norm() * b.norm())).item()

    assert cosine(*static) == pytest.approx(1, abs=1e-6)
    assert cosine(*hidden) < 0.999
    assert cosine(*hidden) == pytest.approx(F.cosine_similarity(*hidden, dim=0).item(), abs=1e-5)


# ---------------------------------------------------------------- corruption


@pytest.mark.equation("bert-corruption")
def test_corruption_selects_15_percent_and_shows_80_10_10():
    g = torch.Generator().manual_seed(0)
    ids = torch.randint(4, 1000, (400, 500), generator=g)
    corrupted, targets = mask_tokens(ids, MASK, 1000, special_ids=SPECIAL, generator=g)
    chosen = targets != -100
    n = chosen.sum().item()

    def near(count, share, among):
        return abs(count - share * among) < 5 * math.sqrt(share * (1 - share) * among)

    assert near(n, 0.15, ids.numel())
    shown = corrupted[chosen]
    assert near((shown == MASK).sum().item(), 0.8, n)
    same = (shown == ids[chosen]).sum().item()
    assert near(same, 0.1 + 0.1 / 996, n)  # a random token may be the true one
    assert torch.equal(targets[chosen], ids[chosen])
    assert torch.equal(corrupted[~chosen], ids[~chosen])


def test_random_tokens_are_drawn_evenly_from_all_ordinary_ones():
    g = torch.Generator().manual_seed(0)
    ids = torch.full((200, 500), 9)
    swapped, _ = mask_tokens(
        ids, MASK, 12, special_ids=SPECIAL, rate=1.0, mask_share=0.0, random_share=1.0, generator=g
    )
    counts = swapped.flatten().bincount(minlength=12)
    assert not counts[:4].any()
    expected = ids.numel() / 8
    assert ((counts[4:] - expected).abs() < 5 * math.sqrt(expected)).all()


@given(seed=st.integers(0, 10_000), rate=st.floats(0, 1))
@settings(max_examples=40, deadline=None)
def test_neither_special_tokens_nor_padding_are_ever_selected(seed, rate):
    g = torch.Generator().manual_seed(seed)
    ids = torch.randint(0, 12, (4, 20), generator=g)
    before = ids.clone()
    key_mask = torch.rand(4, 20, generator=g) < 0.7
    corrupted, targets = mask_tokens(
        ids, MASK, 12, special_ids=SPECIAL, key_mask=key_mask, rate=rate, generator=g
    )
    chosen = targets != -100
    assert not (chosen & ~key_mask).any()
    assert not chosen[torch.isin(ids, torch.tensor([*SPECIAL, MASK]))].any()
    assert not torch.isin(corrupted[chosen], torch.tensor(SPECIAL)).any()
    assert torch.equal(ids, before)
    if rate == 1:
        assert torch.equal(chosen, key_mask & (ids >= 4))


def test_the_same_seed_corrupts_alike():
    ids = torch.randint(4, 40, (3, 30))
    a, b = (mask_tokens(ids, MASK, 40, generator=torch.Generator().manual_seed(3)) for _ in "ab")
    assert all(map(torch.equal, a, b))


def test_nothing_selected_is_a_loss_of_zero_and_not_nan():
    model, (ids, *_) = small(), texts()
    loss = masked_language_loss(model, *mask_tokens(ids, MASK, 40, rate=0.0))
    assert loss.item() == 0
    loss.backward()


# ---------------------------------------------------------------- what BERT promises


def test_both_sides_are_read():
    model, (ids, *_) = small(), texts(b=1)
    x = model.embed(ids).detach().requires_grad_()
    h = x
    for layer in model.layers:
        h = layer(h)
    # Not the plain sum of the vector: after a layer norm that is always the same.
    (h[0, 4] * torch.arange(h.shape[-1])).sum().backward()
    reached = x.grad[0].abs().sum(-1) > 0
    assert reached.all(), "every token, left and right, moves the vector of token 4"


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("hidden", [False, True])
def test_a_hidden_next_word_is_seen_from_the_second_layer_on(layers, hidden):
    """Why looking both ways is no way to guess the next word, as the chapter says."""
    model, (ids, *_) = small(num_layers=layers), texts(b=1)
    visible = torch.ones(ids.shape[1], ids.shape[1], dtype=torch.bool)
    visible[4, 5] = not hidden  # token 4 has to guess token 5
    x = model.embed(ids).detach().requires_grad_()
    h = x
    for layer in model.layers:
        h = layer(h, mask=visible)
    (h[0, 4] * torch.arange(h.shape[-1])).sum().backward()
    seen = bool(x.grad[0, 5].abs().sum() > 0)
    assert seen == (layers == 2 or not hidden)


def test_padding_changes_nothing():
    model, (ids, segments, _) = stirred(small()), texts(b=1, t=6)
    alone = model(ids, segments)
    padded = F.pad(ids, (0, 4), value=PAD)
    padded[:, 8] = 30  # whatever stands there
    key_mask = torch.arange(10)[None] < 6
    longer = model(padded, F.pad(segments, (0, 4)), key_mask)
    torch.testing.assert_close(longer.hidden[:, :6], alone.hidden, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(longer.pooled, alone.pooled, rtol=1e-5, atol=1e-5)


def test_segments_and_positions_matter():
    model, (ids, segments, _) = small(), texts(b=1)
    assert not torch.allclose(model(ids).hidden, model(ids, segments).hidden)
    assert not torch.allclose(model(ids).hidden.flip(1), model(ids.flip(1)).hidden, atol=1e-3)


def test_it_learns_to_fill_blanks_and_to_tell_pairs_apart():
    torch.manual_seed(0)
    model = BERT(24, 32, 2, 1, max_length=9, dropout=0.0, masked_head=True, next_head=True)
    start = torch.randint(4, 14, (256, 1))
    a = start + torch.arange(3)
    follows = torch.randint(0, 2, (256,))
    b = torch.where(follows[:, None] == 0, a + 3, torch.randint(4, 14, (256, 1)) + torch.arange(3))
    edge = torch.ones(256, 1).long()
    ids = torch.cat([CLS * edge, a, SEP * edge, b, SEP * edge], 1)
    segments = (torch.arange(9) > 4).long().expand(256, 9)
    g = torch.Generator().manual_seed(0)

    def loss(model, ids, segments, follows):
        corrupted, targets = mask_tokens(ids, MASK, 24, special_ids=SPECIAL, generator=g)
        return pretraining_loss(model, corrupted, targets, segments, follows)

    train(model, loss, [ids, segments, follows], steps=300, batch_size=64, lr=4e-3)
    model.eval()
    blank = ids.clone()
    blank[:, 2] = MASK
    hidden, pooled = model(blank, segments)
    assert (model.token_logits(hidden[:, 2]).argmax(-1) == ids[:, 2]).float().mean() > 0.8
    assert (model.next_logits(pooled).argmax(-1) == follows).float().mean() > 0.85


def test_it_runs_on_no_device_at_all():
    with torch.device("meta"):
        model, ids = BERT(40, 16, 4, 1), torch.zeros(2, 5).long()
    hidden, pooled = model(ids)
    assert hidden.shape == (2, 5, 16)
    assert pooled.shape == (2, 16)


# ---------------------------------------------------------------- Hugging Face

SHAPES = [
    {"hidden_size": 16, "num_attention_heads": 2, "num_hidden_layers": 1, "intermediate_size": 40},
    {"hidden_size": 48, "num_attention_heads": 6, "num_hidden_layers": 3, "intermediate_size": 64,
     "hidden_act": "gelu_new", "type_vocab_size": 3, "layer_norm_eps": 1e-5},
]  # fmt: skip
KINDS = {"model": "BertModel", "pretraining": "BertForPreTraining", "masked": "BertForMaskedLM"}


def peer(kind="pretraining", **options):
    torch.manual_seed(3)
    config = transformers.BertConfig(
        **{"vocab_size": 40, "max_position_embeddings": 12} | SHAPES[0] | options
    )
    return stirred(getattr(transformers, KINDS[kind])(config))


@torch.no_grad()
def same_answers(theirs, ours):
    ids, segments, key_mask = texts()
    wanted = theirs(input_ids=ids, token_type_ids=segments, attention_mask=key_mask.long())
    hidden, pooled = ours(ids, segments, key_mask)
    pairs = []
    if isinstance(theirs, transformers.BertModel):
        pairs += [(hidden, wanted.last_hidden_state), (pooled, wanted.pooler_output)]
    elif isinstance(theirs, transformers.BertForPreTraining):
        pairs += [(ours.token_logits(hidden), wanted.prediction_logits)]
        pairs += [(ours.next_logits(pooled), wanted.seq_relationship_logits)]
    else:
        assert pooled is None
        pairs += [(ours.token_logits(hidden), wanted.logits)]
    for got, want in pairs:
        torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", SHAPES, ids=["small", "larger"])
def test_an_instance_gives_the_same_logits(kind, shape):
    theirs = peer(kind, **shape)
    ours = BERT.from_hugging_face(theirs)
    assert ours.num_parameters() == sum(p.numel() for p in theirs.parameters())
    same_answers(theirs, ours)


@pytest.mark.parametrize("shards", ["one file", "shards"])
def test_a_saved_folder_gives_the_same_logits(tmp_path, shards):
    theirs = peer(**SHAPES[1])
    theirs.save_pretrained(tmp_path, max_shard_size="5GB" if shards == "one file" else "40KB")
    assert (tmp_path / "model.safetensors.index.json").exists() == (shards == "shards")
    same_answers(theirs, BERT.from_hugging_face(str(tmp_path)))


def rewritten(folder, change):
    """Save a small model, let `change` have its tensors, and write them back."""
    from safetensors.torch import load_file, save_file

    peer().save_pretrained(folder)
    tensors = change(load_file(folder / "model.safetensors"))
    save_file({k: v.contiguous() for k, v in tensors.items()}, folder / "model.safetensors")
    return folder


def test_the_names_of_2018_are_understood(tmp_path):
    def old(tensors):
        names = {"LayerNorm.weight": "LayerNorm.gamma", "LayerNorm.bias": "LayerNorm.beta"}
        out = {"bert.embeddings.position_ids": torch.arange(12)[None]}
        for name, value in tensors.items():
            for new, then in names.items():
                name = name.replace(new, then)
            out[name] = value
        out["cls.predictions.decoder.weight"] = tensors["bert.embeddings.word_embeddings.weight"]
        return {name: value.clone() for name, value in out.items()}

    same_answers(peer(), BERT.from_hugging_face(rewritten(tmp_path, old)))


LOST = "bert.encoder.layer.0.output.dense.weight"


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda t: {k: v for k, v in t.items() if k != LOST}, "missing: layers.0.linear2.weight"),
        (lambda t: t | {"bert.extra": torch.zeros(2)}, "extra: extra"),
        (lambda t: t | {LOST: torch.zeros(16, 3)}, "layers.0.linear2.weight must have shape"),
        (lambda t: {k: v for k, v in t.items() if "self.key.bias" not in k}, "in_proj_bias[1]"),
        (
            lambda t: t | {"cls.predictions.decoder.weight": torch.zeros(40, 16)},
            "cls.predictions.decoder.weight of its own",
        ),
        (
            lambda t: {k: v for k, v in t.items() if k != "cls.predictions.bias"},
            "missing: masked_head.bias",
        ),
    ],
    ids=["missing", "extra", "shape", "part", "untied", "head"],
)
def test_a_folder_whose_tensors_do_not_fit_is_refused_by_name(tmp_path, change, told):
    with refuses(ValueError, told):
        BERT.from_hugging_face(rewritten(tmp_path, change))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"hidden_act": "quick_gelu"}, "activation='quick_gelu' must be one of"),
        ({"position_embedding_type": "relative_key"}, "position_embedding_type='relative_key'"),
        ({"is_decoder": True}, "is_decoder=True"),
        ({"model_type": "roberta"}, "'bert', got 'roberta'"),
        ({"num_attention_heads": 3}, "num_heads=3 does not divide embed_dim=16"),
        ({"hidden_size": None}, "configuration without ['hidden_size']"),
    ],
    ids=["activation", "positions", "decoder", "architecture", "heads", "size"],
)
def test_a_configuration_that_is_no_bert_is_refused_by_name(tmp_path, change, told):
    peer().save_pretrained(tmp_path)
    configure(tmp_path, change)
    with refuses(ValueError, told):
        BERT.from_hugging_face(tmp_path)


def test_a_folder_without_weights_is_refused(tmp_path):
    peer().save_pretrained(tmp_path)
    shutil.move(tmp_path / "model.safetensors", tmp_path / "model.bin")
    with refuses(ValueError, "model.safetensors"):
        BERT.from_hugging_face(tmp_path)


def test_another_model_and_another_kind_of_thing_are_refused():
    config = transformers.GPT2Config(vocab_size=40, n_embd=16, n_layer=1, n_head=2, n_positions=12)
    with refuses(ValueError, "'bert', got 'gpt2'"):
        BERT.from_hugging_face(transformers.GPT2Model(config))
    with refuses(TypeError, "model_or_path must be"):
        BERT.from_hugging_face(7)


# ---------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"num_heads": 5}, "num_heads=5 does not divide embed_dim=16"),
        ({"num_segments": 0}, "num_segments=0"),
        ({"dropout": 1.5}, "dropout=1.5"),
        ({"layer_norm_eps": -1.0}, "layer_norm_eps=-1.0"),
        ({"activation": "swish"}, "activation='swish'"),
        ({"init_std": 0.0}, "init_std=0.0"),
        ({"pooler": False}, "next_head=True reads the pooled vector"),
        ({"dim_feedforward": 0}, "dim_feedforward=0"),
    ],
)
def test_a_bad_argument_is_named(options, told):
    with refuses(ValueError, told):
        small(**options)


def test_bad_texts_are_named():
    model = small()
    good = torch.full((2, 5), 7)
    for ids, told in (
        (torch.full((2, 5), 40), "ids must be 0 … 39 (vocab_size), got 40 … 40"),
        (torch.full((2, 5), -1), "ids must be 0 … 39 (vocab_size), got -1"),
        (torch.full((2, 13), 7), "ids must hold 1 … max_length=12 tokens, got 13"),
        (torch.full((2, 0), 7), "ids must not be empty, got shape (2, 0)"),
        (torch.full((5,), 7), "ids must have shape (b, t), got (5,)"),
    ):
        with refuses(ValueError, told):
            model(ids)
    with refuses(TypeError, "ids must hold integers"):
        model(good.float())
    with refuses(ValueError, "segments must be 0 … 1 (num_segments)"):
        model(good, good)
    with refuses(ValueError, "segments must have shape (2, 5)"):
        model(good, good[:, :4])
    with refuses(ValueError, "key_mask must have shape"):
        model(good, key_mask=torch.ones(2, 4).bool())
    with refuses(TypeError, "key_mask must hold True"):
        model(good, key_mask=torch.ones(2, 5))


def test_new_weights_are_new_throughout():
    model = BERT(40, 16, 4, 2, masked_head=True, next_head=True)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(7.0)
    model.reset_parameters()
    assert not [name for name, p in model.named_parameters() if (p == 7).any()]
    assert (model.layers[1].norm2.weight == 1).all()
    assert not model.masked_head.bias.any()


def test_heads_that_are_not_there_are_named():
    bare = BERT(40, 16, 4, 1, pooler=False)
    ids = torch.full((2, 5), 7)
    hidden = bare(ids).hidden
    with refuses(ValueError, "masked_head=True"):
        bare.token_logits(hidden)
    with refuses(ValueError, "next_head=True"):
        bare.next_logits(hidden[:, 0])
    with refuses(ValueError, "hidden must end with embed_dim=16"):
        small().token_logits(torch.zeros(2, 8))
    with refuses(ValueError, "pooler=True"):
        Classifier(bare, 3)
    with refuses(TypeError, "bert must be a BERT"):
        Tagger(torch.nn.Linear(2, 2), 3)
    with refuses(ValueError, "num_classes=0"):
        Tagger(bare, 0)


def test_bad_corruption_is_named():
    ids = torch.full((2, 5), 7)
    for options, told in (
        ({"mask_id": 40}, "mask_id must be below vocab_size=40"),
        ({"special_ids": [50]}, "special_ids must be below vocab_size=40"),
        ({"rate": 1.5}, "rate=1.5"),
        ({"mask_share": 0.95}, "mask_share + random_share must be ≤ 1"),
        ({"key_mask": torch.ones(2, 4).bool()}, "key_mask must have shape"),
        ({"special_ids": range(40)}, "leave no token to put in"),
    ):
        with refuses(ValueError, told):
            mask_tokens(ids, **{"mask_id": MASK, "vocab_size": 40} | options)
    with refuses(ValueError, "ids must be 0 … 6 (vocab_size)"):
        mask_tokens(ids, MASK, 7)


def test_bad_targets_are_named():
    model, (ids, segments, _) = small(), texts()
    with refuses(ValueError, "targets must have shape"):
        masked_language_loss(model, ids, ids[:, :4])
    with refuses(ValueError, "targets must be 0 … 39 (vocab_size)"):
        masked_language_loss(model, ids, ids + 40)
    with refuses(ValueError, "follows must hold classes 0 … 1"):
        pretraining_loss(model, ids, ids, segments, torch.tensor([0, 1, 2]))
