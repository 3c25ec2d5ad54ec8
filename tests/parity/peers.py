"""GPT-2, Llama 3 and Qwen 3 as `transformers` builds them, beside our presets shrunk to the same size.

What makes a family (norm, epsilon, activation, biases, rotary base and scaling) is written down twice: once in
`lm/model/presets.py`, and once here as the published checkpoints have it. Only sizes are handed from one to the other.
Importing this skips the importing test module where PyTorch or transformers is missing.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest
from copying import Arrays, from_gpt2, from_llama, from_qwen3

from lm.model.config import ModelConfig
from lm.model.presets import preset

MISSING = "parity is NOT checked: PyTorch or transformers is not installed (make parity, see tests/parity/install.py)"
torch = pytest.importorskip("torch", reason=MISSING, exc_type=ImportError)
transformers = pytest.importorskip("transformers", reason=MISSING, exc_type=ImportError)
torch.set_num_threads(1)  # these matrices are too small to share: threads would only wait for each other

B, T = 2, 120  # two blocks of our blockwise attention, and a context that does not fill the last one


@dataclass(frozen=True)
class Peer:
    """One architecture on both sides."""

    config: ModelConfig  # ours
    theirs: Callable[[ModelConfig], "transformers.PreTrainedModel"]  # of the sizes of `config`, any weights
    copy: Callable[[Arrays, int], Arrays]  # their parameters as ours


def gpt2(config: ModelConfig) -> "transformers.PreTrainedModel":
    """GPT-2 as released: transformers' defaults are its values; dropout, which we do not have, is off."""
    return transformers.GPT2LMHeadModel(
        transformers.GPT2Config(
            vocab_size=config.vocab_size,
            n_positions=config.context_length,
            n_embd=config.width,
            n_layer=config.layers,
            n_head=config.heads,
            n_inner=config.mlp_width,
            activation_function="gelu_new",
            layer_norm_epsilon=1e-5,
            resid_pdrop=0.0,
            embd_pdrop=0.0,
            attn_pdrop=0.0,
            bos_token_id=None,
            eos_token_id=None,
            tie_word_embeddings=config.tied_head,
            attn_implementation="eager",
        )
    )


def llama3(config: ModelConfig, factor: float) -> "transformers.PreTrainedModel":
    """Llama 3 with the values in the checkpoints' config.json: factor 8 in release 3.1, 32 in 3.2 (1B)."""
    return transformers.LlamaForCausalLM(
        transformers.LlamaConfig(
            **sizes(config),
            rms_norm_eps=1e-5,
            rope_parameters={
                "rope_type": "llama3",
                "rope_theta": 500_000.0,
                "factor": factor,
                "low_freq_factor": 1.0,
                "high_freq_factor": 4.0,
                "original_max_position_embeddings": 8192,
            },
        )
    )


def qwen3(config: ModelConfig) -> "transformers.PreTrainedModel":
    """Qwen 3 (arXiv 2505.09388) with the values in the checkpoints' config.json."""
    return transformers.Qwen3ForCausalLM(
        transformers.Qwen3Config(
            **sizes(config), rms_norm_eps=1e-6, rope_parameters={"rope_type": "default", "rope_theta": 1_000_000.0}
        )
    )


def sizes(config: ModelConfig) -> dict:
    """What Llama and Qwen 3 call their sizes."""
    return {
        "vocab_size": config.vocab_size,
        "hidden_size": config.width,
        "intermediate_size": config.mlp_width,
        "num_hidden_layers": config.layers,
        "num_attention_heads": config.heads,
        "num_key_value_heads": config.kv_heads,
        "head_dim": config.dim_per_head,
        "max_position_embeddings": 131_072,
        "tie_word_embeddings": config.tied_head,
        "attn_implementation": "eager",
    }


def shrunk(config: ModelConfig, **changes) -> ModelConfig:
    """The architecture of `config` at a size where a test is quick, in float32."""
    small = {
        "vocab_size": 211,
        "context_length": 256,
        "layers": 3,
        "width": 64,
        "heads": 4,
        "kv_heads": 4 if config.kv_heads == config.heads else 2,
        "mlp_width": 4 * 64 if config.mlp_width == 4 * config.width else 112,
        "compute_dtype": "float32",
    }
    return replace(config, **{**small, **changes})


# There is no preset of Qwen 3 yet: its published values, spelled as a config. Its heads are wider than D / H.
QWEN3 = ModelConfig(
    kv_heads=2,
    head_dim=24,
    positions="rotary",
    rope_theta=1_000_000.0,
    norm="rmsnorm",
    norm_epsilon=1e-6,
    activation="swiglu",
    biases=False,
    qk_norm=True,
)

PEERS = {
    "gpt2": Peer(shrunk(preset("gpt2-124m")), gpt2, from_gpt2),
    "gpt2 untied": Peer(shrunk(preset("gpt2-124m"), tied_head=False), gpt2, from_gpt2),
    "llama3.2 1b": Peer(shrunk(preset("llama3-1b")), lambda config: llama3(config, 32.0), from_llama),
    "llama3.1 8b untied": Peer(shrunk(preset("llama3-8b")), lambda config: llama3(config, 8.0), from_llama),
    "qwen3": Peer(shrunk(QWEN3), qwen3, from_qwen3),
    "qwen3 untied": Peer(shrunk(QWEN3, tied_head=False), qwen3, from_qwen3),
}


def random_weights(peer: Peer, seed: int = 0) -> "transformers.PreTrainedModel":
    """Their model, every parameter of it random, norms and biases too: at 1 and 0 they would hide mistakes.

    Embeddings stay small, as in real models: it is there that the epsilon of the first norm shows.
    """
    model = peer.theirs(peer.config).float().eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, p in model.named_parameters():
            x = torch.randn(p.shape, generator=generator)
            if name.endswith("bias"):
                x = 0.3 * x
            elif p.ndim == 1:
                x = 1 + 0.3 * x
            elif name.endswith(("wte.weight", "wpe.weight", "embed_tokens.weight")):
                x = 0.05 * x
            else:
                x = 0.15 * x
            p.copy_(x)
    return model


def arrays(tensors) -> Arrays:
    """Copies, as numpy, of (name, tensor) pairs."""
    return {name: x.detach().numpy().copy() for name, x in tensors}


def weights_as_ours(peer: Peer, model) -> Arrays:
    """The parameters of their model under our names."""
    return peer.copy(arrays(model.named_parameters()), peer.config.layers)


def gradients_as_ours(peer: Peer, model) -> Arrays:
    """The gradients of their model under our names; every parameter must have one."""
    return peer.copy(arrays((name, p.grad) for name, p in model.named_parameters()), peer.config.layers)


def cross_entropy(logits, labels, mask):
    """PyTorch's mean cross entropy, nats, over the positions that the mask keeps."""
    wanted = torch.from_numpy(labels.astype("int64")).masked_fill(~torch.from_numpy(mask), -100)
    return torch.nn.functional.cross_entropy(logits.flatten(0, 1), wanted.flatten(), ignore_index=-100)
