r"""BERT: a transformer encoder that learns to read by filling in blanked words from both sides.

`BERT` reads, with the heads of its pre-training; `mask_tokens` and `masked_language_loss` are that
training; `Classifier` and `Tagger` put a reader to use.

Chapter: chapters/attention/bert.md     Paper: Devlin et al. 2018
Axes: b batch, t tokens, e model width, v vocabulary, n selected tokens, k classes.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from nnlib import checks
from nnlib.attention.transformer import ACTIVATIONS, TransformerEncoderLayer
from nnlib.blocks import hugging_face
from nnlib.blocks.layer_norm import LayerNorm
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
        segments: kinds of segment, ≥ 1; 1 where a text has no parts, as in RoBERTa.
        dropout: probability of dropping, 0 … 1.
        layer_norm_eps: ε of the norms.
        activation: "gelu", "gelu_tanh" or "relu".
        pooler: whether to make a vector of the whole text.
        masked_head: whether it can guess tokens (`token_logits`).
        next_head: whether it can tell if the second segment follows the first (`next_logits`);
            needs the pooler.
        init_std: standard deviation of the first weights, > 0.

    Raises:
        TypeError: an argument of the wrong kind, named.
        ValueError: an argument out of its range, named.

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
        segments: int = 2,
        dropout: float = 0.1,
        layer_norm_eps: float = 1e-12,
        activation: str = "gelu",
        *,
        pooler: bool = True,
        masked_head: bool = False,
        next_head: bool = False,
        init_std: float = 0.02,
    ):
        super().__init__()
        self.vocab_size = v = checks.count("vocab_size", vocab_size)
        self.embed_dim = e = checks.count("embed_dim", embed_dim)
        self.max_length = checks.count("max_length", max_length)
        self.segments = checks.count("segments", segments)
        depth = checks.count("num_layers", num_layers)
        width = (
            4 * e if dim_feedforward is None else checks.count("dim_feedforward", dim_feedforward)
        )
        eps = checks.number("layer_norm_eps", layer_norm_eps, least=0)
        for name, value in (("pooler", pooler), ("masked_head", masked_head)):
            checks.one_of(name, value, (True, False))
        if checks.flag("next_head", next_head) and not pooler:
            raise ValueError("next_head=True reads the pooled vector, got pooler=False")
        dropout = checks.number("dropout", dropout, least=0, most=1)

        self.tokens = nn.Embedding(v, e)
        self.positions = nn.Embedding(self.max_length, e)
        self.kinds = nn.Embedding(self.segments, e)
        self.norm = LayerNorm(e, eps=eps)
        self.dropout = nn.Dropout(dropout)
        self.layers = nn.ModuleList(
            TransformerEncoderLayer(e, num_heads, width, dropout, activation, eps)
            for _ in range(depth)
        )
        self.pooler = nn.Linear(e, e) if pooler else None
        self.masked_head = _MaskedHead(v, e, eps, activation) if masked_head else None
        self.next_head = nn.Linear(e, 2) if next_head else None
        self._initialize(checks.number("init_std", init_std, above=0))

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

        Raises:
            TypeError: an argument of the wrong kind, named.
            ValueError: tokens outside the vocabulary, too many of them, shapes that do not fit.
        """
        x = self.embed(ids, segments)
        for layer in self.layers:
            x = layer(x, key_mask=key_mask)
        return Read(x, None if self.pooler is None else torch.tanh(self.pooler(x[:, 0])))

    def embed(
        self, ids: Int[Tensor, "b t"], segments: Int[Tensor, "b t"] | None = None
    ) -> Float[Tensor, "b t e"]:
        """Return what the first layer reads (equation `bert-input`)."""
        _in_range("ids", ids, self.vocab_size)
        t = ids.shape[1]
        if not 1 <= t <= self.max_length:
            raise ValueError(f"ids must hold 1 … max_length={self.max_length} tokens, got {t}")
        if segments is None:
            kind = self.kinds.weight[0]
        else:
            _in_range("segments", segments, self.segments, tuple(ids.shape))
            kind = self.kinds(segments)
        x = self.tokens(ids) + self.positions.weight[:t] + kind  # eq. bert-input
        return self.dropout(self.norm(x))

    def token_logits(self, hidden: Float[Tensor, "*n e"]) -> Float[Tensor, "*n v"]:
        """Return a score for every token at each vector of `hidden` (equation `bert-mlm-head`).

        Raises:
            ValueError: the model was built without `masked_head`, or another width.
        """
        if self.masked_head is None:
            raise ValueError("token_logits needs a model built with masked_head=True")
        self._check_width("hidden", hidden)
        return self.masked_head(hidden, self.tokens.weight)

    def next_logits(self, pooled: Float[Tensor, "b e"]) -> Float[Tensor, "b 2"]:
        """Return the scores of "follows" and "does not follow" (equation `bert-nsp`).

        Raises:
            ValueError: the model was built without `next_head`, or another width.
        """
        if self.next_head is None:
            raise ValueError("next_logits needs a model built with next_head=True")
        self._check_width("pooled", pooled)
        return self.next_head(pooled)

    def num_parameters(self) -> int:
        """Return how many numbers are learned; the tied output matrix counts once."""
        return sum(p.numel() for p in self.parameters())

    @classmethod
    def from_hugging_face(cls, model_or_path) -> "BERT":
        """Return a model with the weights, and so the answers, of one of Hugging Face's.

        Args:
            model_or_path: an instance of transformers' `BertModel`, `BertForPreTraining` or
                `BertForMaskedLM`; a folder with `config.json` and safetensors; or a hub id. Heads
                are built as there are weights for them. In evaluation mode, on the CPU.

        Raises:
            TypeError: neither a model nor a path.
            ValueError: another architecture, an activation or kind of position that BERT does not
                have, a tensor that is missing or left over, a folder that cannot be read.
            ConnectionError: a hub id that cannot be reached.

        Source: the layout of transformers' BERT, and of the 2018 checkpoints converted to it.
        """
        config, tensors = hugging_face.read_model(model_or_path, "bert")
        for name, wanted in _ONLY.items():
            if (got := config.get(name, wanted)) != wanted:
                raise ValueError(f"model_or_path has {name}={got!r}, BERT takes {wanted!r} only")
        hidden_act = config.get("hidden_act", "gelu")
        checks.one_of("hidden_act", hidden_act, _ACTIVATIONS)
        tensors = {name.removeprefix("bert."): value for name, value in tensors.items()}
        lost = [name for name in _SIZES if name not in config]
        if lost:
            raise ValueError(f"model_or_path has a configuration without {lost}")
        model = cls(
            *(config[name] for name in _SIZES),
            dropout=config.get("hidden_dropout_prob", 0.1),
            layer_norm_eps=config.get("layer_norm_eps", 1e-12),
            activation=_ACTIVATIONS[hidden_act],
            pooler=any(name.startswith("pooler.") for name in tensors),
            masked_head=any(name.startswith("cls.predictions.") for name in tensors),
            next_head=any(name.startswith("cls.seq_relationship.") for name in tensors),
        )
        _check_tied(tensors)
        hugging_face.load_renamed(model, tensors, _RULES)
        return model.eval()

    def _initialize(self, std: float) -> None:
        for part in self.modules():
            if isinstance(part, nn.Linear | nn.Embedding):
                nn.init.normal_(part.weight, std=std)
            if isinstance(part, nn.Linear):
                nn.init.zeros_(part.bias)
        for layer in self.layers:
            nn.init.normal_(layer.self_attn.in_proj_weight, std=std)

    def _check_width(self, name: str, value: Tensor) -> None:
        checks.tensor(name, value, floating=True)
        if value.shape[-1:] != (self.embed_dim,):
            raise ValueError(
                f"{name} must end with embed_dim={self.embed_dim}, got {tuple(value.shape)}"
            )


class _MaskedHead(nn.Module):
    """Linear, GELU, LayerNorm; then scores by the token vectors themselves, and a bias."""

    def __init__(self, vocab_size: int, embed_dim: int, eps: float, activation: str):
        super().__init__()
        self.linear = nn.Linear(embed_dim, embed_dim)
        self.norm = LayerNorm(embed_dim, eps=eps)
        self.bias = nn.Parameter(torch.zeros(vocab_size))
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

    Raises:
        TypeError: an argument of the wrong kind, named.
        ValueError: an argument out of its range, named; no ordinary token is left to put in.

    Example:
        >>> text = torch.arange(4, 12)[None]
        >>> seeded = torch.Generator().manual_seed(4)
        >>> corrupted, targets = mask_tokens(text, 3, 12, special_ids=[0, 1, 2], generator=seeded)
        >>> corrupted.tolist(), targets.tolist()
        ([[4, 5, 3, 7, 8, 3, 10, 11]], [[-100, -100, 6, -100, 8, 9, -100, -100]])

    Source: Devlin et al. 2018, who select exactly 15 % of a text; here each token on its own, as
    most code since.
    """
    _in_range("ids", ids, vocab_size := checks.count("vocab_size", vocab_size))
    mask_id = _one_id("mask_id", mask_id, vocab_size)
    special = sorted({mask_id, *(_one_id("special_ids", i, vocab_size) for i in special_ids)})
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
        _check_key_mask(key_mask, ids)
        candidates = candidates & key_mask

    chance, fate = (torch.rand(ids.shape, generator=generator).to(ids.device) for _ in range(2))
    selected = candidates & (chance < rate)
    blank = selected & (fate < mask_share)
    swap = selected & ~blank & (fate < mask_share + random_share)
    corrupted = ids.masked_fill(blank, mask_id)
    pool = ordinary.nonzero()[:, 0]
    if len(pool) == 0 and random_share:
        raise ValueError("special_ids leave no token to put in; random_share must then be 0")
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

    Raises:
        TypeError, ValueError: as for `BERT`; targets of another shape or outside the vocabulary.

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

    Raises:
        TypeError, ValueError: as for `BERT`; a head that the model does not have.
    """
    checks.tensor("targets", targets, shape=tuple(corrupted.shape), floating=False)
    checks.labels("follows", follows, 2, length=len(corrupted))
    hidden, pooled = model(corrupted, segments, key_mask)
    if pooled is None:
        raise ValueError("pretraining_loss needs a model built with pooler=True")
    return _token_loss(model, hidden, targets) + cross_entropy(model.next_logits(pooled), follows)


class Classifier(nn.Module):
    r"""One answer for a whole text: a linear map of the pooled vector (`bert-classification`).

    Args:
        bert: a model with a pooler; it is trained along.
        num_classes: classes k, ≥ 1.
        dropout: probability of dropping parts of the pooled vector, 0 … 1.

    Raises:
        TypeError, ValueError: a bad argument, named.

    Example:
        >>> Classifier(BERT(30, 16, 4, 1), num_classes=3)(torch.zeros(2, 5).long()).shape
        torch.Size([2, 3])

    Source: Devlin et al. 2018, figure 4(a, b).
    """

    def __init__(self, bert: BERT, num_classes: int, dropout: float = 0.1):
        super().__init__()
        if _bert(bert).pooler is None:
            raise ValueError("bert must have been built with pooler=True")
        self.bert = bert
        self.dropout = nn.Dropout(checks.number("dropout", dropout, least=0, most=1))
        self.output = nn.Linear(bert.embed_dim, checks.count("num_classes", num_classes))
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

    Raises:
        TypeError, ValueError: a bad argument, named.

    Example:
        >>> Tagger(BERT(30, 16, 4, 1), num_classes=3)(torch.zeros(2, 5).long()).shape
        torch.Size([2, 5, 3])

    Source: Devlin et al. 2018, figure 4(d).
    """

    def __init__(self, bert: BERT, num_classes: int, dropout: float = 0.1):
        super().__init__()
        self.bert = _bert(bert)
        self.dropout = nn.Dropout(checks.number("dropout", dropout, least=0, most=1))
        self.output = nn.Linear(bert.embed_dim, checks.count("num_classes", num_classes))
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
    _in_range("targets", wanted, model.vocab_size, ("n",))
    if len(wanted) == 0:
        return hidden.sum() * 0
    return cross_entropy(model.token_logits(hidden[asked]), wanted)  # eq. bert-mlm


def _bert(value) -> BERT:
    if not isinstance(value, BERT):
        raise TypeError(f"bert must be a BERT, got {type(value).__name__}")
    return value


def _one_id(name: str, value: int, vocab_size: int) -> int:
    value = checks.count(name, value, least=0)
    if value >= vocab_size:
        raise ValueError(f"{name} must be below vocab_size={vocab_size}, got {value}")
    return value


def _check_key_mask(key_mask: Tensor, ids: Tensor) -> None:
    checks.tensor("key_mask", key_mask, shape=tuple(ids.shape))
    if key_mask.dtype != torch.bool:
        raise TypeError(f"key_mask must hold True at real tokens, got {key_mask.dtype}")


def _in_range(name: str, value: Tensor, size: int, shape: tuple = ("b", "t")) -> None:
    """Refuse numbers outside 0 … size − 1, which would read beyond a table."""
    checks.tensor(name, value, shape=shape, floating=False)
    if torch.compiler.is_compiling() or value.is_meta or not value.numel():
        return
    low, high = (int(end) for end in value.aminmax())
    if low < 0 or high >= size:
        raise ValueError(f"{name} must hold numbers 0 … {size - 1}, got {low} … {high}")


# ------------------------------------------------------------- the names of Hugging Face's weights
_SIZES = (
    "vocab_size", "hidden_size", "num_attention_heads", "num_hidden_layers", "intermediate_size",
    "max_position_embeddings", "type_vocab_size",
)  # fmt: skip
_ACTIVATIONS = {
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "relu": "relu",
}
_ONLY = {
    "position_embedding_type": "absolute",
    "is_decoder": False,
    "add_cross_attention": False,
    "tie_word_embeddings": True,
}
_NORM = {r"(?:weight|gamma)": "weight", r"(?:bias|beta)": "bias"}  # checkpoints of 2018: γ and β
_LAYER = r"encoder\.layer\.(\d+)\."
_RULES = (
    (r"embeddings\.position_ids", None),  # 0, 1, 2, …: saved by old versions
    (r"embeddings\.word_embeddings\.weight", "tokens.weight"),
    (r"embeddings\.position_embeddings\.weight", "positions.weight"),
    (r"embeddings\.token_type_embeddings\.weight", "kinds.weight"),
    *((rf"embeddings\.LayerNorm\.{p}", f"norm.{n}") for p, n in _NORM.items()),
    *(
        (
            rf"{_LAYER}attention\.self\.{part}\.(weight|bias)",
            rf"layers.\1.self_attn.in_proj_\2[{i}]",
        )
        for i, part in enumerate(("query", "key", "value"))
    ),
    (_LAYER + r"attention\.output\.dense\.(weight|bias)", r"layers.\1.self_attn.out_proj.\2"),
    *(
        (rf"{_LAYER}attention\.output\.LayerNorm\.{p}", rf"layers.\1.norm1.{n}")
        for p, n in _NORM.items()
    ),
    (_LAYER + r"intermediate\.dense\.(weight|bias)", r"layers.\1.linear1.\2"),
    (_LAYER + r"output\.dense\.(weight|bias)", r"layers.\1.linear2.\2"),
    *((rf"{_LAYER}output\.LayerNorm\.{p}", rf"layers.\1.norm2.{n}") for p, n in _NORM.items()),
    (r"pooler\.dense\.(weight|bias)", r"pooler.\1"),
    (r"cls\.predictions\.bias", "masked_head.bias"),
    (r"cls\.predictions\.decoder\.(weight|bias)", None),  # tied; see `_check_tied`
    (r"cls\.predictions\.transform\.dense\.(weight|bias)", r"masked_head.linear.\1"),
    *(
        (rf"cls\.predictions\.transform\.LayerNorm\.{p}", f"masked_head.norm.{n}")
        for p, n in _NORM.items()
    ),
    (r"cls\.seq_relationship\.(weight|bias)", r"next_head.\1"),
)


def _check_tied(tensors: dict[str, Tensor]) -> None:
    """Refuse an output matrix or bias of its own: BERT uses the token vectors twice."""
    for name, source in (
        ("cls.predictions.decoder.weight", "embeddings.word_embeddings.weight"),
        ("cls.predictions.decoder.bias", "cls.predictions.bias"),
    ):
        if (
            name in tensors
            and source in tensors
            and not torch.equal(*map(tensors.get, (name, source)))
        ):
            raise ValueError(f"model_or_path has a {name} of its own, BERT takes {source} for it")
