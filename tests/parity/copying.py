"""Parameters of `transformers` models under the names and in the layout of our `Transformer`: one function per family.

Written apart from anything in `lm`, so that it stays an independent reference. Each function takes a name -> array
dictionary as `named_parameters()` gives it (weights, or their gradients: only slices, transposes and stacking happen here)
and uses every entry exactly once. Kernels of ours are (inputs, outputs); those of `torch.nn.Linear` are (outputs, inputs),
those of GPT-2's `Conv1D` (inputs, outputs).
"""

import jax
import numpy as np

from lm.model.config import ModelConfig
from lm.model.transformer import Transformer

Arrays = dict[str, np.ndarray]


def from_gpt2(theirs: Arrays, layers: int) -> Arrays:
    """Parameters of `GPT2LMHeadModel`, whose queries, keys and values come out of one matrix."""
    left = dict(theirs)

    def stack(name: str) -> np.ndarray:
        return np.stack([left.pop(f"transformer.h.{i}.{name}") for i in range(layers)])

    ours = {
        "token_embedding": left.pop("transformer.wte.weight"),
        "position_embedding": left.pop("transformer.wpe.weight"),
        "final_norm.scale": left.pop("transformer.ln_f.weight"),
        "final_norm.bias": left.pop("transformer.ln_f.bias"),
        "blocks.attention_norm.scale": stack("ln_1.weight"),
        "blocks.attention_norm.bias": stack("ln_1.bias"),
        "blocks.attention.output.kernel": stack("attn.c_proj.weight"),
        "blocks.attention.output.bias": stack("attn.c_proj.bias"),
        "blocks.mlp_norm.scale": stack("ln_2.weight"),
        "blocks.mlp_norm.bias": stack("ln_2.bias"),
        "blocks.mlp.up.kernel": stack("mlp.c_fc.weight"),
        "blocks.mlp.up.bias": stack("mlp.c_fc.bias"),
        "blocks.mlp.down.kernel": stack("mlp.c_proj.weight"),
        "blocks.mlp.down.bias": stack("mlp.c_proj.bias"),
    }
    for kind, name in (("kernel", "weight"), ("bias", "bias")):
        parts = np.split(stack(f"attn.c_attn.{name}"), 3, axis=-1)
        ours |= {f"blocks.attention.{part}.{kind}": x for part, x in zip(("query", "key", "value"), parts, strict=True)}
    return ours | _head(left)


def from_llama(theirs: Arrays, layers: int) -> Arrays:
    """Parameters of `LlamaForCausalLM`."""
    left = dict(theirs)
    return _llama_blocks(left, layers) | _head(left)


def from_qwen3(theirs: Arrays, layers: int) -> Arrays:
    """Parameters of `Qwen3ForCausalLM`: those of Llama, and a norm for query heads and one for key heads."""
    left = dict(theirs)
    norms = {
        f"blocks.attention.{ours}_norm.scale": np.stack(
            [left.pop(f"model.layers.{i}.self_attn.{name}_norm.weight") for i in range(layers)]
        )
        for ours, name in (("query", "q"), ("key", "k"))
    }
    return norms | _llama_blocks(left, layers) | _head(left)


def _llama_blocks(left: Arrays, layers: int) -> Arrays:
    """What Llama and Qwen 3 have in common, taken out of `left`."""

    def norm(name: str) -> np.ndarray:
        return np.stack([left.pop(f"model.layers.{i}.{name}.weight") for i in range(layers)])

    def kernel(name: str) -> np.ndarray:
        return np.stack([left.pop(f"model.layers.{i}.{name}.weight").T for i in range(layers)])

    return {
        "token_embedding": left.pop("model.embed_tokens.weight"),
        "final_norm.scale": left.pop("model.norm.weight"),
        "blocks.attention_norm.scale": norm("input_layernorm"),
        "blocks.mlp_norm.scale": norm("post_attention_layernorm"),
        "blocks.attention.query.kernel": kernel("self_attn.q_proj"),
        "blocks.attention.key.kernel": kernel("self_attn.k_proj"),
        "blocks.attention.value.kernel": kernel("self_attn.v_proj"),
        "blocks.attention.output.kernel": kernel("self_attn.o_proj"),
        "blocks.mlp.gate.kernel": kernel("mlp.gate_proj"),
        "blocks.mlp.up.kernel": kernel("mlp.up_proj"),
        "blocks.mlp.down.kernel": kernel("mlp.down_proj"),
    }


def _head(left: Arrays) -> Arrays:
    """The output head, where it is not the token embedding (`named_parameters` names a shared one once)."""
    head = {"head": left.pop("lm_head.weight").T} if "lm_head.weight" in left else {}
    assert not left, f"parameters of theirs without a place in ours: {sorted(left)}"
    return head


def build(config: ModelConfig, arrays: Arrays) -> Transformer:
    """Our model with these parameters: exactly those it has, each of its shape."""
    shapes = jax.eval_shape(lambda: Transformer(jax.random.key(0), config))
    wanted = {name: leaf.shape for name, leaf in named(shapes).items()}
    assert wanted == {name: x.shape for name, x in arrays.items()}
    return jax.tree_util.tree_map_with_path(lambda path, leaf: jax.numpy.asarray(arrays[_name(path)]), shapes)


def named(tree) -> Arrays:
    """The leaves of a model, or of its gradient, by dotted name."""
    return {_name(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}


def _name(path) -> str:
    return jax.tree_util.keystr(path, simple=True, separator=".")
