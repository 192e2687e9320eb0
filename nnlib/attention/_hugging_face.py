r"""What `transformers` calls the weights and options of GPT-2 and BERT, and what we call them."""

from nnlib.hugging_face import Part, Rule, transposed

# ------------------------------------------------------------- GPT-2, whose weights are (in, out)
GPT_SIZES = {
    "vocab_size": "vocab_size",
    "n_embd": "embed_dim",
    "n_head": "num_heads",
    "n_layer": "num_layers",
    "n_positions": "max_length",
}
GPT_ACTIVATIONS = {"gelu_new": "gelu_tanh", "gelu_pytorch_tanh": "gelu_tanh"}
GPT_ONLY = {
    "scale_attn_weights": True,
    "scale_attn_by_inverse_layer_idx": False,
    "add_cross_attention": False,
    "tie_word_embeddings": True,
}
_BLOCK = r"(?:transformer\.)?h\.(\d+)\."
GPT_RULES: list[Rule] = [
    (r"(?:transformer\.)?wte\.weight", "token_embedding.weight", None),
    (r"(?:transformer\.)?wpe\.weight", "position_embedding.weight", None),
    (r"(?:transformer\.)?ln_f\.(weight|bias)", r"norm.\1", None),
    (_BLOCK + r"ln_([12])\.(weight|bias)", r"layers.\1.norm\2.\3", None),
    (_BLOCK + r"attn\.(?:masked_)?bias", None, None),  # the causal mask, a constant
    (
        _BLOCK + r"attn\.c_attn\.weight",
        r"layers.\1.self_attn.in_proj_weight",
        transposed,
    ),
    (_BLOCK + r"attn\.c_attn\.bias", r"layers.\1.self_attn.in_proj_bias", None),
    (
        _BLOCK + r"attn\.c_proj\.weight",
        r"layers.\1.self_attn.out_proj.weight",
        transposed,
    ),
    (_BLOCK + r"attn\.c_proj\.bias", r"layers.\1.self_attn.out_proj.bias", None),
    (_BLOCK + r"mlp\.c_fc\.weight", r"layers.\1.linear1.weight", transposed),
    (_BLOCK + r"mlp\.c_fc\.bias", r"layers.\1.linear1.bias", None),
    (_BLOCK + r"mlp\.c_proj\.weight", r"layers.\1.linear2.weight", transposed),
    (_BLOCK + r"mlp\.c_proj\.bias", r"layers.\1.linear2.bias", None),
]

# ------------------------------------------------------------------------------------------ BERT
BERT_SIZES = {
    "vocab_size": "vocab_size",
    "hidden_size": "embed_dim",
    "num_attention_heads": "num_heads",
    "num_hidden_layers": "num_layers",
    "intermediate_size": "dim_feedforward",
    "max_position_embeddings": "max_length",
    "type_vocab_size": "num_segments",
}
BERT_ACTIVATIONS = {"gelu_new": "gelu_tanh", "gelu_pytorch_tanh": "gelu_tanh"}
BERT_ONLY = {
    "position_embedding_type": "absolute",
    "is_decoder": False,
    "add_cross_attention": False,
    "tie_word_embeddings": True,
}
_LAYER = r"encoder\.layer\.(\d+)\."


def _norm(theirs: str, ours: str) -> list[Rule]:
    """Return the rules of a norm; checkpoints of 2018 call its parameters γ and β."""
    return [
        (rf"{theirs}\.(?:weight|gamma)", f"{ours}.weight", None),
        (rf"{theirs}\.(?:bias|beta)", f"{ours}.bias", None),
    ]


BERT_RULES: list[Rule] = [
    (r"embeddings\.position_ids", None, None),  # 0, 1, 2, …: saved by old versions
    (r"embeddings\.word_embeddings\.weight", "token_embedding.weight", None),
    (r"embeddings\.position_embeddings\.weight", "position_embedding.weight", None),
    (r"embeddings\.token_type_embeddings\.weight", "segment_embedding.weight", None),
    *_norm(r"embeddings\.LayerNorm", "norm"),
    *(
        (
            rf"{_LAYER}attention\.self\.{part}\.(weight|bias)",
            r"layers.\1.self_attn.in_proj_\2",
            Part(number),
        )
        for number, part in enumerate(("query", "key", "value"))
    ),
    (
        _LAYER + r"attention\.output\.dense\.(weight|bias)",
        r"layers.\1.self_attn.out_proj.\2",
        None,
    ),
    *_norm(_LAYER + r"attention\.output\.LayerNorm", r"layers.\1.norm1"),
    (_LAYER + r"intermediate\.dense\.(weight|bias)", r"layers.\1.linear1.\2", None),
    (_LAYER + r"output\.dense\.(weight|bias)", r"layers.\1.linear2.\2", None),
    *_norm(_LAYER + r"output\.LayerNorm", r"layers.\1.norm2"),
    (r"pooler\.dense\.(weight|bias)", r"pooler.\1", None),
    (r"cls\.predictions\.bias", "masked_head.bias", None),
    (r"cls\.predictions\.decoder\.(weight|bias)", None, None),  # tied: `BERT_TIED`
    (
        r"cls\.predictions\.transform\.dense\.(weight|bias)",
        r"masked_head.linear.\1",
        None,
    ),
    *_norm(r"cls\.predictions\.transform\.LayerNorm", "masked_head.norm"),
    (r"cls\.seq_relationship\.(weight|bias)", r"next_head.\1", None),
]
BERT_TIED = {  # used twice, so that a tensor of its own must equal the other
    "cls.predictions.decoder.weight": "embeddings.word_embeddings.weight",
    "cls.predictions.decoder.bias": "cls.predictions.bias",
}
