"""Models of each family as `transformers` saves them, and what it and we make of the same tokens."""

from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
from peers import PEERS, QWEN3, Peer, gpt2, llama3, qwen3, random_weights, shrunk, sizes, torch, transformers

from data_pipeline.foreign_tokenizers import BYTE_OF
from data_pipeline.tokenizer_json import from_byte_level
from lm.inference.engine import Engine
from lm.inference.generate import generate
from lm.inference.requests import Request
from lm.inference.sampling import Sampling
from lm.model.config import ModelConfig
from lm.model.transformer import Transformer

V, WINDOW = 320, 16


def qwen2(config: ModelConfig, **windows) -> "transformers.PreTrainedModel":
    """Qwen 2 (arXiv 2407.10671): biases on queries, keys and values."""
    values = {name: value for name, value in sizes(config).items() if name != "head_dim"}
    rope = {"rope_type": "default", "rope_theta": 1_000_000.0}
    return transformers.Qwen2ForCausalLM(
        transformers.Qwen2Config(**values, **windows, rms_norm_eps=1e-6, rope_parameters=rope)
    )


def mistral(config: ModelConfig) -> "transformers.PreTrainedModel":
    """Mistral (arXiv 2310.06825), with a window that is shorter than the rows here."""
    rope = {"rope_type": "default", "rope_theta": 10_000.0}
    return transformers.MistralForCausalLM(
        transformers.MistralConfig(**sizes(config), sliding_window=WINDOW, rms_norm_eps=1e-5, rope_parameters=rope)
    )


def linear(config: ModelConfig) -> "transformers.PreTrainedModel":
    """A Llama with biases everywhere and positions interpolated."""
    rope = {"rope_type": "linear", "rope_theta": 10_000.0, "factor": 4.0}
    return transformers.LlamaForCausalLM(
        transformers.LlamaConfig(
            **sizes(config), attention_bias=True, mlp_bias=True, rms_norm_eps=1e-5, rope_parameters=rope
        )
    )


def small(config: ModelConfig, **changes) -> ModelConfig:
    return shrunk(config, vocab_size=V, **changes)


PLAIN = ModelConfig(kv_heads=2)
HALF_WINDOWED = {"use_sliding_window": True, "sliding_window": WINDOW, "max_window_layers": 1}
# Only sizes are taken from the configs: what the family is, `transformers` says.
RELEASES = {
    "gpt2": Peer(small(PEERS["gpt2"].config), gpt2, None),
    "gpt2 untied": Peer(small(PEERS["gpt2"].config, tied_head=False), gpt2, None),
    "llama3": Peer(small(PEERS["llama3.2 1b"].config), lambda config: llama3(config, 32.0), None),
    "llama linear, biases": Peer(small(PLAIN, tied_head=False), linear, None),
    "mistral": Peer(small(PLAIN, tied_head=False), mistral, None),
    "qwen2": Peer(small(PLAIN), qwen2, None),
    "qwen2 windows": Peer(small(PLAIN, tied_head=False), lambda config: qwen2(config, **HALF_WINDOWED), None),
    "qwen3": Peer(small(QWEN3, tied_head=False), qwen3, None),
}


def release(name: str, folder: Path, shard_size: str = "5GB", dtype: str = "float32") -> "transformers.PreTrainedModel":
    """A model of random weights, saved by `transformers`, with a tokenizer of bytes beside it."""
    model = random_weights(RELEASES[name]).to(getattr(torch, dtype))
    with torch.no_grad():
        for embedding in (module for module in model.modules() if isinstance(module, torch.nn.Embedding)):
            # So that a greedy text does not repeat one token: what is read must outweigh the biases, the position the token.
            embedding.weight *= 40 if embedding.weight.shape[0] != V else 10
    model.save_pretrained(folder, max_shard_size=shard_size)
    text = from_byte_level([*BYTE_OF, "<|endoftext|>"], [], [256], "gpt-2")
    (folder / "tokenizer.json").write_text(text)
    return model


def tokens(rows: int = 2, length: int = 100, vocab_size: int = V) -> np.ndarray:
    return np.random.default_rng(3).integers(0, vocab_size, (rows, length), np.int32)


def their_logits(model: "transformers.PreTrainedModel", ids: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        return model(torch.from_numpy(ids).long()).logits.float().numpy()


def our_logits(model: Transformer, ids: np.ndarray) -> np.ndarray:
    return np.asarray(jax.jit(lambda model, ids: model(ids))(model, ids))


def their_greedy(model: "transformers.PreTrainedModel", prompt: list[int], count: int = 64) -> list[int]:
    model.generation_config.eos_token_id = None  # what the settings leave out is taken from here
    settings = transformers.GenerationConfig(do_sample=False, max_new_tokens=count, pad_token_id=0, eos_token_id=None)
    with torch.no_grad():
        ids = model.generate(torch.tensor([prompt]), generation_config=settings)
    return ids[0, len(prompt) :].tolist()


def our_greedy(model: Transformer, prompt: list[int], count: int = 64) -> list[int]:
    [[completion]] = generate(Engine(model, slots=1), [Request(tuple(prompt), count, Sampling(temperature=0.0))])
    return completion.written.tokens


def with_config(model: Transformer, **changes) -> Transformer:
    """The same parameters, run otherwise."""
    shapes = jax.eval_shape(lambda: Transformer(jax.random.key(0), replace(model.config, **changes)))
    return jax.tree.unflatten(jax.tree.structure(shapes), jax.tree.leaves(model))
