"""One step of each linear recurrence with a matrix as state: what `mamba-family` lists.

Part of `nnlib.sequence.mamba`, with its axes; S is the state, keys × values, before the step.
"""

from torch import Tensor


def linear_attention_update(S: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Add what is to be found at a key: Katharopoulos et al. 2020."""
    return S + k[..., None] * v[..., None, :]  # eq. mamba-family


def retnet_update(S: Tensor, k: Tensor, v: Tensor, decay: float | Tensor) -> Tensor:
    """Fade all by a constant of the head: Sun et al. 2023."""
    return decay * S + k[..., None] * v[..., None, :]  # eq. mamba-family


def gla_update(S: Tensor, k: Tensor, v: Tensor, keep: Tensor) -> Tensor:
    """Fade each row as the token says (`keep` as wide as a key): Yang et al. 2023."""
    return keep[..., None] * S + k[..., None] * v[..., None, :]  # eq. mamba-family


def mlstm_update(
    S: Tensor, z: Tensor, k: Tensor, v: Tensor, forget: Tensor, write: Tensor
) -> tuple[Tensor, Tensor]:
    """Fade and write behind gates, and sum the keys for a normaliser: Beck et al. 2024."""
    written = (write[..., None] * k)[..., None] * v[..., None, :]
    S = forget[..., None, None] * S + written  # eq. mamba-family
    z = forget[..., None] * z + write[..., None] * k
    return S, z


def ssd_update(S: Tensor, B: Tensor, x: Tensor, a: Tensor) -> Tensor:
    """Fade all by one number that the token sets: Dao and Gu 2024."""
    written = B[..., None] * x[..., None, :]
    return a.exp()[..., None, None] * S + written  # eq. mamba-family


def delta_update(S: Tensor, k: Tensor, v: Tensor, beta: Tensor) -> Tensor:
    """Move what is found at a key (of length 1) towards v by a share β: Schlag et al. 2021."""
    found = (k[..., None, :] @ S)[..., 0, :]
    written = (beta[..., None] * k)[..., None] * (v - found)[..., None, :]
    return S + written  # eq. mamba-family


def gated_delta_update(
    S: Tensor, k: Tensor, v: Tensor, alpha: Tensor, beta: Tensor
) -> Tensor:
    """Fade all by a number that the token sets, then write as `delta_update`: Yang et al. 2025."""
    return delta_update(alpha[..., None, None] * S, k, v, beta)  # eq. mamba-family


def rwkv7_update(
    S: Tensor, k: Tensor, v: Tensor, keep: Tensor, removal: Tensor, rate: Tensor
) -> Tensor:
    """Fade each row, and take away what stands at a key of its own: Peng et al. 2025."""
    removed = (removal[..., None, :] @ S)[..., 0, :]  # at a key of length 1
    S = keep[..., None] * S - (rate * removal)[..., None] * removed[..., None, :]
    return S + k[..., None] * v[..., None, :]  # eq. mamba-family
