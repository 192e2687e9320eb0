"""The part of an optimizer that is no mathematics: groups, state, named errors, the step.

A rule of `nnlib.foundations.optimizers` adds `_start`, the state of a fresh parameter;
`_update`, the rule for one tensor; and `_update_all`, the same for a list of tensors at once.
"""

from collections.abc import Callable, Iterable
from typing import Any, overload

import torch
from torch import Tensor
from torch.optim import Optimizer

from nnlib import checks

Params = Iterable[Any]  # tensors, (name, tensor) pairs, or dicts: one a group
Group = dict[str, Any]
Slots = dict[str, Tensor]
_HOW = {"foreach", "fused", "capturable", "differentiable"}  # torch's options of speed
_WHAT = {"amsgrad", "centered", "maximize", "momentum", "decoupled_weight_decay"}


class Rule(Optimizer):
    """A `torch.optim.Optimizer` without its rule."""

    _decoupled = False  # whether weight decay stays out of the gradient
    _starts_at_once = False  # whether torch's namesake has state before the first step

    def __init__(self, params: Params, defaults: Group):
        if isinstance(params, str | Tensor) or not isinstance(params, Iterable):
            raise TypeError(
                f"params must be tensors or groups of them, got {type(params).__name__}"
            )
        params = list(params)
        if not params:
            raise ValueError("params must hold one tensor or more, got none")
        super().__init__(params, defaults)

    def _check(self, group: Group) -> None:
        checks.number("lr", group["lr"], least=0)
        checks.number("weight_decay", group["weight_decay"], least=0)
        checks.number("eps", group.get("eps", 0.0), least=0)
        if group["foreach"] is not None:
            checks.flag("foreach", group["foreach"])

    def _start(self, theta: Tensor, group: Group) -> Slots:
        return {}

    def _update(self, theta: Tensor, g: Tensor, state: Slots, group: Group) -> None:
        raise NotImplementedError

    def _update_all(
        self, thetas: list[Tensor], gs: list[Tensor], states: list[Slots], group: Group
    ) -> None:
        raise NotImplementedError

    @overload
    def step(self, closure: None = None) -> None: ...

    @overload
    def step(self, closure: Callable[[], float]) -> float: ...

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Move every parameter that has a gradient; return what `closure` returned.

        Raises:
            TypeError: a gradient is sparse.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            thetas = [p for p in group["params"] if p.grad is not None]
            gs = [p.grad for p in thetas]
            for theta, g in zip(thetas, gs, strict=True):
                if g.layout != torch.strided:
                    raise TypeError(f"params must have dense gradients, got {g.layout}")
                if not self.state[theta]:
                    self.state[theta].update(self._start(theta, group))
            states = [self.state[theta] for theta in thetas]
            penalty = 0 if self._decoupled else group["weight_decay"]
            if thetas and penalty:
                gs = list(
                    torch._foreach_add(gs, thetas, alpha=penalty)
                )  # eq. optimizers-l2
            if thetas and group["foreach"] is not False:
                self._update_all(thetas, gs, states, group)
            else:
                for theta, g, state in zip(thetas, gs, states, strict=True):
                    self._update(theta, g, state, group)
        return loss

    def add_param_group(self, param_group: Group) -> None:
        """Add parameters with options of their own."""
        if isinstance(param_group, dict):
            unknown = sorted(
                set(param_group) - {"params", "param_names", *self.defaults}
            )
            if unknown:
                raise ValueError(
                    f"{type(self).__name__} takes no {unknown}; it takes {sorted(self.defaults)}"
                )
            self._check({**self.defaults, **param_group})
        super().add_param_group(param_group)
        for theta in self.param_groups[-1]["params"]:
            checks.tensor("params", theta, floating=True)
            if self._starts_at_once:
                self.state[theta].update(self._start(theta, self.param_groups[-1]))

    def load_state_dict(self, state_dict: Group) -> None:
        """Load the state of this rule, or of its namesake in torch.optim.

        Raises:
            ValueError: the state is of another rule, or uses an option that this one lacks.
        """
        name, groups = type(self).__name__, []
        for group in state_dict["param_groups"]:
            missing = sorted(set(self.defaults) - set(group) - _HOW)
            if missing:
                raise ValueError(f"state_dict lacks {missing}: it is not of {name}")
            foreign = _WHAT - set(self.defaults)
            for option in sorted(foreign & set(group)):
                if group[option] and not (
                    name == "AdamW" and option == "decoupled_weight_decay"
                ):
                    raise ValueError(
                        f"state_dict has {option}={group[option]!r}, not in {name}"
                    )
            kept = {k: v for k, v in group.items() if k not in foreign | _HOW}
            groups.append({**kept, "foreach": group.get("foreach")})
            self._check(groups[-1])
        super().load_state_dict({**state_dict, "param_groups": groups})
