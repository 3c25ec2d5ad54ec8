"""The peer: the same model by `transformers`, trained by PyTorch, with every choice made in its favour.

The tanh GELU is PyTorch's one kernel (not the formula in Python), AdamW its fused kernel, and batches lie ready in memory.
Attention is PyTorch's flash kernel, always: `transformers` itself writes a mask out under `torch.compile`, which no flash
kernel takes, so its own attention is replaced by a call without one.

PyTorch and transformers are not among our dependencies: install them to have a peer.
"""

import os
from typing import Any

from side_by_side import Work

from lm.experiment import Experiment
from lm.model.config import ModelConfig

ATTENTION = "fused_causal"  # what our attention function is called among those of transformers


def fused_causal(
    module: Any, query: Any, key: Any, value: Any, attention_mask: Any, scaling: float | None = None, **_: Any
) -> tuple[Any, None]:
    """Causal attention of query (B, H, T, head_dim) over key and value (B, K, T, head_dim): (B, T, H, head_dim)."""
    from torch.nn.functional import scaled_dot_product_attention

    grouped = query.shape[1] != key.shape[1]
    y = scaled_dot_product_attention(query, key, value, is_causal=True, scale=scaling, enable_gqa=grouped)
    return y.transpose(1, 2).contiguous(), None


def model_of(config: ModelConfig) -> Any:
    """The `transformers` model of the same shape, float32, with random weights.

    Raises ValueError for what neither GPT-2 nor Llama has.
    """
    import transformers

    transformers.AttentionInterface.register(ATTENTION, fused_causal)
    if config.qk_norm or config.logit_soft_cap or config.windows != (0,) or not config.tied_head:
        raise ValueError("the peer has no QK norm, soft cap, windows or separate head")
    if config.positions == "learned" and config.norm == "layernorm" and config.activation == "gelu" and config.biases:
        return transformers.GPT2LMHeadModel(
            transformers.GPT2Config(
                vocab_size=config.vocab_size,
                n_positions=config.context_length,
                n_embd=config.width,
                n_layer=config.layers,
                n_head=config.heads,
                n_inner=config.mlp_width,
                activation_function="gelu_pytorch_tanh",
                resid_pdrop=0.0,
                embd_pdrop=0.0,
                attn_pdrop=0.0,
                layer_norm_epsilon=config.norm_epsilon,
                use_cache=False,
                bos_token_id=None,
                eos_token_id=None,
                attn_implementation=ATTENTION,
            )
        )
    if (
        config.positions == "rotary"
        and config.norm == "rmsnorm"
        and config.activation == "swiglu"
        and not config.biases
    ):
        scaling = config.rope_scaling
        rope: dict[str, Any] = {"rope_type": "default", "rope_theta": config.rope_theta}
        if scaling.factor != 1.0:
            rope |= {
                "rope_type": "llama3",
                "factor": scaling.factor,
                "low_freq_factor": scaling.low_frequency_factor,
                "high_freq_factor": scaling.high_frequency_factor,
                "original_max_position_embeddings": scaling.original_context,
            }
        return transformers.LlamaForCausalLM(
            transformers.LlamaConfig(
                vocab_size=config.vocab_size,
                max_position_embeddings=max(config.context_length, 2 * scaling.original_context),  # only checked
                hidden_size=config.width,
                num_hidden_layers=config.layers,
                num_attention_heads=config.heads,
                num_key_value_heads=config.kv_heads,
                head_dim=config.dim_per_head,
                intermediate_size=config.mlp_width,
                rms_norm_eps=config.norm_epsilon,
                rope_parameters=rope,
                tie_word_embeddings=True,
                use_cache=False,
                bos_token_id=None,
                eos_token_id=None,
                attn_implementation=ATTENTION,
            )
        )
    raise ValueError("the peer is a GPT-2 or a Llama: change positions, norm, activation and biases together")


def parameter_count(model: Any) -> int:
    """Numbers in the model; a tied head counts once."""
    return sum(parameter.numel() for parameter in model.parameters())


def build(config: Experiment, compiled: bool, device: str = "cpu") -> Work:
    """Steps of AdamW with clipping on `device` ("cpu" or "cuda"), in the model's compute dtype, eager or compiled."""
    os.environ["TORCHINDUCTOR_COMPILE_THREADS"] = "1"  # in this process: no helpers that outlive it
    import torch

    torch.set_num_threads(os.cpu_count() or 1)
    torch.set_float32_matmul_precision("high")  # TF32 on a GPU, as JAX has it there; no effect on a CPU
    torch.manual_seed(config.seed)
    model = model_of(config.model).to(device).train()
    settings, half = config.optimizer, config.model.compute_dtype == "bfloat16"
    matrices = [parameter for parameter in model.parameters() if parameter.ndim > 1]
    vectors = [parameter for parameter in model.parameters() if parameter.ndim <= 1]
    optimizer = torch.optim.AdamW(
        [{"params": matrices, "weight_decay": settings.weight_decay}, {"params": vectors, "weight_decay": 0.0}],
        lr=settings.learning_rate,
        betas=(settings.beta1, settings.beta2),
        eps=settings.epsilon,
        fused=True,
    )

    def loss_of(tokens: Any, labels: Any) -> Any:
        with torch.autocast(device, dtype=torch.bfloat16, enabled=half):
            logits = model(input_ids=tokens, use_cache=False).logits
        return torch.nn.functional.cross_entropy(logits.float().flatten(0, 1), labels.flatten())

    loss_function = torch.compile(loss_of, dynamic=False) if compiled else loss_of
    shape = (8, config.batch_size, config.model.context_length + 1)
    rows = torch.randint(0, config.model.vocab_size, shape, device=device)
    parts, done, last = config.accumulate, 0, torch.zeros(())

    def one() -> None:
        nonlocal done, last
        batch = rows[done % len(rows)]
        done += 1
        optimizer.zero_grad(set_to_none=True)
        for part in batch.chunk(parts):
            loss = loss_function(part[:, :-1], part[:, 1:]) / parts
            loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), settings.clip_norm)
        optimizer.step()
        last = loss.detach()  # not read here: that would make a GPU wait

    def finish() -> None:
        if not torch.isfinite(last).item():
            raise FloatingPointError(f"not finite: {last}")
        if device == "cuda":
            torch.cuda.synchronize()

    def facts() -> dict[str, Any]:
        peak = torch.cuda.max_memory_allocated() if device == "cuda" else None
        return {"peak_bytes": peak, "last_loss": last.item()}

    return Work(one, finish, config.batch_size * config.model.context_length, facts)
