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
from itertools import pairwise
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F
from torch.types import Device

from nnlib import checks
from nnlib.blocks.multi_head_attention import MultiHeadAttention
from nnlib.blocks.timesteps import timestep_embedding

SCHEDULES = ("linear", "scaled_linear", "cosine")
PREDICTIONS = ("epsilon", "sample", "v_prediction")
QUANTITIES = (*PREDICTIONS, "score")
VARIANCES = ("small", "large")
SPACINGS = ("leading", "trailing")
Predict = Callable[[Tensor, Tensor], Tensor]


# -------------------------------------------------------------------------------- noise schedules
def beta_schedule(name: str, steps: int) -> Float[Tensor, " T"]:
    r"""Return the variances $\beta_t$ of the noise that each step adds, in double precision.

    `linear` rises from 10⁻⁴ to 0.02 in 1000 steps; `scaled_linear`, of Stable Diffusion, is linear
    in $\sqrt\beta$, from 0.00085 to 0.012. With another number of steps both are multiplied by
    1000/T, so that as much noise is added in all. `cosine` sets
    $\bar\alpha_t \propto \cos^2\bigl(\tfrac{t/T + 0.008}{1.008}\,\tfrac\pi2\bigr)$ (equation
    `diffusion-cosine`), with no β above 0.999.

    Args:
        name: one of `SCHEDULES`.
        steps: T, ≥ 1; of the first two, enough that no β reaches 1.

    Example:
        >>> beta_schedule("linear", 1000)[[0, -1]]
        tensor([0.0001, 0.0200], dtype=torch.float64)

    Source: Ho et al. 2020; Rombach et al. 2021; Nichol and Dhariwal 2021.
    """
    checks.one_of("name", name, SCHEDULES)
    steps = checks.count("steps", steps)
    kind = torch.float64
    if name == "cosine":
        share = torch.arange(steps + 1, dtype=kind) / steps
        kept = ((share + 0.008) / 1.008 * math.pi / 2).cos().square()
        return (1 - kept[1:] / kept[:-1]).clamp(max=0.999)  # eq. diffusion-cosine
    power = 1 if name == "linear" else 2
    low, high = (1e-4, 0.02) if name == "linear" else (0.00085**0.5, 0.012**0.5)
    betas = torch.linspace(low, high, steps, dtype=kind) ** power * (1000 / steps)
    if betas[-1] >= 1:
        raise ValueError(
            f"steps={steps} is too few for name={name!r}: its last β would be {betas[-1]:.3g}"
        )
    return betas


def zero_terminal_snr(betas: Float[Tensor, " T"]) -> Float[Tensor, " T"]:
    r"""Return the schedule changed so that nothing of the data is left after its last step.

    $\sqrt{\bar\alpha}$ is shifted so that it ends at 0, and scaled so that it begins as before
    (equation `diffusion-zero-snr`). The last β is 1.

    Args:
        betas: variances in (0, 1), two or more.

    Example:
        >>> zero_terminal_snr(beta_schedule("linear", 1000))[-1]
        tensor(1., dtype=torch.float64)

    Source: Lin et al. 2023.
    """
    betas = _checked_betas(betas)
    if len(betas) < 2:
        raise ValueError("betas must hold 2 steps or more, got 1")
    root = (1 - betas).cumprod(0).sqrt()
    root = (root - root[-1]) * root[0] / (root[0] - root[-1])  # eq. diffusion-zero-snr
    kept = root.square()
    return 1 - torch.cat([kept[:1], kept[1:] / kept[:-1]])


def _checked_betas(betas: Any) -> Tensor:
    given = torch.as_tensor(betas, dtype=torch.float64).cpu()
    checks.tensor("betas", given, shape=("T",), finite=True, empty=False)
    last_alone = bool((given[:-1] < 1).all()) and float(given[-1]) <= 1
    if not bool((given > 0).all()) or not last_alone:
        low, high = float(given.min()), float(given.max())
        raise ValueError(
            f"betas must lie in (0, 1), the last one in (0, 1], got {low:g} … {high:g}"
        )
    return given


# -------------------------------------------------------------------------------------- diffusion
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


# --------------------------------------------------------------------------------------- guidance
def guided(
    eps_cond: Float[Tensor, "n *d"],
    eps_uncond: Float[Tensor, "n *d"] | None,
    w: float | None = None,
    *,
    scale: float | None = None,
) -> Float[Tensor, "n *d"]:
    r"""Return the answer moved away from the one without a condition.

    $(1+w)\,\boldsymbol\epsilon_c - w\,\boldsymbol\epsilon_\varnothing$ in the convention of the
    paper (equation `diffusion-guidance`), where w = 0 is no guidance; or with a scale $s = 1 + w$,
    as software counts, $\boldsymbol\epsilon_\varnothing + s\,(\boldsymbol\epsilon_c -
    \boldsymbol\epsilon_\varnothing)$ (`diffusion-guidance-scale`), where s = 1 is none.

    Args:
        eps_cond: the answer with the condition: noise, v, score or velocity.
        eps_uncond: the answer with the null condition.
        w: strength in the paper's convention.
        scale: strength in the other one; one of the two is given.

    Example:
        >>> guided(torch.tensor([2.0]), torch.tensor([1.0]), w=0.5)
        tensor([2.5000])

    Source: Ho and Salimans 2021.
    """
    if (w is None) == (scale is None):
        raise ValueError(
            f"w or scale: one of them must be given, got {'neither' if w is None else 'both'}"
        )
    if eps_uncond is None:
        raise ValueError(
            "eps_uncond is None: guidance needs the answer with a null class, on which the network "
            "was trained, too"
        )
    checks.tensor("eps_cond", eps_cond, floating=True)
    checks.tensor("eps_uncond", eps_uncond, shape=tuple(eps_cond.shape), floating=True)
    w = checks.number("w", w) if scale is None else checks.number("scale", scale) - 1
    return (1 + w) * eps_cond - w * eps_uncond  # eq. diffusion-guidance


def guide(
    model: Callable[..., Tensor],
    y: Int[Tensor, " n"],
    null_class: int | None,
    w: float = 0.0,
) -> Predict:
    """Return `predict(x, t)` of a network with classes, guided towards `y`.

    Both answers are computed in one pass over twice the batch; with w = 0 only one is.

    Args:
        model: called as `model(x, t, y)`.
        y: the class of each example.
        null_class: the number that stands for no class.
        w: strength in the paper's convention.
    """
    w = checks.number("w", w)
    if w == 0:
        return lambda x, t: model(x, t, y)
    if null_class is None:
        raise ValueError(
            f"null_class is None: guidance with w={w:g} needs a null class, which the network has "
            "seen in training"
        )
    null = torch.full_like(y, checks.count("null_class", null_class, least=0))

    def predict(x: Tensor, t: Tensor) -> Tensor:
        both = model(torch.cat([x, x]), torch.cat([t, t]), torch.cat([y, null]))
        cond, uncond = both.chunk(2)
        return guided(cond, uncond, w)

    return predict


def drop_classes(
    y: Int[Tensor, " n"],
    null_class: int,
    rate: float = 0.1,
    generator: torch.Generator | None = None,
) -> Int[Tensor, " n"]:
    """Return the classes with some of them replaced by the null class, as guidance needs it.

    Args:
        y: classes.
        null_class: the number that stands for no class.
        rate: probability of replacing, 0 … 1; 0.1 or 0.2 are usual.
        generator: source of the randomness.
    """
    checks.tensor("y", y, shape=("n",), floating=False)
    rate = checks.number("rate", rate, least=0, most=1)
    where = y.device if generator is None else generator.device
    hit = torch.rand(len(y), device=where, generator=generator) < rate
    return y.masked_fill(
        hit.to(y.device), checks.count("null_class", null_class, least=0)
    )


# ---------------------------------------------------------------------------------- flow matching
class FlowMatching:
    r"""Straight paths from data to noise, and the velocity along them.

    $\mathbf x_t = (1-t)\,\mathbf x_0 + t\,\boldsymbol\epsilon$ for times 0 … 1 (equation
    `diffusion-flow-path`); the network learns the mean of $\boldsymbol\epsilon - \mathbf x_0$ there
    (`diffusion-flow-loss`), and sampling follows it back from noise to data. (Lipman et al. let
    time run from noise to data; here it runs as in diffusion.)

    Args:
        logit_normal: whether training times are drawn as the sigmoid of a normal number, which has
            more of them in the middle, and not evenly.
        shift: > 0; a sampler's times t become $t\,s/(1+(s-1)\,t)$: above 1 it spends more of its
            steps where there is much noise, as large pictures want.

    Example:
        >>> flow = FlowMatching()
        >>> flow.interpolate(torch.zeros(1, 2), torch.ones(1, 2), torch.tensor([0.25]))
        tensor([[0.2500, 0.2500]])

    Source: Lipman et al. 2022; Liu, Gong and Liu 2022; both options, Esser et al. 2024.
    """

    def __init__(self, *, logit_normal: bool = False, shift: float = 1.0):
        self.logit_normal = checks.flag("logit_normal", logit_normal)
        self.shift = checks.number("shift", shift, above=0)

    def interpolate(
        self,
        x0: Float[Tensor, "n *d"],
        noise: Float[Tensor, "n *d"],
        t: Float[Tensor, " n"],
    ) -> Float[Tensor, "n *d"]:
        """Return the points of the paths at time t, 0 for data and 1 for noise."""
        t = _a_time(t, x0)
        return (1 - t) * x0 + t * noise  # eq. diffusion-flow-path

    def loss(
        self,
        model: nn.Module | Callable[..., Tensor],
        x0: Float[Tensor, "n *d"],
        *condition: Any,
        t: Float[Tensor, " n"] | None = None,
        noise: Float[Tensor, "n *d"] | None = None,
    ) -> Float[Tensor, ""]:
        """Return the mean squared error of the velocity (equation `diffusion-flow-loss`).

        Args:
            model: called as `model(x, t, *condition)`, with times in 0 … 1.
            x0: clean examples.
            *condition: what the network sees besides.
            t: times; drawn if None.
            noise: drawn if None; given the noise from which a model drew `x0`, this is the loss of
                reflow.
        """
        checks.tensor("x0", x0, floating=True, empty=False)
        noise = torch.randn_like(x0) if noise is None else noise
        checks.tensor("noise", noise, shape=tuple(x0.shape), floating=True)
        if t is None:
            t = torch.rand(len(x0), device=x0.device, dtype=x0.dtype)
            if self.logit_normal:
                t = torch.randn_like(t).sigmoid()
        answer = model(self.interpolate(x0, noise, t), t, *condition)
        checks.tensor("model's answer", answer, shape=tuple(x0.shape), floating=True)
        return (answer - (noise - x0)).square().mean()  # eq. diffusion-flow-loss

    def times(self, num_steps: int) -> list[float]:
        """Return the times that a sampler visits, from 1 to 0, one more than steps."""
        count = checks.count("num_steps", num_steps)
        even = [1 - at / count for at in range(count + 1)]
        return [t * self.shift / (1 + (self.shift - 1) * t) for t in even]

    @torch.no_grad()
    def sample(
        self,
        predict: nn.Module | Predict,
        noise: Float[Tensor, "n *d"],
        num_steps: int,
        *,
        method: str = "euler",
        path: bool = False,
    ) -> Float[Tensor, "*all"]:
        """Return what noise becomes when it follows the velocity back (`diffusion-flow-ode`).

        Args:
            predict: called as `predict(x, t)` with one time for each example.
            noise: standard normal, of the shape of the examples.
            num_steps: ≥ 1; each is one pass of the network, with `heun` two, but the last.
            method: `euler`, or `heun`, which averages the velocities of both ends.
            path: whether all steps are returned, the noise first.
        """
        checks.one_of("method", method, ("euler", "heun"))
        times = self.times(num_steps)
        x, seen = noise, [noise]
        for t, until in pairwise(times):
            velocity = predict(x, x.new_full((len(x),), t))
            there = x + (until - t) * velocity
            if method == "heun" and until > 0:
                end = predict(there, x.new_full((len(x),), until))
                there = x + (until - t) * 0.5 * (velocity + end)
            x = there
            if path:
                seen.append(x)
        return torch.stack(seen) if path else x


def _a_time(t: Tensor, x: Tensor) -> Tensor:
    checks.tensor("t", t, shape=(len(x),), floating=True)
    if checks.readable(t) and t.numel() and not (t.min() >= 0 and t.max() <= 1):
        raise ValueError(f"t must lie in 0 … 1, got {t.min():g} … {t.max():g}")
    return t.view(-1, *[1] * (x.ndim - 1))


# ------------------------------------------------------------------------- a score that is known
class GaussianMixture:
    r"""Normal distributions of one variance each, whose noisy versions are known in closed form.

    Noise keeps a mixture a mixture: at $\bar\alpha$ its means are $\sqrt{\bar\alpha}\,
    \boldsymbol\mu_k$ and its variances $\bar\alpha\,\sigma_k^2 + 1 - \bar\alpha$ (equation
    `diffusion-mixture`), so that density, score and the best possible denoiser are known.

    Args:
        means: one a row.
        std: standard deviation of all, or of each, > 0.
        weights: shares, which are normalised; None is even ones.

    Example:
        >>> mixture = GaussianMixture(torch.tensor([[-1.0], [1.0]]), std=0.5)
        >>> mixture.score(torch.zeros(1, 1), alpha_bar=0.5)
        tensor([[0.]])
    """

    def __init__(
        self,
        means: Float[Tensor, "k d"],
        std: float | Float[Tensor, " k"],
        weights: Float[Tensor, " k"] | None = None,
    ):
        self.means = checks.tensor(
            "means", means, shape=("k", "d"), floating=True, empty=False
        )
        k = len(means)
        spread = torch.as_tensor(std, dtype=means.dtype).expand(k)
        if not bool((spread > 0).all()):
            raise ValueError(f"std must be above 0, got {float(spread.min()):g}")
        self.std = spread
        weights = torch.ones(k) if weights is None else weights
        checks.tensor("weights", weights, shape=(k,), floating=True)
        if not bool((weights >= 0).all()) or not float(weights.sum()) > 0:
            raise ValueError("weights must be at least 0, and not all of them 0")
        self.weights = (weights / weights.sum()).to(means)

    def sample(
        self, count: int, generator: torch.Generator | None = None
    ) -> Float[Tensor, "n d"]:
        """Draw clean examples, one a row."""
        count = checks.count("count", count)
        at = torch.multinomial(
            self.weights, count, replacement=True, generator=generator
        )
        noise = torch.randn(count, self.means.shape[1], generator=generator).to(
            self.means
        )
        return self.means[at] + self.std[at, None] * noise

    def _parts(self, x: Tensor, alpha_bar: float) -> tuple[Tensor, Tensor, Tensor]:
        kept = checks.number("alpha_bar", alpha_bar, least=0, most=1)
        checks.tensor("x", x, shape=("n", self.means.shape[1]), floating=True)
        variance = kept * self.std**2 + 1 - kept  # eq. diffusion-mixture
        apart = kept**0.5 * self.means - x[:, None]
        log_part = -0.5 * (
            apart.square().sum(-1) / variance
            + x.shape[1] * (2 * math.pi * variance).log()
        )
        return apart, variance, log_part + self.weights.log()

    def log_prob(
        self, x: Float[Tensor, "n d"], alpha_bar: float = 1.0
    ) -> Float[Tensor, " n"]:
        r"""Return the log-density of noisy examples, in nats; clean ones at $\bar\alpha = 1$."""
        return self._parts(x, alpha_bar)[2].logsumexp(1)

    def score(
        self, x: Float[Tensor, "n d"], alpha_bar: float = 1.0
    ) -> Float[Tensor, "n d"]:
        r"""Return $\nabla_{\mathbf x}\log q(\mathbf x)$: the way to where data are denser."""
        apart, variance, logs = self._parts(x, alpha_bar)
        pull = (
            logs.softmax(1) / variance
        )  # whose it probably is, and how strongly it pulls
        return (pull[..., None] * apart).sum(1)


# --------------------------------------------------------------------------------------- networks
class _TimeAndClass(nn.Module):
    """A vector for the time, and the class if there is one; the last class is none of them."""

    def __init__(
        self, width: int, waves: int, num_classes: int | None, like: dict[str, Any]
    ):
        super().__init__()
        self.waves, self.num_classes = waves, num_classes
        self.time = nn.Sequential(
            nn.Linear(waves, width, **like), nn.SiLU(), nn.Linear(width, width, **like)
        )
        self.classes = (
            None
            if num_classes is None
            else nn.Embedding(num_classes + 1, width, **like)
        )

    def forward(self, t: Tensor, y: Tensor | None) -> Tensor:
        kind = next(self.time.parameters()).dtype
        told = self.time(timestep_embedding(t.to(kind), self.waves))
        if self.classes is None or self.num_classes is None:
            if y is not None:
                raise ValueError("y needs a network that was made with num_classes")
            return told
        if y is None:
            y = torch.full((len(t),), self.num_classes, device=t.device)
        checks.labels("y", y, self.num_classes + 1, length=len(t))
        return told + self.classes(y)


def _times(t: Tensor | float, x: Tensor, scale: float) -> Tensor:
    if not isinstance(t, Tensor):
        t = torch.tensor(checks.number("t", t), device=x.device)
    t = t.expand(len(x)) if t.ndim == 0 else t
    checks.tensor("t", t, shape=(len(x),))
    return scale * t.to(x.device, x.dtype)


class Denoiser(nn.Module):
    r"""A residual network over rows of numbers that is told the time, and the class.

    Each of its layers adds $\mathrm{SiLU}\bigl(\mathbf W(\mathbf h + \mathbf c) + \mathbf
    b\bigr)$, where $\mathbf c$ stands for time and class. It begins by answering zero.

    Args:
        num_features: d.
        hidden_size: width.
        num_layers: residual layers.
        num_classes: classes, or None; number `num_classes` itself is the null class.
        time_scale: what t is multiplied by: 1 for steps 0 … 999, 1000 for times in 0 … 1.
        device: of the weights.
        dtype: of the weights.

    Example:
        >>> model = Denoiser(64, 128, num_classes=10)
        >>> model(torch.zeros(5, 64), torch.tensor(3), torch.arange(5)).shape
        torch.Size([5, 64])
    """

    def __init__(
        self,
        num_features: int,
        hidden_size: int = 128,
        num_layers: int = 3,
        num_classes: int | None = None,
        *,
        time_scale: float = 1.0,
        device: Device = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__()
        self.num_features = checks.count("num_features", num_features)
        h = checks.count("hidden_size", hidden_size)
        layers = checks.count("num_layers", num_layers)
        if num_classes is not None:
            num_classes = checks.count("num_classes", num_classes)
        self.null_class = num_classes
        self.time_scale = checks.number("time_scale", time_scale, above=0)
        like: dict[str, Any] = {"device": device, "dtype": dtype}
        self.told = _TimeAndClass(h, 2 * math.ceil(h / 4), num_classes, like)
        self.first = nn.Linear(self.num_features, h, **like)
        self.layers = nn.ModuleList(nn.Linear(h, h, **like) for _ in range(layers))
        self.last = nn.Linear(h, self.num_features, **like)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)

    def forward(
        self,
        x: Float[Tensor, "n d"],
        t: Tensor | float,
        y: Int[Tensor, " n"] | None = None,
    ) -> Float[Tensor, "n d"]:
        """Return the answer: noise, clean example, v or velocity, as it was trained.

        Args:
            x: noisy rows.
            t: the time of each, or one for all.
            y: the class of each; None is the null class.
        """
        checks.tensor("x", x, shape=("n", self.num_features), floating=True)
        c = F.silu(self.told(_times(t, x, self.time_scale), y))
        h = self.first(x)
        for layer in self.layers:
            h = h + F.silu(layer(h + c))
        return self.last(h)


class DiTBlock(nn.Module):
    r"""A transformer block whose norms are scaled, shifted and gated by a condition: adaLN-Zero.

    $\mathbf h \leftarrow \mathbf h + \boldsymbol\alpha \odot \mathrm{part}\bigl((1 +
    \boldsymbol\gamma) \odot \mathrm{LN}(\mathbf h) + \boldsymbol\beta\bigr)$ for attention and then
    for the network, with all six vectors from $\mathbf W\,\mathrm{SiLU}(\mathbf c) + \mathbf b$
    (equation `diffusion-adaln`). $\mathbf W$ and $\mathbf b$ begin at zero, so that a new block is
    the identity.

    Args:
        embed_dim: width e, which the heads divide.
        num_heads: of the attention.
        mlp_ratio: the hidden layer is this many times as wide.
        device: of the weights.
        dtype: of the weights.

    Example:
        >>> DiTBlock(16, 4)(torch.ones(2, 9, 16), torch.zeros(2, 16)).shape
        torch.Size([2, 9, 16])

    Source: Peebles and Xie 2022.
    """

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        mlp_ratio: float = 4.0,
        *,
        device: Device = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__()
        like: dict[str, Any] = {"device": device, "dtype": dtype}
        self.attention = MultiHeadAttention(embed_dim, num_heads, **like)
        wide = int(embed_dim * checks.number("mlp_ratio", mlp_ratio, above=0))
        self.linear1 = nn.Linear(embed_dim, wide, **like)
        self.linear2 = nn.Linear(wide, embed_dim, **like)
        self.modulation = nn.Linear(embed_dim, 6 * embed_dim, **like)
        nn.init.zeros_(self.modulation.weight)
        nn.init.zeros_(self.modulation.bias)

    def forward(
        self, h: Float[Tensor, "n s e"], c: Float[Tensor, "n e"]
    ) -> Float[Tensor, "n s e"]:
        """Return the vectors of the patches, changed.

        Args:
            h: vectors of the patches.
            c: time and class.
        """
        told = self.modulation(F.silu(c))[:, None].chunk(6, -1)
        shift, scale, gate, shift2, scale2, gate2 = told
        h = h + gate * self.attention(
            _modulated(h, shift, scale)
        )  # eq. diffusion-adaln
        wide = F.gelu(self.linear1(_modulated(h, shift2, scale2)), approximate="tanh")
        return h + gate2 * self.linear2(wide)


def _modulated(h: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """Return the norm, without weights of its own, scaled and shifted."""
    return (1 + scale) * F.layer_norm(h, h.shape[-1:], eps=1e-6) + shift


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
