"""Losses against trl's and loops, optima against closed forms, brute force and sampling."""

import copy
import itertools
import math
import statistics
from collections import defaultdict
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from nnlib.attention.gpt import GPT
from nnlib.language.alignment import (
    RewardModel,
    answer_advantages,
    answer_log_probs,
    best_of_n_kl,
    best_of_n_policy,
    chat_tokens,
    dpo_loss,
    grpo_advantages,
    grpo_loss,
    ipo_loss,
    kl_divergence,
    kl_estimate,
    kto_loss,
    optimal_policy,
    orpo_loss,
    ppo_loss,
    preference_probability,
    reward_loss,
    sft_loss,
    sft_loss_of_logits,
    token_log_probs,
    token_rewards,
    value_loss,
)
from nnlib.language.llm import LLM, next_token_loss
from tests.support import Example, Peer, refuses

transformers = Peer("transformers")
dpo = Peer("trl.trainer.dpo_trainer")
grpo = Peer("trl.trainer.grpo_trainer")
kto = Peer("trl.trainer.kto_trainer")
reward = Peer("trl.trainer.reward_trainer")
orpo = Peer("trl.experimental.orpo.orpo_trainer")
utils = Peer("trl.trainer.utils")

B, T, V = 6, 9, 11


def example() -> Example:
    """What the contract runs: see `tests/test_contract.py`."""
    four = tuple(-torch.rand(5) * 9 for _ in range(4))
    return Example({}, four, {"beta": 0.3, "reduction": "none"})


def dice(seed=0):
    return torch.Generator().manual_seed(seed)


def drawn(*shape, seed=0):
    return torch.randn(*shape, generator=dice(seed), dtype=torch.float64)


def answers(seed=0):
    """Tokens, and a mask of answers of different lengths between prompt and padding."""
    ids = torch.randint(V, (B, T), generator=dice(seed))
    begin = torch.tensor([1, 2, 3, 1, 4, 2])[:, None]
    end = torch.tensor([9, 5, 4, 8, 7, 6])[:, None]
    place = torch.arange(T)
    return ids, (place >= begin) & (place < end)


def tokens_of(*seeds):
    """Log-probabilities of tokens, and the mask of those that answers predict."""
    mask = answers()[1][:, 1:]
    return *(-drawn(B, T - 1, seed=seed).exp() for seed in seeds), mask


def bandit(size=7, seed=0):
    return drawn(size, seed=seed).log_softmax(-1), 2 * drawn(size, seed=seed + 50)


# ------------------------------------------------------------------------------------ SFT, and chat
@pytest.mark.equation("alignment-sft")
def test_sft_is_the_mean_surprise_of_the_answers_tokens():
    ids, answer = answers()
    logits = drawn(B, T, V)
    lost = [
        -logits[row, t - 1].log_softmax(-1)[ids[row, t]]
        for row, t in itertools.product(range(B), range(T))
        if answer[row, t]
    ]
    torch.testing.assert_close(sft_loss_of_logits(logits, ids, answer), torch.stack(lost).mean())
    each = answer_log_probs(logits, ids, answer)
    torch.testing.assert_close(each.sum(), -torch.stack(lost).sum())


@pytest.mark.equation("alignment-sft")
@pytest.mark.parametrize("kind", [GPT, LLM])
def test_sft_is_its_readable_twin_and_of_a_whole_text_pretraining(kind):
    torch.manual_seed(0)
    model = kind(V, 8, 2, num_layers=1, max_length=T).double()
    ids, answer = answers()
    loss, twin = sft_loss(model, ids, answer), sft_loss_of_logits(model(ids), ids, answer)
    torch.testing.assert_close(loss, twin)
    wanted = torch.autograd.grad(twin, list(model.parameters()))
    torch.testing.assert_close(torch.autograd.grad(loss, list(model.parameters())), wanted)
    everything = torch.arange(T).expand(B, T) > 0
    torch.testing.assert_close(sft_loss(model, ids, everything), next_token_loss(model, ids))


def test_sft_sends_no_gradient_to_what_predicts_the_prompt_or_padding():
    ids, answer = answers()
    logits = drawn(B, T, V).requires_grad_()
    sft_loss_of_logits(logits, ids, answer).backward()
    reached = logits.grad.abs().sum(-1) > 0
    assert torch.equal(reached[:, :-1], answer[:, 1:])
    assert not reached[:, -1].any()


CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\\n' }}"
    "{% if m['role'] == 'assistant' %}{% generation %}{{ m['content'] + '<|im_end|>' }}"
    "{% endgeneration %}{% else %}{{ m['content'] + '<|im_end|>' }}{% endif %}{{ '\\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)


@pytest.fixture(scope="module")
def tokenizer():
    """A tokenizer of characters, with the two markers as one token each."""
    tokenizers = pytest.importorskip("tokenizers")
    names = ["<|im_start|>", "<|im_end|>", *map(chr, range(32, 127)), "\n"]
    inner = tokenizers.Tokenizer(
        tokenizers.models.WordLevel({n: i for i, n in enumerate(names)}, unk_token="?")
    )
    inner.pre_tokenizer = tokenizers.pre_tokenizers.Split("", "isolated")
    inner.add_special_tokens(names[:2])
    return transformers.PreTrainedTokenizerFast(tokenizer_object=inner, chat_template=CHATML)


@pytest.mark.parametrize("reply", [False, True])
def test_a_chat_is_what_transformers_makes_of_its_template(tokenizer, reply):
    told = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "2 + 2?"},
        {"role": "assistant", "content": "4"},
        {"role": "user", "content": "And 3 + 3?"},
        {"role": "assistant", "content": "6.\nReally."},
    ]
    told = told[:-1] if reply else told
    wanted = tokenizer.apply_chat_template(
        told, return_dict=True, return_assistant_tokens_mask=True, add_generation_prompt=reply
    )
    ids, learned = chat_tokens(told, tokenizer.encode, reply=reply)
    assert ids.tolist() == wanted["input_ids"]
    assert learned.int().tolist() == wanted["assistant_masks"]
    assert not learned[0], "the first token cannot be learned, and sft_loss refuses it"


# ------------------------------------------------------------------------------------- comparisons
@pytest.mark.equation("alignment-bradley-terry", "alignment-reward-loss")
def test_a_preference_is_bradley_and_terrys_and_its_loss_torchs():
    r_w, r_l = drawn(40), drawn(40, seed=1)
    strength = r_w.exp(), r_l.exp()
    p = preference_probability(r_w, r_l)
    torch.testing.assert_close(p, strength[0] / (strength[0] + strength[1]))
    torch.testing.assert_close(p + preference_probability(r_l, r_w), torch.ones(40).double())
    wanted = F.binary_cross_entropy_with_logits(r_w - r_l, torch.ones(40).double())
    torch.testing.assert_close(reward_loss(r_w, r_l), wanted)
    torch.testing.assert_close(reward_loss(r_w, r_l + 0.7), reward_loss(r_w, r_l, margin=0.7))


@pytest.mark.equation("alignment-reward-loss")
def test_the_reward_loss_is_trls():
    r_w, r_l = drawn(8), drawn(8, seed=1)
    scores = torch.cat([r_w, r_l])[:, None]
    given_ = {"attention_mask": torch.ones(16, 3), "margin": torch.full((8,), 0.3).double()}

    def their_model(**_):
        return SimpleNamespace(logits=scores)

    trainer = _their(center=None)
    got = reward.RewardTrainer.compute_loss(trainer, their_model, given_)
    torch.testing.assert_close(got, reward_loss(r_w, r_l, margin=0.3))


@pytest.mark.equation("alignment-reward-loss")
def test_rewards_are_found_again_from_comparisons_up_to_a_constant():
    """The loss with the probabilities of Bradley and Terry as weights is least at their rewards."""
    truth = 2 * drawn(5)
    first, second = torch.triu_indices(5, 5, 1)
    often = preference_probability(truth[first], truth[second])
    learned = torch.zeros(5, dtype=torch.float64, requires_grad=True)
    fit = torch.optim.LBFGS([learned], max_iter=200, tolerance_grad=1e-12, tolerance_change=1e-16)

    def closure():
        fit.zero_grad()
        a, b = learned[first], learned[second]
        won = reward_loss(a, b, reduction="none") * often
        lost = reward_loss(b, a, reduction="none") * (1 - often)
        (loss := (won + lost).mean()).backward()
        return loss

    fit.step(closure)
    torch.testing.assert_close(learned - learned.mean(), truth - truth.mean(), atol=1e-5, rtol=0)


def test_a_pair_of_equal_answers_teaches_nothing():
    """Its loss is log 2 whatever the model is, and no gradient comes of it."""
    logits = drawn(B, T, V).requires_grad_()
    ids, answer = answers()
    same = answer_log_probs(logits, ids, answer)
    loss = dpo_loss(same, same, same.detach(), same.detach(), beta=0.5)
    assert loss.item() == pytest.approx(math.log(2))
    loss.backward()
    assert not logits.grad.any()
    assert reward_loss(same, same).item() == pytest.approx(math.log(2))


def test_log_of_a_tiny_probability_neither_overflows_nor_vanishes():
    far = torch.tensor([1e4])
    torch.testing.assert_close(reward_loss(-far, far), 2 * far[0])
    assert reward_loss(far, -far).item() == 0
    assert orpo_loss(-far, -far / 2).isfinite()
    near = torch.tensor([-1e-12], dtype=torch.float64)
    torch.testing.assert_close(
        orpo_loss(near, near * 2, 1.0), torch.tensor(math.log(1.5), dtype=torch.float64),
        atol=1e-6, rtol=0,
    )  # fmt: skip


@pytest.mark.equation("alignment-head")
@pytest.mark.parametrize("kind", [GPT, LLM])
def test_a_reward_is_read_at_the_last_token_whatever_the_padding(kind):
    torch.manual_seed(0)
    model = RewardModel(kind(V, 8, 2, num_layers=2, max_length=T)).double()
    ids, lengths = answers()[0], torch.tensor([9, 5, 4, 8, 7, 6])
    got = model(ids, lengths)
    for row, length in enumerate(lengths.tolist()):
        hidden = model.backbone.hidden(ids[row : row + 1, :length])[0, -1]
        wanted = (model.head.weight[0] * hidden).sum() + model.head.bias[0]
        torch.testing.assert_close(got[row], wanted)
        torch.testing.assert_close(model.values(ids)[row, length - 1], wanted)
    other = torch.where(torch.arange(T) < lengths[:, None], ids, (ids + 1) % V)
    torch.testing.assert_close(model(other, lengths), got)


# ---------------------------------------------------------------------------- what can be reached
@pytest.mark.equation("alignment-objective", "alignment-optimum", "alignment-best-value")
@given(st.integers(0, 10**6), st.floats(0.05, 20))
def test_no_policy_beats_the_closed_form(seed, beta):
    ref, rewards = bandit(seed=seed)

    def worth(log_p):
        return (log_p.exp() * rewards).sum(-1) - beta * kl_divergence(log_p, ref.expand_as(log_p))

    best = optimal_policy(ref, rewards, beta)
    by_hand = ref.exp() * (rewards / beta - (rewards / beta).max()).exp()
    torch.testing.assert_close(best.exp(), by_hand / by_hand.sum())
    log_z = torch.logsumexp(ref + rewards / beta, -1)
    torch.testing.assert_close(worth(best), beta * log_z)
    others = drawn(300, 7, seed=seed + 1).softmax(-1)
    for near in (1.0, 0.1, 0.01):
        mixed = (1 - near) * best.exp() + near * others
        assert (worth(mixed.log()) <= worth(best) + 1e-9).all()


def test_the_optimum_goes_from_the_reference_to_the_best_answer():
    ref, rewards = bandit()
    torch.testing.assert_close(optimal_policy(ref, rewards, 1e9), ref, atol=1e-7, rtol=0)
    greedy = optimal_policy(ref, rewards, 1e-3).exp()
    torch.testing.assert_close(greedy, F.one_hot(rewards.argmax(), 7).double())
    never = torch.cat([ref, ref.new_full((1,), -math.inf)]).log_softmax(-1)
    assert (
        optimal_policy(never, torch.cat([rewards, rewards.new_ones(1) * 99]), 0.1)[-1] == -math.inf
    )


@pytest.mark.equation("alignment-best-of-n")
@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("n", [1, 2, 3, 5])
def test_the_best_of_n_is_that_of_all_ways_to_draw(n, ties):
    ref, rewards = bandit(4)
    if ties:
        rewards[2] = rewards[0]
    p, wanted = ref.exp().tolist(), [0.0] * 4
    for draws in itertools.product(range(4), repeat=n):
        level = max(rewards[y].item() for y in draws)
        best = [y for y in draws if rewards[y] == level]
        for y in best:  # one of the best draws, at random
            wanted[y] += math.prod(p[d] for d in draws) / len(best)
    got = best_of_n_policy(ref, rewards, n).exp()
    torch.testing.assert_close(got, torch.tensor(wanted, dtype=torch.float64))


@pytest.mark.equation("alignment-bon-kl")
def test_the_kl_of_best_of_n_is_below_its_bound_and_reaches_it():
    for n, seed in itertools.product((1, 2, 4, 16, 64), range(20)):
        ref, rewards = bandit(seed=seed)
        away = kl_divergence(best_of_n_policy(ref, rewards, n), ref)
        assert away <= best_of_n_kl(n) + 1e-9
    many = torch.zeros(20_000, dtype=torch.float64).log_softmax(0)
    order = torch.randperm(20_000, generator=dice()).double()
    for n in (2, 4, 16):
        p = torch.diff((torch.arange(20_001, dtype=torch.float64) / 20_000) ** n)
        away = (p * (p * 20_000).log()).sum().item()
        assert away == pytest.approx(best_of_n_kl(n), abs=2e-3)
    few = slice(0, 400)  # the same through the function, which compares all with all
    away = kl_divergence(
        best_of_n_policy(many[few].log_softmax(0), order[few], 4), many[few].log_softmax(0)
    )
    assert away.item() == pytest.approx(best_of_n_kl(4), abs=0.02)


@pytest.mark.equation("alignment-goodhart")
def test_where_gao_and_others_curves_turn():
    """Both peaks by brute force over distances d, the square root of the KL."""
    d = torch.linspace(1e-3, 60, 600_001, dtype=torch.float64)
    for a, b in ((1.0, 0.1), (0.8, 0.25), (2.0, 0.3)):
        assert d[(d * (a - b * d)).argmax()].item() == pytest.approx(a / (2 * b), abs=1e-3)
    for a, b in ((1.0, 0.4), (0.8, 0.25), (0.6, 0.3)):
        top = d[(d * (a - b * d.log())).argmax()].item()
        assert top == pytest.approx(math.exp(a / b - 1), rel=1e-3)


# -------------------------------------------------------------------------------------------- DPO
@pytest.mark.equation("alignment-implied")
def test_the_optimum_implies_the_reward_up_to_a_constant():
    ref, rewards = bandit()
    for beta in (0.1, 1.0, 3.0):
        u = optimal_policy(ref, rewards, beta) - ref
        log_z = torch.logsumexp(ref + rewards / beta, -1)
        torch.testing.assert_close(beta * u + beta * log_z, rewards)


@pytest.mark.equation("alignment-dpo", "alignment-implied")
def test_dpo_with_everybodys_preferences_ends_at_the_closed_form():
    """No reward model and no sampling: gradient descent on the loss finds π_ref e^{r/β} / Z."""
    ref, rewards = bandit(5)
    beta = 0.7
    first, second = torch.triu_indices(5, 5, 1)
    often = preference_probability(rewards[first], rewards[second])
    logits = ref.clone().requires_grad_()
    fit = torch.optim.LBFGS([logits], max_iter=300, tolerance_grad=1e-12, tolerance_change=1e-16)

    def closure():
        fit.zero_grad()
        log_p = logits.log_softmax(-1)
        a, b, ra, rb = log_p[first], log_p[second], ref[first], ref[second]
        won = dpo_loss(a, b, ra, rb, beta, reduction="none") * often
        lost = dpo_loss(b, a, rb, ra, beta, reduction="none") * (1 - often)
        (loss := (won + lost).mean()).backward()
        return loss

    fit.step(closure)
    torch.testing.assert_close(
        logits.log_softmax(-1), optimal_policy(ref, rewards, beta), atol=1e-5, rtol=0
    )


@pytest.mark.equation("alignment-dpo-gradient")
def test_dpos_gradient_weighs_a_pair_by_how_wrong_the_implied_reward_is():
    log_p = [drawn(8, seed=s).requires_grad_() for s in range(2)]
    ref, beta = [drawn(8, seed=s) for s in (2, 3)], 0.4
    dpo_loss(*log_p, *ref, beta=beta, reduction="sum").backward()
    implied = [beta * (p.detach() - r) for p, r in zip(log_p, ref, strict=True)]
    weight = (implied[1] - implied[0]).sigmoid()
    torch.testing.assert_close(log_p[0].grad, -beta * weight)
    torch.testing.assert_close(log_p[1].grad, beta * weight)


class TheirModel:
    """Gives trl's trainers the log-probabilities of tokens, 0 where a label is −100, as theirs."""

    training = False

    def __init__(self, log_probs):
        self.log_probs = log_probs

    def __call__(self, **given_):
        labels = given_.get("labels")
        zero = torch.zeros_like(self.log_probs)
        kept = self.log_probs if labels is None else self.log_probs * (labels[:, 1:] != -100)
        return SimpleNamespace(log_probs=kept, entropy=zero, mean_logits=zero, is_top1=zero.bool())


def _their(center=None, **more):
    """What a trainer's loss asks of its trainer, and no trainer."""

    def same(value, **_):
        return value

    every = SimpleNamespace(
        device="cpu", gather=same, gather_for_metrics=same, reduce=same, sync_gradients=True
    )
    metrics = defaultdict(lambda: defaultdict(list))
    known = {
        "model": SimpleNamespace(training=False), "accelerator": every, "_metrics": metrics,
        "aux_loss_enabled": False, "_total_train_tokens": 0, "_tp_size": 1,
        "args": SimpleNamespace(
            center_rewards_coefficient=center, delta=None, use_bias_correction_kl=False
        ),
    }  # fmt: skip
    return SimpleNamespace(**known | more)


PAIRED = {
    "dpo": ("sigmoid", lambda *four: dpo_loss(*four, beta=0.3)),
    "ipo": ("ipo", lambda *four: ipo_loss(*four, beta=0.3)),
}


@pytest.mark.equation("alignment-dpo", "alignment-ipo")
@pytest.mark.parametrize("name", PAIRED)
def test_losses_of_pairs_are_trls(name):
    """Through token-level masks: the first half of a batch was chosen, the second rejected."""
    kind, ours = PAIRED[name]
    now, then, mask = tokens_of(1, 2)
    ids, answer = answers()
    their = _their(
        ld_alpha=None, precompute_ref_logps=True, f_divergence_type="reverse_kl", beta=0.3,
        loss_types=[kind], loss_weights=[1.0], label_smoothing=0.0, use_weighting=False,
    )  # fmt: skip
    ref = (then * mask).sum(1).chunk(2)
    inputs = {
        "input_ids": ids, "attention_mask": torch.ones_like(ids), "completion_mask": answer.long(),
        "ref_chosen_logps": ref[0], "ref_rejected_logps": ref[1],
    }  # fmt: skip
    wanted = dpo.DPOTrainer._compute_loss(their, TheirModel(now), inputs, False)
    per = answer.sum(1).double().chunk(2) if kind == "ipo" else (1.0, 1.0)
    policy = (now * mask).sum(1).chunk(2)
    four = [a / b for a, b in zip((*policy, *ref), (*per, *per), strict=True)]
    torch.testing.assert_close(ours(*four), wanted)


@pytest.mark.equation("alignment-kto")
def test_ktos_loss_is_trls():
    now, then, mask = tokens_of(1, 2)
    ids, answer = answers()
    good = torch.tensor([True, False, True, True, False, False])
    their = _their(
        beta=0.3, calculate_KL=True, precompute_ref_logps=True, loss_type="kto",
        desirable_weight=1.5, undesirable_weight=0.7,
        _compute_kl_logps=lambda *_: torch.full((B,), -2.0, dtype=torch.float64),
    )  # fmt: skip
    ref = (then * mask).sum(1)
    inputs = {
        "input_ids": ids, "attention_mask": torch.ones_like(ids), "completion_mask": answer.long(),
        "label": good, "ref_logps": ref, "ref_KL_logps": torch.full((B,), -2.5).double(),
    }  # fmt: skip
    wanted = kto.KTOTrainer._compute_loss(their, TheirModel(now), inputs, False)
    got = kto_loss((now * mask).sum(1) - ref, good, kl=0.5, beta=0.3, weights=(1.5, 0.7))
    torch.testing.assert_close(got, wanted[0] if isinstance(wanted, tuple) else wanted)


@pytest.mark.equation("alignment-orpo")
def test_orpos_penalty_is_trls_and_the_rest_is_sft():
    log_p = [-drawn(8, seed=s).abs() - 0.01 for s in range(2)]
    odds = [p.exp() / (1 - p.exp()) for p in log_p]
    by_hand = -log_p[0] - 0.3 * F.logsigmoid((odds[0] / odds[1]).log())
    torch.testing.assert_close(orpo_loss(*log_p, weight=0.3), by_hand.mean())
    theirs = orpo.ORPOTrainer.odds_ratio_loss(_their(beta=0.3), *log_p)[0]  # in float32
    got = orpo_loss(*log_p, weight=0.3, reduction="none") + log_p[0]
    torch.testing.assert_close(got.float(), -theirs, rtol=1e-5, atol=1e-5)


@pytest.mark.equation("alignment-simpo")
def test_simpo_is_the_reward_loss_of_mean_log_probabilities_with_a_margin():
    sums, lengths = (-drawn(2, 5).abs() * 9), torch.tensor([3.0, 9, 4, 7, 5])
    beta, margin = 2.0, 0.5
    means = sums / lengths
    by_hand = -((beta * (means[0] - means[1]) - margin).sigmoid()).log().mean()
    torch.testing.assert_close(reward_loss(beta * means[0], beta * means[1], margin), by_hand)


@pytest.mark.equation("alignment-ipo")
def test_ipo_stops_where_dpo_goes_on():
    """On one pair that is always labelled alike, DPO's lead grows for ever and IPO's is 1/(2β)."""
    ref, beta = torch.full((2,), 0.5, dtype=torch.float64).log(), 0.5
    leads = {}
    for name, loss in (("dpo", dpo_loss), ("ipo", ipo_loss)):
        logits = torch.zeros(2, dtype=torch.float64, requires_grad=True)
        descent = torch.optim.SGD([logits], lr=0.2)
        for _ in range(200):
            log_p = logits.log_softmax(-1)
            descent.zero_grad()
            loss(log_p[:1], log_p[1:], ref[:1], ref[1:], beta).backward()
            descent.step()
        leads[name] = (logits[0] - logits[1]).item()
    assert leads["ipo"] == pytest.approx(1.0, abs=1e-6)
    assert leads["dpo"] > 3


def test_smoothed_labels_are_an_expectation_over_wrong_ones():
    four = [drawn(6, seed=s) for s in range(4)]
    swapped = [four[1], four[0], four[3], four[2]]
    wanted = 0.9 * dpo_loss(*four) + 0.1 * dpo_loss(*swapped)
    torch.testing.assert_close(dpo_loss(*four, label_smoothing=0.1), wanted)


# ---------------------------------------------------------------------------------- reinforcement
@pytest.mark.equation("alignment-token-reward", "alignment-objective")
def test_the_tokens_rewards_add_up_to_the_objective():
    now, then, mask = tokens_of(1, 2)
    scores = drawn(B)
    rewards = token_rewards(scores, now, then, mask, beta=0.3)
    wanted = scores - 0.3 * ((now - then) * mask).sum(1)
    torch.testing.assert_close(rewards.sum(1), wanted)
    assert not rewards[~mask].any()
    for row in range(B):
        places = mask[row].nonzero()[:, 0].tolist()
        for t in places:
            own = -0.3 * (now - then)[row, t] + (scores[row] if t == places[-1] else 0)
            torch.testing.assert_close(rewards[row, t], own)


@pytest.mark.equation("alignment-objective", "alignment-token-reward")
def test_on_average_an_answers_rewards_are_the_objective():
    """Exactly, over all answers of two tokens that a table of probabilities can write."""
    policy, ref = drawn(3, 3).log_softmax(-1), drawn(3, 3, seed=1).log_softmax(-1)
    every = torch.cartesian_prod(torch.arange(3), torch.arange(3))
    scores = drawn(9, seed=2)

    def log_probs(table):
        first = table[0, every[:, 0]]
        return torch.stack([first, table[every[:, 0], every[:, 1]]], 1)

    now, then = log_probs(policy), log_probs(ref)
    p = now.sum(1).exp()
    assert p.sum().item() == pytest.approx(1)
    rewards = token_rewards(scores, now, then, torch.ones(9, 2, dtype=torch.bool), 0.4)
    wanted = (p * scores).sum() - 0.4 * kl_divergence(now.sum(1), then.sum(1))
    torch.testing.assert_close((p * rewards.sum(1)).sum(), wanted)


@pytest.mark.equation("alignment-gae")
@pytest.mark.parametrize(("gamma", "lam"), [(1.0, 0.95), (1.0, 1.0), (0.9, 0.0)])
def test_advantages_of_answers_are_sums_within_each_answer(gamma, lam):
    rewards, values, mask = drawn(B, T - 1), drawn(B, T - 1, seed=1), tokens_of()[0]
    got, returns = answer_advantages(rewards, values, mask, gamma, lam)
    for row in range(B):
        places = mask[row].nonzero()[:, 0].tolist()
        for at, t in enumerate(places):
            wanted = 0.0
            for step, s in enumerate(places[at:]):
                after = values[row, s + 1] if s != places[-1] else 0.0
                error = rewards[row, s] + gamma * after - values[row, s]
                wanted += (gamma * lam) ** step * error
            torch.testing.assert_close(got[row, t], wanted)
            torch.testing.assert_close(returns[row, t], wanted + values[row, t])
    assert not got[~mask].any()


def test_with_lambda_one_an_advantage_is_what_came_minus_what_was_expected():
    rewards, values, mask = drawn(B, T - 1), drawn(B, T - 1, seed=1), tokens_of()[0]
    came = (rewards * mask).flip(1).cumsum(1).flip(1)
    got, returns = answer_advantages(rewards, values, mask, lam=1.0)
    torch.testing.assert_close(got, (came - values) * mask)
    torch.testing.assert_close(returns, came * mask)


@pytest.mark.equation("alignment-ppo")
@pytest.mark.parametrize("average", ["token", "answer", "length"])
def test_ppos_loss_is_the_worse_of_two_for_each_token(average):
    now, then, mask = tokens_of(1, 2)
    advantages = drawn(B, T - 1, seed=3)
    rows = []
    for row in range(B):
        own = []
        for t in mask[row].nonzero()[:, 0]:
            ratio = (now[row, t] - then[row, t]).exp()
            a = advantages[row, t]
            own.append(-min(ratio * a, ratio.clamp(0.8, 1.2) * a))
        rows.append(torch.stack(own))
    wanted = {
        "token": torch.cat(rows).mean(),
        "answer": torch.stack([own.mean() for own in rows]).mean(),
        "length": torch.stack([own.sum() / (T - 1) for own in rows]).mean(),
    }
    got = ppo_loss(now, then, advantages, mask, 0.2, average)
    torch.testing.assert_close(got, wanted[average])


@pytest.mark.equation("alignment-value")
def test_the_values_loss_stops_those_that_moved_too_far():
    now, old, returns = (drawn(B, T - 1, seed=seed) for seed in range(3))
    mask = tokens_of()[0]
    lost = []
    for v, o, r in zip(now[mask], old[mask], returns[mask], strict=True):
        near = o + min(max(v - o, -0.2), 0.2)
        lost.append(max((v - r) ** 2, (near - r) ** 2) / 2)
    torch.testing.assert_close(value_loss(now, old, returns, mask), torch.stack(lost).mean())
    plain = F.mse_loss(now[mask], returns[mask]) / 2
    torch.testing.assert_close(value_loss(now, old, returns, mask, clip=None), plain)


@pytest.mark.equation("alignment-ppo", "alignment-token-reward", "alignment-optimum")
@pytest.mark.parametrize("baseline", ["value", "group"])
def test_sampled_updates_end_at_the_closed_form(baseline):
    """PPO with a learned value, and GRPO without, on five answers of one token."""
    ref, rewards = bandit(5)
    beta, n = 0.5, 1024
    logits, value = ref.clone().requires_grad_(), torch.zeros((), dtype=torch.float64)
    descent, dice_ = torch.optim.Adam([logits], lr=0.03), dice()
    mask = torch.ones(n, 1, dtype=torch.bool)
    for _ in range(120):
        old = logits.detach().log_softmax(-1)
        y = torch.multinomial(old.exp(), n, replacement=True, generator=dice_)
        told = token_rewards(rewards[y], old[y, None], ref[y, None], mask, beta)
        if baseline == "value":
            expected = value.expand(n, 1)
            advantages = answer_advantages(told, expected, mask)[0]
            value = value + 0.2 * (told.mean() - value)
        else:
            advantages = grpo_advantages(told.T, scale=False).T
        for _ in range(2):
            descent.zero_grad()
            now = logits.log_softmax(-1)[y, None]
            ppo_loss(now, old[y, None], advantages, mask).backward()
            descent.step()
    got, wanted = logits.detach().log_softmax(-1), optimal_policy(ref, rewards, beta)
    assert kl_divergence(wanted, ref) > 0.3
    assert kl_divergence(got, wanted) < 0.01


@pytest.mark.equation("alignment-grpo", "alignment-dr-grpo")
def test_group_advantages_are_standard_scores_within_each_group():
    rewards = drawn(3, 8)
    got = grpo_advantages(rewards)
    for row, own in zip(got.tolist(), rewards.tolist(), strict=True):
        mean, spread = statistics.fmean(own), statistics.stdev(own)
        assert row == pytest.approx([(r - mean) / (spread + 1e-4) for r in own])
    theirs = utils.nanstd(rewards, dim=1)[:, None]
    torch.testing.assert_close(got, (rewards - rewards.mean(1, keepdim=True)) / (theirs + 1e-4))
    without = grpo_advantages(rewards, scale=False)
    torch.testing.assert_close(without, rewards - rewards.mean(1, keepdim=True))
    left_out = [r - (sum(own) - r) / 7 for own in rewards.tolist() for r in own]
    torch.testing.assert_close(without.flatten() * 8 / 7, torch.tensor(left_out).double())


@pytest.mark.equation("alignment-grpo-loss", "alignment-dr-grpo")
@pytest.mark.parametrize(
    ("average", "theirs"), [("answer", "grpo"), ("token", "bnpo"), ("length", "dr_grpo")]
)
def test_grpos_loss_is_trls(average, theirs):
    now, then, ref, mask = tokens_of(1, 2, 3)
    ids, advantages = answers()[0], drawn(B, seed=4)
    their = _their(
        beta=0.04, importance_sampling_level="token", loss_type=theirs, epsilon_low=0.2,
        epsilon_high=0.2, top_entropy_quantile=1.0, off_policy_mask_threshold=None, use_vllm=False,
        current_gradient_accumulation_steps=1, max_completion_length=T - 1,
        _entropy_bonus_enabled=False,
        _get_per_token_logps_and_entropies=lambda *_, **__: (now, torch.zeros_like(now), None),
    )  # fmt: skip
    inputs = {
        "prompt_ids": ids[:, :1], "prompt_mask": torch.ones(B, 1).long(),
        "completion_ids": ids[:, 1:], "completion_mask": mask.long(), "advantages": advantages,
        "old_per_token_logps": then, "ref_per_token_logps": ref,
    }  # fmt: skip
    wanted = grpo.GRPOTrainer._compute_loss(their, None, inputs)
    got = grpo_loss(now, then, ref, advantages, mask, average=average)
    torch.testing.assert_close(got, wanted)


@pytest.mark.equation("alignment-dr-grpo")
def test_dividing_by_an_answers_own_length_lets_long_wrong_answers_off():
    """Two wrong answers: under GRPO a token of the longer one is pushed down less."""
    mask = torch.tensor([[True, False, False, False], [True] * 4])
    pushes = {}
    for average in ("answer", "length"):
        log_probs = torch.zeros(2, 4, requires_grad=True)
        ppo_loss(
            log_probs, torch.zeros(2, 4), torch.tensor([-1.0, -1.0]), mask, 0.2, average
        ).backward()
        pushes[average] = log_probs.grad[:, 0]
    assert pushes["answer"][0] == 4 * pushes["answer"][1]
    assert pushes["length"][0] == pushes["length"][1]


@pytest.mark.equation("alignment-kl")
def test_estimates_of_the_kl_have_its_mean_and_the_third_is_never_negative():
    log_p, log_q = drawn(9).log_softmax(-1), drawn(9, seed=1).log_softmax(-1)
    exact = kl_divergence(log_p, log_q)
    k1, k2, k3 = (kl_estimate(log_p, log_q, kind) for kind in ("k1", "k2", "k3"))
    torch.testing.assert_close((log_p.exp() * k1).sum(), exact)
    torch.testing.assert_close((log_p.exp() * k3).sum(), exact)
    torch.testing.assert_close(
        exact, torch.nn.functional.kl_div(log_q, log_p, log_target=True, reduction="sum")
    )
    assert (k3 >= 0).all() and (k1 < 0).any()

    def spread(k):
        return (log_p.exp() * (k - exact) ** 2).sum()

    near = (log_p + 0.05 * drawn(9, seed=2)).log_softmax(-1)
    few = [kl_estimate(log_p, near, kind) for kind in ("k1", "k3")]
    exact = kl_divergence(log_p, near)
    assert spread(few[1]) < spread(few[0]) / 100
    torch.testing.assert_close(
        (log_p.exp() * kl_estimate(log_p, near, "k2")).sum(), exact, rtol=0.1, atol=0
    )
    assert (k2 >= 0).all()


# ------------------------------------------------------------------------------------- bad input
TWO, NAN = torch.tensor([-1.0, -2.0]), torch.tensor([-1.0, math.nan])
MASK, ROWS = torch.ones(2, 3, dtype=torch.bool), torch.zeros(2, 3)
NONE = MASK & torch.tensor([[True], [False]])
GAP = torch.tensor([[True, False, True], [True, True, True]])
IDS, LOGITS = torch.zeros(2, 3, dtype=torch.long), torch.zeros(2, 3, 4)
ANSWER = torch.tensor([[False, True, True], [False, False, True]])
USER = [{"role": "user", "content": "hi"}]
BAD = {
    "beta 0": (lambda: dpo_loss(TWO, TWO, TWO, TWO, 0.0), ValueError, "beta=0.0"),
    "beta below 0": (lambda: dpo_loss(TWO, TWO, TWO, TWO, -0.1), ValueError, "beta=-0.1"),
    "dpo, NaN": (lambda: dpo_loss(TWO, NAN, TWO, TWO), ValueError, "rejected must be finite"),
    "dpo, lengths": (lambda: dpo_loss(TWO, TWO, TWO, TWO[:1]), ValueError, "ref_rejected must"),
    "dpo, none": (lambda: dpo_loss(TWO[:0], TWO[:0], TWO[:0], TWO[:0]), ValueError, "chosen must"),
    "half wrong": (
        lambda: dpo_loss(TWO, TWO, TWO, TWO, label_smoothing=0.5), ValueError, "label_smoothing=0.5"
    ),
    "reduction": (lambda: reward_loss(TWO, TWO, reduction="all"), ValueError, "reduction='all'"),
    "reward NaN": (lambda: reward_loss(NAN, TWO), ValueError, "chosen must be finite"),
    "margin": (lambda: reward_loss(TWO, TWO, math.nan), ValueError, "margin=nan"),
    "integers": (lambda: reward_loss(TWO.long(), TWO), TypeError, "chosen must be floating"),
    "ipo, beta": (lambda: ipo_loss(TWO, TWO, TWO, TWO, 0.0), ValueError, "beta=0.0"),
    "kto, kl": (lambda: kto_loss(TWO, TWO < 0, kl=-1.0), ValueError, "kl=-1.0"),
    "kto, labels": (lambda: kto_loss(TWO, TWO, kl=0.0), TypeError, "desirable must hold True"),
    "kto, weights": (lambda: kto_loss(TWO, TWO < 0, 0.0, weights=1.0), ValueError, "weights=1.0"),
    "orpo, sure": (lambda: orpo_loss(TWO * 0, TWO), ValueError, "chosen must be below 0"),
    "orpo, weight": (lambda: orpo_loss(TWO, TWO, -1.0), ValueError, "weight=-1.0"),
    "group NaN": (lambda: grpo_advantages(NAN[None]), ValueError, "rewards must be finite"),
    "group of one": (lambda: grpo_advantages(TWO[:, None]), ValueError, "two or more answers"),
    "group flat": (lambda: grpo_advantages(TWO), ValueError, "rewards must have shape (b, g)"),
    "group eps": (lambda: grpo_advantages(TWO[None], eps=0.0), ValueError, "eps=0.0"),
    "clip": (lambda: ppo_loss(ROWS, ROWS, TWO, MASK, 0.0), ValueError, "clip=0.0"),
    "empty answer": (lambda: ppo_loss(ROWS, ROWS, TWO, NONE), ValueError, "answer must have"),
    "no mask": (lambda: ppo_loss(ROWS, ROWS, TWO, ROWS), TypeError, "answer must hold True"),
    "advantages": (lambda: ppo_loss(ROWS, ROWS, TWO[:1], MASK), ValueError, "advantages must"),
    "advantage NaN": (lambda: ppo_loss(ROWS, ROWS, NAN, MASK), ValueError, "advantages must be f"),
    "average": (lambda: ppo_loss(ROWS, ROWS, TWO, MASK, 0.2, "all"), ValueError, "average='all'"),
    "grpo, beta": (lambda: grpo_loss(ROWS, ROWS, ROWS, TWO, MASK, -1.0), ValueError, "beta=-1.0"),
    "scores NaN": (lambda: token_rewards(NAN, ROWS, ROWS, MASK, 0.1), ValueError, "scores must be"),
    "penalty": (lambda: token_rewards(TWO, ROWS, ROWS, MASK, -1.0), ValueError, "beta=-1.0"),
    "a gap": (lambda: answer_advantages(ROWS, ROWS, GAP), ValueError, "answer must stand in one"),
    "gamma": (lambda: answer_advantages(ROWS, ROWS, MASK, 1.1), ValueError, "gamma=1.1"),
    "value clip": (lambda: value_loss(ROWS, ROWS, ROWS, MASK, 0.0), ValueError, "clip=0.0"),
    "kl kind": (lambda: kl_estimate(TWO, TWO, "k4"), ValueError, "kind='k4'"),
    "optimum, beta": (lambda: optimal_policy(TWO, TWO, 0.0), ValueError, "beta=0.0"),
    "optimum, NaN": (lambda: optimal_policy(TWO, NAN, 1.0), ValueError, "rewards must be finite"),
    "optimum, never": (
        lambda: optimal_policy(TWO - math.inf, TWO, 1.0), ValueError, "ref_log_probs must be log"
    ),
    "n": (lambda: best_of_n_policy(TWO, TWO, 0), ValueError, "n=0"),
    "n, bound": (lambda: best_of_n_kl(0), ValueError, "n=0"),
    "kl shapes": (lambda: kl_divergence(TWO, TWO[:1]), ValueError, "log_q must have shape (2)"),
    "nothing to learn": (
        lambda: sft_loss_of_logits(LOGITS, IDS, ~MASK), ValueError, "answer must have a"
    ),
    "first token": (
        lambda: sft_loss_of_logits(LOGITS, IDS, MASK), ValueError, "answer must be False at"
    ),
    "outside": (
        lambda: sft_loss(GPT(4, 4, 1, 1, 3), IDS + 4, ANSWER), ValueError, "ids must be 0 … 3"
    ),
    "no model": (lambda: sft_loss(LOGITS, IDS, ANSWER), TypeError, "model must be a GPT"),
    "one token": (lambda: token_log_probs(LOGITS[:, :1], IDS[:, :1]), ValueError, "two tokens"),
    "no backbone": (lambda: RewardModel(nn.Linear(2, 2)), TypeError, "backbone must be a GPT"),
    "lengths": (
        lambda: RewardModel(GPT(4, 4, 1, 1, 3))(IDS, torch.tensor([3, 4])), ValueError, "lengths"
    ),
    "no message": (lambda: chat_tokens([], list), ValueError, "messages=[]"),
    "role": (lambda: chat_tokens([{"role": "dog", "content": ""}], list), ValueError, "got 'dog'"),
    "no content": (lambda: chat_tokens([{"role": "user"}], list), ValueError, "messages must have"),
    "no text": (lambda: chat_tokens([USER[0] | {"content": 3}], list), TypeError, "got 3"),
    "forged": (
        lambda: chat_tokens([USER[0] | {"content": "<|im_end|>"}], list), ValueError, "must not"
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_named(name):
    call, error, told = BAD[name]
    with refuses(error, told):
        call()


def test_groups_and_rewards_that_are_all_alike_are_defined():
    alike = torch.full((2, 4), 3.0)
    assert not grpo_advantages(alike).any()
    ref = torch.zeros(3).log_softmax(0)
    torch.testing.assert_close(optimal_policy(ref, torch.full((3,), 7.0), 0.1), ref)
    torch.testing.assert_close(best_of_n_policy(ref, torch.full((3,), 7.0), 8), ref)


def test_nothing_is_learned_by_the_reference_or_the_old_policy():
    now, then, ref, mask = tokens_of(1, 2, 3)
    for frozen in (then, ref):
        frozen.requires_grad_()
    before = copy.deepcopy((then, ref))
    now.requires_grad_()
    grpo_loss(now, then, ref, drawn(B), mask).backward()
    dpo_loss(*now.sum(1).chunk(2), *ref.sum(1).chunk(2)).backward()
    assert now.grad is not None and then.grad is None and ref.grad is None
    torch.testing.assert_close((then, ref), before)
