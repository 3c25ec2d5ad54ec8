"""Named models: published shapes, the project's own `tiny`, and the lecture's picture.

Each is a function that returns a fresh `ModelConfig`. The GPT-2 shapes are those of its release (four sizes), the Llama 3
shapes those of arXiv 2407.21783 and of the 3.2 release (1B). Parameter counts are checked in tests/lm/test_presets.py.
"""

from collections.abc import Callable

from data_pipeline.errors import UserError
from lm.model.config import ModelConfig, RopeScaling


def gpt2(layers: int, width: int, heads: int) -> ModelConfig:
    """A GPT-2: learned positions, LayerNorm, GELU, biases, tied head; 1,024 tokens of context."""
    return ModelConfig(
        vocab_size=50_257,
        context_length=1024,
        layers=layers,
        width=width,
        heads=heads,
        kv_heads=heads,
        mlp_width=4 * width,
        positions="learned",
        norm="layernorm",
        norm_epsilon=1e-5,
        activation="gelu",
        biases=True,
        tied_head=True,
        init_std=0.02,
        compute_dtype="bfloat16",
        layer_loop="scan",
    )


def llama3(
    layers: int, width: int, heads: int, mlp_width: int, rope_factor: float, *, tied_head: bool = False
) -> ModelConfig:
    """A Llama 3.1 or 3.2: rotary positions (scaled), RMSNorm, SwiGLU, 8 KV heads; trained here on 8,192-token rows."""
    return ModelConfig(
        vocab_size=128_256,
        context_length=8192,
        layers=layers,
        width=width,
        heads=heads,
        kv_heads=8,
        mlp_width=mlp_width,
        rope_theta=500_000.0,
        rope_scaling=RopeScaling(factor=rope_factor),
        norm_epsilon=1e-5,
        tied_head=tied_head,
        init_std=0.02,
        compute_dtype="bfloat16",
        layer_loop="scan",
        remat="block",
    )


def tiny() -> ModelConfig:
    """About a million parameters: learns in minutes on two CPU cores."""
    return ModelConfig(
        vocab_size=2048,
        context_length=256,
        layers=4,
        width=128,
        heads=4,
        kv_heads=4,
        mlp_width=512,
        activation="relu2",  # two thirds of SwiGLU's matrix products, and no exponentials
        qk_norm=True,
    )


def picture() -> ModelConfig:
    """The 85,000-parameter GPT of the lecture's picture (bbycroft.net/llm, "nano-gpt"): it sorts six letters A, B, C."""
    return ModelConfig(
        vocab_size=3,
        context_length=11,
        layers=3,
        width=48,
        heads=3,
        kv_heads=3,
        mlp_width=192,
        positions="learned",
        norm="layernorm",
        norm_epsilon=1e-5,
        activation="gelu",
        biases=True,
        init_std=0.02,
    )


PRESETS: dict[str, Callable[[], ModelConfig]] = {
    "tiny": tiny,
    "picture": picture,
    "gpt2-124m": lambda: gpt2(12, 768, 12),
    "gpt2-350m": lambda: gpt2(24, 1024, 16),
    "gpt2-774m": lambda: gpt2(36, 1280, 20),
    "gpt2-1558m": lambda: gpt2(48, 1600, 25),
    "llama3-1b": lambda: llama3(16, 2048, 32, 8192, 32.0, tied_head=True),
    "llama3-8b": lambda: llama3(32, 4096, 32, 14_336, 8.0),
    "llama3-70b": lambda: llama3(80, 8192, 64, 28_672, 8.0),
    "llama3-405b": lambda: llama3(126, 16_384, 128, 53_248, 8.0),
}


def preset(name: str) -> ModelConfig:
    """The named model. Raises `UserError` listing the names when there is no such one."""
    if name not in PRESETS:
        raise UserError(f"no model is called {name!r}: choose one of {', '.join(PRESETS)}")
    return PRESETS[name]()
