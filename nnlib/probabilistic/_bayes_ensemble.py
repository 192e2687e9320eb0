"""Ensembles: networks of one shape, trained side by side as one batch of weights."""

import copy
from collections.abc import Callable, Mapping

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap

from nnlib import checks


class Ensemble(nn.Module):
    r"""Networks of one shape that answer and learn side by side, eq. bayesian-average.

    Their weights are stacked, so that all members take a training step together, at little more
    than the time of one where networks are small. With a prior, `penalty` is that of the anchored
    ensemble (`bayesian-anchor`): each member is held to a draw of its own from the prior, and the
    spread of the members then approximates that of the posterior. Without anchors it is a deep
    ensemble, and `penalty(anchored=False)` is ordinary weight decay.

    Args:
        make: builds a member; called `members` times, each with other random numbers.
        members: how many m, ≥ 1.
        prior_std: standard deviation of the prior of each weight, > 0: one for all, or by the name
            of a parameter. None: no prior, and so no penalty.

    Example:
        >>> ensemble = Ensemble(lambda: nn.Linear(3, 1), members=5, prior_std=1.0)
        >>> ensemble(torch.zeros(8, 3)).shape, ensemble.penalty().shape
        (torch.Size([5, 8, 1]), torch.Size([5]))

    Source: Lakshminarayanan et al. 2017; anchored: Pearce et al. 2020.
    """

    def __init__(
        self,
        make: Callable[[], nn.Module],
        members: int = 5,
        prior_std: float | Mapping[str, float] | None = None,
    ):
        super().__init__()
        members = checks.count("members", members)
        if not callable(make):
            raise TypeError(f"make must build a member when called, got {make!r}")
        made = [make() for _ in range(members)]
        if not all(isinstance(each, nn.Module) for each in made):
            raise TypeError("make must return a torch.nn.Module")
        shapes = [{k: v.shape for k, v in each.state_dict().items()} for each in made]
        if any(other != shapes[0] for other in shapes):
            raise ValueError("make must return networks of one shape at each call")
        parameters, buffers = stack_module_state(made)
        self._names = {name: name.replace(".", "__") for name in parameters}
        self._buffers_of = {name: name.replace(".", "__") for name in buffers}
        for name, stacked in parameters.items():
            wanted = nn.Parameter(stacked.detach(), stacked.requires_grad)
            self.register_parameter(self._names[name], wanted)
        for name, stacked in buffers.items():
            self.register_buffer(self._buffers_of[name], stacked)
        self.members = members
        self._skeleton = (made[0],)  # in a tuple, so that its weights are not ours
        self.prior_std = (
            None if prior_std is None else prior_stds(made[0], prior_std, "prior_std")
        )
        for name, value in self._stacked().items():
            scale = 0.0 if self.prior_std is None else self.prior_std[name]
            anchor = scale * torch.randn_like(value, requires_grad=False)
            self.register_buffer(f"anchor__{self._names[name]}", anchor)

    def _stacked(self) -> dict[str, Tensor]:
        return {name: getattr(self, own) for name, own in self._names.items()}

    def forward(self, x: Float[Tensor, "*m b d"]) -> Float[Tensor, "m b k"]:
        """Return every member's answer.

        Args:
            x: inputs, the same for all members (b d), or for each its own (m b d).
        """
        checks.tensor("x", x, floating=True)
        if x.ndim > 2 and len(x) != self.members:
            raise ValueError(
                f"x holds inputs for {len(x)} members, there are {self.members}"
            )
        skeleton = self._skeleton[0].train(self.training)
        buffers = {name: getattr(self, own) for name, own in self._buffers_of.items()}
        state = self._stacked() | buffers

        def answer(weights: dict[str, Tensor], given: Tensor) -> Tensor:
            return functional_call(skeleton, weights, (given,))

        axis = 0 if x.ndim > 2 else None
        return vmap(answer, (0, axis), randomness="different")(state, x)

    def loop(self, x: Float[Tensor, "*m b d"]) -> Float[Tensor, "m b k"]:
        """Do what `forward` does, one member after the other: the readable twin."""
        given = x if x.ndim > 2 else x.expand(self.members, *x.shape)
        answers = [self.member(i)(given[i]) for i in range(self.members)]
        return torch.stack(answers)

    def member(self, index: int) -> nn.Module:
        """Return a copy of one member, a network of its own.

        Args:
            index: 0 … members − 1.
        """
        index = checks.count("index", index, least=0)
        if index >= self.members:
            raise ValueError(f"index={index} must be below members={self.members}")
        one = copy.deepcopy(self._skeleton[0]).train(self.training)
        names = {**self._names, **self._buffers_of}
        state = {
            name: getattr(self, own)[index].detach().clone()
            for name, own in names.items()
        }
        for name, value in one.named_parameters():
            value.data = state[name]  # of the ensemble's device and precision
        for name, _ in list(one.named_buffers()):
            owner, _, own = name.rpartition(".")
            setattr(one.get_submodule(owner), own, state[name])
        return one

    @torch.no_grad()
    def start_from_prior(self) -> None:
        """Set each member's weights to its own draw from the prior, its anchor."""
        if self.prior_std is None:
            raise ValueError(
                "start_from_prior needs prior_std, which this ensemble has not"
            )
        for own in self._names.values():
            self.get_parameter(own).copy_(self.get_buffer(f"anchor__{own}"))

    def penalty(self, anchored: bool = True) -> Float[Tensor, " m"]:
        r"""Return $\sum (w - w_0)^2 / 2 \sigma_p^2$ of each member, in nats, eq. bayesian-anchor.

        Args:
            anchored: whether each member is held to its own draw from the prior; else to zero.

        Raises:
            ValueError: the ensemble has no prior.
        """
        if self.prior_std is None:
            raise ValueError("penalty needs prior_std, which this ensemble has not")
        total = torch.zeros(())
        for name, own in self._names.items():
            away = getattr(self, own)
            if checks.flag("anchored", anchored):
                away = away - getattr(self, f"anchor__{own}")
            squared = (away / self.prior_std[name]).square().flatten(1).sum(1)
            total = total.to(squared) + 0.5 * squared
        return total

    def weights(self) -> Float[Tensor, "m p"]:
        """Return each member's weights in one row, in the order of `parameters()`."""
        return torch.cat([part.flatten(1) for part in self._stacked().values()], 1)


def prior_stds(
    network: nn.Module, prior_std: float | Mapping[str, float], argument: str
) -> dict[str, float]:
    """Return the standard deviation of each parameter's prior by name."""
    names = [name for name, _ in network.named_parameters()]
    if not isinstance(prior_std, Mapping):
        return dict.fromkeys(names, checks.number(argument, prior_std, above=0))
    if set(prior_std) != set(names):
        raise ValueError(
            f"{argument} names {sorted(prior_std)}, the parameters are {sorted(names)}"
        )
    return {
        name: checks.number(f"{argument}[{name!r}]", prior_std[name], above=0)
        for name in names
    }
