"""Optimizers: rules that turn a gradient into a step, with torch.optim's arguments and state.

Chapter: chapters/foundations/optimizers.md     Papers: named at each class
Letters: `theta` one tensor of parameters, `g` its gradient, of the same shape; all is elementwise.

Each rule stands here twice: `_update` is the equation for one tensor; `_update_all`, which `step`
uses unless `foreach=False`, does it for a list of tensors in few calls (`torch._foreach_*`).
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from nnlib import checks
from nnlib.foundations._rule import Group, Params, Rule, Slots

List = list[Tensor]
Values = Float[Tensor, "*n"]


class SGD(Rule):
    r"""Stochastic gradient descent: $\theta \leftarrow \theta - \eta\,g$, with momentum if wanted.

    With momentum $\mu$ a buffer $b \leftarrow \mu b + (1 - \text{dampening})\,g$ takes the
    gradient's place; with Nesterov's look-ahead, $g + \mu b$ does
    (equations `optimizers-sgd`, `optimizers-momentum-torch`, `optimizers-nesterov-torch`).

    Args:
        params: parameters, or groups of them.
        lr: learning rate $\eta$, ≥ 0.
        momentum: $\mu$ ≥ 0; 0 keeps no buffer.
        dampening: how much of the gradient the buffer leaves out, after the first step.
        weight_decay: $\lambda$ ≥ 0 of the penalty $\tfrac{\lambda}{2}\lVert\theta\rVert^2$.
        nesterov: whether to look ahead; needs momentum and no dampening.
        foreach: whether to take all tensors together; None does.

    Example:
        >>> w = torch.tensor(1.0, requires_grad=True)
        >>> _ = w.square().backward(), SGD([w], lr=0.25).step()
        >>> w.item()
        0.5

    Source: Robbins and Monro 1951; momentum: Polyak 1964; look-ahead: Nesterov 1983, in the
    variables of Sutskever et al. 2013. Their velocity is $-\eta b$, the chapter's $u$.
    """

    def __init__(
        self,
        params: Params,
        lr: float = 1e-3,
        momentum: float = 0,
        dampening: float = 0,
        weight_decay: float = 0,
        nesterov: bool = False,
        *,
        foreach: bool | None = None,
    ):
        options = {
            "lr": lr,
            "momentum": momentum,
            "dampening": dampening,
            "nesterov": nesterov,
        }
        super().__init__(
            params, {**options, "weight_decay": weight_decay, "foreach": foreach}
        )

    def _check(self, group: Group) -> None:
        super()._check(group)
        checks.number("momentum", group["momentum"], least=0)
        checks.number("dampening", group["dampening"])
        checks.flag("nesterov", group["nesterov"])
        if group["nesterov"] and (group["momentum"] == 0 or group["dampening"] != 0):
            got = (
                f"got momentum={group['momentum']!r}, dampening={group['dampening']!r}"
            )
            raise ValueError(f"nesterov=True needs momentum > 0 and dampening=0, {got}")

    def _update(self, theta: Values, g: Values, state: Slots, group: Group) -> None:
        mu, b = group["momentum"], state.get("momentum_buffer")
        if mu:
            b = g.clone() if b is None else mu * b + (1 - group["dampening"]) * g
            state["momentum_buffer"] = b  # eq. optimizers-momentum-torch
            g = g + mu * b if group["nesterov"] else b  # eq. optimizers-nesterov-torch
        theta -= group["lr"] * g  # eq. optimizers-sgd

    def _update_all(
        self, thetas: List, gs: List, states: list[Slots], group: Group
    ) -> None:
        mu = group["momentum"]
        if mu and any(state.get("momentum_buffer") is None for state in states):
            for theta, g, state in zip(
                thetas, gs, states, strict=True
            ):  # the first step
                self._update(theta, g, state, group)
            return
        if mu:
            bs = [state["momentum_buffer"] for state in states]
            torch._foreach_mul_(bs, mu)
            torch._foreach_add_(bs, gs, alpha=1 - group["dampening"])
            gs = list(torch._foreach_add(gs, bs, alpha=mu)) if group["nesterov"] else bs
        torch._foreach_add_(thetas, gs, alpha=-group["lr"])


class Adagrad(Rule):
    r"""AdaGrad: divide each coordinate's step by the root of the sum of all its squared gradients.

    $G \leftarrow G + g^2$, $\theta \leftarrow \theta - \eta\,g / (\sqrt G + \epsilon)$
    (equation `optimizers-adagrad`).

    Args:
        params: parameters, or groups of them.
        lr: learning rate $\eta$, ≥ 0; step $t$ uses $\eta / (1 + (t - 1)\,\text{lr\_decay})$.
        lr_decay: see `lr`, ≥ 0.
        weight_decay: $\lambda$ ≥ 0 of the penalty $\tfrac{\lambda}{2}\lVert\theta\rVert^2$.
        initial_accumulator_value: $G$ before the first step, ≥ 0.
        eps: $\epsilon$ ≥ 0, outside the root.
        foreach: whether to take all tensors together; None does.

    Example:
        >>> w = torch.tensor(1.0, requires_grad=True)
        >>> _ = w.square().backward(), Adagrad([w], lr=0.25).step()
        >>> round(w.item(), 6)
        0.75

    Source: Duchi, Hazan and Singer 2011.
    """

    _starts_at_once = True

    def __init__(
        self,
        params: Params,
        lr: float = 1e-2,
        lr_decay: float = 0,
        weight_decay: float = 0,
        initial_accumulator_value: float = 0,
        eps: float = 1e-10,
        foreach: bool | None = None,
    ):
        options = {
            "lr": lr,
            "lr_decay": lr_decay,
            "eps": eps,
            "weight_decay": weight_decay,
        }
        start = {
            "initial_accumulator_value": initial_accumulator_value,
            "foreach": foreach,
        }
        super().__init__(params, {**options, **start})

    def _check(self, group: Group) -> None:
        super()._check(group)
        checks.number("lr_decay", group["lr_decay"], least=0)
        checks.number(
            "initial_accumulator_value", group["initial_accumulator_value"], least=0
        )

    def _start(self, theta: Tensor, group: Group) -> Slots:
        total = torch.full_like(
            theta, group["initial_accumulator_value"], requires_grad=False
        )
        return {"step": torch.tensor(0.0), "sum": total}

    def _update(self, theta: Values, g: Values, state: Slots, group: Group) -> None:
        lr = group["lr"] / (1 + state["step"].item() * group["lr_decay"])
        state["step"] += 1
        state["sum"] += g.square()  # eq. optimizers-adagrad
        theta -= lr * g / (state["sum"].sqrt() + group["eps"])

    def _update_all(
        self, thetas: List, gs: List, states: list[Slots], group: Group
    ) -> None:
        totals = [state["sum"] for state in states]
        lrs = [
            -group["lr"] / (1 + s["step"].item() * group["lr_decay"]) for s in states
        ]
        torch._foreach_add_([state["step"] for state in states], 1)
        torch._foreach_addcmul_(totals, gs, gs)
        roots = torch._foreach_sqrt(totals)
        torch._foreach_add_(roots, group["eps"])
        torch._foreach_addcdiv_(thetas, gs, roots, lrs)


class RMSprop(Rule):
    r"""RMSProp: AdaGrad with a memory that fades, so that steps do not shrink for ever.

    $v \leftarrow \rho v + (1 - \rho)\,g^2$, $\theta \leftarrow \theta - \eta\,g / (\sqrt v +
    \epsilon)$ (equation `optimizers-rmsprop`).
    torch's `momentum` and `centered` are not offered.

    Args:
        params: parameters, or groups of them.
        lr: learning rate $\eta$, ≥ 0.
        alpha: the share $\rho$ of the old mean that stays, in [0, 1).
        eps: $\epsilon$ ≥ 0, outside the root.
        weight_decay: $\lambda$ ≥ 0 of the penalty $\tfrac{\lambda}{2}\lVert\theta\rVert^2$.
        foreach: whether to take all tensors together; None does.

    Example:
        >>> w = torch.tensor(1.0, requires_grad=True)
        >>> _ = w.square().backward(), RMSprop([w], lr=0.25, alpha=0.75).step()
        >>> round(w.item(), 6)
        0.5

    Source: Tieleman and Hinton 2012.
    """

    def __init__(
        self,
        params: Params,
        lr: float = 1e-2,
        alpha: float = 0.99,
        eps: float = 1e-8,
        weight_decay: float = 0,
        *,
        foreach: bool | None = None,
    ):
        options = {"lr": lr, "alpha": alpha, "eps": eps, "weight_decay": weight_decay}
        super().__init__(params, {**options, "foreach": foreach})

    def _check(self, group: Group) -> None:
        super()._check(group)
        checks.number("alpha", group["alpha"], least=0, below=1)

    def _start(self, theta: Tensor, group: Group) -> Slots:
        return {"step": torch.tensor(0.0), "square_avg": torch.zeros_like(theta)}

    def _update(self, theta: Values, g: Values, state: Slots, group: Group) -> None:
        rho, v = group["alpha"], state["square_avg"]
        state["step"] += 1
        # eq. optimizers-rmsprop
        state["square_avg"] = v = rho * v + (1 - rho) * g.square()
        theta -= group["lr"] * g / (v.sqrt() + group["eps"])

    def _update_all(
        self, thetas: List, gs: List, states: list[Slots], group: Group
    ) -> None:
        vs = [state["square_avg"] for state in states]
        torch._foreach_add_([state["step"] for state in states], 1)
        torch._foreach_mul_(vs, group["alpha"])
        torch._foreach_addcmul_(vs, gs, gs, 1 - group["alpha"])
        roots = torch._foreach_sqrt(vs)
        torch._foreach_add_(roots, group["eps"])
        torch._foreach_addcdiv_(thetas, gs, roots, -group["lr"])


class Adam(Rule):
    r"""Adam: momentum and RMSProp together, both corrected for their start at zero.

    $m \leftarrow \beta_1 m + (1 - \beta_1)\,g$, $v \leftarrow \beta_2 v + (1 - \beta_2)\,g^2$,
    $\theta \leftarrow \theta - \eta\,\hat m / (\sqrt{\hat v} + \epsilon)$ with
    $\hat m = m / (1 - \beta_1^t)$ and $\hat v = v / (1 - \beta_2^t)$, $t = 1, 2, \dots$
    (equations `optimizers-adam-moments` … `optimizers-adam-step`).
    torch's `amsgrad` is not offered.

    Args:
        params: parameters, or groups of them.
        lr: learning rate $\eta$, ≥ 0.
        betas: $(\beta_1, \beta_2)$, both in [0, 1).
        eps: $\epsilon$ ≥ 0, outside the root.
        weight_decay: $\lambda$ ≥ 0, added to the gradient as $\lambda\theta$: an L2 penalty,
            which is *not* weight decay here; see `AdamW`.
        foreach: whether to take all tensors together; None does.

    Example:
        >>> w = torch.tensor(1.0, requires_grad=True)
        >>> _ = w.square().backward(), Adam([w], lr=0.25).step()
        >>> round(w.item(), 6)
        0.75

    Source: Kingma and Ba 2015.
    """

    def __init__(
        self,
        params: Params,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        *,
        foreach: bool | None = None,
    ):
        options = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay}
        super().__init__(params, {**options, "foreach": foreach})

    def _check(self, group: Group) -> None:
        super()._check(group)
        betas = group["betas"]
        if not isinstance(betas, tuple | list) or len(betas) != 2:
            raise TypeError(f"betas={betas!r} must be two numbers ≥ 0 and < 1")
        for at, beta in enumerate(betas):
            checks.number(f"betas[{at}]", beta, least=0, below=1)

    def _start(self, theta: Tensor, group: Group) -> Slots:
        zeros = {name: torch.zeros_like(theta) for name in ("exp_avg", "exp_avg_sq")}
        return {"step": torch.tensor(0.0), **zeros}

    def _update(self, theta: Values, g: Values, state: Slots, group: Group) -> None:
        state["step"] += 1
        t = state["step"].item()  # 1, 2, …
        m, v = state["exp_avg"], state["exp_avg_sq"]
        beta1, beta2 = group["betas"]
        if self._decoupled:
            # eq. optimizers-adamw-step
            theta -= group["lr"] * group["weight_decay"] * theta
        # eq. optimizers-adam-moments
        state["exp_avg"] = m = beta1 * m + (1 - beta1) * g
        state["exp_avg_sq"] = v = beta2 * v + (1 - beta2) * g.square()
        # eq. optimizers-adam-correction
        m_hat, v_hat = m / (1 - beta1**t), v / (1 - beta2**t)
        # eq. optimizers-adam-step
        theta -= group["lr"] * m_hat / (v_hat.sqrt() + group["eps"])

    def _update_all(
        self, thetas: List, gs: List, states: list[Slots], group: Group
    ) -> None:
        lr, (beta1, beta2) = group["lr"], group["betas"]
        steps, ms, vs = (
            [state[slot] for state in states]
            for slot in ("step", "exp_avg", "exp_avg_sq")
        )
        torch._foreach_add_(steps, 1)
        times = [step.item() for step in steps]
        if self._decoupled:
            torch._foreach_mul_(thetas, 1 - lr * group["weight_decay"])
        torch._foreach_lerp_(ms, gs, 1 - beta1)
        torch._foreach_mul_(vs, beta2)
        torch._foreach_addcmul_(vs, gs, gs, 1 - beta2)
        roots = torch._foreach_sqrt(vs)
        torch._foreach_div_(roots, [math.sqrt(1 - beta2**t) for t in times])
        torch._foreach_add_(roots, group["eps"])
        torch._foreach_addcdiv_(
            thetas, ms, roots, [-lr / (1 - beta1**t) for t in times]
        )


class AdamW(Adam):
    r"""Adam whose weight decay does not pass through the gradient's running means.

    $\theta \leftarrow \theta - \eta\,(\hat m / (\sqrt{\hat v} + \epsilon) + \lambda\theta)$
    (equation `optimizers-adamw-step`).

    Args:
        params, lr, betas, eps, foreach: as for `Adam`.
        weight_decay: $\lambda$ ≥ 0; a step shrinks every weight by the factor $1 - \eta\lambda$.

    Example:
        >>> w = torch.tensor(1.0, requires_grad=True)
        >>> _ = w.square().backward(), AdamW([w], lr=0.25, weight_decay=1.0).step()
        >>> round(w.item(), 6)
        0.5

    Source: Loshchilov and Hutter 2019, who scale $\lambda\theta$ by the schedule only; torch and
    we scale it by the learning rate too.
    """

    _decoupled = True

    def __init__(
        self,
        params: Params,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        *,
        foreach: bool | None = None,
    ):
        super().__init__(params, lr, betas, eps, weight_decay, foreach=foreach)
