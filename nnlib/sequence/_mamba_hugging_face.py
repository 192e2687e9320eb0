"""What `transformers` calls the weights and options of Mamba and Mamba-2, and what we call them."""

import math
from pathlib import Path
from typing import Any

import torch
from torch import nn

from nnlib import hugging_face
from nnlib.hugging_face import Rule

_SIZES = {
    "vocab_size": "vocab_size",
    "hidden_size": "embed_dim",
    "num_hidden_layers": "num_layers",
    "state_size": "state_size",
    "expand": "expand",
    "conv_kernel": "conv_kernel",
    "time_step_rank": "dt_rank",
}
_SIZES2 = {name: ours for name, ours in _SIZES.items() if name != "time_step_rank"} | {
    "head_dim": "head_dim",
    "n_groups": "num_groups",
}
_LAYER = r"(?:backbone\.)?layers\.(\d+)\."
_RULES: list[Rule] = [
    (r"(?:backbone\.)?embeddings\.weight", "token_embedding.weight", None),
    (r"(?:backbone\.)?norm_f\.weight", "norm.weight", None),
    (r"lm_head\.weight", "head.weight", None),
    (_LAYER + r"norm\.weight", r"layers.\1.norm.weight", None),
    (_LAYER + r"mixer\.norm\.weight", r"layers.\1.mixer.norm_weight", None),
    (
        _LAYER + r"mixer\.conv1d\.weight",
        r"layers.\1.mixer.conv.weight",
        lambda w: w.squeeze(1),
    ),
    (_LAYER + r"mixer\.conv1d\.bias", r"layers.\1.mixer.conv.bias", None),
    (_LAYER + r"mixer\.(.+)", r"layers.\1.mixer.\2", None),
]


def read(cls: Any, model_or_path: nn.Module | str | Path, kind: str) -> Any:
    """Return a model of `transformers`, "mamba" or "mamba2", as one of class `cls`."""
    sizes = _SIZES if kind == "mamba" else _SIZES2
    config, tensors = hugging_face.read_model(model_or_path, kind, sizes)
    # a saved configuration spells infinity as {"__float__": "Infinity"}
    limit = tuple(
        float(bound["__float__"] if isinstance(bound, dict) else bound)
        for bound in config.get("time_step_limit", (0.0, math.inf))
    )
    hugging_face.refuse_options(
        config | {"time_step_limit": limit},
        {"hidden_act": "silu", "time_step_limit": (0.0, math.inf)},
    )
    tied = config.get("tie_word_embeddings", kind == "mamba")
    made = cls(
        **{ours: config[name] for name, ours in sizes.items()},
        norm_eps=config.get("layer_norm_epsilon", 1e-5),
        bias=config.get("use_bias", False),
        conv_bias=config.get("use_conv_bias", True),
        tie_embeddings=tied,
    )
    head = tensors.pop("lm_head.weight", None) if tied else None
    hugging_face.load_renamed(made, tensors, _RULES)
    own = made.token_embedding.weight
    if head is not None and not torch.equal(head, own.to(head.dtype)):
        raise ValueError(
            "lm_head.weight must equal embeddings.weight where they are tied"
        )
    return made.eval()
