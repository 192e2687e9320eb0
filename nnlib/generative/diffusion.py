r"""Diffusion models: noise is added step by step, and a network learns to take it away again.

`GaussianDiffusion` holds a noise schedule and everything that is computed from it: noisy examples,
the loss, the steps of DDPM and DDIM, the variational bound. `FlowMatching` mixes along straight
lines. The network is the caller's: any `model(x, t, ...)`. `DiT` is one for pictures, a transformer
over patches, and `Denoiser` a small one for rows of numbers. `GaussianMixture` knows its own score,
so that what a network has learned can be held to the truth.

Chapter: chapters/generative/diffusion.md     Papers: Sohl-Dickstein et al. 2015; Ho et al. 2020;
Song et al. 2020 (DDIM, and scores); Ho and Salimans 2021; Lipman et al. 2022; Liu et al. 2022;
Peebles and Xie 2022
Axes: n examples, d numbers of one (any shape), T steps, k components, c y x channels, rows and
columns, s patches, e width.

Steps are counted from 0 to T − 1 here, as in the libraries, so `t` is the papers' t − 1, and −1
stands for the clean data.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F
from torch.types import Device

from nnlib import checks
from nnlib.generative._denoisers import (
    Denoiser,
    DiTBlock,
    _modulated,
    _TimeAndClass,
    _times,
)
from nnlib.generative._diffusion_guidance import Predict, drop_classes, guide, guided
from nnlib.generative._diffusion_schedules import (
    SCHEDULES,
    _checked_betas,
    beta_schedule,
    zero_terminal_snr,
)
from nnlib.generative._flow_matching import FlowMatching
from nnlib.generative._gaussian_mixture import GaussianMixture

__all__ = [
    "PREDICTIONS",
    "QUANTITIES",
    "SCHEDULES",
    "SPACINGS",
    "VARIANCES",
    "Denoiser",
    "DiT",
    "DiTBlock",
    "FlowMatching",
    "GaussianDiffusion",
    "GaussianMixture",
    "Predict",
    "beta_schedule",
    "drop_classes",
    "guide",
    "guided",
    "zero_terminal_snr",
]

PREDICTIONS = ("epsilon", "sample", "v_prediction")
QUANTITIES = (*PREDICTIONS, "score")
VARIANCES = ("small", "large")
SPACINGS = ("leading", "trailing")


class GaussianDiffusion:
    r"""A noise schedule, and all that follows from it.

    Forwards, $\mathbf x_t = \sqrt{\bar\alpha_t}\,\mathbf x_0 + \sqrt{1-\bar\alpha_t}\,
    \boldsymbol\epsilon$ (equation `diffusion-forward`); backwards, a network's answer is turned
    into a step towards the data, at random (`ddpm_step`) or not (`ddim_step`).

    Args:
        schedule: one of `SCHEDULES`, or the variances β themselves, in (0, 1).
        steps: T, ≥ 1; with variances, their number, or None.
        prediction: what the network answers with: the noise (`epsilon`), the clean example
            (`sample`), or $\mathbf v = \sqrt{\bar\alpha}\,\boldsymbol\epsilon -
            \sqrt{1-\bar\alpha}\,\mathbf x_0$ (`v_prediction`).
        zero_snr: whether the schedule is changed to end in pure noise (`zero_terminal_snr`), which
            a network that answers with the noise cannot be used with.

    Attributes:
        steps: T.
        betas: of each step, double precision.
        alphas_bar: $\bar\alpha_t = \prod_{s\le t}(1-\beta_s)$: what is left of the data's variance.

    Example:
        >>> diffusion = GaussianDiffusion("cosine", steps=1000)
        >>> x = diffusion.q_sample(torch.zeros(5, 64), torch.full((5,), 999))
        >>> x.shape, round(float(diffusion.alphas_bar[499]), 3)
        (torch.Size([5, 64]), 0.494)

    Source: Sohl-Dickstein et al. 2015; Ho, Jain and Abbeel 2020.
    """

    def __init__(
        self,
        schedule: str | Tensor | Sequence[float] = "linear",
        steps: int | None = 1000,
        *,
        prediction: str = "epsilon",
        zero_snr: bool = False,
    ):
        if isinstance(schedule, str):
            checks.one_of("schedule", schedule, SCHEDULES)
            betas = beta_schedule(schedule, checks.count("steps", steps))
        else:
            betas = _checked_betas(schedule)
            if steps not in (None, len(betas)):
                raise ValueError(
                    f"steps={steps} must be the number of variances, {len(betas)}, or None"
                )
        self.prediction = checks.one_of("prediction", prediction, PREDICTIONS)
        if checks.flag("zero_snr", zero_snr):
            betas = zero_terminal_snr(betas)
        if betas[-1] == 1 and prediction == "epsilon":
            raise ValueError(
                "prediction='epsilon' says nothing of the data where no signal is left: take "
                "'v_prediction' or 'sample' with a schedule that ends at zero"
            )
        self.steps = len(betas)
        self.betas = betas
        self.alphas_bar = (1 - betas).cumprod(0)
        # one more in front: −1 is the clean data
        self._kept = torch.cat([torch.ones(1, dtype=torch.float64), self.alphas_bar])

    def snr(self) -> Float[Tensor, " T"]:
        r"""Return the signal-to-noise ratio of each step, $\bar\alpha_t/(1-\bar\alpha_t)$."""
        return self.alphas_bar / (1 - self.alphas_bar)

    def _level(self, t: Tensor | int, x: Tensor, name: str = "t") -> Tensor:
        r"""Return $\bar\alpha$ of a step, in double precision, so that it broadcasts to `x`."""
        least = 0 if name == "t" else -1
        told = f"{name} must lie in {'0' if least == 0 else '−1'} … {self.steps - 1}"
        if not isinstance(t, Tensor):
            at = checks.count(name, t, least=least)
            if at >= self.steps:
                raise ValueError(f"{told}, got {at}")
            return self._kept[at + 1].to(x.device)
        checks.tensor(name, t, floating=False)
        if t.ndim and tuple(t.shape) != (len(x),):
            raise ValueError(
                f"{name} must be one step, or one for each of {len(x)} examples, "
                f"got shape {tuple(t.shape)}"
            )
        if checks.readable(t) and t.numel():
            low, high = (int(end) for end in t.aminmax())
            if low < least or high >= self.steps:
                raise ValueError(f"{told}, got {low} … {high}")
        kept = self._kept.to(x.device)[t.to(x.device) + 1]
        return kept.view(-1, *[1] * (x.ndim - 1)) if t.ndim else kept

    def _roots(self, t: Tensor | int, x: Tensor) -> tuple[Tensor, Tensor]:
        r"""Return $\sqrt{\bar\alpha_t}$ and $\sqrt{1-\bar\alpha_t}$ in the precision of `x`."""
        kept = self._level(t, x)
        return kept.sqrt().to(x.dtype), (1 - kept).sqrt().to(x.dtype)

    # ------------------------------------------------------------------------------------ forwards
    def q_sample(
        self,
        x0: Float[Tensor, "n *d"],
        t: Int[Tensor, "*n"] | int,
        noise: Float[Tensor, "n *d"] | None = None,
    ) -> Float[Tensor, "n *d"]:
        r"""Return $\mathbf x_t$: all steps up to t in one (equation `diffusion-forward`).

        Args:
            x0: clean examples, scaled to a variance near 1.
            t: a step for each, or one for all, 0 … T − 1.
            noise: standard normal; drawn if None.
        """
        checks.tensor("x0", x0, floating=True)
        noise = torch.randn_like(x0) if noise is None else noise
        checks.tensor("noise", noise, shape=tuple(x0.shape), floating=True)
        a, s = self._roots(t, x0)
        return a * x0 + s * noise  # eq. diffusion-forward

    def posterior(
        self,
        x0: Float[Tensor, "n *d"],
        x: Float[Tensor, "n *d"],
        t: Int[Tensor, "*n"] | int,
        previous: Int[Tensor, "*n"] | int | None = None,
    ) -> tuple[Tensor, Tensor]:
        r"""Return mean and variance of $q(\mathbf x_{t-1}\mid\mathbf x_t,\mathbf x_0)$.

        Equations `diffusion-posterior-mean` and `diffusion-posterior-variance`: where an example
        came from, if one knows where it began and where it is.

        Args:
            x0: clean examples.
            x: noisy ones, at step t.
            t: 0 … T − 1.
            previous: an earlier step, −1 … t; None is t − 1.
        """
        previous = t - 1 if previous is None else previous
        kept, before = self._level(t, x), self._level(previous, x, "previous")
        alpha = kept / before  # of all steps in between, taken as one
        to_clean = (before.sqrt() * (1 - alpha) / (1 - kept)).to(x.dtype)
        to_noisy = (alpha.sqrt() * (1 - before) / (1 - kept)).to(x.dtype)
        variance = ((1 - alpha) * (1 - before) / (1 - kept)).to(x.dtype)
        return to_clean * x0 + to_noisy * x, variance  # eq. diffusion-posterior-mean

    # ------------------------------------------------------------------- four ways to say the same
    def convert(
        self,
        output: Float[Tensor, "n *d"],
        x: Float[Tensor, "n *d"],
        t: Int[Tensor, "*n"] | int,
        to: str,
        of: str | None = None,
    ) -> Float[Tensor, "n *d"]:
        r"""Return a network's answer as another quantity.

        Noise, clean example, v and score $\mathbf s = -\boldsymbol\epsilon/\sqrt{1-\bar\alpha}$ are
        linear in one another, given the noisy example (equations `diffusion-x0`, `diffusion-v`,
        `diffusion-score`).

        Args:
            output: the answer.
            x: what it was asked about.
            t: at which step.
            to: one of `QUANTITIES`.
            of: what the answer is; None is `prediction`.
        """
        of = self.prediction if of is None else of
        checks.one_of("of", of, QUANTITIES)
        checks.one_of("to", to, QUANTITIES)
        checks.tensor("output", output, shape=tuple(x.shape), floating=True)
        if of == to:
            return output
        a, s = self._roots(t, x)
        if of == "sample":
            clean, noise = output, (x - a * output) / s
        elif of == "v_prediction":
            clean, noise = a * x - s * output, s * x + a * output  # eq. diffusion-v
        else:
            noise = -s * output if of == "score" else output  # eq. diffusion-score
            clean = (x - s * noise) / a  # eq. diffusion-x0
        if to == "sample":
            return clean
        if to == "v_prediction":
            return a * noise - s * clean
        return -noise / s if to == "score" else noise

    # ------------------------------------------------------------------------------------ training
    def loss(
        self,
        model: nn.Module | Callable[..., Tensor],
        x0: Float[Tensor, "n *d"],
        *condition: Any,
        t: Int[Tensor, " n"] | None = None,
        noise: Float[Tensor, "n *d"] | None = None,
        min_snr: float | None = None,
    ) -> Float[Tensor, ""]:
        r"""Return the mean squared error of the network's answer at random steps.

        With noise as the answer it is the simple loss of DDPM (equation `diffusion-simple`). The
        weight of `min_snr` is $\min(\mathrm{SNR}, \gamma)$ in the clean example's error, whatever
        the network answers with (`diffusion-min-snr`), so that the easy steps do not outvote the
        rest.

        Args:
            model: called as `model(x, t, *condition)`.
            x0: clean examples.
            *condition: what the network sees besides, such as classes.
            t: steps; drawn evenly if None.
            noise: drawn if None.
            min_snr: γ > 0, of which 5 is usual; None weighs all steps alike.

        Source: Ho et al. 2020, equation 14; the weight, Hang et al. 2023.
        """
        checks.tensor("x0", x0, floating=True, empty=False)
        if t is None:
            t = torch.randint(self.steps, (len(x0),), device=x0.device)
        noise = torch.randn_like(x0) if noise is None else noise
        x = self.q_sample(x0, t, noise)
        target = noise if self.prediction == "epsilon" else x0
        if self.prediction == "v_prediction":
            a, s = self._roots(t, x0)
            target = a * noise - s * x0  # eq. diffusion-v
        answer = model(x, t, *condition)
        checks.tensor("model's answer", answer, shape=tuple(x0.shape), floating=True)
        each = (answer - target).square().flatten(1).mean(1)  # eq. diffusion-simple
        if min_snr is not None:
            kept = self._level(t, x0).flatten()
            gamma = checks.number("min_snr", min_snr, above=0)
            snr = kept / (1 - kept)
            own = {
                "epsilon": snr,
                "sample": torch.ones_like(snr),
                "v_prediction": snr + 1,
            }
            weight = (
                snr.clamp(max=gamma) / own[self.prediction]
            )  # eq. diffusion-min-snr
            each = each * weight.nan_to_num(1.0).to(each.dtype)
        return each.mean()

    # ----------------------------------------------------------------------------------- backwards
    def ddpm_step(
        self,
        output: Float[Tensor, "n *d"],
        t: int,
        x: Float[Tensor, "n *d"],
        *,
        previous: int | None = None,
        noise: Float[Tensor, "n *d"] | None = None,
        variance: str = "small",
        clip: float | None = None,
    ) -> Float[Tensor, "n *d"]:
        r"""Return a draw of $\mathbf x_{t-1}$ (equation `diffusion-ddpm-step`).

        The mean is that of `posterior` with the network's clean example in the place of the true
        one. Nothing is drawn in the last step, to the data.

        Args:
            output: the network's answer at `x` and `t`.
            t: where `x` is, 0 … T − 1.
            x: noisy examples.
            previous: where to go; None is t − 1, and −1 the data.
            noise: standard normal; drawn if None.
            variance: `small`, the posterior's $\tilde\beta_t$, right where the data are one point;
                or `large`, $\beta_t$, right where they are normal noise.
            clip: the clean example is held in −clip … clip; None leaves it as it is.
        """
        checks.one_of("variance", variance, VARIANCES)
        previous = t - 1 if previous is None else previous
        clean = self._clean(output, x, t, clip)
        mean, spread = self.posterior(clean, x, t, previous)
        if previous < 0:
            return mean
        if variance == "large":
            spread = (1 - self._level(t, x) / self._level(previous, x, "previous")).to(
                x.dtype
            )
        noise = torch.randn_like(x) if noise is None else noise
        return mean + spread.sqrt() * noise  # eq. diffusion-ddpm-step

    def ddim_step(
        self,
        output: Float[Tensor, "n *d"],
        t: int,
        x: Float[Tensor, "n *d"],
        *,
        previous: int | None = None,
        eta: float = 0.0,
        noise: Float[Tensor, "n *d"] | None = None,
        clip: float | None = None,
        use_clipped_output: bool = True,
    ) -> Float[Tensor, "n *d"]:
        r"""Return $\mathbf x$ at an earlier step, which may be far away (`diffusion-ddim-step`).

        The clean example that the network sees in `x` is made noisy again, with the noise that it
        sees in it, and less of it; with η some of that noise is replaced by new one.

        Args:
            output: the network's answer at `x` and `t`.
            t: where `x` is, 0 … T − 1.
            x: noisy examples.
            previous: where to go; None is t − 1, and −1 the data.
            eta: η: 0 draws nothing, 1 as much as DDPM.
            noise: standard normal; drawn if None and η > 0.
            clip: the clean example is held in −clip … clip.
            use_clipped_output: whether the noise is computed again from the clipped example, so
                that both fit together, or stays as the network sees it, as is diffusers' default.

        Source: Song, Meng and Ermon 2020, equations 12 and 16.
        """
        eta = checks.number("eta", eta, least=0)
        previous = t - 1 if previous is None else previous
        clean = self._clean(output, x, t, clip)
        seen = self.convert(output, x, t, "epsilon")
        if clip is not None and checks.flag("use_clipped_output", use_clipped_output):
            seen = self.convert(clean, x, t, "epsilon", "sample")
        kept, before = self._level(t, x), self._level(previous, x, "previous")
        variance = (
            (1 - before) / (1 - kept) * (1 - kept / before)
        )  # eq. diffusion-ddim-sigma
        spread = eta * variance.sqrt()
        along = (1 - before - spread**2).clamp(min=0).sqrt().to(x.dtype)
        x = before.sqrt().to(x.dtype) * clean + along * seen  # eq. diffusion-ddim-step
        if eta > 0:
            noise = torch.randn_like(x) if noise is None else noise
            x = x + spread.to(x.dtype) * noise
        return x

    def _clean(
        self, output: Tensor, x: Tensor, t: Tensor | int, clip: float | None
    ) -> Tensor:
        clean = self.convert(output, x, t, "sample")
        if clip is None:
            return clean
        clip = checks.number("clip", clip, above=0)
        return clean.clamp(-clip, clip)

    def timesteps(
        self, num_steps: int | None = None, spacing: str = "trailing"
    ) -> list[int]:
        """Return the steps that a sampler visits, the noisiest first.

        Args:
            num_steps: how many, 1 … T; None is all.
            spacing: `trailing` begins at the last step T − 1, which is nearest to noise; `leading`
                ends at step 0, and begins where some signal is left.

        Example:
            >>> GaussianDiffusion("cosine", 1000).timesteps(4)
            [999, 749, 499, 249]

        Source: the names are diffusers'; why the first, Lin et al. 2023.
        """
        count = (
            self.steps if num_steps is None else checks.count("num_steps", num_steps)
        )
        checks.number("num_steps", count, most=self.steps)
        checks.one_of("spacing", spacing, SPACINGS)
        if spacing == "leading":
            return [at * (self.steps // count) for at in range(count)][::-1]
        return [round(self.steps - at * self.steps / count) - 1 for at in range(count)]

    @torch.no_grad()
    def sample(
        self,
        predict: nn.Module | Predict,
        noise: Float[Tensor, "n *d"],
        num_steps: int | None = None,
        *,
        method: str = "ddim",
        eta: float = 0.0,
        variance: str = "small",
        clip: float | None = None,
        use_clipped_output: bool = True,
        spacing: str = "trailing",
        path: bool = False,
    ) -> Float[Tensor, "*all"]:
        """Return what noise becomes, step by step.

        Args:
            predict: called as `predict(x, t)` with one step for each example; a condition is bound
                by the caller, as `guide` does.
            noise: standard normal, of the shape of the examples.
            num_steps: network passes, 1 … T; None is all.
            method: `ddim` or `ddpm`.
            eta: of `ddim_step`.
            variance: of `ddpm_step`.
            clip: of both; 1 for pixels in −1 … 1.
            use_clipped_output: of `ddim_step`.
            spacing: of `timesteps`.
            path: whether all steps are returned, the noise first, and not the last alone.
        """
        checks.one_of("method", method, ("ddim", "ddpm"))
        visited = self.timesteps(num_steps, spacing)
        x, seen = noise, [noise]
        for t, previous in zip(visited, [*visited[1:], -1], strict=True):
            output = predict(x, torch.full((len(x),), t, device=x.device))
            if method == "ddpm":
                x = self.ddpm_step(
                    output, t, x, previous=previous, variance=variance, clip=clip
                )
            else:
                x = self.ddim_step(
                    output, t, x, previous=previous, eta=eta, clip=clip,
                    use_clipped_output=use_clipped_output,
                )  # fmt: skip
            if path:
                seen.append(x)
        return torch.stack(seen) if path else x

    # ----------------------------------------------------------------------------------- the bound
    def bound_terms(
        self,
        output: Float[Tensor, "n *d"],
        x0: Float[Tensor, "n *d"],
        x: Float[Tensor, "n *d"],
        t: Int[Tensor, " n"],
        *,
        variance: str = "large",
        levels: int | None = None,
        clip: float | None = None,
    ) -> Float[Tensor, " n"]:
        r"""Return the term of the variational bound that belongs to a step, in nats an example.

        For t > 0 the divergence of the posterior from the model's step
        (equation `diffusion-bound-term`), for t = 0 minus the log-likelihood of the data given
        $\mathbf x_1$. Their sum over all steps, and `prior_term`, is the bound on
        $-\log p(\mathbf x_0)$ (`diffusion-bound`).

        Args:
            output: the network's answer at `x` and `t`.
            x0: clean examples, in −1 … 1 where they are grey values.
            x: the same at step t.
            t: a step for each.
            variance: of the model's step, as in `ddpm_step`; that of the last step is β in both.
            levels: grey values, evenly spaced in −1 … 1, of which the likelihood of a pixel is the
                normal distribution's share in its bin; None takes the density.
            clip: the network's clean example is held in −clip … clip.
        """
        checks.one_of("variance", variance, VARIANCES)
        clean = self._clean(output, x, t, clip).double()
        x0, x = x0.double(), x.double()
        kept, before = self._level(t, x), self._level(t - 1, x, "previous")
        beta = 1 - kept / before
        wanted, tilde = self.posterior(x0, x, t)
        mean, _ = self.posterior(clean, x, t)
        spread = beta if variance == "large" else torch.where(before < 1, tilde, beta)
        ratio = torch.where(before < 1, tilde / spread, 1.0)
        apart = (wanted - mean).square() / (2 * spread)
        divergence = apart + 0.5 * (ratio - 1 - ratio.log())  # eq. diffusion-bound-term
        likelihood = _normal_log_prob(x0, mean, spread, levels)
        each = torch.where(before < 1, divergence, -likelihood)
        return each.flatten(1).sum(1)

    def prior_term(self, x0: Float[Tensor, "n *d"]) -> Float[Tensor, " n"]:
        r"""Return $\mathrm{KL}(q(\mathbf x_T\mid\mathbf x_0)\,\|\,\mathcal N(0, \mathbf I))$.

        In nats an example: what is left of the data at the last step (`diffusion-prior`). It has
        nothing to learn.
        """
        kept = float(self.alphas_bar[-1])
        each = kept * x0.double().square() - kept - math.log1p(-kept)
        return 0.5 * each.flatten(1).sum(1)

    @torch.no_grad()
    def bound(
        self,
        predict: nn.Module | Predict,
        x0: Float[Tensor, "n *d"],
        num_terms: int | None = None,
        *,
        variance: str = "large",
        levels: int | None = None,
        clip: float | None = None,
    ) -> Float[Tensor, " n"]:
        r"""Return the variational bound on $-\log p(\mathbf x_0)$, in nats an example.

        Args:
            predict: called as `predict(x, t)`.
            x0: clean examples.
            num_terms: of the T terms, how many are computed for each example; the rest is estimated
                from them, without bias, from steps spread evenly, and the last one is always among
                them. None is all.
            variance: as in `bound_terms`.
            levels: as in `bound_terms`.
            clip: as in `bound_terms`.
        """
        how = {"variance": variance, "levels": levels, "clip": clip}
        last = torch.zeros(len(x0), dtype=torch.int64, device=x0.device)
        total = self.prior_term(x0) + self._terms(predict, x0, last, how)
        rest = self.steps - 1
        count = rest if num_terms is None else checks.count("num_terms", num_terms)
        checks.number("num_terms", count, most=max(1, rest))
        for part in range(min(count, rest)):
            low, high = (1 + rest * at // count for at in (part, part + 1))
            t = torch.randint(low, high, (len(x0),), device=x0.device)
            total = total + (high - low) * self._terms(predict, x0, t, how)
        return total

    def _terms(
        self,
        predict: nn.Module | Predict,
        x0: Tensor,
        t: Tensor,
        how: dict[str, Any],
    ) -> Tensor:
        x = self.q_sample(x0, t)
        return self.bound_terms(predict(x, t), x0, x, t, **how)


def _normal_log_prob(
    x: Tensor, mean: Tensor, variance: Tensor, levels: int | None
) -> Tensor:
    """Return the log of a normal density, or of its share in the bin of a grey value."""
    std = variance.sqrt()
    if levels is None:
        log_density = -0.5 * ((x - mean) / std).square()
        return log_density - std.log() - 0.5 * math.log(2 * math.pi)
    half = 1 / (checks.count("levels", levels, least=2) - 1)
    upper, lower = (x + half - mean) / std, (x - half - mean) / std
    # the outermost bins reach to infinity; the smaller tail is the exact one
    upper = torch.where(x > 1 - half, torch.inf, upper)
    lower = torch.where(x < half - 1, -torch.inf, lower)
    flip = lower > 0
    upper, lower = torch.where(flip, -lower, upper), torch.where(flip, -upper, lower)
    high, low = (torch.special.log_ndtr(end) for end in (upper, lower))
    gap = (low - high).clamp(max=-1e-12)
    return high + torch.log(-torch.expm1(gap))


class DiT(nn.Module):
    r"""A diffusion transformer: patches of a noisy picture in, patches of the answer out.

    Args:
        image_size: side of the picture, or of its latent map, in pixels.
        patch_size: side of a patch, which divides it.
        in_channels: of the picture.
        embed_dim: width e, a multiple of 4 that the heads divide.
        num_layers: blocks.
        num_heads: of each.
        num_classes: classes, or None; number `num_classes` itself is the null class.
        mlp_ratio: as in `DiTBlock`.
        out_channels: of the answer; None is `in_channels`. Published ones have twice as many, since
            they learn a variance as well.
        time_scale: what t is multiplied by: 1 for steps 0 … 999, 1000 for times in 0 … 1.
        device: of the weights.
        dtype: of the weights.

    Example:
        >>> model = DiT(8, 2, 1, embed_dim=32, num_layers=2, num_heads=4, num_classes=10)
        >>> model(torch.zeros(3, 1, 8, 8), torch.tensor([0, 5, 999])).shape
        torch.Size([3, 1, 8, 8])

    Source: Peebles and Xie 2022.
    """

    def __init__(
        self,
        image_size: int = 32,
        patch_size: int = 2,
        in_channels: int = 4,
        embed_dim: int = 1152,
        num_layers: int = 28,
        num_heads: int = 16,
        num_classes: int | None = None,
        *,
        mlp_ratio: float = 4.0,
        out_channels: int | None = None,
        time_scale: float = 1.0,
        device: Device = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__()
        self.image_size = checks.count("image_size", image_size)
        self.patch_size = p = checks.count("patch_size", patch_size)
        if image_size % p:
            raise ValueError(f"patch_size={p} does not divide image_size={image_size}")
        self.in_channels = checks.count("in_channels", in_channels)
        out = in_channels if out_channels is None else out_channels
        self.out_channels = checks.count("out_channels", out)
        e = checks.count("embed_dim", embed_dim)
        if e % 4:
            raise ValueError(
                f"embed_dim={e} must be a multiple of 4: waves along two axes"
            )
        if num_classes is not None:
            num_classes = checks.count("num_classes", num_classes)
        self.null_class = num_classes
        self.time_scale = checks.number("time_scale", time_scale, above=0)
        like: dict[str, Any] = {"device": device, "dtype": dtype}
        self.told = _TimeAndClass(e, 256, num_classes, like)
        self.patches = nn.Conv2d(in_channels, e, p, stride=p, **like)
        places = _grid_positions(image_size // p, e)
        self.register_buffer("places", places.to(device, dtype), persistent=False)
        self.layers = nn.ModuleList(
            DiTBlock(e, num_heads, mlp_ratio, **like)
            for _ in range(checks.count("num_layers", num_layers))
        )
        self.modulation = nn.Linear(e, 2 * e, **like)
        self.last = nn.Linear(e, p * p * self.out_channels, **like)
        for layer in (self.modulation, self.last):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(
        self,
        x: Float[Tensor, "n c y x"],
        t: Tensor | float,
        y: Int[Tensor, " n"] | None = None,
    ) -> Float[Tensor, "n k y x"]:
        """Return the answer, of the picture's size.

        Args:
            x: noisy pictures.
            t: the time of each, or one for all.
            y: the class of each; None is the null class.
        """
        side = self.image_size
        checks.images("x", x, self.in_channels)
        if tuple(x.shape[2:]) != (side, side):
            raise ValueError(
                f"x must have {side} rows and columns, got {tuple(x.shape)}"
            )
        c = self.told(_times(t, x, self.time_scale), y)
        h = self.patches(x).flatten(2).mT + self.places
        for layer in self.layers:
            h = layer(h, c)
        shift, scale = self.modulation(F.silu(c))[:, None].chunk(2, -1)
        out = self.last(_modulated(h, shift, scale))
        p, n = self.patch_size, side // self.patch_size
        out = out.unflatten(1, (n, n)).unflatten(-1, (p, p, self.out_channels))
        return out.permute(0, 5, 1, 3, 2, 4).reshape(
            len(x), self.out_channels, side, side
        )


def _grid_positions(side: int, e: int) -> Float[Tensor, "s e"]:
    """Return waves along the columns, then along the rows, half of the width each."""
    steps = torch.arange(e // 4, dtype=torch.float64)
    rates = 10000.0 ** (-steps / (e // 4))
    angle = torch.arange(side, dtype=torch.float64)[:, None] * rates
    waves = torch.cat([angle.sin(), angle.cos()], 1)
    along = waves[None].expand(side, -1, -1), waves[:, None].expand(-1, side, -1)
    return torch.cat(along, -1).flatten(0, 1).float()
