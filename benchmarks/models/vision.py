"""Networks for pictures beside torchvision's, which have the same weights."""

from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional as F

from benchmarks.models._contest import Case, Contest, sized, training
from benchmarks.peers import declare_torchvision
from nnlib.vision.resnet import EfficientNet, ResNet

CLASSES = 1000


def resnet(size: dict[str, int], device: torch.device, dtype: torch.dtype) -> list[Contest]:
    """A training step of ResNet-18: cross-entropy, backward, AdamW."""
    return _beside("ResNet-18", lambda: ResNet(18), "resnet18", {}, size, device, dtype)


def efficientnet(size: dict[str, int], device: torch.device, dtype: torch.dtype) -> list[Contest]:
    """A training step of EfficientNet-B0, with nothing dropped, so that both sides agree."""
    return _beside(
        "EfficientNet-B0",
        lambda: EfficientNet("b0", dropout=0.0, stochastic_depth=0.0),
        "efficientnet_b0",
        {"dropout": 0.0, "stochastic_depth_prob": 0.0},
        size, device, dtype,
    )  # fmt: skip


def _beside(
    what: str,
    make: Callable[[], nn.Module],
    name: str,
    options: dict[str, float],
    size: dict[str, int],
    device: torch.device,
    dtype: torch.dtype,
) -> list[Contest]:
    """Return the contest of training steps of a model and torchvision's of that name."""
    declare_torchvision()
    from torchvision import models

    peer, mine = getattr(models, name)(**options), make()
    mine.load_state_dict(peer.state_dict())
    x = torch.randn(size["b"], 3, size["s"], size["s"]).to(device, dtype)
    y = torch.randint(CLASSES, (size["b"],)).to(device)
    mine, peer = mine.to(device, dtype), peer.to(device, dtype)
    sides = [(module, lambda m: F.cross_entropy(m(x), y)) for module in (mine, peer)]
    return [training(f"{what} training step", size, "torchvision", *sides)]


CPU = sized("bs", (4, 64), (8, 128), (8, 224))
GPU = sized("bs", (64, 224), (256, 224))
CASES = {
    "resnet": Case(resnet, CPU, GPU),
    "efficientnet": Case(efficientnet, CPU, GPU),
}
