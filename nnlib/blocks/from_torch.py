"""Copies of modules of `torch.nn`: which of our arguments they mean, and their weights."""

from typing import Any, TypeVar

from torch import nn
from torch.nn import functional as F

Module = TypeVar("Module", bound=nn.Module)


def same_name(cls: type, module: object) -> None:
    """Refuse a module of another class than the namesake of `cls` in `torch.nn`."""
    if not isinstance(module, getattr(nn, cls.__name__)):
        raise TypeError(
            f"module must be a torch.nn.{cls.__name__}, got {type(module).__name__}"
        )


def layer_options(layer: Any) -> dict[str, Any]:
    """Return our arguments for a transformer's layer of `torch.nn`."""
    return {
        "embed_dim": layer.self_attn.embed_dim,
        "num_heads": layer.self_attn.num_heads,
        "dim_feedforward": layer.linear1.out_features,
        "dropout": layer.dropout.p,
        "activation": activation_name(layer.activation),
        "layer_norm_eps": norm_eps("norm1", layer.norm1),
        "norm_first": layer.norm_first,
        "bias": layer.linear1.bias is not None,
    }


def activation_name(function: object) -> str:
    """Return the name in `ACTIVATIONS` of a function or module that torch's layers take."""
    if function is F.relu or isinstance(function, nn.ReLU):
        return "relu"
    if function is F.gelu:
        return "gelu"
    if isinstance(function, nn.GELU):
        return "gelu" if function.approximate == "none" else "gelu_tanh"
    raise ValueError(f"activation={function!r} must be ReLU or GELU")


def norm_eps(name: str, norm: object) -> float:
    """Return ε of a norm that must be `torch.nn.LayerNorm`."""
    if not isinstance(norm, nn.LayerNorm):
        raise ValueError(
            f"{name} must be a torch.nn.LayerNorm, got {type(norm).__name__}"
        )
    return norm.eps


def copied(ours: Module, theirs: nn.Module) -> Module:
    """Return `ours` with the weights, the mode, the device and the dtype of `theirs`."""
    like = next(theirs.parameters())
    ours.to(like.device, like.dtype).load_state_dict(theirs.state_dict())
    return ours.train(theirs.training)
