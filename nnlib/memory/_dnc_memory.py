r"""What a differentiable neural computer keeps track of: free slots, and the order of writes.

Axes: b batch, r read heads, n slots of the memory.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from nnlib import checks


def update_usage(
    usage: Float[Tensor, "b n"],
    write_weights: Float[Tensor, "b n"],
    read_weights: Float[Tensor, "b r n"],
    free_gates: Float[Tensor, "b r"],
) -> Float[Tensor, "b n"]:
    r"""Return how far each slot is in use: more where it was written, less where it was freed.

    $\mathbf u_t = (\mathbf u + \mathbf w - \mathbf u \odot \mathbf w) \odot \boldsymbol\psi$ with
    the retention $\boldsymbol\psi = \prod_r (1 - f_r \mathbf w^{read}_r)$ (equations
    `neural-turing-machine-usage`, `-retention`).

    Args:
        usage: before, in [0, 1].
        write_weights: of the step before.
        read_weights: of the step before.
        free_gates: in [0, 1]: 1 lets go of what the head read.

    Example:
        >>> used = update_usage(torch.tensor([[0.5, 1.0]]), torch.tensor([[0.5, 0.0]]),
        ...                     torch.tensor([[[0.0, 1.0]]]), torch.tensor([[1.0]]))
        >>> used
        tensor([[0.7500, 0.0000]])
    """
    checks.tensor("usage", usage, shape=("b", "n"), floating=True)
    b, n = usage.shape
    checks.tensor("write_weights", write_weights, shape=(b, n), floating=True)
    checks.tensor("read_weights", read_weights, shape=(b, "r", n), floating=True)
    checks.tensor("free_gates", free_gates, shape=(b, read_weights.shape[1]))
    kept = 1 - free_gates[..., None] * read_weights
    retention = kept.prod(1) if kept.shape[1] > 1 else kept[:, 0]
    return (
        torch.lerp(write_weights, torch.ones_like(usage), usage) * retention
    )  # u+w−uw


def allocation(usage: Float[Tensor, "b n"]) -> Float[Tensor, "b n"]:
    r"""Return weights for writing to what is least in use.

    In the order φ of rising usage, $a(\phi_j) = (1 - u(\phi_j)) \prod_{i<j} u(\phi_i)$ (equation
    `neural-turing-machine-allocation`): a slot that is quite free takes everything, and what it
    leaves goes to the next. Of equal slots the first comes first. If all are fully in use, the
    weights are zero, and nothing is written by allocation. The order itself has no gradient.

    Args:
        usage: in [0, 1].

    Example:
        >>> allocation(torch.tensor([[1.0, 0.0, 0.5], [1.0, 0.25, 0.5]]))
        tensor([[0.0000, 1.0000, 0.0000],
                [0.0000, 0.7500, 0.1250]])
    """
    checks.tensor("usage", usage, shape=("b", "n"), floating=True)
    rising, order = usage.sort(dim=-1, stable=True)
    before = torch.cat((torch.ones_like(rising[:, :1]), rising[:, :-1]), -1)
    shares = (1 - rising) * before.cumprod(-1)
    return torch.zeros_like(usage).scatter(-1, order, shares)


def update_precedence(
    precedence: Float[Tensor, "b n"], write_weights: Float[Tensor, "b n"]
) -> Float[Tensor, "b n"]:
    r"""Return to which degree each slot was the last one written.

    $\mathbf p_t = (1 - \sum_i w(i))\,\mathbf p_{t-1} + \mathbf w$ (equation
    `neural-turing-machine-precedence`): a step that writes nothing changes nothing.

    Example:
        >>> update_precedence(torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 0.5]]))
        tensor([[0.5000, 0.5000]])
    """
    checks.tensor("precedence", precedence, shape=("b", "n"), floating=True)
    shape = tuple(precedence.shape)
    checks.tensor("write_weights", write_weights, shape=shape, floating=True)
    return (1 - write_weights.sum(-1, keepdim=True)) * precedence + write_weights


def update_links(
    links: Float[Tensor, "b n n"],
    write_weights: Float[Tensor, "b n"],
    precedence: Float[Tensor, "b n"],
) -> Float[Tensor, "b n n"]:
    r"""Return to which degree slot i was written right after slot j.

    $L_t(i, j) = (1 - w(i) - w(j))\,L_{t-1}(i, j) + w(i)\,p_{t-1}(j)$, and 0 where $i = j$ (equation
    `neural-turing-machine-links`): writing to a slot cuts its old links, and ties it to what was
    written before.

    Args:
        links: before.
        write_weights: of this step.
        precedence: of the step before.

    Example:
        >>> before, now = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]])
        >>> update_links(torch.zeros(1, 2, 2), now, before)  # slot 1 after slot 0
        tensor([[[0., 0.],
                 [1., 0.]]])
    """
    checks.tensor("links", links, shape=("b", "n", "n"), floating=True)
    b, n, _ = links.shape
    checks.tensor("links", links, shape=(b, n, n))
    checks.tensor("write_weights", write_weights, shape=(b, n), floating=True)
    checks.tensor("precedence", precedence, shape=(b, n), floating=True)
    new = write_weights[:, :, None]
    kept = 1 - new - write_weights[:, None]
    off_diagonal = 1 - torch.eye(n, dtype=links.dtype, device=links.device)
    return torch.addcmul(kept * links, new, precedence[:, None]) * off_diagonal


def link_reads(
    links: Float[Tensor, "b n n"], read_weights: Float[Tensor, "b r n"]
) -> tuple[Float[Tensor, "b r n"], Float[Tensor, "b r n"]]:
    r"""Return where each head comes going one write back, and one write on.

    $\mathbf b = \mathbf L^\top \mathbf w$ and $\mathbf f = \mathbf L\,\mathbf w$ (equations
    `neural-turing-machine-backward` and `-forward`).

    Args:
        links: of this step.
        read_weights: of the step before.

    Example:
        >>> links = torch.tensor([[[0.0, 0.0], [1.0, 0.0]]])  # slot 1 was written after slot 0
        >>> backward, forward = link_reads(links, torch.tensor([[[1.0, 0.0]]]))
        >>> backward, forward
        (tensor([[[0., 0.]]]), tensor([[[0., 1.]]]))
    """
    checks.tensor("links", links, shape=("b", "n", "n"), floating=True)
    b, n, _ = links.shape
    checks.tensor("links", links, shape=(b, n, n))
    checks.tensor("read_weights", read_weights, shape=(b, "r", n), floating=True)
    return read_weights @ links, read_weights @ links.mT
