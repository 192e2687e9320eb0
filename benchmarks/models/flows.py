"""Normalizing flows beside zuko's, with the same couplings and the same weights."""

from functools import partial

import torch
from torch import nn

from benchmarks.models._contest import Case, Contest, sized, training
from nnlib.generative.normalizing_flow import AffineCoupling, Flow, Inverted, SplineCoupling

BINS, BOUND, SMALL = 8, 5.0, 0.01


def couplings(size: dict[str, int], device: torch.device, dtype: torch.dtype) -> list[Contest]:
    """A training step of affine couplings and of couplings with splines, by likelihood.

    Both libraries bound scales, slopes and bins, each in its own way, so the last layer of every
    network is made small: near the identity the bounds agree. Of splines the loss alone is
    compared, because the bounds scale their gradients differently by a percent.
    """
    from zuko.flows import NICE
    from zuko.transforms import MonotonicRQSTransform

    spline = {
        "univariate": partial(MonotonicRQSTransform, bound=BOUND),
        "shapes": [(BINS,), (BINS,), (BINS - 1,)],
    }
    x = torch.randn(size["b"], size["d"]).to(device, dtype)
    contests = []
    for name, options in (("RealNVP", {}), ("spline flow", spline)):
        hidden = (size["h"], size["h"])
        peer = NICE(size["d"], transforms=size["L"], hidden_features=hidden, **options)
        mine = _same(peer, size["h"], splines=bool(options))
        sides = [
            (mine.to(device, dtype), lambda m: -m.log_prob(x).mean()),
            (peer.to(device, dtype), lambda m: -m().log_prob(x).mean()),
        ]
        contest = training(f"{name} training step", size, "zuko", *sides)
        if options:
            told = contest.results
            contest.results = {
                side: (lambda result=result: {"loss": result()["loss"]})
                for side, result in told.items()
            }
        contests.append(contest)
    return contests


@torch.no_grad()
def _same(peer: nn.Module, hidden_size: int, *, splines: bool) -> Flow:
    """Return our couplings with the peer's masks and weights; theirs go from data to noise."""
    layers = []
    for theirs in peer.transform.transforms:
        mask = theirs.mask.tolist()
        ours: AffineCoupling | SplineCoupling = (
            SplineCoupling(mask, hidden_size, num_bins=BINS, bound=BOUND)
            if splines
            else AffineCoupling(mask, hidden_size)
        )
        maps = [part for part in theirs.hyper if hasattr(part, "weight")]
        for part in (maps[-1].weight, maps[-1].bias):
            part.mul_(SMALL)
        mine = [part for part in ours.conditioner if isinstance(part, nn.Linear)]
        for got, given in zip(mine, maps, strict=True):
            got.load_state_dict(given.state_dict())
        if not splines:  # theirs are shift and scale, ours scale and shift
            for part in (mine[-1].weight, mine[-1].bias):
                part.copy_(part.unflatten(0, (-1, 2)).flip(1).flatten(0, 1))
        layers.append(Inverted(ours))
    return Flow(layers[::-1])


SIZES = sized("bdhL", (64, 8, 32, 4), (128, 64, 128, 6), (512, 64, 256, 8))
CASES = {"couplings": Case(couplings, SIZES, SIZES)}
