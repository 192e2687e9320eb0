"""Loops of other shapes, written in about ten lines with the public parts, find known answers.

Each has what `train` has no place for: two losses, weights that are averaged, a batch that is made
up anew, chains that walk on between steps, data that come from acting.
"""

from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.optim import Adam

from nnlib.train.average import ExponentialMovingAverage
from nnlib.train.batches import Batches, Steps
from nnlib.train.checkpoint import load, save
from nnlib.train.history import History
from nnlib.train.progress import bar
from nnlib.train.schedules import warmup_cosine
from nnlib.train.update import update


def network(*sizes: int) -> nn.Sequential:
    layers = [nn.Linear(a, b) for a, b in pairwise(sizes)]
    return nn.Sequential(*(part for layer in layers for part in (layer, nn.Tanh())))[:-1]


# A GAN: two models take turns, and the generator's average is what is kept.

REAL = 3 + 0.5 * torch.randn(2000, 1, generator=torch.Generator().manual_seed(0))


def gan(steps: int, folder=None) -> tuple[ExponentialMovingAverage, History]:
    torch.manual_seed(0)
    critic, generator, history = network(1, 16, 1), nn.Linear(1, 1), History()
    average = ExponentialMovingAverage(generator, 0.98)
    judge = Adam(critic.parameters(), 1e-2, betas=(0.0, 0.9), fused=True)
    forge = Adam(generator.parameters(), 3e-2, betas=(0.0, 0.9), fused=True)
    real = Batches((REAL,), 64, steps=steps)
    parts = {"real": real, "critic": critic, "generator": generator, "average": average}
    parts |= {"judge": judge, "forge": forge, "history": history}
    if folder is not None:
        load(folder, parts)
    for (x,) in bar(real, history, shown=False):
        fake = generator(torch.randn(len(x), 1))
        doubt = F.softplus(critic(fake.detach())) + F.softplus(-critic(x))
        history.add(critic=update(doubt.mean(), judge))
        history.add(generator=update(F.softplus(-critic(fake)).mean(), forge))
        average.update()
        if folder is not None and real.step % 20 == 0:
            save(folder, parts)
    return average, history


def test_a_gan_finds_mean_and_spread_of_its_data():
    average, history = gan(800)
    (scale,), shift = average.model.weight.abs()[0], average.model.bias
    assert shift.item() == pytest.approx(3, abs=0.1) and scale.item() == pytest.approx(0.5, abs=0.1)
    assert len(history["critic"]) == len(history["generator"]) == 800


def test_a_gan_that_was_interrupted_equals_one_that_was_not(tmp_path):
    gan(50, tmp_path)  # its last checkpoint is of step 40
    (average, history), (other, wanted) = gan(90, tmp_path), gan(90)
    for name in ("critic", "generator"):
        assert history[name] == wanted[name]
    for name, value in other.state_dict().items():
        assert torch.equal(average.state_dict()[name], value)


# A diffusion model: noise at a random time, and the average of the weights predicts it best.


def test_a_diffusion_model_predicts_the_mean_of_the_noise():
    torch.manual_seed(0)
    mean, spread, steps, history = 1.0, 0.5, 500, History()
    keep = torch.linspace(0.95, 0.05, 10)  # ᾱ of each time
    model = network(2, 32, 1)
    average = ExponentialMovingAverage(model, 0.98)
    optimizer, rate = Adam(model.parameters(), 1e-2, fused=True), warmup_cosine(steps, 0.1)
    data = Batches((mean + spread * torch.randn(4000, 1),), 128, steps=steps)
    for (x,) in bar(data, history, shown=False):
        a, noise = keep[torch.randint(10, (len(x), 1))], torch.randn_like(x)
        noisy = a.sqrt() * x + (1 - a).sqrt() * noise
        guess = model(torch.cat([noisy, a], 1))
        loss = F.mse_loss(guess, noise)
        history.add(loss=update(loss, optimizer, clip=1.0, rate=rate(data.step - 1)))
        average.update()
    x, a = torch.linspace(-0.7, 2.1, 41)[:, None], torch.tensor(0.5).expand(41, 1)
    wanted = (0.5**0.5) * (x - 0.5**0.5 * mean) / (0.5 * spread**2 + 0.5)  # E[noise | noisy]
    with average.swapped_in(), torch.no_grad():
        torch.testing.assert_close(model(torch.cat([x, a], 1)), wanted, rtol=0, atol=0.2)


# A contrastive model: each batch is disturbed twice, and what survives both is what is encoded.


def test_a_contrastive_model_keeps_what_its_disturbances_leave_alone():
    torch.manual_seed(0)

    def disturbed(x):  # the last twelve numbers say nothing about the first four
        return torch.cat([x[:, :4] + 0.1 * torch.randn(len(x), 4), torch.randn(len(x), 12)], 1)

    encoder = nn.Linear(16, 4)
    optimizer = Adam(encoder.parameters(), 2e-2, fused=True)
    for (x,) in Batches((torch.randn(512, 16),), 64, steps=300):
        one, other = (F.normalize(encoder(disturbed(x)), dim=1) for _ in range(2))
        update(F.cross_entropy(one @ other.T / 0.2, torch.arange(len(x))), optimizer, clip=1.0)
    strength = encoder.weight.norm(dim=0)
    assert strength[:4].min() > 5 * strength[4:].max()


# An energy model: chains that walk on between the steps tell what the model believes.


def test_an_energy_model_with_chains_that_persist_finds_the_couplings():
    torch.manual_seed(0)
    spins = 1 - 2 * torch.cartesian_prod(*[torch.arange(2.0)] * 3)  # the 8 states of 3 spins
    truth = torch.tensor([[0.0, 0.8, 0.0], [0.8, 0.0, -0.5], [0.0, -0.5, 0.0]])

    def energy(x, w):
        return -(x @ w.triu(1) * x).sum(1)

    @torch.no_grad()
    def walk(x, w):  # one sweep of Gibbs' sampler
        for k in range(3):
            field = x @ (w.triu(1) + w.triu(1).T)[:, k]
            x[:, k] = torch.where(torch.rand(len(x)) < torch.sigmoid(2 * field), 1.0, -1.0)
        return x

    chance = torch.softmax(-energy(spins, truth), 0)
    data = spins[torch.multinomial(chance, 4000, replacement=True)]
    w, chains = nn.Parameter(torch.zeros(3, 3)), spins[torch.randint(8, (500,))]
    optimizer, rate = Adam([w], 0.05, fused=True), warmup_cosine(300)
    batches = Batches((data,), 500, steps=300)
    for (x,) in batches:
        chains = walk(chains, w)
        loss = energy(x, w).mean() - energy(chains, w).mean()
        update(loss, optimizer, rate=rate(batches.step - 1))
    torch.testing.assert_close(w.detach().triu(1), truth.triu(1), rtol=0, atol=0.12)


# Agents: what they learn from is what they did.


def corridor(place: torch.Tensor, right: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Step in a corridor of places 0 … 4; reaching place 4 pays 1 and ends the walk."""
    place = torch.where(place == 4, 4, (place + 2 * right - 1).clamp(0, 4))
    return place, (place == 4).float()


def test_an_agent_that_follows_its_policys_gradient_walks_straight():
    torch.manual_seed(0)
    policy, history = nn.Embedding(5, 2), History()
    optimizer = Adam(policy.parameters(), 0.05, fused=True)
    for _ in bar(Steps(120), history, shown=False):
        place, chosen, paid = torch.zeros(32, dtype=torch.long), 0.0, torch.zeros(32)
        for time in range(12):
            turn = torch.distributions.Categorical(logits=policy(place))
            right, walking = turn.sample(), (place < 4).float()
            chosen = chosen + walking * turn.log_prob(right)
            place, reward = corridor(place, right)
            paid = paid + walking * reward * 0.9**time
        history.add(
            loss=update(-(chosen * (paid - paid.mean())).mean(), optimizer), paid=paid.mean()
        )
    assert history["paid"][0] < 0.95 * 0.9**3 < history["paid"][-1] <= 0.9**3 + 1e-6
    assert policy.weight[:4].softmax(1)[:, 1].min() > 0.9


def test_an_agent_that_learns_values_from_its_memory_finds_the_discounted_ones():
    torch.manual_seed(0)
    values, discount, place = nn.Embedding(5, 2), 0.8, torch.zeros(16, dtype=torch.long)
    slow = ExponentialMovingAverage(values, 0.8)
    memory, optimizer = [], Adam(values.parameters(), 0.05, fused=True)
    for _ in Steps(250):
        explores, greedy = torch.rand(16) < 0.3, values(place).argmax(1)
        right = torch.where(explores, torch.randint(2, (16,)), greedy)
        after, reward = corridor(place, right)
        memory = [*memory, (place, right, after, reward)][-50:]
        place = torch.where(reward > 0, 0, after)
        then = [torch.cat(part) for part in zip(*memory, strict=True)]
        some = torch.randint(len(then[0]), (64,))
        at, did, to, paid = (part[some] for part in then)
        wanted = paid + discount * (1 - paid) * slow.model(to).max(1).values
        update(F.mse_loss(values(at)[torch.arange(64), did], wanted), optimizer, clip=1.0)
        slow.update()
    wanted = discount ** torch.tensor([3.0, 2, 1, 0])  # of walking on, from places 0 … 3
    torch.testing.assert_close(values.weight[:4, 1].detach(), wanted, rtol=0, atol=0.08)
