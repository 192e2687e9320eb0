r"""What `transformers` calls the weights and options of its decoders, and what we call them."""

from typing import Any

from nnlib.hugging_face import Part, Rule, refuse_options
from nnlib.language._rotary import Rotary, attention_factor

KINDS = ("llama", "mistral", "qwen2", "qwen3", "olmo2")
_SIZES = {
    "vocab_size": "vocab_size",
    "hidden_size": "embed_dim",
    "num_attention_heads": "num_heads",
    "num_hidden_layers": "num_layers",
    "max_position_embeddings": "max_length",
    "intermediate_size": "dim_feedforward",
}
NEEDED = (*_SIZES, "rms_norm_eps")
_ONLY = {
    "hidden_act": "silu",
    "quantization_config": None,
    "partial_rotary_factor": None,
    "clip_qkv": None,
    "is_decoder": False,
    "add_cross_attention": False,
}
_SCALING: dict[str, dict[str, str | None]] = {  # by rule: their names and ours
    "default": {},
    "linear": {"factor": "factor", "original_max_position_embeddings": None},
    "dynamic": {"factor": "factor", "original_max_position_embeddings": None},
    "yarn": {
        "factor": "factor",
        "original_max_position_embeddings": "trained_length",
        "beta_slow": "slow",
        "beta_fast": "fast",
        "attention_factor": "attention_factor",
        "truncate": "truncate",
        "mscale": None,
        "mscale_all_dim": None,
    },
    "llama3": {
        "factor": "factor",
        "original_max_position_embeddings": "trained_length",
        "low_freq_factor": "slow",
        "high_freq_factor": "fast",
    },
}
_TOLD = ("rope_theta", "rope_type", "type", "partial_rotary_factor")
_NEITHER_HERE_NOR_THERE = ("finetuned", "max_position_embeddings")
_LAYER_TYPES = ("full_attention", "sliding_attention")


def options(config: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments of our model, and refuse by name what it lacks.

    Args:
        config: of a model of one of `KINDS`.
    """
    kind = config["model_type"]
    refuse_options(config, _ONLY)
    bias = bool(config.get("attention_bias"))
    return {
        **{ours: config[name] for name, ours in _SIZES.items()},
        "num_kv_heads": config.get("num_key_value_heads"),
        "head_dim": config.get("head_dim"),
        "tied": bool(config.get("tie_word_embeddings")),
        **rotary(config),
        "norm_eps": config["rms_norm_eps"],
        "window": _windows(config),
        "qk_norm": {"qwen3": "head", "olmo2": "all"}.get(kind),
        "post_norm": kind == "olmo2",
        "qkv_bias": kind == "qwen2" or (kind != "mistral" and bias),
        "out_bias": kind not in ("qwen2", "mistral") and bias,
        "mlp_bias": kind == "llama" and bool(config.get("mlp_bias")),
        "dropout": config.get("attention_dropout") or 0.0,
    }


def rotary(config: dict[str, Any]) -> dict[str, Any]:
    """Return base and stretching of rotary frequencies; what ours lacks is refused by name.

    Version 5 says both in `rope_parameters`, versions before it in `rope_theta` and
    `rope_scaling`.
    """
    told = {"rope_theta": config.get("rope_theta", 10000.0)}
    for name in ("rope_scaling", "rope_parameters"):
        given = config.get(name) or {}
        if any(isinstance(value, dict) for value in given.values()):
            raise ValueError(
                f"model_or_path has {name} with one entry for each type of layer, "
                "it must have one for all"
            )
        kind = given.get("rope_type", given.get("type", "default"))
        if kind not in _SCALING:
            raise ValueError(
                f"model_or_path has {name} of type {kind!r}, it must be one of {list(_SCALING)}"
            )
        known = {*_TOLD, *_SCALING[kind], *_NEITHER_HERE_NOR_THERE}
        for option, value in given.items():
            if option not in known and value is not None:
                raise ValueError(
                    f"model_or_path has {name} of type {kind!r} with {option}={value!r}, which "
                    "ours lacks"
                )
        if given.get("partial_rotary_factor") not in (None, 1, 1.0):
            raise ValueError(
                f"model_or_path has partial_rotary_factor={given['partial_rotary_factor']}, "
                "it must be 1"
            )
        told |= {"name": name, "rope_type": kind, **given} if given else {}
    scaling = _scaling(told, config["max_position_embeddings"])
    Rotary(4, told["rope_theta"], scaling)  # refuses what is out of range
    longest = config["max_position_embeddings"]
    if scaling is not None and scaling["scaling"] in ("linear", "dynamic"):
        longest = int(longest * scaling["factor"])  # theirs know no end
    elif scaling is not None and scaling["scaling"] == "yarn":
        longest = max(longest, int(scaling["trained_length"] * scaling["factor"]))
    return {
        "rotary_base": float(told["rope_theta"]),
        "rotary_scaling": scaling,
        "max_length": longest,
    }


def _scaling(told: dict[str, Any], longest: int) -> dict[str, Any] | None:
    """Return the arguments of `rope_frequencies`, by our names."""
    kind = told.get("rope_type", told.get("type", "default"))
    if kind == "default":
        return None
    options = {
        ours: told[name]
        for name, ours in _SCALING[kind].items()
        if ours and told.get(name) is not None
    }
    if kind != "linear":
        options.setdefault("trained_length", longest)
    if kind == "yarn":
        options.setdefault("factor", longest / options["trained_length"])
        ratio = [told.get(name) or 0.0 for name in ("mscale", "mscale_all_dim")]
        if "attention_factor" not in options and all(ratio):
            over, under = (
                1 + one * (attention_factor(options["factor"]) - 1) for one in ratio
            )
            options["attention_factor"] = over / under
    wanted = {"factor", *(("slow", "fast") if kind == "llama3" else ())}
    if missing := sorted(
        name for name, ours in _SCALING[kind].items() if ours in wanted - set(options)
    ):
        raise ValueError(
            f"model_or_path has {told['name']} of type {kind!r} without {missing}"
        )
    return {"scaling": kind, **options}


def _windows(config: dict[str, Any]) -> int | list[int | None] | None:
    """Return how far each layer looks back: Mistral's all alike, Qwen's as their types say."""
    kind, depth = config["model_type"], config["num_hidden_layers"]
    reach = config.get("sliding_window")
    if kind not in ("mistral", "qwen2", "qwen3"):
        return None
    types = config.get("layer_types")
    if kind == "mistral":
        if types and set(types) != {_LAYER_TYPES[reach is not None]}:
            raise ValueError(
                f"model_or_path has layer_types={types}, a Mistral's must be all alike, as "
                f"sliding_window={reach} says"
            )
        return reach
    if types is None:  # as versions before 4.53 saved it
        first = config.get("max_window_layers", depth)
        slides = bool(config.get("use_sliding_window")) and reach is not None
        types = [_LAYER_TYPES[slides and at >= first] for at in range(depth)]
    if unknown := sorted(set(types) - set(_LAYER_TYPES)):
        raise ValueError(
            f"model_or_path has layer_types {unknown}, they must be of {list(_LAYER_TYPES)}"
        )
    if len(types) != depth:
        raise ValueError(
            f"model_or_path has {len(types)} layer_types, it must have {depth}"
        )
    if "sliding_attention" in types and reach is None:
        raise ValueError("model_or_path has sliding layers, but sliding_window=None")
    return [reach if one == "sliding_attention" else None for one in types]


def rules(kind: str) -> list[Rule]:
    """Return where each tensor of such a model belongs."""
    start = r"(?:model\.)?"
    layer = start + r"layers\.(\d+)\."
    first, second = ("input", "post_attention")
    if kind == "olmo2":
        first, second = ("post_attention", "post_feedforward")
    parts: list[Rule] = [
        (
            rf"{layer}self_attn\.{part}_proj\.(weight|bias)",
            r"layers.\1.attention.in_proj.\2",
            Part(at),
        )
        for at, part in enumerate("qkv")
    ]
    gates: list[Rule] = [
        (
            rf"{layer}mlp\.{part}_proj\.(weight|bias)",
            r"layers.\1.network.in_proj.\2",
            Part(at),
        )
        for at, part in enumerate(("gate", "up"))
    ]
    return [
        (start + r"embed_tokens\.weight", "token_embedding.weight", None),
        (start + r"norm\.weight", "norm.weight", None),
        (r"lm_head\.weight", "head.weight", None),
        (start + r"(?:layers\.\d+\.self_attn\.)?rotary_emb\.inv_freq", None, None),
        *parts,
        (
            layer + r"self_attn\.o_proj\.(weight|bias)",
            r"layers.\1.attention.out_proj.\2",
            None,
        ),
        (
            layer + r"self_attn\.([qk]_norm)\.weight",
            r"layers.\1.attention.\2.weight",
            None,
        ),
        *gates,
        (
            layer + r"mlp\.down_proj\.(weight|bias)",
            r"layers.\1.network.out_proj.\2",
            None,
        ),
        (layer + rf"{first}_layernorm\.weight", r"layers.\1.norm1.weight", None),
        (layer + rf"{second}_layernorm\.weight", r"layers.\1.norm2.weight", None),
    ]
