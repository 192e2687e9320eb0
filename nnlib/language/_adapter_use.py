"""Adapters put into a model, merged, switched off, kept and loaded.

Part of `nnlib.language.adapters`, with its axes.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor, nn

from nnlib import checks
from nnlib.language._adapter_modules import IA3, Adapted, Adapter
from nnlib.language._adapter_places import Targets, checked, put, replaced
from nnlib.language._beside import Beside, features
from nnlib.language._nf4_linear import NF4Linear

THEIRS = "base_model.model."
"""What `peft` writes before the names of an adapter's tensors."""


def adapters_(
    model: nn.Module, targets: Targets, bottleneck: int, activation: str = "gelu"
) -> nn.Module:
    """Freeze a model and let the outputs of its layers of these names pass an `Adapter`, in place.

    Args:
        model: any model with linear layers; it is returned.
        targets: as for `lora_`; the paper takes the last layer of attention and of the network.
        bottleneck: width m of each adapter, 1 … the smallest output of a layer that is meant.
        activation: as for `Adapter`.

    Raises:
        ValueError: a name that no linear layer has, or one that has an adapter already.

    Example:
        >>> model = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 4))
        >>> adapters_(model, ["0"], bottleneck=2)[0].adapter.down
        Linear(in_features=8, out_features=2, bias=True)

    Source: Houlsby et al. 2019.
    """

    def made(base: nn.Module) -> nn.Module:
        (_, width), weight = features(base) or (0, 0), base.weight
        assert isinstance(weight, Tensor)
        new = Adapter(
            width, bottleneck, activation, device=weight.device, dtype=weight.dtype
        )
        return Adapted(base, new)

    return replaced(model, targets, made)


def ia3_(
    model: nn.Module, outputs: Targets = (), inputs: Targets = (), skip: int = 0
) -> nn.Module:
    """Freeze a model and stretch the outputs, or the inputs, of its layers of these names.

    Args:
        model: any model with linear layers; it is changed in place, and returned.
        outputs: layers whose outputs are stretched, such as those of keys and values.
        inputs: layers whose inputs are, such as the second matrix of each network.
        skip: numbers at the front of each output that are left alone: queries, where one layer
            makes queries, keys and values.

    Raises:
        ValueError: a name that no linear layer has, or one that has an adapter already.

    Example:
        >>> from nnlib.language.llm import LLM
        >>> model = LLM(vocab_size=11, embed_dim=8, num_heads=2, num_layers=2, max_length=16)
        >>> model = ia3_(model, ["attention.in_proj"], ["network.out_proj"], skip=8)
        >>> sum(p.numel() for p in model.parameters() if p.requires_grad)
        80

    Source: Liu et al. 2022.
    """
    if not len(outputs) and not len(inputs):
        raise ValueError("outputs and inputs name no layer, got both empty")
    if len(outputs):
        replaced(model, outputs, partial(IA3, side="output", skip=skip))
    if len(inputs):
        replaced(model, inputs, partial(IA3, side="input"), freeze=not len(outputs))
    return model


def bitfit_(model: nn.Module) -> nn.Module:
    """Freeze a model except for its biases, in place; return the model.

    Args:
        model: one with biases.

    Example:
        >>> model = bitfit_(nn.Linear(8, 4))
        >>> [name for name, p in model.named_parameters() if p.requires_grad]
        ['bias']

    Source: Ben Zaken, Goldberg and Ravfogel 2021.
    """
    named = checked(model).named_parameters()
    biases = [p for name, p in named if name.rpartition(".")[2].endswith("bias")]
    if not biases:
        raise ValueError("model has no biases to train")
    model.requires_grad_(False)
    for bias in biases:
        bias.requires_grad_(True)
    return model


def nf4_(
    model: nn.Module, targets: Targets, block_size: int = 64, double: bool = True
) -> nn.Module:
    """Store a model's layers of these names in four bits, in place; return the model.

    With `lora_` after it, on the same names, this is QLoRA.

    Args:
        model: any model with linear layers.
        targets: as for `lora_`.
        block_size: weights that share a scale, ≥ 1.
        double: whether the scales are quantised in turn.

    Example:
        >>> from nnlib.language.adapters import lora_
        >>> model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 4))
        >>> model = lora_(nf4_(model, ["0"]), ["0"], rank=2, alpha=4)
        >>> type(model[0].base).__name__, type(model[2]).__name__
        ('NF4Linear', 'Linear')

    Source: Dettmers et al. 2023.
    """
    made = partial(NF4Linear.of, block_size=block_size, double=double)
    return replaced(model, targets, made, freeze=False)


def merge(model: nn.Module) -> nn.Module:
    r"""Put plain layers in the place of adapted ones, in place; return the model.

    $W = W_0 + s\,BA$ (equation `adapters-merge`) for LoRA, and likewise for DoRA and IA³. The
    weights stay frozen; `requires_grad_()` frees them.

    Args:
        model: one with LoRA, DoRA or IA³ in it, or such a layer itself.

    Raises:
        ValueError: nothing to merge, as after a first merge; or a bottleneck adapter, whose
            nonlinearity no matrix can hold.

    Example:
        >>> from nnlib.language.adapters import lora_
        >>> model = lora_(nn.Sequential(nn.Linear(8, 4)), "all", rank=2, alpha=4)
        >>> merge(model)[0]
        Linear(in_features=8, out_features=4, bias=True)

    Source: Hu et al. 2021.
    """
    adapted = {
        name: m for name, m in checked(model).named_modules() if isinstance(m, Beside)
    }
    if not adapted:
        raise ValueError(
            "model holds no adapter to merge: it was merged before, or never had one"
        )
    for name, module in adapted.items():
        if isinstance(module, Adapted):
            raise ValueError(
                f"model: {name or 'it'} has a nonlinearity and cannot be merged"
            )
    for name, module in adapted.items():
        plain = module.merged()
        if not name:
            return plain
        put(model, name, plain)
    return model


@contextmanager
def switched_off(model: nn.Module) -> Iterator[nn.Module]:
    """Let a model answer as if its adapters were not there, within the block.

    Args:
        model: one with LoRA, DoRA, bottleneck adapters or IA³ in it.

    Example:
        >>> from nnlib.language.adapters import lora_
        >>> model = lora_(nn.Sequential(nn.Linear(8, 4)), "all", rank=2, alpha=4)
        >>> with switched_off(model):
        ...     model(torch.zeros(1, 8)).shape
        torch.Size([1, 4])
    """
    adapted = [m for m in checked(model).modules() if isinstance(m, Beside)]
    if not adapted:
        raise ValueError("model holds no adapter to switch off")
    before = [module.enabled for module in adapted]
    for module in adapted:
        module.enabled = False
    try:
        yield model
    finally:
        for module, was in zip(adapted, before, strict=True):
            module.enabled = was


def adapter_state(model: nn.Module) -> dict[str, Tensor]:
    """Return what is trained of a model, by name: the file that an adapter is.

    Args:
        model: one with something that is trained.

    Example:
        >>> from nnlib.language.adapters import lora_
        >>> model = lora_(nn.Sequential(nn.Linear(8, 4)), "all", rank=2, alpha=4)
        >>> {name: tuple(x.shape) for name, x in adapter_state(model).items()}
        {'0.lora_A.weight': (2, 8), '0.lora_B.weight': (4, 2)}
    """
    trained = {
        n: p.detach() for n, p in checked(model).named_parameters() if p.requires_grad
    }
    if not trained:
        raise ValueError("model has nothing that is trained")
    return trained


@torch.no_grad()
def load_adapter_(model: nn.Module, tensors: Mapping[str, Tensor]) -> nn.Module:
    """Copy an adapter's tensors into a model that has one of the same kind; return the model.

    Args:
        model: one that `lora_` or its like have prepared.
        tensors: as from `adapter_state`, or LoRA or DoRA as `peft` saves them.

    Raises:
        ValueError: a tensor that is missing, left over or of another shape; nothing is copied.

    Example:
        >>> from nnlib.language.adapters import lora_
        >>> one, other = (lora_(nn.Sequential(nn.Linear(8, 4)), "all", 2, 4) for _ in range(2))
        >>> x, _ = torch.randn(3, 8), load_adapter_(other, adapter_state(one))
        >>> torch.equal(one[0].lora_A(x), other[0].lora_A(x))
        True
    """
    if not isinstance(tensors, Mapping):
        raise TypeError(f"tensors must be a dictionary, got {type(tensors).__name__}")
    given = {str(name).removeprefix(THEIRS): value for name, value in tensors.items()}
    wanted = adapter_state(model)
    for told, names in (
        ("lacks", wanted.keys() - given.keys()),
        ("has no place for", given.keys() - wanted.keys()),
    ):
        if names:
            raise ValueError(f"tensors {told} {sorted(names)[:3]}")
    for name, place in wanted.items():
        checks.tensor(
            f"tensors[{name!r}]", given[name], shape=tuple(place.shape), floating=True
        )
    for name, place in wanted.items():
        place.copy_(given[name])
    return model
