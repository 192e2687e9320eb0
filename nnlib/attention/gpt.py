r"""GPT: a stack of causal transformer blocks that learns by guessing the next token.

Chapter: chapters/attention/gpt.md     Papers: Radford et al. 2018, 2019; Brown et al. 2020
Axes: b batch, t positions, s positions so far, e model width, v vocabulary.
"""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from nnlib import checks
from nnlib.attention.transformer import TransformerEncoderLayer
from nnlib.blocks.hugging_face import load_renamed, read_model
from nnlib.blocks.kv_cache import KVCache
from nnlib.blocks.layer_norm import LayerNorm
from nnlib.kernels.linear_cross_entropy import linear_cross_entropy

_ACTIVATIONS = {"gelu_new": "gelu_tanh", "gelu_pytorch_tanh": "gelu_tanh", "gelu": "gelu"}
_RULES = [  # a GPT-2 of transformers, whose weights are (in, out) where ours are (out, in)
    (r"(?:transformer\.)?wte\.weight", "token_embedding.weight"),
    (r"(?:transformer\.)?wpe\.weight", "position_embedding.weight"),
    (r"(?:transformer\.)?ln_f\.(weight|bias)", r"norm.\1"),
    (r"(?:transformer\.)?h\.(\d+)\.ln_([12])\.(weight|bias)", r"layers.\1.norm\2.\3"),
    (r"(?:transformer\.)?h\.(\d+)\.attn\.(?:masked_)?bias", None),  # the causal mask, a constant
    (r"(?:transformer\.)?h\.(\d+)\.attn\.c_attn\.weight", r"layers.\1.self_attn.in_proj_weight.T"),
    (r"(?:transformer\.)?h\.(\d+)\.attn\.c_attn\.bias", r"layers.\1.self_attn.in_proj_bias"),
    (r"(?:transformer\.)?h\.(\d+)\.attn\.c_proj\.weight", r"layers.\1.self_attn.out_proj.weight.T"),
    (r"(?:transformer\.)?h\.(\d+)\.attn\.c_proj\.bias", r"layers.\1.self_attn.out_proj.bias"),
    (r"(?:transformer\.)?h\.(\d+)\.mlp\.c_fc\.weight", r"layers.\1.linear1.weight.T"),
    (r"(?:transformer\.)?h\.(\d+)\.mlp\.c_fc\.bias", r"layers.\1.linear1.bias"),
    (r"(?:transformer\.)?h\.(\d+)\.mlp\.c_proj\.weight", r"layers.\1.linear2.weight.T"),
    (r"(?:transformer\.)?h\.(\d+)\.mlp\.c_proj\.bias", r"layers.\1.linear2.bias"),
]


class GPT(nn.Module):
    r"""A causal language model: $p(x_{t+1} \mid x_{\le t}) = \mathrm{softmax}(E\,\mathbf{h}_t)$.

    Token and position vectors are added (equation `gpt-embedding`), pass the blocks, each with its
    norms first (`gpt-block`), and are held against the token vectors again (`gpt-next`).

    Args:
        vocab_size: number of tokens v, ≥ 1.
        embed_dim: model width e, ≥ 1.
        num_heads: heads, which divide e.
        num_layers: blocks L, ≥ 1.
        max_length: the longest sequence, prompt and answer together, ≥ 1.
        dropout: probability of dropping in training, 0 … 1.
        dim_feedforward: hidden width of each block's network; None is 4e.
        activation: "gelu_tanh" (GPT-2), "gelu" or "relu".
        layer_norm_eps: ε of the norms.
        init_std: spread σ of new weights, > 0; 0.02 suits widths of 500 and more, and a model that
            is narrower learns sooner from a wider spread.

    Raises:
        TypeError: an argument of the wrong kind, named.
        ValueError: an argument out of its range, named.

    Example:
        >>> model = GPT(vocab_size=11, embed_dim=8, num_heads=2, num_layers=2, max_length=16)
        >>> ids = torch.tensor([[1, 2, 3]])
        >>> model(ids).shape, model.generate(ids, max_new_tokens=4).shape
        (torch.Size([1, 3, 11]), torch.Size([1, 7]))

    Source: Radford et al. 2019 (GPT-2). Our e and L are their d_model and layers.
    """

    def __init__(
        self,
        vocab_size: int,
        embed_dim: int,
        num_heads: int,
        num_layers: int,
        max_length: int,
        dropout: float = 0.0,
        *,
        dim_feedforward: int | None = None,
        activation: str = "gelu_tanh",
        layer_norm_eps: float = 1e-5,
        init_std: float = 0.02,
    ):
        super().__init__()
        self.vocab_size = checks.count("vocab_size", vocab_size)
        e = checks.count("embed_dim", embed_dim)
        depth = checks.count("num_layers", num_layers)
        self.max_length = checks.count("max_length", max_length)
        checks.number("dropout", dropout, least=0, most=1)
        hidden = 4 * e if dim_feedforward is None else dim_feedforward
        self.token_embedding = nn.Embedding(vocab_size, e)  # also the output's weights
        self.position_embedding = nn.Embedding(max_length, e)
        self.dropout = nn.Dropout(dropout)
        options = {"activation": activation, "layer_norm_eps": layer_norm_eps, "norm_first": True}
        self.layers = nn.ModuleList(
            TransformerEncoderLayer(e, num_heads, hidden, dropout, **options) for _ in range(depth)
        )
        self.norm = LayerNorm(e, eps=layer_norm_eps)
        self.init_std = checks.number("init_std", init_std, above=0)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw new weights with spread σ, and σ/√(2L) where a block adds to the stream."""
        for name, parameter in self.named_parameters():
            if name.endswith("bias"):
                nn.init.zeros_(parameter)
            elif "norm" not in name:
                adds = name.endswith(("out_proj.weight", "linear2.weight"))
                shrink = (2 * len(self.layers)) ** -0.5 if adds else 1.0  # eq. gpt-init
                nn.init.normal_(parameter, std=self.init_std * shrink)

    def forward(
        self,
        ids: Int[Tensor, "b t"],
        key_mask: Bool[Tensor, "b s"] | None = None,
        caches: list[KVCache] | None = None,
        positions: Int[Tensor, "..."] | None = None,
    ) -> Float[Tensor, "b t v"]:
        """Return the logits of the token that follows each position.

        Args:
            ids: token numbers; with caches, those that continue what the caches hold.
            key_mask: True at real tokens, False at padding, cached positions included. Positions
                are then counted from the first real token, wherever the padding stands.
            caches: from `new_caches`, one a block; they are appended to.
            positions: numbers of the positions, if other than counted: t, or b by t.

        Raises:
            TypeError: an argument of the wrong kind, named.
            ValueError: ids outside the vocabulary, more positions than `max_length`, or shapes
                that do not fit.
        """
        hidden = self.hidden(ids, key_mask, caches, positions)
        return F.linear(hidden, self.token_embedding.weight)  # eq. gpt-next

    def hidden(
        self,
        ids: Int[Tensor, "b t"],
        key_mask: Bool[Tensor, "b s"] | None = None,
        caches: list[KVCache] | None = None,
        positions: Int[Tensor, "..."] | None = None,
    ) -> Float[Tensor, "b t e"]:
        """Return the vector of each position after the last norm; arguments as in `forward`."""
        start = self._check(ids, key_mask, caches)
        end = start + ids.shape[1]
        if positions is not None:
            checks.tensor("positions", positions, floating=False)
        elif key_mask is not None:
            positions = (key_mask.cumsum(1) - 1).clamp(min=0)[:, start:]
        else:
            positions = torch.arange(start, end, device=ids.device)
        x = self.token_embedding(ids) + self.position_embedding(positions)  # eq. gpt-embedding
        x = self.dropout(x)
        for number, layer in enumerate(self.layers):
            cache = None if caches is None else caches[number]
            x = layer(x, key_mask=key_mask, is_causal=True, cache=cache)  # eq. gpt-block
        return self.norm(x)

    def loss(
        self, ids: Int[Tensor, "b t"], key_mask: Bool[Tensor, "b t"] | None = None
    ) -> Float[Tensor, ""]:
        """Return the mean loss of guessing each token from those before it, in nats.

        The logits are never held for the whole batch. `next_token_loss` is the readable twin.

        Args:
            ids: sequences of two tokens or more.
            key_mask: True at real tokens; padding is neither read nor guessed.

        Raises:
            TypeError, ValueError: as for `forward`; a sequence of one token.
        """
        self._check(ids, key_mask, None)
        target = _targets(ids, key_mask)
        seen = None if key_mask is None else key_mask[:, :-1]
        hidden = self.hidden(ids[:, :-1], seen).flatten(0, 1)
        return linear_cross_entropy(hidden, self.token_embedding.weight, target.flatten())

    def new_caches(self) -> list[KVCache]:
        """Return an empty cache for each block."""
        return [KVCache(self.max_length) for _ in self.layers]

    @torch.no_grad()
    def generate(
        self,
        ids: Int[Tensor, "b t"],
        max_new_tokens: int,
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float | None = None,
        min_p: float | None = None,
        generator: torch.Generator | None = None,
        use_cache: bool = True,
        stop: int | None = None,
        key_mask: Bool[Tensor, "b t"] | None = None,
    ) -> Int[Tensor, "b s"]:
        """Return the prompts and what follows them, drawn token by token.

        Args:
            ids: prompts of one token or more, padded on the left where `key_mask` says so.
            max_new_tokens: tokens to add, ≥ 1.
            temperature: ≥ 0; 0 takes the most probable token.
            top_k: draw among the k most probable; ≥ 1, or None for all.
            top_p: draw among the fewest most probable that reach p; in (0, 1], or None.
            min_p: draw among those of at least m times the largest; in [0, 1], or None.
            generator: of the random numbers; None is torch's own.
            use_cache: whether keys and values are kept; the result is the same, later.
            stop: a token after which a sequence is complete; it is then filled up with it.
            key_mask: True at real tokens of the prompts, False at padding on their left.

        Raises:
            TypeError: an argument of the wrong kind, named.
            ValueError: a value out of range, a prompt longer than the context, or one that leaves
                no room for the new tokens, all before anything is computed.
        """
        new = checks.count("max_new_tokens", max_new_tokens)
        rule = _check_sampling(temperature, top_k, top_p, min_p, self.vocab_size)
        checks.flag("use_cache", use_cache)
        if stop is not None and checks.count("stop", stop, least=0) >= self.vocab_size:
            raise ValueError(f"stop={stop} must be below vocab_size={self.vocab_size}")
        self._check(ids, key_mask, None)
        if ids.shape[1] + new > self.max_length:
            raise ValueError(
                f"max_new_tokens={new} after a prompt of {ids.shape[1]} needs "
                f"{ids.shape[1] + new} positions, max_length={self.max_length}"
            )
        if key_mask is not None and not bool(key_mask[:, -1].all()):
            raise ValueError("key_mask must end with a real token: pad prompts on the left")
        was_training = self.training
        self.eval()
        caches, read = (self.new_caches() if use_cache else None), 0
        done = torch.zeros(len(ids), dtype=torch.bool, device=ids.device)
        for _ in range(new):
            hidden = self.hidden(ids[:, read:], key_mask, caches)[:, -1]
            logits = F.linear(hidden, self.token_embedding.weight)
            if temperature == 0:
                token = logits.argmax(-1, keepdim=True)
            else:
                probabilities = _filtered(logits, *rule)
                token = torch.multinomial(probabilities, 1, generator=generator)
            if stop is not None:
                token = torch.where(done[:, None], stop, token)
                done = done | (token[:, 0] == stop)
            read = ids.shape[1] if use_cache else 0
            ids = torch.cat([ids, token], 1)
            if key_mask is not None:
                key_mask = F.pad(key_mask, (0, 1), value=True)
            if stop is not None and bool(done.all()):
                break
        self.train(was_training)
        return ids

    @classmethod
    def from_hugging_face(cls, model_or_path) -> "GPT":
        """Return the GPT-2 of `transformers` with its weights, in evaluation mode.

        Args:
            model_or_path: an instance of `GPT2LMHeadModel` or `GPT2Model`, the folder of a saved
                one, or its name on the hub, such as "openai-community/gpt2".

        Raises:
            TypeError: something else.
            ValueError: no GPT-2, an option of it that we lack, or tensors missing or left over.
            ConnectionError: a name on the hub, which cannot be reached.
        """
        config, tensors = read_model(model_or_path, "gpt2")
        _refuse_unknown(config)
        head = tensors.pop("lm_head.weight", None)  # the token vectors again
        e = config["n_embd"]
        made = cls(
            config["vocab_size"],
            e,
            config["n_head"],
            config["n_layer"],
            config["n_positions"],
            config.get("resid_pdrop", 0.1),
            dim_feedforward=config.get("n_inner") or 4 * e,
            activation=_ACTIVATIONS.get(name := config["activation_function"], name),
            layer_norm_eps=config.get("layer_norm_epsilon", 1e-5),
        )
        load_renamed(made, tensors, _RULES)
        if head is not None and not torch.equal(head, made.token_embedding.weight.to(head.dtype)):
            raise ValueError("lm_head.weight must equal wte.weight: GPT shares them")
        return made.eval()

    def _check(self, ids: Tensor, key_mask: Tensor | None, caches: list[KVCache] | None) -> int:
        """Refuse what does not fit; return how many positions the caches hold."""
        checks.tensor("ids", ids, shape=("b", "t"), floating=False, empty=False)
        if caches is not None and len(caches) != len(self.layers):
            raise ValueError(f"caches must be {len(self.layers)}, one a block, got {len(caches)}")
        start = caches[0].length if caches else 0
        end = start + ids.shape[1]
        if end > self.max_length:
            raise ValueError(f"ids must end within max_length={self.max_length}, got {end}")
        if key_mask is not None:
            checks.tensor("key_mask", key_mask, shape=(len(ids), end))
            if key_mask.dtype != torch.bool:
                raise TypeError(f"key_mask must hold True at real tokens, got {key_mask.dtype}")
        if not torch.compiler.is_compiling() and ids.device.type != "meta":
            low, high = map(int, ids.aminmax())
            if low < 0 or high >= self.vocab_size:
                raise ValueError(
                    f"ids must be 0 … {self.vocab_size - 1} (vocab_size), got {low} … {high}"
                )
        return start


def next_token_loss(
    logits: Float[Tensor, "b t v"],
    ids: Int[Tensor, "b t"],
    key_mask: Bool[Tensor, "b t"] | None = None,
) -> Float[Tensor, ""]:
    r"""Return $-\frac1{T-1}\sum_t \log p(x_{t+1} \mid x_{\le t})$ (equation `gpt-loss`).

    What stands at position t has read token t, so that it is held against token t + 1.

    Args:
        logits: of `GPT.forward` on `ids`.
        ids: sequences of two tokens or more.
        key_mask: True at real tokens; padding is not guessed.

    Raises:
        TypeError: an argument of the wrong kind, named.
        ValueError: shapes that do not fit, or a sequence of one token.

    Example:
        >>> next_token_loss(torch.zeros(1, 3, 2), torch.tensor([[0, 1, 1]])).item()  # log 2
        0.6931471824645996
    """
    checks.tensor("logits", logits, shape=("b", "t", "v"), floating=True)
    checks.tensor("ids", ids, shape=tuple(logits.shape[:2]), floating=False)
    target = _targets(ids, key_mask)
    return F.cross_entropy(logits[:, :-1].flatten(0, 1), target.flatten())


def sampling_probabilities(
    logits: Float[Tensor, "*b v"],
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    min_p: float | None = None,
) -> Float[Tensor, "*b v"]:
    r"""Return the probabilities that the next token is drawn from.

    Logits over the temperature through softmax (equation `gpt-temperature`); then only some tokens
    stay, and what stays is divided by its sum: the k most probable (`gpt-top-k`), the fewest most
    probable that reach p together (`gpt-top-p`), those of at least m times the largest
    (`gpt-min-p`), in this order. Ties are broken by the smaller number.

    Args:
        logits: one for each token.
        temperature: ≥ 0; 0 puts all on the largest logit.
        top_k: ≥ 1, or None for all.
        top_p: in (0, 1], or None.
        min_p: in [0, 1], or None.

    Raises:
        TypeError: an argument of the wrong kind, named.
        ValueError: an argument out of its range, named.

    Example:
        >>> p = torch.tensor([0.1, 0.4, 0.2, 0.3])
        >>> [round(q, 2) for q in sampling_probabilities(p.log(), top_p=0.6).tolist()]
        [0.0, 0.57, 0.0, 0.43]

    Source: top-k: Fan et al. 2018; top-p: Holtzman et al. 2019; min-p: Nguyen et al. 2024.
    """
    checks.tensor("logits", logits, floating=True, empty=False)
    return _filtered(logits, *_check_sampling(temperature, top_k, top_p, min_p, logits.shape[-1]))


def gpt_parameters(vocab_size: int, embed_dim: int, num_layers: int, max_length: int) -> int:
    """Return how many numbers a GPT with 4e hidden units learns: `gpt-parameters`.

    Args:
        vocab_size: tokens v, ≥ 1.
        embed_dim: width e, ≥ 1.
        num_layers: blocks L, ≥ 0.
        max_length: positions T, ≥ 1.

    Raises:
        TypeError, ValueError: a count that is none, named.

    Example:
        >>> gpt_parameters(50257, 768, 12, 1024)  # GPT-2, the smallest
        124439808
    """
    v, e = checks.count("vocab_size", vocab_size), checks.count("embed_dim", embed_dim)
    depth = checks.count("num_layers", num_layers, least=0)
    return (v + checks.count("max_length", max_length)) * e + depth * (12 * e * e + 13 * e) + 2 * e


def token_flops(
    vocab_size: int, embed_dim: int, num_layers: int, length: int, use_cache: bool
) -> int:
    """Return the FLOPs of the matrix products that give token number `length` + 1.

    With a cache one position passes the blocks, without it all of them do: `gpt-cached-cost`,
    `gpt-uncached-cost`.

    Args:
        vocab_size: tokens v, ≥ 1.
        embed_dim: width e, ≥ 1.
        num_layers: blocks L, ≥ 1.
        length: tokens before it, ≥ 1.
        use_cache: whether their keys and values are kept.

    Raises:
        TypeError, ValueError: a count that is none, named.
    """
    v, e = checks.count("vocab_size", vocab_size), checks.count("embed_dim", embed_dim)
    depth, t = checks.count("num_layers", num_layers), checks.count("length", length)
    positions = 1 if checks.flag("use_cache", use_cache) else t
    return positions * depth * (24 * e * e + 4 * e * t) + 2 * v * e


def _targets(ids: Tensor, key_mask: Tensor | None) -> Tensor:
    """Return what each position but the last must guess; −100 where that is padding."""
    if ids.shape[1] < 2:
        raise ValueError(f"ids must hold two tokens or more a sequence, got {tuple(ids.shape)}")
    target = ids[:, 1:]  # the index that makes it a guess: eq. gpt-loss
    if key_mask is None:
        return target
    checks.tensor("key_mask", key_mask, shape=tuple(ids.shape))
    return target.masked_fill(~(key_mask[:, 1:] & key_mask[:, :-1]), -100)


def _check_sampling(temperature, top_k, top_p, min_p, vocab_size):
    temperature = checks.number("temperature", temperature, least=0)
    top_k = None if top_k is None else min(checks.count("top_k", top_k), vocab_size)
    top_p = None if top_p is None else checks.number("top_p", top_p, above=0, most=1)
    min_p = None if min_p is None else checks.number("min_p", min_p, least=0, most=1)
    return temperature, top_k, top_p, min_p


def _filtered(logits: Tensor, temperature, top_k, top_p, min_p) -> Tensor:
    if temperature == 0:
        return F.one_hot(logits.argmax(-1), logits.shape[-1]).to(logits.dtype)
    logits = logits - logits.amax(-1, keepdim=True)  # so that a tiny temperature cannot overflow
    p = (logits / temperature).softmax(-1)  # eq. gpt-temperature
    if top_k is None and top_p is None and min_p is None:
        return p
    p, order = p.sort(dim=-1, descending=True, stable=True)
    if top_k is not None:
        p = p * (torch.arange(p.shape[-1], device=p.device) < top_k)  # eq. gpt-top-k
        p = p / p.sum(-1, keepdim=True)
    if top_p is not None and top_p < 1:
        before = F.pad(p.cumsum(-1)[..., :-1], (1, 0))
        p = p * (before < top_p)  # eq. gpt-top-p: a token stays while those before fall short
        p = p / p.sum(-1, keepdim=True)
    if min_p is not None:
        p = p * (p >= min_p * p[..., :1])  # eq. gpt-min-p
        p = p / p.sum(-1, keepdim=True)
    return torch.zeros_like(p).scatter(-1, order, p)


def _refuse_unknown(config: dict) -> None:
    """Refuse what a GPT-2 of transformers can do and ours cannot, rather than answer wrongly."""
    wanted = {
        "scale_attn_weights": True,
        "scale_attn_by_inverse_layer_idx": False,
        "add_cross_attention": False,
        "tie_word_embeddings": True,
    }
    for name, value in wanted.items():
        if config.get(name, value) != value:
            raise ValueError(f"{name}={config[name]!r} is not supported, it must be {value!r}")
