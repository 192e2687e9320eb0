"""Experts against loops over tokens, closed forms, finite differences and transformers' blocks."""

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from nnlib.language.llm import LLM
from nnlib.language.mixture_of_experts import (
    MixtureOfExperts,
    Routing,
    balance_loss,
    expert_choice,
    grouped_linear,
    moe_parameters,
    recorded,
    router_z_loss,
)
from nnlib.train.metrics import parameter_count
from tests.support import Example, Peer, refuses

transformers = Peer("transformers")


def example() -> Example:
    """What the contract runs: see `tests/test_contract.py`."""
    return Example(
        {
            "embed_dim": 8, "dim_feedforward": 12, "num_experts": 4, "top_k": 2,
            "num_shared_experts": 1, "shared_gate": True,
        },
        (torch.randn(3, 16, 8),),
    )  # fmt: skip


def expert(layer: MixtureOfExperts, number: int, x: torch.Tensor) -> torch.Tensor:
    """One expert, one token."""
    rows = layer.in_proj[number] @ x
    if layer.activation == "swiglu":
        gate, value = rows.chunk(2)
        hidden = gate / (1 + (-gate).exp()) * value
    else:
        hidden = {"relu": F.relu, "gelu": F.gelu}[layer.activation](rows)
    return layer.out_proj[number] @ hidden


def by_loop(layer: MixtureOfExperts, x: torch.Tensor, routing: Routing) -> torch.Tensor:
    """Token by token, choice by choice."""
    out = []
    for token, chosen, weights in zip(x, routing.experts, routing.weights, strict=True):
        parts = [w * expert(layer, int(i), token) for i, w in zip(chosen, weights, strict=True)]
        out.append(sum(parts))
    return torch.stack(out)


def made(*sizes: int, seed: int = 0, spread: float = 1.0, **options) -> MixtureOfExperts:
    """A layer whose router has made up its mind."""
    torch.manual_seed(seed)
    layer = MixtureOfExperts(*sizes, dtype=torch.float64, **options)
    nn.init.normal_(layer.router.weight, std=spread)
    return layer


def same(got, wanted, atol=1e-10):
    torch.testing.assert_close(got, wanted, rtol=0, atol=atol, check_dtype=False)


def number(value) -> torch.Tensor:
    return torch.tensor(value, dtype=torch.float64)


# ------------------------------------------------------------------------------------- the forward
@pytest.mark.equation("mixture-of-experts-output")
@pytest.mark.parametrize("activation", ["swiglu", "relu", "gelu"])
@pytest.mark.parametrize(("m", "k"), [(1, 1), (4, 1), (4, 2), (5, 5), (9, 3)])
def test_each_token_gets_the_weighted_sum_of_its_experts(m, k, activation):
    layer = made(6, 10, m, k, activation=activation)
    x = torch.randn(11, 6, dtype=torch.float64)
    y, routing = layer.routed(x)
    same(y, by_loop(layer, x, routing))
    same(layer(x.view(1, 11, 6)), y[None])


@pytest.mark.equation("mixture-of-experts-logits")
@pytest.mark.equation("mixture-of-experts-probabilities")
@pytest.mark.equation("mixture-of-experts-choice")
@pytest.mark.equation("mixture-of-experts-switch")
def test_the_most_probable_experts_are_chosen_and_weigh_what_they_are_probable():
    layer = made(6, 10, 5, 2, renormalize=False)
    x = torch.randn(7, 6, dtype=torch.float64)
    routing = layer.route(x)
    for t in range(7):
        z = [sum(float(x[t, j] * r[j]) for j in range(6)) for r in layer.router.weight.detach()]
        p = [math.exp(v) / sum(map(math.exp, z)) for v in z]
        ranked = sorted(range(5), key=lambda i: -p[i])[:2]
        assert routing.experts[t].tolist() == ranked
        same(routing.weights[t], torch.tensor([p[i] for i in ranked], dtype=torch.float64))
        same(routing.probabilities[t], torch.tensor(p, dtype=torch.float64))


@pytest.mark.equation("mixture-of-experts-renormalised")
def test_top_k_before_or_after_softmax_is_the_same_once_renormalised():
    layer = made(6, 10, 8, 3)
    x = torch.randn(50, 6, dtype=torch.float64)
    routing = layer.route(x)
    after = routing.logits.topk(3)
    assert torch.equal(after.indices, routing.experts)
    same(routing.weights, after.values.softmax(-1), atol=1e-15)
    unlike = made(6, 10, 8, 3, renormalize=False).route(x).weights
    assert (unlike.sum(-1) < 0.999).all()
    same(unlike / unlike.sum(-1, keepdim=True), routing.weights, atol=1e-15)


@pytest.mark.equation("mixture-of-experts-soft")
def test_with_all_experts_chosen_it_is_the_mixture_of_1991():
    layer = made(6, 10, 4, 4)
    x = torch.randn(5, 6, dtype=torch.float64)
    p = (x @ layer.router.weight.T).softmax(-1)
    every = torch.stack([torch.stack([expert(layer, i, t) for i in range(4)]) for t in x])
    same(layer(x), torch.einsum("nm,nme->ne", p, every))


@pytest.mark.equation("mixture-of-experts-sigmoid")
def test_sigmoid_scores_are_each_for_itself_and_divided_by_the_sum_of_the_chosen():
    layer = made(6, 10, 5, 2, score="sigmoid", scale=2.5)
    x = torch.randn(7, 6, dtype=torch.float64)
    routing = layer.route(x)
    s = 1 / (1 + (-(x @ layer.router.weight.T)).exp())
    top = s.sort(descending=True)
    assert torch.equal(top.indices[:, :2], routing.experts)
    chosen = top.values[:, :2]
    same(routing.weights, 2.5 * chosen / chosen.sum(-1, keepdim=True))
    same(routing.probabilities, s / s.sum(-1, keepdim=True))


@pytest.mark.equation("mixture-of-experts-shared")
@pytest.mark.parametrize("gate", [False, True])
def test_shared_experts_see_every_token(gate):
    layer = made(6, 10, 4, 2, num_shared_experts=3, shared_gate=gate)
    x = torch.randn(5, 6, dtype=torch.float64)
    y, routing = layer.routed(x)
    first, second = (layer.shared_in_proj.weight @ x.T).T.chunk(2, -1)
    told = (F.silu(first) * second) @ layer.shared_out_proj.weight.T
    if gate:
        told = told / (1 + (-(x @ layer.shared_gate.weight.T)).exp())
    same(y, by_loop(layer, x, routing) + told)


@pytest.mark.equation("mixture-of-experts-noise")
def test_noise_has_the_learned_spread_and_is_there_in_training_alone():
    layer = made(6, 10, 3, 1, noisy=True)
    assert torch.equal(layer.noise.weight, torch.zeros(3, 6, dtype=torch.float64))
    nn.init.normal_(layer.noise.weight)
    x = torch.randn(1, 6, dtype=torch.float64)
    plain = x @ layer.router.weight.T
    drawn = layer.route(x.expand(40_000, 6)).logits - plain
    wanted = (1 + (x @ layer.noise.weight.T).exp()).log()[0]
    torch.testing.assert_close(drawn.std(0), wanted, rtol=0.03, atol=0)
    same(drawn.mean(0) / wanted, torch.zeros(3, dtype=torch.float64), atol=0.03)
    same(layer.eval().route(x).logits, plain)


def test_the_router_may_read_something_else():
    layer = made(6, 10, 4, 1, router_dim=3)
    x, read = torch.randn(2, 5, 6).double(), torch.randn(2, 5, 3).double()
    y, routing = layer.routed(x, read)
    assert torch.equal(routing.experts[:, 0], (read.view(10, 3) @ layer.router.weight.T).argmax(-1))
    same(y.view(10, 6), by_loop(layer, x.view(10, 6), routing))
    with refuses(ValueError, "read must be given: router_dim=3, x has width 6"):
        layer(x)
    with refuses(ValueError, "read must have x's shape but for the width"):
        layer(x, read[:1])


# ---------------------------------------------------------------------------------------- capacity
@pytest.mark.equation("mixture-of-experts-capacity")
@pytest.mark.parametrize("factor", [0.3, 0.5, 1.0, 1.25, 2.0, 9.0])
@pytest.mark.parametrize(("m", "k"), [(4, 1), (4, 2), (7, 3)])
def test_who_comes_too_late_is_dropped(factor, m, k):
    layer = made(6, 10, m, k, capacity_factor=factor)
    x = torch.randn(13, 6, dtype=torch.float64)
    y, routing = layer.routed(x)
    places = min(13, math.ceil(factor * k * 13 / m))
    assert layer.capacity(13) == places
    taken = [0] * m
    for choice in range(k):  # first choices first, then in the order of the text
        for t in range(13):
            i = int(routing.experts[t, choice])
            assert bool(routing.kept[t, choice]) == (taken[i] < places)
            taken[i] += 1
    free = made(6, 10, m, k)  # the same weights, no limit
    same(routing.weights, torch.where(routing.kept, free.route(x).weights, 0))
    same(y, by_loop(layer, x, routing))
    if factor == 9.0:
        assert routing.kept.all()
        same(y, free(x))


def test_a_token_that_is_dropped_everywhere_gets_nothing_and_has_no_slope():
    layer = made(6, 10, 4, 1, capacity_factor=1.0)
    x = torch.randn(1, 6, dtype=torch.float64).expand(8, 6).clone().requires_grad_()
    y, routing = layer.routed(x)
    assert routing.kept[:, 0].tolist() == [True] * 2 + [False] * 6  # all want the same expert
    assert bool((y[:2] != 0).all()) and bool((y[2:] == 0).all())
    (slope,) = torch.autograd.grad(y.sum(), x)
    assert bool((slope[2:] == 0).all()) and bool((slope[:2] != 0).any())


def test_capacity_makes_a_token_depend_on_those_before_it():
    x = torch.randn(1, 6, dtype=torch.float64)
    crowd = torch.cat([x.expand(7, 6), x])
    for factor, alike in ((None, True), (1.0, False)):
        layer = made(6, 10, 4, 1, capacity_factor=factor)
        assert torch.allclose(layer(crowd)[-1], layer(x)[0]) == alike


# ------------------------------------------------------------------------------------- the product
@pytest.mark.equation("mixture-of-experts-grouped")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize(("i", "o"), [(8, 16), (8, 5), (3, 8), (1, 1)])
def test_a_grouped_product_is_one_product_for_each_run(i, o, dtype):
    torch.manual_seed(0)
    ends = torch.tensor([0, 2, 2, 7, 9, 9], dtype=torch.int32)  # three of six are empty
    x = torch.randn(9, i, dtype=dtype, requires_grad=True)
    weight = torch.randn(6, o, i, dtype=dtype, requires_grad=True)
    numbers = torch.tensor([1, 1, 3, 3, 3, 3, 3, 4, 4])
    wanted = torch.einsum("noi,ni->no", weight.double()[numbers], x.double())
    loose = 0.1 if dtype == torch.bfloat16 else 1e-5
    y = grouped_linear(x, weight, ends)
    same(y.double(), wanted, atol=loose)
    for push in (torch.ones(()).expand(9, o), torch.randn(9, o)):  # expanded, too
        got = torch.autograd.grad(y, (x, weight), push.to(dtype), retain_graph=True)
        told = torch.autograd.grad(wanted, (x, weight), push.double(), retain_graph=True)
        for a, b in zip(got, told, strict=True):
            same(a.double(), b.double(), atol=2 * loose)


def test_both_ways_to_multiply_are_equal():
    """torch's own, where it can, and ours, which a compiler and float64 take."""
    torch.manual_seed(0)
    x, weight = torch.randn(40, 16, requires_grad=True), torch.randn(3, 8, 16, requires_grad=True)
    ends = torch.tensor([10, 10, 40], dtype=torch.int32)
    first, second = grouped_linear(x, weight, ends), torch.ops.nnlib.grouped_linear(x, weight, ends)
    same(first, second, atol=1e-5)
    pairs = [torch.autograd.grad(y.square().sum(), (x, weight)) for y in (first, second)]
    same(pairs[0], pairs[1], atol=1e-4)
    torch.library.opcheck(
        torch.ops.nnlib.grouped_linear.default, (x.double(), weight.double(), ends)
    )


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 40), st.integers(1, 9), st.data())
def test_sorting_loses_no_token_and_mixes_none_up(n, m, data):
    k = data.draw(st.integers(1, m))
    layer = made(4, 3, m, k, seed=n)
    x = torch.randn(n, 4, dtype=torch.float64)
    y, routing = layer.routed(x)
    assert y.shape == x.shape
    if n:
        same(y, by_loop(layer, x, routing))
        same(routing.load().sum(), torch.ones((), dtype=torch.float64))


# -------------------------------------------------------------------------------------- the slopes
@pytest.mark.equation("mixture-of-experts-gradient")
def test_a_logit_moves_with_what_its_expert_has_over_the_mixture():
    layer = made(6, 10, 5, 2)
    x, push = torch.randn(1, 6, dtype=torch.float64), torch.randn(6, dtype=torch.float64)
    y, routing = layer.routed(x)
    (slope,) = torch.autograd.grad(y[0] @ push, routing.logits)
    wanted = torch.zeros(5, dtype=torch.float64)
    for i, w in zip(routing.experts[0], routing.weights[0], strict=True):
        wanted[i] = w * push @ (expert(layer, int(i), x[0]) - y[0])
    same(slope[0], wanted)


def test_a_renormalised_single_expert_teaches_the_router_nothing():
    x = torch.randn(9, 6, dtype=torch.float64)
    for renormalize, learns in ((True, False), (False, True)):
        layer = made(6, 10, 4, 1, renormalize=renormalize)
        layer(x).square().sum().backward()
        assert bool((layer.router.weight.grad.abs() > 1e-9).any()) == learns


def test_slopes_are_those_of_finite_differences():
    for options in ({}, {"capacity_factor": 0.7}, {"num_shared_experts": 1, "shared_gate": True}):
        layer = made(4, 3, 4, 2, **options)
        x = torch.randn(6, 4, dtype=torch.float64, requires_grad=True)
        assert torch.autograd.gradcheck(layer, (x,))
        parameters = dict(layer.named_parameters())

        def of(*values, layer=layer, names=tuple(parameters), x=x):
            return torch.func.functional_call(
                layer, dict(zip(names, values, strict=True)), (x.detach(),)
            )

        assert torch.autograd.gradcheck(of, tuple(parameters.values()))


# -------------------------------------------------------------------------------------- the losses
@pytest.mark.equation("mixture-of-experts-balance")
@pytest.mark.parametrize("k", [1, 2, 3])
def test_the_balance_loss_counts_choices_and_averages_probabilities(k):
    layer = made(6, 10, 5, k)
    routing = layer.route(torch.randn(30, 6, dtype=torch.float64))
    f = [sum(int((row == i).any()) for row in routing.experts) / 30 for i in range(5)]
    P = [sum(float(row[i]) for row in routing.probabilities.detach()) / 30 for i in range(5)]
    same(balance_loss(routing), number(5 * sum(a * b for a, b in zip(f, P, strict=True))))
    assert math.isclose(sum(f), k)


@pytest.mark.equation("mixture-of-experts-balance-gradient")
def test_the_balance_loss_lowers_the_logits_of_experts_that_are_chosen_much():
    layer = made(6, 10, 4, 2)
    routing = layer.route(torch.randn(30, 6, dtype=torch.float64))
    (slope,) = torch.autograd.grad(balance_loss(routing), routing.logits)
    f, p = 2 * routing.load(), routing.probabilities
    same(slope, 4 / 30 * p * (f - (p @ f)[:, None]))


def test_balance_is_k_when_even_and_m_when_one_expert_has_all():
    def of(probabilities, experts):
        p = torch.tensor(probabilities)
        e = torch.tensor(experts)
        return balance_loss(Routing(p.log(), p, e, torch.ones(e.shape), e >= 0)).item()

    assert math.isclose(of([[0.25] * 4] * 4, [[0], [1], [2], [3]]), 1.0)
    assert math.isclose(of([[0.25] * 4] * 2, [[0, 1], [2, 3]]), 2.0)
    assert math.isclose(of([[1.0, 0, 0, 0]] * 3, [[0]] * 3), 4.0)
    # below 1 where choices and probabilities disagree: it is no bound
    near = [[0.3, 0.28, 0.21, 0.21]] * 2 + [[0.1, 0.1, 0.4, 0.4]] * 0
    assert of([*near, [0.02, 0.32, 0.33, 0.33]], [[0], [0], [3]]) < 1.0


def test_padding_counts_for_nothing():
    layer = made(6, 10, 4, 2)
    x = torch.randn(20, 6, dtype=torch.float64)
    real = torch.rand(20) < 0.6
    whole, part = layer.route(x), layer.route(x[real])
    for loss in (balance_loss, router_z_loss):
        same(loss(whole, real), loss(part))
        same(loss(whole, torch.ones(20, dtype=torch.bool)), loss(whole))


@pytest.mark.equation("mixture-of-experts-z")
def test_the_z_loss_is_the_mean_square_of_the_log_of_the_normaliser():
    layer = made(6, 10, 4, 2)
    routing = layer.route(torch.randn(9, 6, dtype=torch.float64))
    logs = [math.log(sum(math.exp(v) for v in row)) for row in routing.logits.tolist()]
    same(router_z_loss(routing), number(sum(v * v for v in logs) / 9))
    huge = Routing(torch.full((2, 3), 1e4), *routing[1:])
    assert router_z_loss(huge).isfinite()


@pytest.mark.equation("mixture-of-experts-bias")
def test_the_bias_decides_who_is_chosen_and_not_how_much_they_weigh():
    layer = made(6, 10, 4, 2, score="sigmoid", balance_bias=True)
    x = torch.randn(30, 6, dtype=torch.float64)
    before = layer.route(x)
    layer.choice_bias.copy_(torch.tensor([9.0, 0, 0, 0]))
    after = layer.route(x)
    assert bool((after.experts[:, 0] == 0).all())
    scores = after.logits.sigmoid().gather(-1, after.experts)
    same(after.weights, scores / scores.sum(-1, keepdim=True))
    others = before.logits.sigmoid()[:, 1:].argmax(-1) + 1
    assert torch.equal(after.experts[:, 1], others)
    assert "choice_bias" in layer.state_dict()


@pytest.mark.equation("mixture-of-experts-bias-step")
def test_the_bias_rises_for_those_with_less_than_their_share():
    layer = made(6, 10, 4, 1, balance_bias=True)
    counts = [5, 3, 1, 3]  # of 12: the fair share is 3
    experts = torch.tensor([i for i, c in enumerate(counts) for _ in range(c)])[:, None]
    p = torch.full((12, 4), 0.25)
    layer.adjust_bias(Routing(p.log(), p, experts, torch.ones(12, 1), experts >= 0), rate=0.01)
    same(layer.choice_bias, number([-0.01, 0, 0.01, 0]))


def test_the_bias_evens_out_a_router_that_does_not_learn():
    layer = made(6, 10, 4, 1, balance_bias=True, spread=2.0)
    with torch.no_grad():
        layer.router.weight[0] += 1.0
    x = torch.randn(4000, 6, dtype=torch.float64) + 0.5
    first = layer.route(x).load()
    for _ in range(600):
        layer.adjust_bias(layer.route(x), rate=0.005)
    last = layer.route(x).load()
    assert float(first.max()) > 0.35
    assert float((last - 0.25).abs().max()) < 0.03


@pytest.mark.equation("mixture-of-experts-expert-choice")
def test_an_expert_takes_the_tokens_that_want_it_most():
    z = torch.randn(10, 3, dtype=torch.float64)
    tokens, weights = expert_choice(z, places=4)
    p = torch.tensor([[math.exp(v) / sum(map(math.exp, row)) for v in row] for row in z.tolist()])
    for i in range(3):
        best = sorted(range(10), key=lambda t: -p[t, i])[:4]
        assert tokens[i].tolist() == best
        same(weights[i], p[best, i].double(), atol=1e-6)
    with refuses(ValueError, "places=11 is more than the 10 tokens there are"):
        expert_choice(z, 11)


def test_routings_of_all_layers_are_collected_and_only_inside():
    model = nn.Sequential(made(4, 3, 4), nn.Sequential(made(4, 3, 5, 1)))
    x = torch.randn(6, 4, dtype=torch.float64)
    with recorded(model) as routings:
        model(x)
    model(x)
    assert [routing.logits.shape for routing in routings] == [(6, 4), (6, 5)]
    with pytest.raises(ArithmeticError), recorded(model):
        raise ArithmeticError
    assert all(layer._heard is None for layer in (model[0], model[1][0]))
    with refuses(TypeError, "model must be a torch.nn.Module, got int"), recorded(3):
        pass


# ------------------------------------------------------------------------------------ the parities
def config_of(kind: str, at: int, **more):
    """A configuration of transformers, two shapes each."""
    m, k, e, f = ((4, 2, 16, 24), (9, 3, 24, 20))[at]
    sizes = {
        "hidden_size": e, "num_experts_per_tok": k, "num_attention_heads": 4,
        "num_key_value_heads": 2, "num_hidden_layers": 2, "vocab_size": 40,
        "max_position_embeddings": 32,
    }  # fmt: skip
    given = {
        "mixtral": ("MixtralConfig", {"num_local_experts": m, "intermediate_size": f}),
        "olmoe": ("OlmoeConfig", {"num_experts": m, "intermediate_size": f,
                                  "norm_topk_prob": bool(at)}),
        "qwen2_moe": ("Qwen2MoeConfig", {"num_experts": m, "moe_intermediate_size": f,
                                         "norm_topk_prob": bool(at),
                                         "shared_expert_intermediate_size": (1 + at) * f}),
        "qwen3_moe": ("Qwen3MoeConfig", {"num_experts": m, "moe_intermediate_size": f,
                                         "norm_topk_prob": not at}),
        "deepseek_v3": ("DeepseekV3Config", {
            "n_routed_experts": m, "moe_intermediate_size": f, "n_shared_experts": 1 + at,
            "n_group": 1, "topk_group": 1, "norm_topk_prob": not at}),
    }[kind]  # fmt: skip
    name, own = given
    return getattr(transformers, name)(**{**sizes, **own, **more})


BLOCKS = {
    "mixtral": "MixtralSparseMoeBlock",
    "olmoe": "OlmoeSparseMoeBlock",
    "qwen2_moe": "Qwen2MoeSparseMoeBlock",
    "qwen3_moe": "Qwen3MoeSparseMoeBlock",
    "deepseek_v3": "DeepseekV3MoE",
}


def block_of(kind: str, at: int, **more) -> nn.Module:
    """A sparse block of transformers with random weights."""
    config = config_of(kind, at, **more)
    module = getattr(transformers.models, kind)
    torch.manual_seed(at)
    name = f"modeling_{kind}"
    block = getattr(getattr(module, name), BLOCKS[kind])(config)
    for parameter in [*block.parameters(), *block.buffers()]:
        nn.init.normal_(parameter, std=0.2)
    return block


@pytest.mark.parametrize("at", range(2))
@pytest.mark.parametrize("kind", BLOCKS)
def test_outputs_logits_and_slopes_are_those_of_transformers(kind, at):
    theirs = block_of(kind, at)
    ours = MixtureOfExperts.from_hugging_face(theirs)
    assert not ours.training
    x = torch.randn(2, 7, ours.in_proj.shape[-1])
    mine, other = x.clone().requires_grad_(), x.clone().requires_grad_()
    y, routing = ours.routed(mine)
    z = theirs(other)
    same(y, z, atol=1e-5)
    logits, weights, experts = theirs.gate(x.view(14, -1))
    same(routing.logits, logits, atol=1e-5)
    order = experts.argsort(-1)
    assert torch.equal(routing.experts.sort(-1).values, experts.gather(-1, order))
    same(routing.weights.gather(-1, routing.experts.argsort(-1)), weights.gather(-1, order), 1e-5)
    push = torch.randn_like(y)
    (y * push).sum().backward()
    (z * push).sum().backward()
    same(mine.grad, other.grad, atol=1e-4)
    same(ours.router.weight.grad, theirs.gate.weight.grad, atol=1e-4)
    same(ours.in_proj.grad, theirs.experts.gate_up_proj.grad, atol=1e-4)
    same(ours.out_proj.grad, theirs.experts.down_proj.grad, atol=1e-4)


@pytest.mark.parametrize("padded", [False, True])
def test_the_balance_loss_is_that_of_transformers(padded):
    theirs = transformers.models.mixtral.modeling_mixtral.load_balancing_loss_func
    block = block_of("mixtral", 1)
    routing = MixtureOfExperts.from_hugging_face(block).route(torch.randn(12, 24))
    mask = torch.arange(6) < torch.tensor([[4], [6]]) if padded else None
    told = theirs((routing.logits,), 9, 3, None if mask is None else mask.long())
    same(balance_loss(routing, None if mask is None else mask.flatten()), told, atol=1e-6)


def test_published_files_have_one_tensor_for_each_expert_and_matrix():
    block = block_of("mixtral", 0)
    tensors = {"gate.weight": block.gate.weight}
    for i in range(4):
        gate, up = block.experts.gate_up_proj[i].chunk(2)
        parts = {"w1": gate, "w3": up, "w2": block.experts.down_proj[i]}
        tensors |= {f"experts.{i}.{name}.weight": part for name, part in parts.items()}
    ours = MixtureOfExperts.from_hugging_face((tensors, config_of("mixtral", 0)))
    x = torch.randn(5, 16)
    same(ours(x), block(x[None])[0], atol=1e-5)
    del tensors["experts.2.w3.weight"]
    with refuses(ValueError, "lacks ['experts.2.w3.weight']"):
        MixtureOfExperts.from_hugging_face((tensors, config_of("mixtral", 0)))


def test_what_ours_lacks_is_refused_by_name():
    load = MixtureOfExperts.from_hugging_face
    with refuses(ValueError, "model_or_path must be one of ['MixtralSparseMoeBlock'"):
        load(nn.Linear(2, 2))
    with refuses(TypeError, "got int"):
        load(3)
    with refuses(ValueError, "router_jitter_noise=0.1, it must be 0.0"):
        load(block_of("mixtral", 0, router_jitter_noise=0.1))
    with refuses(ValueError, "hidden_act='GELUActivation', it must be 'silu'"):
        load(block_of("mixtral", 0, hidden_act="gelu"))
    with refuses(ValueError, "topk_group=1, it must be n_group=3"):
        load(block_of("deepseek_v3", 1, n_group=3))
    block = block_of("mixtral", 0)
    with refuses(ValueError, "a configuration without num_experts_per_tok"):
        load((block.state_dict(), {"model_type": "mixtral"}))
    with refuses(ValueError, "must be of a model of type ['mixtral'"):
        load((block.state_dict(), {"model_type": "llama"}))
    said = {"model_type": "mixtral", "num_experts_per_tok": 2}
    with refuses(ValueError, "extra: odd"):
        load((block.state_dict() | {"odd": torch.ones(2)}, said))
    with refuses(ValueError, "lacks the tensors ['gate.weight']"):
        load(({n: v for n, v in block.state_dict().items() if n != "gate.weight"}, said))
    with refuses(ValueError, "top_k=5 is more than num_experts=4"):
        load((block.state_dict(), said | {"num_experts_per_tok": 5}))
    with refuses(
        ValueError, "a shared expert of width 25, it must be a multiple of the others' 24"
    ):
        load(block_of("qwen2_moe", 0, shared_expert_intermediate_size=25))


def test_an_llm_with_experts_gives_the_logits_of_mixtral():
    torch.manual_seed(0)
    config = config_of("mixtral", 0, sliding_window=None)
    theirs = transformers.MixtralForCausalLM(config).eval()
    tensors = {n: v for n, v in theirs.state_dict().items() if ".mlp." not in n}
    for at in range(2):  # places that the experts will take
        for part, shape in {"gate": (24, 16), "up": (24, 16), "down": (16, 24)}.items():
            tensors[f"model.layers.{at}.mlp.{part}_proj.weight"] = torch.zeros(shape)
    llm = LLM.from_hugging_face((tensors, config.to_dict() | {"model_type": "mistral"}))
    for ours, block in zip(llm.layers, theirs.model.layers, strict=True):
        ours.network = MixtureOfExperts.from_hugging_face(block.mlp)
    ids = torch.randint(40, (2, 9))
    same(llm(ids), theirs(ids).logits, atol=1e-5)
    kwargs = {"max_new_tokens": 6, "do_sample": False, "eos_token_id": None, "pad_token_id": 0}
    told = theirs.generate(ids, attention_mask=torch.ones_like(ids), **kwargs)
    assert torch.equal(llm.generate(ids, 6, temperature=0), told)
    counted = moe_parameters(40, 16, 2, 4, 2, 4, 24, 4, 2)
    assert counted.total == parameter_count(llm) == parameter_count(theirs)


# ---------------------------------------------------------------------------------------- counting
@pytest.mark.equation("mixture-of-experts-parameters")
def test_mixtrals_weights_total_and_active():
    small = moe_parameters(32000, 4096, 32, 32, 8, 128, 14336, 8, 2)
    assert small == (46_702_792_704, 12_879_925_248)
    large = moe_parameters(32768, 6144, 56, 48, 8, 128, 16384, 8, 2)
    with torch.device("meta"):
        theirs = transformers.MixtralForCausalLM(
            transformers.MixtralConfig(
                vocab_size=32768, hidden_size=6144, num_hidden_layers=56, num_attention_heads=48,
                intermediate_size=16384,
            )
        )  # fmt: skip
    assert large.total == sum(p.numel() for p in theirs.parameters())
    idle = 6 * sum(p.numel() // 8 for n, p in theirs.named_parameters() if ".experts." in n)
    assert large.active == large.total - idle


def test_one_expert_is_an_llm_and_a_router_without_a_choice():
    one = moe_parameters(40, 16, 2, 4, 2, 4, 24, 1, 1)
    assert one.total == one.active == parameter_count(LLM(40, 16, 4, 2, 8, num_kv_heads=2,
                                                          dim_feedforward=24)) + 2 * 16  # fmt: skip
    more = moe_parameters(40, 16, 2, 4, 2, 4, 24, 5, 2, num_shared_experts=1)
    assert more.total - more.active == 2 * 3 * 3 * 16 * 24  # three idle experts in two blocks


@pytest.mark.equation("mixture-of-experts-read")
@pytest.mark.parametrize(("m", "k", "batch"), [(4, 1, 3), (4, 2, 3), (5, 2, 2), (3, 3, 2)])
def test_how_many_experts_a_batch_reads_over_all_ways_to_choose(m, k, batch):
    ways = list(itertools.combinations(range(m), k))
    read = [len(set().union(*choice)) for choice in itertools.product(ways, repeat=batch)]
    assert math.isclose(sum(read) / len(read), m * (1 - (1 - k / m) ** batch))


PUBLISHED = {  # configurations as published, and the chapter's counts
    "olmoe": ({"intermediate_size": 1024}, 6_919_161_856, 1_282_017_280),
    "qwen3_moe": ({"num_hidden_layers": 48, "head_dim": 128}, 30_532_122_624, 3_353_032_704),
    "gpt_oss": ({"num_hidden_layers": 24, "num_local_experts": 32}, 20_914_757_184, 4_187_440_704),
    "deepseek_v3": ({}, 671_026_404_352, 37_552_282_624),
}


@pytest.mark.parametrize("kind", PUBLISHED)
def test_the_chapters_counts_are_those_of_transformers(kind):
    told, total, active = PUBLISHED[kind]
    name = {"olmoe": "Olmoe", "qwen3_moe": "Qwen3Moe", "gpt_oss": "GptOss"}.get(kind, "DeepseekV3")
    config = getattr(transformers, f"{name}Config")(**told)
    with torch.device("meta"):
        model = getattr(transformers, f"{name}ForCausalLM")(config)
    assert sum(p.numel() for p in model.parameters()) == total
    m, k = config.num_local_experts, config.num_experts_per_tok
    routed = sum(p.numel() for n, p in model.named_parameters() if ".experts." in n)
    assert total - routed + routed // m * k == active


# --------------------------------------------------------------------------------------- bad input
def test_bad_input_is_refused_by_name():
    with refuses(ValueError, "top_k=5 is more than num_experts=4"):
        MixtureOfExperts(8, 12, 4, top_k=5)
    with refuses(ValueError, "top_k=0 must be an integer ≥ 1"):
        MixtureOfExperts(8, 12, 4, top_k=0)
    with refuses(ValueError, "shared_gate=True needs num_shared_experts ≥ 1"):
        MixtureOfExperts(8, 12, 4, shared_gate=True)
    with refuses(ValueError, "capacity_factor=0 must be a finite number > 0"):
        MixtureOfExperts(8, 12, 4, capacity_factor=0)
    with refuses(ValueError, "score='linear' must be one of ['softmax', 'sigmoid']"):
        MixtureOfExperts(8, 12, 4, score="linear")
    with refuses(ValueError, "activation='swish' must be one of"):
        MixtureOfExperts(8, 12, 4, activation="swish")
    layer = MixtureOfExperts(8, 12, 4)
    with refuses(ValueError, "x must have shape (…, 8), got (2, 7)"):
        layer(torch.zeros(2, 7))
    with refuses(TypeError, "x must be floating point"):
        layer(torch.zeros(2, 8, dtype=torch.int64))
    routing = layer.route(torch.zeros(2, 8))
    with refuses(RuntimeError, "make it with balance_bias=True"):
        layer.adjust_bias(routing)
    with refuses(ValueError, "routing must be of 3 experts, got 4"):
        MixtureOfExperts(8, 12, 3, balance_bias=True).adjust_bias(routing)
    with refuses(TypeError, "routing must be a Routing, got Tensor"):
        balance_loss(torch.zeros(2, 4))
    with refuses(ValueError, "key_mask must have shape (2)"):
        balance_loss(routing, torch.ones(3, dtype=torch.bool))
    ends = torch.tensor([2, 1], dtype=torch.int32)
    with refuses(ValueError, "ends must rise from 0 to 2, got [2, 1]"):
        grouped_linear(torch.zeros(2, 8), torch.zeros(2, 3, 8), ends)
    with refuses(TypeError, "ends must hold int32"):
        grouped_linear(torch.zeros(2, 8), torch.zeros(1, 3, 8), torch.tensor([2]))


def test_an_empty_batch_and_halves():
    layer = MixtureOfExperts(8, 16, 4)
    for options in ({}, {"capacity_factor": 1.0}):
        assert MixtureOfExperts(8, 16, 4, **options)(torch.zeros(0, 8)).shape == (0, 8)
    half = MixtureOfExperts(8, 16, 4, dtype=torch.bfloat16)
    half.load_state_dict(layer.state_dict())
    x = torch.randn(5, 8)
    y, routing = half.routed(x.bfloat16())
    assert y.dtype == torch.bfloat16 and routing.logits.dtype == torch.float32
    assert torch.equal(routing.experts, half.float().route(x.bfloat16().float()).experts)
