r"""BERT: a transformer encoder that learns to read by filling in blanked words from both sides.

`BERT` reads, with the heads of its pre-training; `mask_tokens` and `masked_language_loss` are that
training; `Classifier` and `Tagger` put a reader to use.

Chapter: chapters/attention/bert.md     Paper: Devlin et al. 2018
Axes: b batch, t tokens, e model width, v vocabulary, n selected tokens, k classes.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from nnlib import checks, hugging_face
from nnlib.attention import _hugging_face as theirs
from nnlib.blocks.activations import ACTIVATIONS
from nnlib.blocks.layer_norm import LayerNorm
from nnlib.blocks.transformer_layer import TransformerEncoderLayer
from nnlib.kernels.cross_entropy import cross_entropy

IGNORED = -100
"""The target where nothing is asked, as in torch's cross-entropy."""


class Read(NamedTuple):
    """What BERT makes of a text: a vector for each token, and one for the whole of it."""

    hidden: Tensor
    pooled: Tensor | None


class BERT(nn.Module):
    r"""Encoder of tokens: each one's vector depends on all others, to its left and its right.

    Token, position and segment vectors are added and normalized (equation `bert-input`), and pass
    through post-norm encoder layers. The pooler reads the first token, `[CLS]` (`bert-pooler`).

    Args:
        vocab_size: number of tokens v, ≥ 1.
        embed_dim: model width e, ≥ 1.
        num_heads: heads, which divide e.
        num_layers: encoder layers, ≥ 1.
        dim_feedforward: hidden width of each layer's network; None is 4e.
        max_length: the most tokens it reads, ≥ 1.
        num_segments: kinds of segment, ≥ 1; 1 where a text has no parts, as in RoBERTa.
        dropout: probability of dropping, 0 … 1.
        layer_norm_eps: ε of the norms.
        activation: a name in `nnlib.blocks.activations.ACTIVATIONS`.
        pooler: whether to make a vector of the whole text.
        masked_head: whether it can guess tokens (`token_logits`).
        next_head: whether it can tell if the second segment follows the first (`next_logits`);
            needs the pooler.
        init_std: standard deviation of the first weights, > 0.
        device: of the weights.
        dtype: of the weights.


    Example:
        >>> model = BERT(vocab_size=30, embed_dim=16, num_heads=4, num_layers=2, max_length=12)
        >>> hidden, pooled = model(torch.tensor([[2, 7, 9, 3], [2, 8, 3, 0]]))
        >>> hidden.shape, pooled.shape
        (torch.Size([2, 4, 16]), torch.Size([2, 16]))

    Source: Devlin et al. 2018. Its released code drops no units between the two linear maps of a
    layer; ours does, as `torch.nn.TransformerEncoderLayer` does.
    """

    def __init__(
        self,
        vocab_size: int,
        embed_dim: int = 768,
        num_heads: int = 12,
        num_layers: int = 12,
        dim_feedforward: int | None = None,
        max_length: int = 512,
        num_segments: int = 2,
        dropout: float = 0.1,
        layer_norm_eps: float = 1e-12,
        activation: str = "gelu",
        *,
        pooler: bool = True,
        masked_head: bool = False,
        next_head: bool = False,
        init_std: float = 0.02,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__()
        self.vocab_size = v = checks.count("vocab_size", vocab_size)
        self.embed_dim = e = checks.count("embed_dim", embed_dim)
        self.max_length = checks.count("max_length", max_length)
        self.num_segments = checks.count("num_segments", num_segments)
        depth = checks.count("num_layers", num_layers)
        width = (
            4 * e
            if dim_feedforward is None
            else checks.count("dim_feedforward", dim_feedforward)
        )
        eps = checks.number("layer_norm_eps", layer_norm_eps, least=0)
        checks.flag("pooler", pooler), checks.flag("masked_head", masked_head)
        if checks.flag("next_head", next_head) and not pooler:
            raise ValueError("next_head=True reads the pooled vector, got pooler=False")
        dropout = checks.number("dropout", dropout, least=0, most=1)

        like: dict[str, Any] = {"device": device, "dtype": dtype}
        self.token_embedding = nn.Embedding(v, e, **like)
        self.position_embedding = nn.Embedding(self.max_length, e, **like)
        self.segment_embedding = nn.Embedding(self.num_segments, e, **like)
        self.norm = LayerNorm(e, eps=eps, **like)
        self.dropout = nn.Dropout(dropout)
        self.layers = nn.ModuleList(
            TransformerEncoderLayer(
                e, num_heads, width, dropout, activation, eps, **like
            )
            for _ in range(depth)
        )
        self.pooler = nn.Linear(e, e, **like) if pooler else None
        self.masked_head = (
            _MaskedHead(v, e, eps, activation, **like) if masked_head else None
        )
        self.next_head = nn.Linear(e, 2, **like) if next_head else None
        self.init_std = checks.number("init_std", init_std, above=0)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw new weights with spread `init_std`; biases begin with 0, factors of norms with 1."""
        drawn = [
            part
            for part in self.modules()
            if isinstance(part, nn.Linear | nn.Embedding)
        ]
        weights = [part.weight for part in drawn]
        weights += [
            p for name, p in self.named_parameters() if name.endswith("in_proj_weight")
        ]
        for weight in weights:
            nn.init.normal_(weight, std=self.init_std)
        for name, parameter in self.named_parameters():
            if name.endswith("bias"):
                nn.init.zeros_(parameter)
            elif "norm" in name:
                nn.init.ones_(parameter)

    def forward(
        self,
        ids: Int[Tensor, "b t"],
        segments: Int[Tensor, "b t"] | None = None,
        key_mask: Bool[Tensor, "b t"] | None = None,
    ) -> Read:
        """Return `hidden` (b t e) and `pooled` (b e; None without a pooler).

        Args:
            ids: tokens 0 … v − 1, at most `max_length` of them.
            segments: which part each token belongs to, from 0; all 0 when None.
            key_mask: True at tokens, False at padding, which nobody then looks at.
        """
        x = self.embed(ids, segments)
        for layer in self.layers:
            x = layer(x, key_mask=key_mask)
        return Read(
            x, None if self.pooler is None else torch.tanh(self.pooler(x[:, 0]))
        )

    def embed(
        self, ids: Int[Tensor, "b t"], segments: Int[Tensor, "b t"] | None = None
    ) -> Float[Tensor, "b t e"]:
        """Return what the first layer reads (equation `bert-input`)."""
        checks.tokens("ids", ids, self.vocab_size)
        t = ids.shape[1]
        if t > self.max_length:
            raise ValueError(
                f"ids must hold 1 … max_length={self.max_length} tokens, got {t}"
            )
        if segments is None:
            kind = self.segment_embedding.weight[0]
        else:
            checks.tokens(
                "segments",
                segments,
                self.num_segments,
                shape=tuple(ids.shape),
                of="num_segments",
            )
            kind = self.segment_embedding(segments)
        place = self.position_embedding.weight[:t]
        x = self.token_embedding(ids) + place + kind  # eq. bert-input
        return self.dropout(self.norm(x))

    def token_logits(self, hidden: Float[Tensor, "*n e"]) -> Float[Tensor, "*n v"]:
        """Return a score for every token at each vector of `hidden` (equation `bert-mlm-head`)."""
        if self.masked_head is None:
            raise ValueError("token_logits needs a model built with masked_head=True")
        self._check_width("hidden", hidden)
        return self.masked_head(hidden, self.token_embedding.weight)

    def next_logits(self, pooled: Float[Tensor, "b e"]) -> Float[Tensor, "b 2"]:
        """Return the scores of "follows" and "does not follow" (equation `bert-nsp`)."""
        if self.next_head is None:
            raise ValueError("next_logits needs a model built with next_head=True")
        self._check_width("pooled", pooled)
        return self.next_head(pooled)

    def num_parameters(self) -> int:
        """Return how many numbers are learned; the tied output matrix counts once."""
        return sum(p.numel() for p in self.parameters())

    @classmethod
    def from_hugging_face(cls, model_or_path: nn.Module | str | Path) -> "BERT":
        """Return a model with the weights, and so the answers, of one of Hugging Face's.

        Args:
            model_or_path: an instance of transformers' `BertModel`, `BertForPreTraining` or
                `BertForMaskedLM`; a folder with `config.json` and safetensors; or a hub id. Heads
                are built as there are weights for them. In evaluation mode, on the CPU.

        Raises:
            ConnectionError: a hub id that cannot be reached.

        Source: the layout of transformers' BERT, and of the 2018 checkpoints converted to it.
        """
        config, tensors = hugging_face.read_model(
            model_or_path, "bert", theirs.BERT_SIZES
        )
        hugging_face.refuse_options(config, theirs.BERT_ONLY)
        act = config.get("hidden_act", "gelu")
        tensors = {name.removeprefix("bert."): value for name, value in tensors.items()}
        made = cls(
            **{ours: config[name] for name, ours in theirs.BERT_SIZES.items()},
            dropout=config.get("hidden_dropout_prob", 0.1),
            layer_norm_eps=config.get("layer_norm_eps", 1e-12),
            activation=theirs.BERT_ACTIVATIONS.get(act, act),
            pooler=any(name.startswith("pooler.") for name in tensors),
            masked_head=any(name.startswith("cls.predictions.") for name in tensors),
            next_head=any(name.startswith("cls.seq_relationship.") for name in tensors),
        )
        for name, source in theirs.BERT_TIED.items():
            own, shared = tensors.get(name), tensors.get(source)
            if own is not None and shared is not None and not torch.equal(own, shared):
                raise ValueError(
                    f"model_or_path has a {name} of its own, BERT takes {source} for it"
                )
        hugging_face.load_renamed(made, tensors, theirs.BERT_RULES)
        return made.eval()

    def _check_width(self, name: str, value: Tensor) -> None:
        checks.tensor(name, value, floating=True)
        if value.shape[-1:] != (self.embed_dim,):
            raise ValueError(
                f"{name} must end with embed_dim={self.embed_dim}, got {tuple(value.shape)}"
            )


class _MaskedHead(nn.Module):
    """Linear, GELU, LayerNorm; then scores by the token vectors themselves, and a bias."""

    def __init__(
        self,
        vocab_size: int,
        embed_dim: int,
        eps: float,
        activation: str,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__()
        like: dict[str, Any] = {"device": device, "dtype": dtype}
        self.linear = nn.Linear(embed_dim, embed_dim, **like)
        self.norm = LayerNorm(embed_dim, eps=eps, **like)
        self.bias = nn.Parameter(torch.zeros(vocab_size, **like))
        self.activation = activation

    def forward(self, hidden: Tensor, token_vectors: Tensor) -> Tensor:
        """Return scores; `token_vectors` is the input embedding, used a second time."""
        x = self.norm(ACTIVATIONS[self.activation](self.linear(hidden)))
        return F.linear(x, token_vectors, self.bias)  # eq. bert-mlm-head


def mask_tokens(
    ids: Int[Tensor, "b t"],
    mask_id: int,
    vocab_size: int,
    *,
    special_ids: Sequence[int] = (),
    key_mask: Bool[Tensor, "b t"] | None = None,
    rate: float = 0.15,
    mask_share: float = 0.8,
    random_share: float = 0.1,
    generator: torch.Generator | None = None,
) -> tuple[Int[Tensor, "b t"], Int[Tensor, "b t"]]:
    r"""Choose tokens to be guessed, and corrupt the text: equation `bert-corruption`.

    Every ordinary token is selected with probability `rate`. Of the selected, `mask_share` become
    `mask_id`, `random_share` a random ordinary token, and the rest stay as they are.

    Args:
        ids: tokens 0 … v − 1; left as they are.
        mask_id: the number of `[MASK]`.
        vocab_size: number of tokens v.
        special_ids: tokens such as `[CLS]`, `[SEP]` and `[PAD]`, never selected and never put in;
            `mask_id` is always among them.
        key_mask: True at tokens, False at padding, which is never selected.
        rate: probability of being selected, 0 … 1.
        mask_share: share of the selected that is blanked, 0 … 1.
        random_share: share of the selected that is replaced; with `mask_share` at most 1.
        generator: of the random numbers, on the CPU; torch's own when None.

    Returns:
        The corrupted tokens, and the targets: the true token where one was
        selected, −100 elsewhere.


    Example:
        >>> text = torch.arange(4, 12)[None]
        >>> seeded = torch.Generator().manual_seed(4)
        >>> corrupted, targets = mask_tokens(text, 3, 12, special_ids=[0, 1, 2], generator=seeded)
        >>> corrupted.tolist(), targets.tolist()
        ([[4, 5, 3, 7, 8, 3, 10, 11]], [[-100, -100, 6, -100, 8, 9, -100, -100]])

    Source: Devlin et al. 2018, who select exactly 15 % of a text; here each token on its own, as
    most code since.
    """
    vocab_size = checks.count("vocab_size", vocab_size)
    checks.tokens("ids", ids, vocab_size)
    mask_id = _one_id("mask_id", mask_id, vocab_size)
    special = sorted(
        {mask_id, *(_one_id("special_ids", i, vocab_size) for i in special_ids)}
    )
    rate = checks.number("rate", rate, least=0, most=1)
    mask_share = checks.number("mask_share", mask_share, least=0, most=1)
    random_share = checks.number("random_share", random_share, least=0, most=1)
    if mask_share + random_share > 1 + 1e-9:
        raise ValueError(
            f"mask_share + random_share must be ≤ 1, got {mask_share + random_share:g}"
        )
    ordinary = torch.ones(vocab_size, dtype=torch.bool, device=ids.device)
    ordinary[special] = False
    candidates = ordinary[ids]
    if key_mask is not None:
        checks.key_mask("key_mask", key_mask, tuple(ids.shape))
        candidates = candidates & key_mask

    chance, fate = (
        torch.rand(ids.shape, generator=generator).to(ids.device) for _ in range(2)
    )
    selected = candidates & (chance < rate)
    blank = selected & (fate < mask_share)
    swap = selected & ~blank & (fate < mask_share + random_share)
    corrupted = ids.masked_fill(blank, mask_id)
    pool = ordinary.nonzero()[:, 0]
    if len(pool) == 0 and random_share:
        raise ValueError(
            "special_ids leave no token to put in; random_share must then be 0"
        )
    if len(pool):
        drawn = torch.randint(len(pool), ids.shape, generator=generator).to(ids.device)
        corrupted = torch.where(swap, pool[drawn].to(ids.dtype), corrupted)
    return corrupted, ids.masked_fill(~selected, IGNORED)


def masked_language_loss(
    model: BERT,
    corrupted: Int[Tensor, "b t"],
    targets: Int[Tensor, "b t"],
    segments: Int[Tensor, "b t"] | None = None,
    key_mask: Bool[Tensor, "b t"] | None = None,
) -> Float[Tensor, ""]:
    r"""Return the mean surprise at the selected tokens, given the *corrupted* text.

    Equation `bert-mlm`. Scores are made at the selected places only: with 15 % selected, that is
    a seventh of the largest product of the model.

    Args:
        model: with a `masked_head`.
        corrupted: what `mask_tokens` made of a text.
        targets: true tokens, −100 where nothing is asked; 0 is returned where nothing is asked.
        segments: as for `BERT`.
        key_mask: as for `BERT`.


    Example:
        >>> model = BERT(12, 8, 2, 1, max_length=8, masked_head=True).eval()
        >>> text = torch.arange(4, 12)[None]
        >>> masked_language_loss(model, *mask_tokens(text, 3, 12, rate=1.0)).isfinite().item()
        True
    """
    checks.tensor("targets", targets, shape=tuple(corrupted.shape), floating=False)
    hidden = model(corrupted, segments, key_mask).hidden
    return _token_loss(model, hidden, targets)


def pretraining_loss(
    model: BERT,
    corrupted: Int[Tensor, "b t"],
    targets: Int[Tensor, "b t"],
    segments: Int[Tensor, "b t"],
    follows: Int[Tensor, " b"],
    key_mask: Bool[Tensor, "b t"] | None = None,
) -> Float[Tensor, ""]:
    r"""Return the loss of 2018: guess the blanked tokens, and whether B follows A.

    Equation `bert-pretraining`.

    Args:
        model: with a `masked_head` and a `next_head`.
        corrupted: what `mask_tokens` made of `[CLS] A [SEP] B [SEP]`.
        targets: true tokens, −100 where nothing is asked.
        segments: 0 up to the first `[SEP]`, 1 after it.
        follows: 0 where B follows A, 1 where it is from elsewhere (the order of `next_logits`).
        key_mask: as for `BERT`.
    """
    checks.tensor("targets", targets, shape=tuple(corrupted.shape), floating=False)
    checks.labels("follows", follows, 2, length=len(corrupted))
    hidden, pooled = model(corrupted, segments, key_mask)
    if pooled is None:
        raise ValueError("pretraining_loss needs a model built with pooler=True")
    return _token_loss(model, hidden, targets) + cross_entropy(
        model.next_logits(pooled), follows
    )


class Classifier(nn.Module):
    r"""One answer for a whole text: a linear map of the pooled vector (`bert-classification`).

    Args:
        bert: a model with a pooler; it is trained along.
        num_classes: classes k, ≥ 1.
        dropout: probability of dropping parts of the pooled vector, 0 … 1.
        device: of the last layer.
        dtype: of the last layer.


    Example:
        >>> Classifier(BERT(30, 16, 4, 1), num_classes=3)(torch.zeros(2, 5).long()).shape
        torch.Size([2, 3])

    Source: Devlin et al. 2018, figure 4(a, b).
    """

    def __init__(
        self,
        bert: BERT,
        num_classes: int,
        dropout: float = 0.1,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__()
        if _bert(bert).pooler is None:
            raise ValueError("bert must have been built with pooler=True")
        self.bert = bert
        self.dropout = nn.Dropout(checks.number("dropout", dropout, least=0, most=1))
        k = checks.count("num_classes", num_classes)
        self.output = nn.Linear(bert.embed_dim, k, device=device, dtype=dtype)
        nn.init.zeros_(self.output.bias)

    def forward(
        self,
        ids: Int[Tensor, "b t"],
        segments: Int[Tensor, "b t"] | None = None,
        key_mask: Bool[Tensor, "b t"] | None = None,
    ) -> Float[Tensor, "b k"]:
        """Return a score for each class of each text."""
        return self.output(self.dropout(self.bert(ids, segments, key_mask).pooled))


class Tagger(nn.Module):
    r"""One answer for every token: the same linear map of each token's vector (`bert-tagging`).

    Args:
        bert: with or without a pooler; it is trained along.
        num_classes: tags k, ≥ 1.
        dropout: probability of dropping parts of the vectors, 0 … 1.
        device: of the last layer.
        dtype: of the last layer.


    Example:
        >>> Tagger(BERT(30, 16, 4, 1), num_classes=3)(torch.zeros(2, 5).long()).shape
        torch.Size([2, 5, 3])

    Source: Devlin et al. 2018, figure 4(d).
    """

    def __init__(
        self,
        bert: BERT,
        num_classes: int,
        dropout: float = 0.1,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__()
        self.bert = _bert(bert)
        self.dropout = nn.Dropout(checks.number("dropout", dropout, least=0, most=1))
        k = checks.count("num_classes", num_classes)
        self.output = nn.Linear(bert.embed_dim, k, device=device, dtype=dtype)
        nn.init.zeros_(self.output.bias)

    def forward(
        self,
        ids: Int[Tensor, "b t"],
        segments: Int[Tensor, "b t"] | None = None,
        key_mask: Bool[Tensor, "b t"] | None = None,
    ) -> Float[Tensor, "b t k"]:
        """Return a score for each tag of each token."""
        return self.output(self.dropout(self.bert(ids, segments, key_mask).hidden))


def _token_loss(model: BERT, hidden: Tensor, targets: Tensor) -> Tensor:
    asked = targets != IGNORED
    wanted = targets[asked]
    checks.tokens("targets", wanted, model.vocab_size, shape=("n",), empty=True)
    if len(wanted) == 0:
        return hidden.sum() * 0
    return cross_entropy(model.token_logits(hidden[asked]), wanted)  # eq. bert-mlm


def _bert(value: object) -> BERT:
    if not isinstance(value, BERT):
        raise TypeError(f"bert must be a BERT, got {type(value).__name__}")
    return value


def _one_id(name: str, value: int, vocab_size: int) -> int:
    value = checks.count(name, value, least=0)
    if value >= vocab_size:
        raise ValueError(f"{name} must be below vocab_size={vocab_size}, got {value}")
    return value
