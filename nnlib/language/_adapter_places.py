"""Which layers of a model are meant by a name, and how another is put in a layer's place.

Part of `nnlib.language.adapters`.
"""

from collections.abc import Callable, Sequence

from torch import nn

from nnlib.language._beside import Beside, features

Targets = str | Sequence[str]
"""Names of layers: whole, or their last parts; "all" is every linear layer but the output's."""

OUTPUTS = ("head", "lm_head")
"""What the layer that gives logits is called; "all" leaves it out."""


def checked(model: object) -> nn.Module:
    """Return a model, if it is one."""
    if not isinstance(model, nn.Module):
        raise TypeError(f"model must be a torch.nn.Module, got {type(model).__name__}")
    return model


def matching(model: nn.Module, targets: Targets) -> list[str]:
    """Return the names of the linear layers that are meant, none of them adapted already."""
    wanted = [targets] if isinstance(targets, str) else targets
    if not isinstance(wanted, list | tuple) or not all(
        isinstance(t, str) for t in wanted
    ):
        raise TypeError(f"targets={targets!r} must be a name or a list of names")
    if not wanted:
        raise ValueError("targets must name one layer or more, got none")
    layers = {
        n: m for n, m in checked(model).named_modules() if n and features(m) is not None
    }
    inside = tuple(f"{n}." for n, m in layers.items() if isinstance(m, Beside))
    layers = {n: m for n, m in layers.items() if not n.startswith(inside)}
    found: list[str] = []
    for target in wanted:
        if target == "all":
            names = [n for n in layers if n.split(".")[-1] not in OUTPUTS]
        else:
            names = [n for n in layers if f".{n}".endswith(f".{target}")]
        if not names:
            parts = sorted({n.split(".")[-1] for n in layers}) or ["none"]
            raise ValueError(
                f"targets: no linear layer is called {target!r}; there are {', '.join(parts)}"
            )
        found += [name for name in names if name not in found]
    for name in found:
        if isinstance(layers[name], Beside):
            raise ValueError(
                f"targets: {name} has an adapter already ({type(layers[name]).__name__}); "
                "merge it first"
            )
    return found


def replaced(
    model: nn.Module,
    targets: Targets,
    made: Callable[[nn.Module], nn.Module],
    *,
    freeze: bool = True,
) -> nn.Module:
    """Put something in the place of each layer that is meant; all of it is made first."""
    names = matching(model, targets)
    before = [(p, p.requires_grad) for p in model.parameters()]
    try:
        new = {name: made(model.get_submodule(name)) for name in names}
    except Exception:
        for parameter, learned in before:
            parameter.requires_grad_(learned)
        raise
    if freeze:
        kept = [
            p for module in new.values() for p in module.parameters() if p.requires_grad
        ]
        model.requires_grad_(False)
        for parameter in kept:
            parameter.requires_grad_(True)
    for name, module in new.items():
        put(model, name, module.train(model.training))
    return model


def put(model: nn.Module, name: str, module: nn.Module) -> None:
    """Put a module in the place of the one of this name."""
    parent, _, last = name.rpartition(".")
    setattr(model.get_submodule(parent), last, module)
