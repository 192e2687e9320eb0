"""What `transformers` and the hub call the weights and options of ViT and Swin, and what we do.

The names of transformers 5 and those in the files on the hub, which are older, are both read.
"""

import re
from collections.abc import Sequence

from torch import Tensor

from nnlib.hugging_face import Part, Rule

VIT_SIZES = {
    "image_size": "image_size",
    "patch_size": "patch_size",
    "hidden_size": "embed_dim",
    "num_hidden_layers": "num_layers",
    "num_attention_heads": "num_heads",
    "intermediate_size": "dim_feedforward",
    "num_channels": "in_channels",
}
VIT_ONLY = {"qkv_bias": True}
SWIN_SIZES = {
    "patch_size": "patch_size",
    "embed_dim": "embed_dim",
    "depths": "depths",
    "num_heads": "num_heads",
    "window_size": "window_size",
    "num_channels": "in_channels",
}
SWIN_ONLY = {"qkv_bias": True, "use_absolute_embeddings": False, "hidden_act": "gelu"}
ACTIVATIONS = {"gelu_new": "gelu_tanh", "gelu_pytorch_tanh": "gelu_tanh"}


def num_classes(tensors: dict[str, Tensor]) -> int | None:
    """Return how many classes the head of a checkpoint tells apart; None if it has no head."""
    head = tensors.get("classifier.weight")
    return None if head is None else len(head)


def _row(value: Tensor) -> Tensor:
    """Return what they keep as a batch of one."""
    return value[0]


def _vector(value: Tensor) -> Tensor:
    """Return what they keep as a batch of one sequence of one."""
    return value[0, 0]


_LAYER = r"(?:vit\.)?(?:encoder\.)?layers?\.(\d+)\."
VIT_RULES: list[Rule] = [
    (r"(?:vit\.)?embeddings\.cls_token", "class_token", _vector),
    (r"(?:vit\.)?embeddings\.position_embeddings", "position_embedding", _row),
    (r"(?:vit\.)?embeddings\.mask_token", None, None),  # of pre-training with blanks
    (
        r"(?:vit\.)?embeddings\.patch_embeddings\.projection\.(weight|bias)",
        r"patch_embedding.\1",
        None,
    ),
    *(
        (
            rf"{_LAYER}attention\.(?:attention\.)?{name}\.(weight|bias)",
            r"layers.\1.self_attn.in_proj_\2",
            Part(number),
        )
        for number, name in enumerate(
            ("(?:query|q_proj)", "(?:key|k_proj)", "(?:value|v_proj)")
        )
    ),
    (
        _LAYER + r"attention\.(?:output\.dense|o_proj)\.(weight|bias)",
        r"layers.\1.self_attn.out_proj.\2",
        None,
    ),
    (_LAYER + r"layernorm_before\.(weight|bias)", r"layers.\1.norm1.\2", None),
    (_LAYER + r"layernorm_after\.(weight|bias)", r"layers.\1.norm2.\2", None),
    (
        _LAYER + r"(?:intermediate\.dense|mlp\.fc1)\.(weight|bias)",
        r"layers.\1.linear1.\2",
        None,
    ),
    (
        _LAYER + r"(?:output\.dense|mlp\.fc2)\.(weight|bias)",
        r"layers.\1.linear2.\2",
        None,
    ),
    (r"(?:vit\.)?layernorm\.(weight|bias)", r"norm.\1", None),
    (r"(?:vit\.)?pooler\.dense\.(weight|bias)", None, None),  # no score depends on it
    (r"classifier\.(weight|bias)", r"head.\1", None),
]


def swin_rules(depths: Sequence[int]) -> list[Rule]:
    """Return the rules of a Swin transformer with these stages."""
    rules: list[Rule] = [
        (
            r"(?:swin\.)?embeddings\.patch_embeddings\.projection\.(weight|bias)",
            r"features.0.0.\1",
            None,
        ),
        (r"(?:swin\.)?embeddings\.norm\.(weight|bias)", r"features.0.2.\1", None),
        (r"(?:swin\.)?embeddings\.mask_token", None, None),
        (r".*\.relative_position_index", None, None),  # a constant, which ours has
        (r"(?:swin\.)?layernorm\.(weight|bias)", r"norm.\1", None),
        (r"classifier\.(weight|bias)", r"head.\1", None),
    ]
    for stage in range(len(depths)):
        theirs = rf"(?:swin\.)?encoder\.layers\.{stage}\."
        block, ours = theirs + r"blocks\.(\d+)\.", rf"features.{2 * stage + 1}.\1."
        merging = rf"features.{2 * stage + 2}."
        rules += [
            (
                rf"{block}attention\.(?:self\.)?{name}\.(weight|bias)",
                rf"{ours}attn.qkv.\2",
                Part(number),
            )
            for number, name in enumerate(
                ("(?:query|q_proj)", "(?:key|k_proj)", "(?:value|v_proj)")
            )
        ]
        rules += [
            (
                rf"{block}attention\.(?:self|relative_position_bias)\."
                "relative_position_bias_table",
                f"{ours}attn.relative_position_bias_table",
                None,
            ),
            (
                rf"{block}attention\.(?:output\.dense|o_proj)\.(weight|bias)",
                rf"{ours}attn.proj.\2",
                None,
            ),
            (rf"{block}layernorm_before\.(weight|bias)", rf"{ours}norm1.\2", None),
            (rf"{block}layernorm_after\.(weight|bias)", rf"{ours}norm2.\2", None),
            (
                rf"{block}(?:intermediate\.dense|mlp\.fc1)\.(weight|bias)",
                rf"{ours}mlp.0.\2",
                None,
            ),
            (
                rf"{block}(?:output\.dense|mlp\.fc2)\.(weight|bias)",
                rf"{ours}mlp.3.\2",
                None,
            ),
            (rf"{theirs}downsample\.(.+)", rf"{merging}\1", None),
        ]
    return rules


def kept(rules: list[Rule], names: Sequence[str]) -> list[Rule]:
    """Return the rules, and before them that these names stay as they are."""
    return [*((re.escape(name), name, None) for name in names), *rules]
