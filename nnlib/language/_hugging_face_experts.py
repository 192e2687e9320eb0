r"""What `transformers` calls weights and options of its sparse blocks, and what we call them."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from nnlib.hugging_face import Part, Rule, load_renamed, refuse_options

BLOCKS = {
    "MixtralSparseMoeBlock": "mixtral",
    "OlmoeSparseMoeBlock": "olmoe",
    "Qwen2MoeSparseMoeBlock": "qwen2_moe",
    "Qwen3MoeSparseMoeBlock": "qwen3_moe",
    "DeepseekV3MoE": "deepseek_v3",
}
_ONLY = {"hidden_act": "silu", "router_jitter_noise": 0.0}


def read(
    given: nn.Module | tuple[Mapping[str, Tensor], Any],
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return the arguments of our layer, and the tensors by our names.

    Args:
        given: a block, or a pair of its tensors and the configuration of its model.
    """
    if isinstance(given, tuple) and len(given) == 2:
        tensors, config = given
        told = dict(config) if isinstance(config, Mapping) else config.to_dict()
        kind = str(told.get("model_type"))
        if kind not in BLOCKS.values():
            raise ValueError(
                f"model_or_path must be of a model of type {list(BLOCKS.values())}, got {kind!r}"
            )
    elif isinstance(given, nn.Module):
        name = type(given).__name__
        if name not in BLOCKS:
            raise ValueError(f"model_or_path must be one of {list(BLOCKS)}, got {name}")
        kind, tensors, told = BLOCKS[name], given.state_dict(), _options_of(given)
    else:
        raise TypeError(
            "model_or_path must be a sparse block of transformers, or a pair of its tensors and "
            f"its model's configuration, got {type(given).__name__}"
        )
    refuse_options(told, _ONLY)
    if kind == "deepseek_v3" and told.get("topk_group") != told.get("n_group"):
        raise ValueError(
            f"model_or_path has topk_group={told.get('topk_group')}, it must be "
            f"n_group={told.get('n_group')}: experts are chosen among all groups"
        )
    if "num_experts_per_tok" not in told:
        raise ValueError(
            "model_or_path has a configuration without num_experts_per_tok"
        )
    return _arguments(kind, told, dict(tensors))


def _options_of(block: nn.Module) -> dict[str, Any]:
    """Return what a block knows of its model's configuration."""
    asked: dict[str, Any] = {
        "num_experts_per_tok": "top_k",
        "norm_topk_prob": "norm_topk_prob",
        "routed_scaling_factor": "routed_scaling_factor",
        "n_group": "num_group",
        "topk_group": "topk_group",
        "router_jitter_noise": "jitter_noise",
    }
    told = {}
    for option, name in asked.items():
        for part in (block, getattr(block, "gate", None)):
            if hasattr(part, name):
                told[option] = getattr(part, name)
    act = getattr(getattr(block, "experts", None), "act_fn", nn.SiLU())
    if type(act).__name__ not in ("SiLU", "SiLUActivation"):
        told["hidden_act"] = type(act).__name__
    return told


def _arguments(
    kind: str, told: dict[str, Any], tensors: dict[str, Tensor]
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return the arguments of our layer by the shapes of the tensors, and these, joined."""
    tensors = _joined(tensors)
    lost = [
        n
        for n in ("gate.weight", "experts.gate_up_proj", "experts.down_proj")
        if n not in tensors
    ]
    if lost:
        raise ValueError(f"model_or_path lacks the tensors {lost}")
    m, e = tensors["gate.weight"].shape
    f = tensors["experts.down_proj"].shape[-1]
    options: dict[str, Any] = {
        "embed_dim": e,
        "dim_feedforward": f,
        "num_experts": m,
        "top_k": told["num_experts_per_tok"],
        "renormalize": kind == "mixtral" or bool(told.get("norm_topk_prob")),
    }
    wide = next((v for n, v in tensors.items() if n.endswith("down_proj.weight")), None)
    if wide is not None:
        if wide.shape[-1] % f:
            raise ValueError(
                f"model_or_path has a shared expert of width {wide.shape[-1]}, it must be a "
                f"multiple of the others' {f}"
            )
        options["num_shared_experts"] = wide.shape[-1] // f
        options["shared_gate"] = kind == "qwen2_moe"
    if kind == "deepseek_v3":
        options["score"], options["balance_bias"] = "sigmoid", True
        options["scale"] = float(told.get("routed_scaling_factor", 1.0))
    return options, tensors


def _joined(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the experts' matrices in one tensor each, as version 5 has them.

    Published files and earlier versions have one tensor for each expert: w1 is the gate, w3 what
    it multiplies, w2 the way out.
    """
    names = {
        "experts.gate_up_proj": (("w1", "w3"), ("gate_proj", "up_proj")),
        "experts.down_proj": (("w2",), ("down_proj",)),
    }
    joined = dict(tensors)
    for whole, spellings in names.items():
        for parts in spellings:
            experts: list[Tensor] = []
            while (first := f"experts.{len(experts)}.{parts[0]}.weight") in joined:
                number = len(experts)
                keys = [f"experts.{number}.{part}.weight" for part in parts]
                if lost := [key for key in keys if key not in joined]:
                    raise ValueError(f"model_or_path has {first} but lacks {lost}")
                experts.append(torch.cat([joined.pop(key) for key in keys]))
            if experts:
                joined[whole] = torch.stack(experts)
    return joined


_SHARED = r"shared_experts?\."
RULES: list[Rule] = [
    (r"gate\.weight", "router.weight", None),
    (r"gate\.e_score_correction_bias", "choice_bias", None),
    (r"experts\.gate_up_proj", "in_proj", None),
    (r"experts\.down_proj", "out_proj", None),
    (_SHARED + r"gate_proj\.weight", "shared_in_proj.weight", Part(0)),
    (_SHARED + r"up_proj\.weight", "shared_in_proj.weight", Part(1)),
    (_SHARED + r"down_proj\.weight", "shared_out_proj.weight", None),
    (r"shared_expert_gate\.weight", "shared_gate.weight", None),
]


def load(layer: nn.Module, tensors: dict[str, Tensor]) -> None:
    """Put each tensor in its place, and name what is amiss."""
    load_renamed(layer, tensors, RULES)
