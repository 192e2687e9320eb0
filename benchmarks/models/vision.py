"""Networks for pictures beside torchvision's and transformers', with the same weights."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.models._contest import Case, Contest, sized, training
from benchmarks.peers import declare_torchvision
from nnlib.vision.cnn import VGG
from nnlib.vision.resnet import EfficientNet, ResNet
from nnlib.vision.vit import SwinTransformer, ViT

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


def vgg(size: dict[str, int], device: torch.device, dtype: torch.dtype) -> list[Contest]:
    """A training step of VGG-16's convolutions; its 124 million other weights would hide them."""
    declare_torchvision()
    from torchvision import models

    peer, mine = models.vgg16().features, VGG(16).features
    mine.load_state_dict(peer.state_dict())
    x, y = _batch(size, device, dtype)
    return [_contest("VGG-16 training step", size, "torchvision", mine, peer, x, y % 512)]


def swin(size: dict[str, int], device: torch.device, dtype: torch.dtype) -> list[Contest]:
    """A training step of Swin-T, with nothing dropped, so that both sides agree."""
    sizes = {"patch_size": [4, 4], "embed_dim": 96, "depths": [2, 2, 6, 2]}
    sizes |= {"num_heads": [3, 6, 12, 24], "window_size": [7, 7]}
    return _beside(
        "Swin-T",
        lambda: SwinTransformer(stochastic_depth=0.0),
        "SwinTransformer",
        sizes | {"stochastic_depth_prob": 0.0},
        size, device, dtype,
    )  # fmt: skip


def vit(size: dict[str, int], device: torch.device, dtype: torch.dtype) -> list[Contest]:
    """A training step of ViT-B/16 beside transformers', which uses torch's fused attention, too."""
    declare_torchvision()
    from transformers import ViTConfig, ViTForImageClassification

    config = ViTConfig(image_size=size["s"], num_labels=CLASSES)
    peer = ViTForImageClassification(config).train()
    mine = ViT.from_hugging_face(peer).train()
    x, y = _batch(size, device, dtype)
    mine, peer = mine.to(device, dtype), peer.to(device, dtype)
    sides = [
        (mine, lambda m: F.cross_entropy(m(x), y)),
        (peer, lambda m: F.cross_entropy(m(x).logits, y)),
    ]
    return [training("ViT-B/16 training step", size, "transformers", *sides)]


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
    x, y = _batch(size, device, dtype)
    return [_contest(f"{what} training step", size, "torchvision", mine, peer, x, y)]


def _batch(size: dict[str, int], device: torch.device, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    x = torch.randn(size["b"], 3, size["s"], size["s"]).to(device, dtype)
    return x, torch.randint(CLASSES, (size["b"],)).to(device)


def _contest(
    what: str,
    size: dict[str, int],
    peers: str,
    mine: nn.Module,
    peer: nn.Module,
    x: Tensor,
    y: Tensor,
) -> Contest:
    """Return the contest of two modules; scores of maps are their means."""

    def loss(module: nn.Module) -> Tensor:
        scores = module(x)
        return F.cross_entropy(scores if scores.ndim == 2 else scores.mean((2, 3)), y)

    sides = [(module.to(x.device, x.dtype), loss) for module in (mine, peer)]
    return training(what, size, peers, *sides)


CPU = sized("bs", (4, 64), (8, 128), (8, 224))
SIDES_224 = sized("bs", (2, 224), (8, 224))  # Swin's windows fit into multiples of 224
GPU = sized("bs", (64, 224), (256, 224))
CASES = {
    "resnet": Case(resnet, CPU, GPU),
    "efficientnet": Case(efficientnet, CPU, GPU),
    "vgg": Case(vgg, CPU, GPU),
    "vit": Case(vit, CPU, GPU),
    "swin": Case(swin, SIDES_224, GPU),
}
