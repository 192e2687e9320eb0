r"""What a cell sees of its neighbours: itself, two gradients, a Laplacian; and who is alive.

Each filter is separable, one column times one row, $\mathbf{k} = \mathbf{u}\mathbf{v}^\top$, so a
whole grid is filtered by two small banded matrices: $\mathbf{U}\mathbf{S}\mathbf{V}^\top$. The
readable forms are convolutions. Within, states lie as y x b c, so that the layers of a cell are
one matrix product; outside they are b c y x, as torch has it.
"""

import math
from collections.abc import Callable

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

from nnlib import checks

PERCEPTIONS = {"sobel": 3, "laplacian": 2, "both": 4}
"""How many times its own channels a cell sees."""
PADDINGS = ("zeros", "circular")
BANDED = 128
"""Rows or columns of a grid beyond which convolutions are cheaper than products with matrices."""

SMOOTH, SLOPE = (1.0, 2.0, 1.0), (-1.0, 0.0, 1.0)


def perceive(
    state: Float[Tensor, "b c y x"],
    perception: str = "sobel",
    *,
    angle: float = 0.0,
    padding: str = "zeros",
) -> Float[Tensor, "b p y x"]:
    r"""Return what each cell sees: its own channels, then their slopes along x and along y.

    Equation `neural-cellular-automata-perception`: $\mathbf{p} = [\mathbf{s};
    \mathbf{K}_x * \mathbf{s}; \mathbf{K}_y * \mathbf{s}]$ with Sobel's kernels over 8, so that the
    slope of a ramp is its slope.

    Args:
        state: the grid.
        perception: `sobel`, those three; `laplacian`, the cell and its Laplacian, which has no
            direction; `both`, all four.
        angle: by which the cells' axes are turned, in radians (equation
            `neural-cellular-automata-rotation`).
        padding: `zeros` outside of the grid, or `circular`, on a torus.

    Example:
        >>> ramp = torch.arange(5.0).expand(1, 1, 5, 5)
        >>> perceive(ramp)[0, :, 2, 2]
        tensor([2., 1., 0.])
    """
    s = _grid(state, perception, padding).permute(2, 3, 0, 1)
    sees, _ = senses(s, perception, checks.number("angle", angle), padding)
    return sees(s).permute(2, 3, 0, 1)


def perceive_reference(
    state: Float[Tensor, "b c y x"],
    perception: str = "sobel",
    *,
    angle: float = 0.0,
    padding: str = "zeros",
) -> Float[Tensor, "b p y x"]:
    """Return the same as `perceive`, by convolutions."""
    s = _grid(state, perception, padding)
    angle = checks.number("angle", angle)
    smooth, slope = state.new_tensor(SMOOTH), state.new_tensor(SLOPE)
    kx, ky = torch.outer(smooth, slope) / 8, torch.outer(slope, smooth) / 8
    c, sin = math.cos(angle), math.sin(angle)
    # eq. neural-cellular-automata-rotation
    slopes = [c * kx - sin * ky, sin * kx + c * ky]
    mean = torch.outer(smooth, smooth) / 16
    kernels = {"sobel": slopes, "laplacian": [mean], "both": [*slopes, mean]}
    rows, columns = s.shape[-2:]
    around = _padded(s.reshape(-1, 1, rows, columns), padding)
    seen = [F.conv2d(around, k[None, None]).view(s.shape) for k in kernels[perception]]
    if perception != "sobel":
        seen[-1] = seen[-1] - s  # eq. neural-cellular-automata-laplacian
    return torch.cat([s, *seen], 1)


def living(
    state: Float[Tensor, "b c y x"],
    channel: int = 3,
    threshold: float = 0.1,
    *,
    padding: str = "zeros",
) -> Bool[Tensor, "b 1 y x"]:
    """Return which cells live: they or one of their eight neighbours have more than a threshold.

    Equation `neural-cellular-automata-alive`.

    Args:
        state: the grid.
        channel: which of the channels says so.
        threshold: what must be exceeded.
        padding: as `perceive` has it.

    Example:
        >>> seed = torch.zeros(1, 4, 5, 5)
        >>> seed[0, 3, 2, 2] = 1
        >>> int(living(seed).sum())
        9
    """
    s = _grid(state, "sobel", padding)
    checks.count("channel", channel, least=0)
    checks.number("channel", channel, below=state.shape[1])
    alpha = _padded(s[:, channel : channel + 1], padding)
    return F.max_pool2d(alpha, 3, 1) > checks.number("threshold", threshold)


def senses(
    s: Tensor, perception: str, angle: float, padding: str
) -> tuple[Callable[[Tensor], Tensor], Callable[[Tensor, int, float], Tensor]]:
    """Return two functions of a grid y x b c of this size: what cells see, and which ones live."""
    rows, columns = s.shape[:2]
    c, sin = math.cos(angle), math.sin(angle)
    if max(rows, columns) > BANDED:
        return _by_convolution(perception, angle, padding)
    across = torch.stack([_band(columns, part, padding, s) for part in (SLOPE, SMOOTH)])
    down = torch.cat([_band(rows, part, padding, s) for part in (SMOOTH, SLOPE)])
    near = [
        (_band(size, SMOOTH, padding, s) > 0).to(s.dtype) for size in (rows, columns)
    ]

    def sees(s: Tensor) -> Tensor:
        smooth_slope = (down @ s.reshape(rows, -1)).view(2, rows, columns, -1)
        seen = [s]
        if perception != "laplacian":
            turned = (across[:, None] @ smooth_slope / 8).view(2, *s.shape)
            gx, gy = turned  # eq. neural-cellular-automata-perception
            if angle:
                # eq. neural-cellular-automata-rotation
                gx, gy = c * gx - sin * gy, sin * gx + c * gy
            seen += [gx, gy]
        if perception != "sobel":
            mean = (across[1] @ smooth_slope[0] / 16).view(s.shape)
            seen.append(mean - s)  # eq. neural-cellular-automata-laplacian
        return torch.cat(seen, -1)

    def lives(s: Tensor, channel: int, threshold: float) -> Tensor:
        here = (s[..., channel] > threshold).to(s.dtype)
        beside = (near[0] @ here.reshape(rows, -1)).view(here.shape)
        return (near[1] @ beside > 0)[..., None]  # eq. neural-cellular-automata-alive

    return sees, lives


def _by_convolution(
    perception: str, angle: float, padding: str
) -> tuple[Callable[[Tensor], Tensor], Callable[[Tensor, int, float], Tensor]]:
    def sees(s: Tensor) -> Tensor:
        seen = perceive_reference(
            s.permute(2, 3, 0, 1), perception, angle=angle, padding=padding
        )
        return seen.permute(2, 3, 0, 1)

    def lives(s: Tensor, channel: int, threshold: float) -> Tensor:
        alive = living(s.permute(2, 3, 0, 1), channel, threshold, padding=padding)
        return alive.permute(2, 3, 0, 1)

    return sees, lives


def _band(size: int, kernel: tuple[float, ...], padding: str, like: Tensor) -> Tensor:
    """Return the matrix that filters a row of cells by a kernel of three."""
    whole = torch.eye(size, device=like.device, dtype=like.dtype)
    after, before = (
        whole.roll(-1, 0),
        whole.roll(1, 0),
    )  # the next cell, the last one, on a circle
    if padding == "zeros":
        after, before = after.triu(1), before.tril(-1)
    left, middle, right = kernel
    return left * before + middle * whole + right * after


def _padded(x: Tensor, padding: str) -> Tensor:
    if padding == "zeros":
        return F.pad(x, (1, 1, 1, 1))
    x = torch.cat([x[..., -1:, :], x, x[..., :1, :]], -2)
    return torch.cat([x[..., -1:], x, x[..., :1]], -1)


def _grid(state: Tensor, perception: str, padding: str) -> Tensor:
    checks.one_of("perception", perception, PERCEPTIONS)
    checks.one_of("padding", padding, PADDINGS)
    return checks.images("state", state)
