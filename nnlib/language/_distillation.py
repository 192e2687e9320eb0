"""What a student learns from a teacher's scores.

Part of `nnlib.language.compression`, with its axes.
"""

from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from nnlib import checks


def distillation_loss(
    student_logits: Float[Tensor, "*n c"],
    teacher_logits: Float[Tensor, "*n c"],
    labels: Int[Tensor, "*n"] | None = None,
    *,
    temperature: float = 4.0,
    soft_share: float = 0.9,
    reverse: bool = False,
) -> Float[Tensor, ""]:
    r"""Return $\lambda\,\tau^2\,\mathrm{KL}(p^\tau \Vert q^\tau) + (1 - \lambda)\,H(y, q)$.

    Equation `compression-distillation`, a mean over the examples; $p^\tau$ and $q^\tau$ are the
    softmax of the teacher's and the student's logits divided by the temperature τ. No gradient
    goes to the teacher.

    Args:
        student_logits: of the student.
        teacher_logits: of the teacher, finite, for the same examples.
        labels: the true classes, where they are known; without them the first term stands alone.
        temperature: τ > 0.
        soft_share: λ, the weight of the first term, in [0, 1]; ignored without labels.
        reverse: whether the divergence is $\mathrm{KL}(q^\tau \Vert p^\tau)$ instead
            (`compression-reverse`), which avoids what the teacher finds improbable.

    Example:
        >>> import torch
        >>> logits = torch.tensor([[2.0, 0.0, -1.0]])
        >>> distillation_loss(logits, logits + 5, temperature=2.0).abs() < 1e-6
        tensor(True)

    Source: Hinton, Vinyals and Dean 2015, whose T is our τ; reversed: Gu et al. 2023.
    """
    checks.tensor(
        "student_logits", student_logits, floating=True, finite=True, empty=False
    )
    shape = tuple(student_logits.shape)
    if not shape:
        raise ValueError("student_logits must have an axis of classes, got shape ()")
    checks.tensor(
        "teacher_logits", teacher_logits, shape=shape, floating=True, finite=True
    )
    tau = checks.number("temperature", temperature, above=0)
    share = checks.number("soft_share", soft_share, least=0, most=1)
    q = (student_logits.reshape(-1, shape[-1]) / tau).log_softmax(-1)
    p = (teacher_logits.detach().reshape(-1, shape[-1]) / tau).log_softmax(-1)
    first, second = (q, p) if checks.flag("reverse", reverse) else (p, q)
    soft = tau**2 * (first.exp() * (first - second)).sum(-1).mean()
    if labels is None:
        return soft
    checks.tensor("labels", labels, shape=shape[:-1])
    checks.labels("labels", labels.flatten(), shape[-1])
    hard = F.cross_entropy(
        student_logits.reshape(-1, shape[-1]), labels.flatten().long()
    )
    return share * soft + (1 - share) * hard
