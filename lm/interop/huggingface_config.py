"""A Hugging Face `config.json` as our `ModelConfig`, and back. What we cannot compute exactly is refused by name."""

from typing import Any

from data_pipeline.errors import UserError
from lm.model.config import ModelConfig, RopeScaling, check_model

SUPPORTED = ("gpt2", "llama", "mistral", "qwen2", "qwen3")
GELU_TANH = ("gelu_new", "gelu_pytorch_tanh")  # two names of one formula
# What the model computes would be another thing with these at another value.
REQUIRED_VALUES: dict[str, tuple[Any, ...]] = {
    "hidden_act": ("silu",),
    "activation_function": GELU_TANH,
    "scale_attn_weights": (True,),
    "scale_attn_by_inverse_layer_idx": (False,),
    "add_cross_attention": (False,),
    "partial_rotary_factor": (1, None),
    "quantization_config": (None,),
}
CLASSES = {
    "gpt2": "GPT2LMHeadModel",
    "llama": "LlamaForCausalLM",
    "mistral": "MistralForCausalLM",
    "qwen2": "Qwen2ForCausalLM",
    "qwen3": "Qwen3ForCausalLM",
}


def model_of(values: dict[str, Any]) -> ModelConfig:
    """Our config of a release's config.json. Raises `UserError` naming what is missing or not supported."""
    family = values.get("model_type")
    if family not in SUPPORTED:
        raise UserError(f"models of type {family!r} are not supported: {', '.join(SUPPORTED)} are")
    for key, allowed in REQUIRED_VALUES.items():
        if key in values and values[key] not in allowed:
            raise UserError(f"{family} with {key}={values[key]!r} is not supported: only {allowed[0]!r} is")
    try:
        config = _gpt2(values) if family == "gpt2" else _llama(family, values)
        check_model(config)
    except KeyError as error:
        raise UserError(f"config.json has no {error.args[0]!r}, which a {family} needs") from None
    except (TypeError, ValueError) as error:
        raise UserError(f"config.json has a value of the wrong type ({error})") from None
    return config


def _gpt2(values: dict[str, Any]) -> ModelConfig:
    width = int(values["n_embd"])
    return ModelConfig(
        vocab_size=int(values["vocab_size"]),
        context_length=int(values["n_positions"]),
        layers=int(values["n_layer"]),
        width=width,
        heads=int(values["n_head"]),
        kv_heads=int(values["n_head"]),
        mlp_width=int(values.get("n_inner") or 4 * width),
        positions="learned",
        norm="layernorm",
        norm_epsilon=float(values["layer_norm_epsilon"]),
        activation="gelu",
        biases=True,
        tied_head=bool(values.get("tie_word_embeddings", True)),
    )


def _llama(family: str, values: dict[str, Any]) -> ModelConfig:
    heads = int(values["num_attention_heads"])
    biases, mlp_biases = bool(values.get("attention_bias", False)), bool(values.get("mlp_bias", False))
    if biases != mlp_biases or (biases and family != "llama"):
        raise UserError(f"{family} with attention_bias={biases} and mlp_bias={mlp_biases} is not supported")
    theta, scaling = _rope(values)
    if family == "qwen3" and "head_dim" not in values:
        raise KeyError("head_dim")  # transformers then takes 128, whatever D / H is
    return ModelConfig(
        vocab_size=int(values["vocab_size"]),
        context_length=int(values["max_position_embeddings"]),
        layers=int(values["num_hidden_layers"]),
        width=int(values["hidden_size"]),
        heads=heads,
        kv_heads=int(
            values.get("num_key_value_heads") or heads if family == "llama" else values["num_key_value_heads"]
        ),
        head_dim=int(values.get("head_dim") or 0),
        mlp_width=int(values["intermediate_size"]),
        positions="rotary",
        rope_theta=theta,
        rope_scaling=scaling,
        norm="rmsnorm",
        norm_epsilon=float(values["rms_norm_eps"]),
        activation="swiglu",
        biases=biases,
        qkv_biases=family == "qwen2",
        tied_head=bool(values.get("tie_word_embeddings", False)),
        qk_norm=family == "qwen3",
        windows=_windows(family, values),
    )


def _rope(values: dict[str, Any]) -> tuple[float, RopeScaling]:
    """Base and scaling of the rotary frequencies, as transformers 5 (`rope_parameters`) or earlier ones write them."""
    given = values.get("rope_parameters") or values.get("rope_scaling") or {}
    theta = float(given.get("rope_theta", values.get("rope_theta", 10_000.0)))
    kind = given.get("rope_type", given.get("type", "default"))
    if given.get("partial_rotary_factor", 1) != 1:
        raise UserError(f"rotary positions on a part of each head ({given['partial_rotary_factor']}) are not supported")
    if kind == "default":
        return theta, RopeScaling()
    if kind == "linear":
        return theta, RopeScaling(factor=float(given["factor"]), kind="linear")
    if kind == "llama3":
        return theta, RopeScaling(
            factor=float(given["factor"]),
            low_frequency_factor=float(given["low_freq_factor"]),
            high_frequency_factor=float(given["high_freq_factor"]),
            original_context=int(given["original_max_position_embeddings"]),
        )
    raise UserError(f"rotary scaling of type {kind!r} is not supported: default, linear and llama3 are")


def _windows(family: str, values: dict[str, Any]) -> tuple[int, ...]:
    """The attention window of each layer, as the shortest group of layers that repeats."""
    layers = int(values["num_hidden_layers"])
    if family == "mistral":
        return (int(values["sliding_window"] or 0),)
    if family == "llama" or not values.get("use_sliding_window", False):
        return (0,)
    kinds = values.get("layer_types") or [
        "sliding_attention" if layer >= int(values["max_window_layers"]) else "full_attention"
        for layer in range(layers)
    ]
    widths = {"full_attention": 0, "sliding_attention": int(values["sliding_window"])}
    if len(kinds) != layers or not widths.keys() >= set(kinds):
        raise UserError(f"layer_types={kinds} is not supported: full_attention or sliding_attention for each layer is")
    windows = tuple(widths[kind] for kind in kinds)
    return next(
        windows[:size]
        for size in range(1, layers + 1)
        if layers % size == 0 and windows[:size] * (layers // size) == windows
    )


def release_of(config: ModelConfig, document_start: int) -> dict[str, Any]:
    """The config.json of the family that computes what this model does.

    `document_start` also ends a text. Raises `UserError` naming what no supported family has.
    """
    family = _family(config)
    shared = {
        "architectures": [CLASSES[family]],
        "model_type": family,
        "vocab_size": config.vocab_size,
        "tie_word_embeddings": config.tied_head,
        "torch_dtype": config.param_dtype,
        "bos_token_id": document_start,
        "eos_token_id": document_start,
        "initializer_range": 0.02,
    }
    if family == "gpt2":
        return shared | {
            "n_positions": config.context_length,
            "n_embd": config.width,
            "n_layer": config.layers,
            "n_head": config.heads,
            "n_inner": config.mlp_width,
            "activation_function": "gelu_new",
            "layer_norm_epsilon": config.norm_epsilon,
        }
    windows = [config.windows[layer % len(config.windows)] for layer in range(config.layers)]
    values = shared | {
        "hidden_size": config.width,
        "intermediate_size": config.mlp_width,
        "num_hidden_layers": config.layers,
        "num_attention_heads": config.heads,
        "num_key_value_heads": config.kv_heads,
        "head_dim": config.dim_per_head,
        "max_position_embeddings": config.context_length,
        "hidden_act": "silu",
        "rms_norm_eps": config.norm_epsilon,
        "rope_theta": config.rope_theta,
        "rope_scaling": _rope_scaling(config.rope_scaling),
    }
    if family == "llama":
        return values | {"attention_bias": config.biases, "mlp_bias": config.biases}
    if family == "mistral":
        return values | {"sliding_window": windows[0]}
    sliding = max(windows)
    return values | {
        "use_sliding_window": sliding > 0,
        "sliding_window": sliding or None,
        "layer_types": ["sliding_attention" if window else "full_attention" for window in windows],
    }


def _family(config: ModelConfig) -> str:
    for name in ("residual_scalars", "value_embeddings", "logit_soft_cap"):
        if getattr(config, name):
            raise UserError(f"model.{name}={getattr(config, name)}: none of {', '.join(SUPPORTED)} has it")
    form = (config.positions, config.norm, config.activation)
    wide = config.heads * config.dim_per_head != config.width
    if form == ("learned", "layernorm", "gelu"):
        if config.qk_norm or any(config.windows) or wide or config.kv_heads != config.heads or not config.biases:
            raise UserError("a gpt2 has biases, heads of width D / H, as many KV heads, no windows and no QK norm")
        return "gpt2"
    if form != ("rotary", "rmsnorm", "swiglu"):
        raise UserError(
            f"model.positions={form[0]} with norm={form[1]} and activation={form[2]}: a release is learned, layernorm, gelu "
            "(gpt2) or rotary, rmsnorm, swiglu (llama, mistral, qwen2, qwen3)"
        )
    if (config.biases and any(config.windows)) or ((config.biases or config.qkv_biases) and config.qk_norm):
        raise UserError("biases with windows or with QK norm: none of llama, mistral, qwen2, qwen3 has both")
    if len({window for window in config.windows if window}) > 1:
        raise UserError(f"model.windows={config.windows}: releases have one window, in all layers or in some")
    if config.qk_norm:
        return "qwen3"
    if config.qkv_biases and not config.biases:
        return "qwen2"
    if len(set(config.windows)) > 1:
        raise UserError(
            f"model.windows={config.windows}: of these families only qwen2 and qwen3 have windows in some layers"
        )
    return "mistral" if any(config.windows) else "llama"


def _rope_scaling(scaling: RopeScaling) -> dict[str, Any] | None:
    if scaling.factor == 1.0:
        return None
    if scaling.kind == "linear":
        return {"rope_type": "linear", "factor": scaling.factor}
    return {
        "rope_type": "llama3",
        "factor": scaling.factor,
        "low_freq_factor": scaling.low_frequency_factor,
        "high_freq_factor": scaling.high_frequency_factor,
        "original_max_position_embeddings": scaling.original_context,
    }
