"""Where each parameter of ours lies in a release: the names of its tensors, and how they are laid out.

Kernels of ours are (inputs, outputs); those of `torch.nn.Linear`, and so of nearly every release, (outputs, inputs). GPT-2's
are (inputs, outputs) too, but its queries, keys and values come out of one matrix.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

# The modules of a release by ours; {} is the layer.
GPT2 = {
    "token_embedding": "transformer.wte",
    "position_embedding": "transformer.wpe",
    "final_norm": "transformer.ln_f",
    "head": "lm_head",
    "blocks.attention_norm": "transformer.h.{}.ln_1",
    "blocks.attention.query": "transformer.h.{}.attn.c_attn",
    "blocks.attention.key": "transformer.h.{}.attn.c_attn",
    "blocks.attention.value": "transformer.h.{}.attn.c_attn",
    "blocks.attention.output": "transformer.h.{}.attn.c_proj",
    "blocks.mlp_norm": "transformer.h.{}.ln_2",
    "blocks.mlp.up": "transformer.h.{}.mlp.c_fc",
    "blocks.mlp.down": "transformer.h.{}.mlp.c_proj",
}
# Llama, Mistral, Qwen 2 and Qwen 3.
LLAMA = {
    "token_embedding": "model.embed_tokens",
    "final_norm": "model.norm",
    "head": "lm_head",
    "blocks.attention_norm": "model.layers.{}.input_layernorm",
    "blocks.attention.query": "model.layers.{}.self_attn.q_proj",
    "blocks.attention.key": "model.layers.{}.self_attn.k_proj",
    "blocks.attention.value": "model.layers.{}.self_attn.v_proj",
    "blocks.attention.output": "model.layers.{}.self_attn.o_proj",
    "blocks.attention.query_norm": "model.layers.{}.self_attn.q_norm",
    "blocks.attention.key_norm": "model.layers.{}.self_attn.k_norm",
    "blocks.mlp_norm": "model.layers.{}.post_attention_layernorm",
    "blocks.mlp.gate": "model.layers.{}.mlp.gate_proj",
    "blocks.mlp.up": "model.layers.{}.mlp.up_proj",
    "blocks.mlp.down": "model.layers.{}.mlp.down_proj",
}
GGUF = {
    "token_embedding": "token_embd",
    "final_norm": "output_norm",
    "head": "output",
    "blocks.attention_norm": "blk.{}.attn_norm",
    "blocks.attention.query": "blk.{}.attn_q",
    "blocks.attention.key": "blk.{}.attn_k",
    "blocks.attention.value": "blk.{}.attn_v",
    "blocks.attention.output": "blk.{}.attn_output",
    "blocks.mlp_norm": "blk.{}.ffn_norm",
    "blocks.mlp.gate": "blk.{}.ffn_gate",
    "blocks.mlp.up": "blk.{}.ffn_up",
    "blocks.mlp.down": "blk.{}.ffn_down",
}
THIRDS = {"query": 0, "key": 1, "value": 2}  # of GPT-2's c_attn, along its outputs


@dataclass(frozen=True)
class Place:
    """The tensor that holds one parameter, of one layer if it is a block's: (D_out, D_in) if `transposed`."""

    name: str
    transposed: bool
    third: int | None = None  # of the last axis, where three parameters share the tensor

    def shape(self, ours: tuple[int, ...]) -> tuple[int, ...]:
        """The tensor's shape, given that of our parameter (of one layer)."""
        if self.transposed:
            return ours[::-1]
        return ours if self.third is None else (*ours[:-1], 3 * ours[-1])

    def view(self, tensor: np.ndarray) -> np.ndarray:
        """The parameter as a view of its tensor, in our layout: to read from, or to write to."""
        if self.transposed:
            return tensor.T
        return tensor if self.third is None else np.split(tensor, 3, axis=-1)[self.third]


def places(modules: dict[str, str], parameters: Iterable[str], layers: int) -> dict[str, list[Place]]:
    """For each parameter of ours (its dotted path), its places: one, or for those under `blocks` one a layer."""
    found = {}
    conv1d = modules["blocks.attention.query"] == modules["blocks.attention.key"]
    for parameter in parameters:
        module, _, kind = parameter.rpartition(".")
        if kind not in ("kernel", "scale", "bias"):
            module, kind = parameter, "weight"
        name = f"{modules[module]}.{'bias' if kind == 'bias' else 'weight'}"
        transposed = module == "head" or (kind == "kernel" and not conv1d)
        third = THIRDS.get(module.rpartition(".")[2]) if conv1d else None
        count = layers if parameter.startswith("blocks.") else 1
        found[parameter] = [Place(name.format(layer), transposed, third) for layer in range(count)]
    return found
