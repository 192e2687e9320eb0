"""Weights of the authors' package `xlstm`, and of the xLSTM of `transformers`, in our places."""

from pathlib import Path
from typing import Any

from torch import Tensor, nn

from nnlib import hugging_face
from nnlib.hugging_face import Rule


def read_package(cls: Any, model: nn.Module) -> Any:
    """Return an `xLSTMLMModel` of the package as `cls`."""
    config: Any = getattr(model, "config", None)
    if not hasattr(config, "block_map") or not hasattr(config, "vocab_size"):
        raise TypeError(f"model must be an xLSTMLMModel, got {type(model).__name__}")
    sizes = _sizes_of(config)
    made = cls(**sizes, dtype=next(model.parameters()).dtype)
    tensors = dict(model.state_dict())
    if sizes["tie_embeddings"]:
        tensors.pop("lm_head.weight")
    hugging_face.load_renamed(made, tensors, _RULES)
    return made.eval()


def read_large(cls: Any, model_or_path: nn.Module | str | Path) -> Any:
    """Return an `xLSTMForCausalLM` of `transformers` as `cls`."""
    config, tensors = hugging_face.read_model(model_or_path, "xlstm", _LARGE_SIZES)
    wanted = {
        "use_bias": False, "add_out_norm": True, "weight_mode": "single",
        "tie_word_embeddings": False,
    }  # fmt: skip
    hugging_face.refuse_options(config, wanted)
    e, rounded = config["hidden_size"], config.get("ffn_round_up_to_multiple_of", 64)
    wide = int(e * config.get("ffn_proj_factor", 2.667)) + rounded - 1
    made = cls(
        **{ours: config[name] for name, ours in _LARGE_SIZES.items()},
        qk_dim=int(e * config.get("qk_dim_factor", 0.5)),
        v_dim=int(e * config.get("v_dim_factor", 1.0)),
        dim_feedforward=wide // rounded * rounded,
        gate_cap=config.get("gate_soft_cap", 15.0),
        logit_cap=config.get("output_logit_soft_cap", 30.0),
        norm_eps=config.get("norm_eps", 1e-6),
    )
    hugging_face.load_renamed(made, tensors, _LARGE_RULES)
    return made.eval()


def _sizes_of(config: Any) -> dict[str, Any]:
    """Return our arguments for a configuration of the package `xlstm`."""
    m = config.mlstm_block.mlstm if config.mlstm_block else None
    s = config.slstm_block.slstm if config.slstm_block else None
    network: Any = config.slstm_block.feedforward if s else None
    present = [part for part in (m, s) if part is not None]
    for name in ("num_heads", "conv1d_kernel_size"):
        if len({getattr(part, name) for part in present}) > 1:
            raise ValueError(f"model must have one {name} for both kinds of block")
    if s is not None:
        options = {"function": "slstm", "group_norm_weight": True}
        told = {name: getattr(s, name) for name in options}
        told["act_fn"], options["act_fn"] = getattr(network, "act_fn", None), "gelu"
        hugging_face.refuse_options(told, options)
    hugging_face.refuse_options(
        {"add_post_blocks_norm": config.add_post_blocks_norm, "bias": config.bias},
        {"add_post_blocks_norm": True, "bias": False},
    )
    sizes = {
        "vocab_size": config.vocab_size,
        "embed_dim": config.embedding_dim,
        "num_layers": config.num_blocks,
        "num_heads": present[0].num_heads,
        "conv_kernel": present[0].conv1d_kernel_size,
        "slstm_at": [at for at, kind in enumerate(config.block_map) if kind],
        "tie_embeddings": config.tie_weights,
    }
    if m is not None:
        sizes["expand"] = m._inner_embedding_dim / config.embedding_dim
        sizes["qkv_block_size"] = m.qkv_proj_blocksize
    if s is not None:
        sizes["dim_feedforward"] = network._proj_up_dim
    return sizes


def _plus_one(weight: Tensor) -> Tensor:
    """Return a scale that was stored as its difference from 1."""
    return weight + 1


def _taps(weight: Tensor) -> Tensor:
    return weight.squeeze(1)


_BLOCK = r"xlstm_block_stack\.blocks\.(\d+)\."
_CELL, _OURS = _BLOCK + r"xlstm\.", r"layers.\1."
_RULES: list[Rule] = [
    (r"token_embedding\.weight", "token_embedding.weight", None),
    (r"lm_head\.weight", "head.weight", None),
    (r"xlstm_block_stack\.post_blocks_norm\.weight", "norm.weight", _plus_one),
    (_BLOCK + r"xlstm_norm\.weight", _OURS + "norm.weight", _plus_one),
    (_BLOCK + r"ffn_norm\.weight", _OURS + "norm2.weight", _plus_one),
    (_BLOCK + r"ffn\.proj_(up|down)\.weight", _OURS + r"\2.weight", None),
    (_CELL + r"conv1d\.conv\.weight", _OURS + "conv.weight", _taps),
    (_CELL + r"conv1d\.conv\.bias", _OURS + "conv.bias", None),
    (_CELL + r"proj_(up|down)\.weight", _OURS + r"\2.weight", None),
    (_CELL + r"([qkv]_proj)\.weight", _OURS + r"\2.weight", None),
    (_CELL + r"mlstm_cell\.igate\.(\w+)", _OURS + r"input_gate.\2", None),
    (_CELL + r"mlstm_cell\.fgate\.(\w+)", _OURS + r"forget.\2", None),
    (_CELL + r"mlstm_cell\.outnorm\.weight", _OURS + "head_norm.weight", _plus_one),
    (_CELL + "learnable_skip", _OURS + "skip", None),
    # in their sLSTM, what is called fgate goes where the input gate is read, and igate the other
    (_CELL + r"fgate\.weight", _OURS + "i_proj.weight", None),
    (_CELL + r"igate\.weight", _OURS + "f_proj.weight", None),
    (_CELL + r"([zo])gate\.weight", _OURS + r"\2_proj.weight", None),
    (_CELL + r"slstm_cell\._recurrent_kernel_", _OURS + "weight_hh", None),
    (_CELL + r"slstm_cell\._bias_", _OURS + "bias", None),
    (_CELL + r"group_norm\.weight", _OURS + "head_norm.weight", _plus_one),
]

_LARGE_SIZES = {
    "vocab_size": "vocab_size",
    "hidden_size": "embed_dim",
    "num_hidden_layers": "num_layers",
    "num_heads": "num_heads",
}
_LARGE = r"backbone\.blocks\.(\d+)\."
_LARGE_RULES: list[Rule] = [
    (r"backbone\.embeddings\.weight", "token_embedding.weight", None),
    (r"backbone\.out_norm\.weight", "norm.weight", None),
    (r"lm_head\.weight", "head.weight", None),
    (_LARGE + r"norm_mlstm\.weight", _OURS + "norm.weight", None),
    (_LARGE + r"norm_ffn\.weight", _OURS + "norm2.weight", None),
    (_LARGE + r"mlstm_layer\.([qkv])\.weight", _OURS + r"\2_proj.weight", None),
    (_LARGE + r"mlstm_layer\.ogate_preact\.weight", _OURS + "o_proj.weight", None),
    (_LARGE + r"mlstm_layer\.igate_preact\.(\w+)", _OURS + r"input_gate.\2", None),
    (_LARGE + r"mlstm_layer\.fgate_preact\.(\w+)", _OURS + r"forget.\2", None),
    (_LARGE + r"mlstm_layer\.multihead_norm\.weight", _OURS + "head_norm.weight", None),
    (_LARGE + r"mlstm_layer\.out_proj\.weight", _OURS + "out_proj.weight", None),
    (_LARGE + r"ffn\.proj_up_gate\.weight", _OURS + "gate.weight", None),
    (_LARGE + r"ffn\.proj_(up|down)\.weight", _OURS + r"\2.weight", None),
]
