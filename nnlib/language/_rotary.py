r"""Rotary frequencies for texts longer than those of training: five rules, and what applies them.

Chapter: chapters/language/long_context.md     Papers: Su et al. 2021 (rotary positions); Chen et
al. 2023 (linear); Peng et al. 2023 (NTK-aware, dynamic, YaRN); Llama 3.1 2024 (its rule)
Axes: half pairs of a head's features, b batch, h heads, t positions, d head width.

$\theta_i = \text{base}^{-2i/d}$ is what pair i turns by from one position to the next, in radians;
its wavelength is $2\pi/\theta_i$ positions, and within the trained length L it makes
$r_i = L\theta_i/2\pi$ turns.
"""

import math
from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.types import Device

from nnlib import checks
from nnlib.kernels.rope import rope

RULES = (None, "linear", "ntk", "dynamic", "yarn", "llama3")
_FAST = {"yarn": 32.0, "llama3": 4.0}
_NEEDS_LENGTH = ("dynamic", "yarn", "llama3")


def rope_frequencies(
    dim: int,
    base: float = 10000.0,
    scaling: str | None = None,
    *,
    factor: float = 1.0,
    trained_length: int | None = None,
    length: int | None = None,
    slow: float = 1.0,
    fast: float | None = None,
    ramp: str = "index",
    truncate: bool = True,
    dtype: torch.dtype = torch.float32,
    device: Device = None,
) -> Float[Tensor, "half"]:
    r"""Return what each pair of features turns by from one position to the next, in radians.

    Without `scaling`, $\theta_i = \text{base}^{-2i/d}$ (`long-context-frequencies`). The rules
    slow the turning down for a text s times as long as those of training:

    * "linear": $\theta_i / s$ (`long-context-linear`);
    * "ntk": base becomes $\text{base} \cdot s^{d/(d-2)}$ (`long-context-ntk`);
    * "dynamic": the same with $s n / L - (s - 1)$ for s, once the text's length n exceeds L
      (`long-context-dynamic`);
    * "yarn": $(1 - \gamma_i)\,\theta_i / s + \gamma_i \theta_i$, with γ a ramp from 0 for pairs
      that turn slowly to 1 for those that turn fast (`long-context-yarn`, `long-context-ramp`);
    * "llama3": the same with a ramp from 1 to 4 turns (`long-context-llama3`).

    Args:
        dim: head width d, even, ≥ 2; ≥ 4 for "ntk" and "dynamic".
        base: what the frequencies are powers of, > 0; > 1 for "yarn".
        scaling: None or the name of a rule.
        factor: s, how many times longer texts are to become, ≥ 1.
        trained_length: L, the positions of training, ≥ 1; "dynamic", "yarn", "llama3" need it.
        length: n, the positions of this text, ≥ 1, for "dynamic"; None is L.
        slow: turns within L at and below which a pair is slowed down by the whole factor, > 0.
        fast: turns at and above which it is left alone, > slow; None is 32 for "yarn", 4 for
            "llama3".
        ramp: between the two, for "yarn": "index", linear in the pair's number as in the authors'
            code and all published models, or "turns", linear in its turns as in the paper.
        truncate: whether the ends of "index" are rounded outwards to whole pairs, as theirs are.
        dtype: of the result, which is computed in float64.
        device: of the result.

    Returns:
        d/2 frequencies, fastest first.

    Raises:
        ValueError: an argument out of range, or one that the rule needs and lacks; named.

    Example:
        >>> rope_frequencies(4), rope_frequencies(4, scaling="linear", factor=4)
        (tensor([1.0000, 0.0100]), tensor([0.2500, 0.0025]))
        >>> rope_frequencies(4, scaling="ntk", factor=4)  # the slowest is linear's, the first kept
        tensor([1.0000, 0.0025])

    Source: Peng et al. 2023, whose |D|, b, λ, α and β are our d, base, wavelength, slow and fast.
    """
    d = checks.count("dim", dim, least=2)
    if d % 2:
        raise ValueError(
            f"dim={d} must be even: each frequency turns a pair of features"
        )
    base = checks.number("base", base, above=0)
    checks.one_of("scaling", scaling, RULES)
    s = checks.number("factor", factor, least=1)
    if scaling in _NEEDS_LENGTH and trained_length is None:
        raise ValueError(f"trained_length=None: scaling={scaling!r} needs it")
    trained = (
        1 if trained_length is None else checks.count("trained_length", trained_length)
    )
    if length is not None:
        length = checks.count("length", length)
    slow = checks.number("slow", slow, above=0)
    fast = checks.number(
        "fast", _FAST.get(scaling or "", 32.0) if fast is None else fast, above=slow
    )
    checks.one_of("ramp", ramp, ("index", "turns"))
    checks.flag("truncate", truncate)
    if scaling in ("ntk", "dynamic"):
        if d == 2:
            raise ValueError(f"dim=2 must be ≥ 4 for scaling={scaling!r}")
        if scaling == "dynamic":  # eq. long-context-dynamic
            s = max(1.0, s * (length or trained) / trained - (s - 1))
        base *= s ** (d / (d - 2))  # eq. long-context-ntk
    i = torch.arange(d // 2, dtype=torch.float64, device="cpu")
    theta = base ** (-2 * i / d)  # eq. long-context-frequencies
    if scaling == "linear":
        theta = theta / s  # eq. long-context-linear
    elif scaling == "llama3" or (scaling == "yarn" and ramp == "turns"):
        turns = trained * theta / (2 * math.pi)
        kept = ((turns - slow) / (fast - slow)).clamp(0, 1)
        theta = (1 - kept) * theta / s + kept * theta  # eq. long-context-llama3
    elif scaling == "yarn":
        first, last = _ends(d, base, trained, slow, fast, truncate)
        kept = 1 - ((i - first) / (last - first)).clamp(0, 1)
        theta = (1 - kept) * theta / s + kept * theta  # eq. long-context-yarn
    return theta.to(device, dtype)


def _ends(
    d: int, base: float, trained: int, slow: float, fast: float, truncate: bool
) -> tuple[float, float]:
    r"""Return the numbers of the pairs between which YaRN's code draws its ramp.

    Pair $i = d \ln(L / 2\pi r) / (2 \ln \text{base})$ makes r turns within L. The far end is
    held to d − 1, not to the last pair, as in the authors' code.
    """
    if base <= 1:
        raise ValueError(f"base={base:g} must be > 1 for scaling='yarn'")
    first, last = (
        d * math.log(trained / (turns * 2 * math.pi)) / (2 * math.log(base))
        for turns in (fast, slow)
    )
    if truncate:
        first, last = math.floor(first), math.ceil(last)
    first, last = max(first, 0), min(last, d - 1)
    return first, last if last != first else last + 0.001


def attention_factor(factor: float) -> float:
    r"""Return $0.1 \ln s + 1$, by which YaRN multiplies queries and keys (`long-context-factor`).

    Scores are thus multiplied by its square, which is 1/t, t the temperature of the paper: over
    more keys softmax would else be flatter than in training.

    Args:
        factor: s, how many times longer texts are than in training, ≥ 1.

    Example:
        >>> round(attention_factor(8), 3)
        1.208

    Source: Peng et al. 2023, who found it by fitting models of 7 to 65 billion weights.
    """
    return 0.1 * math.log(checks.number("factor", factor, least=1)) + 1


class Rotary:
    """Turns queries and keys by a base and, where texts are longer than in training, by a rule.

    No module: it has no weights, and its frequencies stay in double precision whatever becomes of
    the model's.

    Args:
        dim: head width d, even.
        base: what the frequencies are powers of, > 0.
        scaling: arguments of `rope_frequencies` by name, its rule as "scaling", and perhaps
            "attention_factor", by which queries and keys are multiplied; that of "yarn" is
            `attention_factor(factor)` unless it is told. None leaves the frequencies alone.

    Example:
        >>> rotary = Rotary(4, 10000.0, {"scaling": "linear", "factor": 2.0})
        >>> rotary.frequencies.tolist(), rotary.factor
        ([0.5, 0.005], 1.0)
    """

    def __init__(
        self, dim: int, base: float = 10000.0, scaling: Mapping[str, Any] | None = None
    ):
        self.dim, self.base = dim, checks.number("rotary_base", base, above=0)
        if scaling is not None and not isinstance(scaling, Mapping):
            raise TypeError(
                f"rotary_scaling must be a dictionary, got {type(scaling).__name__}"
            )
        self.scaling = dict(scaling or {})
        options = dict(self.scaling)
        told = options.pop("attention_factor", None)
        if unknown := sorted(set(options) - _OPTIONS):
            raise ValueError(
                f"rotary_scaling has {unknown}, it takes {sorted(_OPTIONS)} and "
                "attention_factor"
            )
        if told is None and options.get("scaling") == "yarn":
            told = attention_factor(options.get("factor", 1.0))
        self.factor = (
            1.0 if told is None else checks.number("attention_factor", told, above=0)
        )
        self._options = options
        self.frequencies = self._of(None) if options.get("scaling") else None

    def _of(self, length: int | None) -> Float[Tensor, "half"]:
        return rope_frequencies(
            self.dim, self.base, length=length, **self._options, dtype=torch.float64
        )

    def __call__(
        self, x: Float[Tensor, "b h t d"], positions: Int[Tensor, "..."]
    ) -> Float[Tensor, "b h t d"]:
        """Return queries or keys, turned.

        Args:
            x: queries or keys.
            positions: where they stand, of shape t or b t; the dynamic rule goes by the last.
        """
        theta = self.frequencies
        if self._options.get("scaling") == "dynamic":
            theta = self._of(int(positions.max()) + 1)
        if theta is not None:
            wide = torch.float64 if x.dtype == torch.float64 else torch.float32
            theta = theta.to(wide).to(x.device)
        y = rope(x, positions, base=self.base, frequencies=theta)
        return y if self.factor == 1 else self.factor * y


_OPTIONS = {"scaling", "factor", "trained_length", "slow", "fast", "ramp", "truncate"}
