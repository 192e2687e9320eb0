r"""WaveNet: gated causal convolutions with doubling dilations predict the next sample of a sound.

Samples are levels of the μ-law, one of 256 each, so that a softmax says what comes next. `forward`
reads a whole sound at once, for training; `step` reads one sample and keeps what it needs of the
past, for generation; `causal_conv1d_loop` is the readable twin of the convolution.

Chapter: chapters/sequence/wavenet.md     Paper: van den Oord et al. 2016
Axes: b batch, t samples, c channels of a layer, o channels that leave it, k taps of a kernel,
v levels, g features of a whole sound, l features of a sample, m logistics of a mixture.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F
from torch.types import Device

from nnlib import checks
from nnlib.blocks import sampling
from nnlib.sequence import _wavenet_numpy as in_numpy
from nnlib.sequence._wavenet_layers import (
    DILATIONS,
    CausalConv1d,
    GatedLayer,
    causal_conv1d,
    causal_conv1d_loop,
    checked_dilations,
    delayed,
    gated,
    receptive_field,
)
from nnlib.sequence._wavenet_mu_law import (
    mu_law_compress,
    mu_law_decode,
    mu_law_encode,
    mu_law_expand,
)
from nnlib.train.evaluating import evaluating

__all__ = [
    "DILATIONS",
    "Cache",
    "CausalConv1d",
    "GatedLayer",
    "Upsampling",
    "WaveNet",
    "causal_conv1d",
    "causal_conv1d_loop",
    "gated",
    "logistic_mixture_log_prob",
    "mu_law_compress",
    "mu_law_decode",
    "mu_law_encode",
    "mu_law_expand",
    "next_level_loss",
    "receptive_field",
]


@dataclass
class Cache:
    """What generation keeps of the past: the last (K − 1) d inputs of every convolution.

    Attributes:
        levels: of the last K − 1 samples, `K − 1, b`: the inputs of the first convolution.
        rings: for each layer a tensor `(K − 1) d, b, c`; sample t stands in row t modulo its
            length.
        time: samples that were read.
    """

    levels: Tensor
    rings: list[Tensor]
    time: int = 0

    @property
    def numbers(self) -> int:
        """How many numbers it holds."""
        return self.levels.numel() + sum(ring.numel() for ring in self.rings)


class WaveNet(nn.Module):
    r"""Predict the level of the next sample from all samples in its receptive field.

    A causal convolution of the levels, L gated layers with dilations $d_l$, the sum of what they
    send out, and two layers with ReLU before each make the logits of
    $p(x_{t+1} \mid x_1, \dots, x_t)$ (equations `wavenet-product` and `wavenet-softmax`): entry t
    of the answer is about sample t + 1.

    Args:
        num_levels: v, levels of a sample, ≥ 2.
        channels: c of every layer, ≥ 1.
        skip_channels: of the way to the output, ≥ 1.
        kernel_size: taps K of the first and of every dilated convolution, ≥ 1.
        dilations: one a layer, ≥ 1 each; at least one layer.
        global_size: features g of a whole sound that condition it, such as a speaker; ≥ 0.
        local_size: features l of every sample that condition it, such as a pitch; ≥ 0.
        num_outputs: numbers that come out for each sample, where they are no logits of levels, such
            as 3 m for `logistic_mixture_log_prob`; None is `num_levels`.

    Attributes:
        receptive_field: samples that an answer depends on: $1 + (K-1)(1 + \sum_l d_l)$.

    Example:
        >>> model = WaveNet(256, channels=16, skip_channels=32, dilations=(1, 2, 4, 8))
        >>> model(torch.zeros(3, 100, dtype=torch.int64)).shape, model.receptive_field
        (torch.Size([3, 100, 256]), 17)

    Source: van den Oord et al. 2016, who write h for what is $\mathbf c$ here.
    """

    def __init__(
        self,
        num_levels: int = 256,
        channels: int = 32,
        skip_channels: int = 64,
        kernel_size: int = 2,
        dilations: Sequence[int] = DILATIONS,
        global_size: int = 0,
        local_size: int = 0,
        num_outputs: int | None = None,
        *,
        device: Device = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__()
        self.num_levels = checks.count("num_levels", num_levels, least=2)
        self.channels = checks.count("channels", channels)
        skip_channels = checks.count("skip_channels", skip_channels)
        self.kernel_size = checks.count("kernel_size", kernel_size)
        self.dilations = checked_dilations(dilations)
        if not self.dilations:
            raise ValueError("dilations must name one layer or more, got none")
        self.global_size = checks.count("global_size", global_size, least=0)
        self.local_size = checks.count("local_size", local_size, least=0)
        outputs = (
            num_levels
            if num_outputs is None
            else checks.count("num_outputs", num_outputs)
        )
        factory: dict[str, Any] = {"device": device, "dtype": dtype}
        self.front = CausalConv1d(num_levels, channels, kernel_size, **factory)
        self.layers = nn.ModuleList(
            GatedLayer(
                channels, skip_channels, kernel_size, dilation,
                self.global_size + self.local_size, at == len(self.dilations) - 1, **factory,
            )
            for at, dilation in enumerate(self.dilations)
        )  # fmt: skip
        self.hidden = nn.Linear(skip_channels, skip_channels, **factory)
        self.out = nn.Linear(skip_channels, outputs, **factory)
        self.receptive_field = receptive_field(kernel_size, [1, *self.dilations])

    def forward(
        self,
        levels: Int[Tensor, "b t"],
        global_features: Float[Tensor, "b g"] | None = None,
        local_features: Float[Tensor, "b t l"] | None = None,
    ) -> Float[Tensor, "b t v"]:
        """Return, at each sample, the logits of the level of the next.

        Args:
            levels: of the samples; one or more.
            global_features: of each sound; needed if `global_size` is not 0.
            local_features: at sample t, what is known of sample t + 1; needed if `local_size` is
                not 0.
        """
        checks.tokens("levels", levels, self.num_levels, of="num_levels")
        condition = self._condition(levels, global_features, local_features)
        x = self._read(levels)
        skips = x.new_zeros(())
        for layer in self.layers:
            x, skip = layer(x, condition)
            skips = skips + skip  # eq. wavenet-skip
        return self.out(self.hidden(skips.relu()).relu())  # eq. wavenet-head

    def _read(self, levels: Tensor) -> Tensor:
        """Return the first convolution of the one-hot levels: each tap is a table to look up in."""
        tables = self.front.weight.permute(2, 1, 0)  # k v c
        x = F.embedding(levels, tables[-1])
        for back in range(1, self.kernel_size):
            x = x + delayed(F.embedding(levels, tables[-1 - back]), back)
        return x + self.front.bias  # type: ignore[operator] # a tensor, not a module

    def _condition(
        self, levels: Tensor, whole: Tensor | None, each: Tensor | None
    ) -> Tensor | None:
        """Return what every layer hears besides the sound, one row a sample or one for all."""
        (b, t), parts = levels.shape, []
        for name, value, size, shape in (
            ("global_features", whole, self.global_size, (b, self.global_size)),
            ("local_features", each, self.local_size, (b, t, self.local_size)),
        ):
            if not size:
                if value is not None:
                    told = name.replace("features", "size")
                    raise ValueError(f"{name} must be None in a network with {told}=0")
                continue
            if value is None:
                raise ValueError(f"{name} must have shape {shape}, got None")
            checks.tensor(name, value, shape=shape, floating=True)
            parts.append(value.view(b, -1, size))
        if len(parts) == 2:
            parts[0] = parts[0].expand(b, t, -1)
        return torch.cat(parts, -1) if parts else None

    # ------------------------------------------------------------------------------- generation
    def new_cache(self, batch_size: int) -> Cache:
        """Return the cache of sounds of which nothing was read yet."""
        b = checks.count("batch_size", batch_size)
        weight, k = self.front.weight, self.kernel_size
        levels = torch.zeros(k - 1, b, dtype=torch.int64, device=weight.device)
        spans = [(k - 1) * dilation for dilation in self.dilations]
        return Cache(
            levels, [weight.new_zeros(span, b, self.channels) for span in spans]
        )

    @torch.no_grad()
    def read(
        self,
        levels: Int[Tensor, "b t"],
        global_features: Float[Tensor, "b g"] | None = None,
        local_features: Float[Tensor, "b t l"] | None = None,
    ) -> Cache:
        """Return the cache after these samples, all read in one pass: where `step` goes on.

        Args:
            levels: of the samples; one or more.
            global_features: as for `forward`.
            local_features: as for `forward`.
        """
        checks.tokens("levels", levels, self.num_levels, of="num_levels")
        condition = self._condition(levels, global_features, local_features)
        cache, t = self.new_cache(len(levels)), levels.shape[1]
        for at in range(max(0, t - len(cache.levels)), t):
            cache.levels[at % len(cache.levels)] = levels[:, at]
        x = self._read(levels)
        for layer, ring in zip(self.layers, cache.rings, strict=True):
            if span := len(ring):
                kept = torch.arange(max(0, t - span), t, device=x.device)
                ring[kept % span] = x[:, kept].transpose(0, 1)
            x, _ = layer(x, condition)
        cache.time = t
        return cache

    @torch.no_grad()
    def step(
        self,
        level: Int[Tensor, " b"],
        cache: Cache,
        global_features: Float[Tensor, "b g"] | None = None,
        local_features: Float[Tensor, "b l"] | None = None,
    ) -> Float[Tensor, "b v"]:
        """Return the logits of the next level after one more sample; the cache is moved on.

        Every layer multiplies once: O(L) products a sample, whatever the receptive field is.

        Args:
            level: of the sample.
            cache: from `new_cache`, or as the step before left it.
            global_features: as for `forward`.
            local_features: what is known of the next sample.
        """
        checks.tokens("level", level, self.num_levels, shape=("b",), of="num_levels")
        each = None if local_features is None else local_features[:, None]
        condition = self._condition(level[:, None], global_features, each)
        x = self._read_one(level, cache)
        skips = x.new_zeros(())
        # mypy takes a module's attribute for a tensor or a module, whichever it is: hence `ignore`
        for layer, ring in zip(self.layers, cache.rings, strict=True):
            a = self._tick(layer.conv, x, ring, cache.time)  # type: ignore[arg-type]
            if condition is not None:
                a = a + layer.condition(condition)[:, 0]  # type: ignore[operator]
            z = gated(a)
            skips = skips + layer.skip(z)  # type: ignore[operator]
            x = x if layer.residual is None else x + layer.residual(z)  # type: ignore[operator]
        cache.time += 1
        return self.out(self.hidden(skips.relu()).relu())

    def _read_one(self, level: Tensor, cache: Cache) -> Tensor:
        """Return the newest output of the first convolution, as `_read` has it."""
        tables, past = self.front.weight.permute(2, 1, 0), self.kernel_size - 1
        x = F.embedding(level, tables[past])
        for back in range(1, min(past, cache.time) + 1):
            before = cache.levels[(cache.time - back) % past]
            x = x + F.embedding(before, tables[past - back])
        if past:
            cache.levels[cache.time % past] = level
        return x + self.front.bias  # type: ignore[operator] # a tensor, not a module

    @staticmethod
    def _tick(conv: CausalConv1d, x: Tensor, ring: Tensor, time: int) -> Tensor:
        """Return the convolution's newest output, and put its newest input into the ring."""
        taps, span = conv.kernel_size, len(ring)
        past = [
            ring[(time - conv.dilation * back) % span]
            for back in range(taps - 1, 0, -1)
        ]
        y = F.linear(
            torch.cat([*past, x], -1), conv.weight.transpose(1, 2).flatten(1), conv.bias
        )
        if span:
            ring[time % span] = x
        return y

    @torch.no_grad()
    def generate(
        self,
        levels: Int[Tensor, "b t"],
        num_samples: int,
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float | None = None,
        generator: torch.Generator | None = None,
        use_cache: bool = True,
        global_features: Float[Tensor, "b g"] | None = None,
        local_features: Float[Tensor, "b s l"] | None = None,
    ) -> Int[Tensor, "b s"]:
        """Return the beginnings and what follows them, drawn sample by sample.

        Each level is drawn by one uniform number u, as the first whose cumulative probability is
        above u; so the same generator gives the same sound with and without the cache.

        Args:
            levels: beginnings of one sample or more.
            num_samples: samples to add, ≥ 1.
            temperature: ≥ 0; 0 takes the most probable level.
            top_k: draw among the k most probable; ≥ 1, or None for all.
            top_p: draw among the fewest most probable that reach p; in (0, 1], or None.
            generator: of the random numbers; None is torch's own.
            use_cache: whether the past is kept; without it, every sample costs a pass over the
                whole receptive field.
            global_features: of each sound; needed if `global_size` is not 0.
            local_features: one row for each sample of the result; row t is about sample t + 1, so
                the last is not heard. Needed if `local_size` is not 0.
        """
        new = checks.count("num_samples", num_samples)
        checks.tokens("levels", levels, self.num_levels, of="num_levels")
        if self.out.out_features != self.num_levels:
            raise ValueError(
                f"num_outputs={self.out.out_features} are no logits of num_levels="
                f"{self.num_levels}: draw from them as they are meant, with `step`"
            )
        rule = sampling.checked_rule(temperature, top_k, top_p, None, self.num_levels)
        checks.flag("use_cache", use_cache)
        (b, t), device = levels.shape, levels.device
        whole = F.pad(levels, (0, new))
        self._condition(whole, global_features, local_features)
        where = device if generator is None else generator.device
        u = torch.rand(new, b, generator=generator, device=where).to(device).double()
        with evaluating(self):
            if not use_cache:
                self._generate_naively(
                    whole, t, u, rule, global_features, local_features
                )
            elif device.type == "cpu" and self.front.weight.dtype in in_numpy.KINDS:
                condition = self._condition(whole, global_features, local_features)
                cache = self._begun(whole[:, : t - 1], global_features, local_features)
                in_numpy.generate(self, whole, t, u, rule, cache, condition)
            else:
                self._generate_by_steps(
                    whole, t, u, rule, global_features, local_features
                )
        return whole

    def _generate_naively(
        self,
        whole: Tensor,
        start: int,
        u: Tensor,
        rule: sampling.Rule,
        global_features: Tensor | None,
        local_features: Tensor | None,
    ) -> None:
        """Fill in `whole` from `start` on, each sample by a pass over the receptive field."""
        for at in range(start, whole.shape[1]):
            seen = slice(max(0, at - self.receptive_field), at)
            each = None if local_features is None else local_features[:, seen]
            logits = self(whole[:, seen], global_features, each)[:, -1]
            whole[:, at] = _drawn(logits, u[at - start], rule)

    def _generate_by_steps(
        self,
        whole: Tensor,
        start: int,
        u: Tensor,
        rule: sampling.Rule,
        global_features: Tensor | None,
        local_features: Tensor | None,
    ) -> None:
        """Fill in `whole` from `start` on, with a cache."""
        cache = self._begun(whole[:, : start - 1], global_features, local_features)
        for at in range(start, whole.shape[1]):
            each = None if local_features is None else local_features[:, at - 1]
            logits = self.step(whole[:, at - 1], cache, global_features, each)
            whole[:, at] = _drawn(logits, u[at - start], rule)

    def _begun(
        self,
        levels: Tensor,
        global_features: Tensor | None,
        local_features: Tensor | None,
    ) -> Cache:
        """Return the cache after a beginning, of which there may be none."""
        if not levels.shape[1]:
            return self.new_cache(len(levels))
        each = None if local_features is None else local_features[:, : levels.shape[1]]
        return self.read(levels, global_features, each)


def _drawn(logits: Tensor, u: Tensor, rule: sampling.Rule) -> Tensor:
    """Return, for each row, the first level whose cumulative probability is above u."""
    cumulative = sampling.filtered(logits, *rule).double().cumsum(-1)
    above = u[:, None] * cumulative[:, -1:]
    return (cumulative <= above).sum(-1).clamp(max=logits.shape[-1] - 1)


class Upsampling(nn.Module):
    r"""Bring features of frames to the rate of samples: a transposed convolution, learned.

    It begins as repetition, each frame `factor` times (equation `wavenet-upsampling`).

    Args:
        num_features: l, ≥ 1.
        factor: samples a frame, ≥ 1.

    Example:
        >>> frames = torch.tensor([[[1.0], [5.0]]])
        >>> Upsampling(1, 3)(frames).flatten().tolist()
        [1.0, 1.0, 1.0, 5.0, 5.0, 5.0]

    Source: van den Oord et al. 2016, section 2.5.
    """

    def __init__(
        self,
        num_features: int,
        factor: int,
        *,
        device: Device = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__()
        self.num_features = checks.count("num_features", num_features)
        self.factor = checks.count("factor", factor)
        shape = self.factor, self.num_features, self.num_features
        self.weight = nn.Parameter(torch.empty(shape, device=device, dtype=dtype))
        self.bias = nn.Parameter(
            torch.empty(self.num_features, device=device, dtype=dtype)
        )
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Begin as repetition."""
        with torch.no_grad():
            self.weight.copy_(torch.eye(self.num_features).expand_as(self.weight))
            self.bias.zero_()

    def forward(self, frames: Float[Tensor, "b f l"]) -> Float[Tensor, "b t l"]:
        """Return `factor` rows for each frame."""
        checks.tensor(
            "frames", frames, shape=("b", "f", self.num_features), floating=True
        )
        each = torch.einsum(
            "bfl,nml->bfnm", frames, self.weight
        )  # eq. wavenet-upsampling
        return each.flatten(1, 2) + self.bias


# ------------------------------------------------------------------------------------- objectives
def next_level_loss(
    model: nn.Module,
    levels: Int[Tensor, "b t"],
    global_features: Float[Tensor, "b g"] | None = None,
    local_features: Float[Tensor, "b t l"] | None = None,
) -> Float[Tensor, ""]:
    r"""Return the mean cross-entropy of each level given those before it, in nats.

    $-\frac{1}{T-1}\sum_t \ln p(x_{t+1} \mid x_1, \dots, x_t)$ (equation `wavenet-objective`), for
    all samples in one pass.

    Args:
        model: gives logits `b t v`, as `WaveNet` does.
        levels: of two samples or more.
        global_features: as for `WaveNet.forward`.
        local_features: as for `WaveNet.forward`: row t is about sample t + 1.
    """
    checks.tensor("levels", levels, shape=("b", "t"), floating=False, empty=False)
    if levels.shape[1] < 2:
        raise ValueError(
            "levels must be of two samples or more, got 1: nothing follows it"
        )
    given = {}
    if global_features is not None:
        given["global_features"] = global_features
    if local_features is not None:
        given["local_features"] = local_features[:, :-1]
    logits = model(levels[:, :-1], **given)
    # eq. wavenet-objective
    return F.cross_entropy(logits.flatten(0, 1), levels[:, 1:].flatten())


def logistic_mixture_log_prob(
    parameters: Float[Tensor, "*any m3"],
    levels: Int[Tensor, "*any"],
    num_levels: int = 65536,
) -> Float[Tensor, "*any"]:
    r"""Return the log-probability of levels under a mixture of m discretised logistics.

    $P(q) = \sum_i \pi_i\,\bigl[\sigma\bigl((y_q + \tfrac\Delta2 - \mu_i)/s_i\bigr) -
    \sigma\bigl((y_q - \tfrac\Delta2 - \mu_i)/s_i\bigr)\bigr]$ with $y_q = 2q/(N-1) - 1$ and
    $\Delta = 2/(N-1)$; the first level takes all below it, and the last all above (equation
    `wavenet-logistics`). It needs 3 m numbers a sample, where a softmax needs N.

    Args:
        parameters: logits of $\pi$, then $\mu$, then $\ln s$, m of each.
        levels: integers in 0 … N − 1.
        num_levels: N, ≥ 2; 65536 are 16 bits.

    Source: Salimans et al. 2017; in WaveNet, van den Oord et al. 2017.
    """
    n = checks.count("num_levels", num_levels, least=2)
    checks.tensor("parameters", parameters, floating=True)
    if parameters.ndim < 1 or parameters.shape[-1] % 3 or not parameters.shape[-1]:
        raise ValueError(
            "parameters must end in 3 m numbers, m of each kind, got shape "
            f"{tuple(parameters.shape)}"
        )
    checks.tokens("levels", levels, n, shape=tuple(parameters.shape[:-1]), empty=True,
                  of="num_levels")  # fmt: skip
    weights, means, log_scales = parameters.chunk(3, -1)
    y = (2 * levels.to(parameters.dtype) / (n - 1) - 1)[..., None]
    half = 1 / (n - 1)
    above = (y + half - means) * (-log_scales).exp()
    below = (y - half - means) * (-log_scales).exp()
    width = (
        above - below
    )  # σ(a) − σ(b) = σ(a) σ(−b) (1 − e^{−(a − b)}), which loses no digits
    inner = F.logsigmoid(above) + F.logsigmoid(-below) + (-(-width).expm1()).log()
    first, last = (levels == 0)[..., None], (levels == n - 1)[..., None]
    each = torch.where(
        first, F.logsigmoid(above), torch.where(last, F.logsigmoid(-below), inner)
    )
    return (weights.log_softmax(-1) + each).logsumexp(-1)  # eq. wavenet-logistics
