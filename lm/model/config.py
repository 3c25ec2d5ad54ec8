"""What a `Transformer` is made of: one typed config that spells GPT-2, Llama 3, Qwen 3 and what researchers try next."""

from dataclasses import dataclass, field

from data_pipeline.errors import UserError


@dataclass(unsafe_hash=True)
class RopeScaling:
    """Stretching of the rotary frequencies for contexts longer than a model was trained on; a factor of 1 is none."""

    factor: float = 1.0
    low_frequency_factor: float = 1.0
    high_frequency_factor: float = 4.0
    original_context: int = 8192  # tokens
    kind: str = "llama3"  # llama3 (arXiv 2407.21783) | linear: all by the factor (arXiv 2306.15595), which alone counts


# Hashable because it is a static part of the jitted model. Nobody changes it after `check_model`.
@dataclass(unsafe_hash=True)
class ModelConfig:
    """The shape of a model. Letters in comments are the ones used in every docstring: D width, H heads, K KV heads."""

    vocab_size: int = 2048  # V
    context_length: int = 256  # T: the longest row trained on
    layers: int = 4  # L
    width: int = 128  # D
    heads: int = 4  # H
    kv_heads: int = 4  # K; fewer than H is grouped-query attention (arXiv 2305.13245)
    head_dim: int = 0  # 0: D / H
    mlp_width: int = 512

    positions: str = "rotary"  # rotary (arXiv 2104.09864) | learned
    rope_theta: float = 10_000.0
    rope_scaling: RopeScaling = field(default_factory=RopeScaling)
    norm: str = "rmsnorm"  # rmsnorm | layernorm
    norm_epsilon: float = 1e-6
    activation: str = "swiglu"  # swiglu (arXiv 2002.05202) | gelu | relu2: squared ReLU (arXiv 2109.08668)
    biases: bool = False
    qkv_biases: bool = False  # on queries, keys and values even without `biases`, as Qwen 2 (arXiv 2407.10671)
    tied_head: bool = True  # the output head is the token embedding, transposed
    qk_norm: bool = False  # RMSNorm of each query and key head (arXiv 2302.05442)
    residual_scalars: bool = False  # learned: each block reads a x + b (the embedding), as modded-nanogpt does
    value_embeddings: bool = (
        False  # a table a layer that adds to the values (arXiv 2410.17897, as modded-nanogpt has it)
    )
    scalar_head: bool = False  # a number for each position besides the logits: a value, or a reward
    logit_soft_cap: float = 0.0  # c tanh(logits / c) (arXiv 2408.00118); 0: none
    windows: tuple[int, ...] = (0,)  # attention window of each layer, in tokens, repeated over the layers; 0: all
    init_std: float = 0.0  # of every matrix; 0: 1 / sqrt(its inputs)

    param_dtype: str = "float32"
    compute_dtype: str = "float32"  # bfloat16 on accelerators
    layer_loop: str = "unrolled"  # unrolled: faster on CPU | scan: compiles once for all layers
    remat: str = "none"  # none | dots: keep matrix products only | block: keep each block's input only
    attention: str = "auto"  # auto | xla | cudnn | splash

    @property
    def dim_per_head(self) -> int:
        """Width of one head."""
        return self.head_dim or self.width // self.heads


CHOICES = {
    "positions": ("rotary", "learned"),
    "norm": ("rmsnorm", "layernorm"),
    "activation": ("swiglu", "gelu", "relu2"),
    "param_dtype": ("float32", "bfloat16"),
    "compute_dtype": ("float32", "bfloat16"),
    "layer_loop": ("unrolled", "scan"),
    "remat": ("none", "dots", "block"),
    "attention": ("auto", "xla", "cudnn", "splash"),
}


def check_model(config: ModelConfig) -> None:
    """Raise `UserError` for a model that cannot be built."""
    for name in ("vocab_size", "context_length", "layers", "width", "heads", "kv_heads", "mlp_width"):
        if getattr(config, name) < 1:
            raise UserError(f"model.{name}={getattr(config, name)}: must be at least 1")
    for name in ("head_dim", "logit_soft_cap", "init_std", "norm_epsilon"):
        if getattr(config, name) < 0:
            raise UserError(f"model.{name}={getattr(config, name)}: must not be negative")
    scaling = config.rope_scaling
    if config.rope_theta <= 0 or scaling.factor <= 0 or scaling.original_context < 1:
        raise UserError("model.rope_theta, rope_scaling.factor and rope_scaling.original_context must be positive")
    if scaling.kind not in ("llama3", "linear"):
        raise UserError(f"model.rope_scaling.kind={scaling.kind!r}: choose one of llama3, linear")
    if scaling.high_frequency_factor <= scaling.low_frequency_factor:
        raise UserError("model.rope_scaling.high_frequency_factor must be above low_frequency_factor")
    for name, allowed in CHOICES.items():
        if getattr(config, name) not in allowed:
            raise UserError(f"model.{name}={getattr(config, name)!r}: choose one of {', '.join(allowed)}")
    if not config.head_dim and config.width % config.heads:
        raise UserError(f"model.width={config.width} does not divide by model.heads={config.heads}: set model.head_dim")
    if config.heads % config.kv_heads:
        raise UserError(f"model.heads={config.heads} must be a multiple of model.kv_heads={config.kv_heads}")
    if config.positions == "rotary" and config.dim_per_head % 2:
        raise UserError(f"rotary positions need an even head width, not {config.dim_per_head}: set model.head_dim")
    if not config.windows or min(config.windows) < 0:
        raise UserError(f"model.windows={config.windows}: give at least one window; 0 means all positions")
    if config.layer_loop == "scan" and config.layers % len(config.windows):
        raise UserError(
            f"model.layers={config.layers} must be a multiple of the {len(config.windows)} model.windows to be scanned"
        )
