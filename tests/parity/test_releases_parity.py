"""What `transformers` saves is, taken in, the same model here; and what we write is the same model there."""

import json
import pydoc_data.topics

import numpy as np
import pytest
from peers import torch, transformers
from released import (
    RELEASES,
    our_greedy,
    our_logits,
    release,
    their_greedy,
    their_logits,
    tokens,
    with_config,
)

from data_pipeline.tokenizer import load_tokenizer, train_tokenizer
from launch.convert import give_out, take_in
from launch.workdir import load_model
from lm.interop.releases import export_tokenizer

LOGITS = 1e-4  # absolute, in float32


@pytest.mark.parametrize("name", RELEASES)
def test_both_ways(name, tmp_path):
    theirs = release(name, tmp_path / "release", shard_size="50KB" if name == "mistral" else "5GB")
    take_in(tmp_path / "release", None, tmp_path / "run")
    ours, tokenizer, step = load_model(tmp_path / "run")
    assert step == 0
    assert tokenizer.encode("abc") == [ord(c) - ord("!") for c in "abc"]

    logits, got = their_logits(theirs, tokens()), our_logits(ours, tokens())
    error = np.abs(got - logits).max()
    prompt = tokens(1, 8)[0].tolist()
    continuation = their_greedy(theirs, prompt)
    print(
        f"{name}: logits up to {np.abs(logits).max():.1f}, error {error:.1e}; {len(set(continuation))} different tokens"
    )
    assert np.abs(logits).max() > 1
    assert error <= LOGITS
    assert len(set(continuation)) > 5
    assert our_greedy(ours, prompt) == continuation
    # Among the wrong models that would have been told: one that attends wider or narrower, or turns otherwise.
    other = with_config(ours, windows=(0,) if any(ours.config.windows) else (WIDE,))
    assert np.abs(our_logits(other, tokens()) - logits).max() > 10 * LOGITS

    give_out(tmp_path / "run", None, tmp_path / "out")
    back = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "out", attn_implementation="eager")
    assert type(back) is type(theirs)
    assert back.dtype == torch.float32
    state, wanted = back.state_dict(), theirs.state_dict()
    assert state.keys() == wanted.keys()
    assert all(torch.equal(state[key], wanted[key]) for key in wanted)
    assert np.array_equal(their_logits(back, tokens()), logits)
    assert their_greedy(back, prompt) == continuation


WIDE = 50  # a window shorter than the rows


def test_bfloat16_goes_through_unchanged(tmp_path):
    theirs = release("llama3", tmp_path / "release", dtype="bfloat16")
    take_in(tmp_path / "release", None, tmp_path / "run")
    assert load_model(tmp_path / "run")[0].token_embedding.dtype == "bfloat16"
    give_out(tmp_path / "run", None, tmp_path / "out")
    back = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "out", dtype="auto")
    assert back.dtype == torch.bfloat16
    assert all(torch.equal(back.state_dict()[key], value) for key, value in theirs.state_dict().items())


def test_a_shared_prefix_that_is_left_out_and_a_tied_head_that_is_saved(tmp_path):
    """As in OpenAI's own upload of GPT-2, which also holds causal masks."""
    from safetensors.torch import load_file, save_file

    theirs = release("gpt2", tmp_path / "release")
    file = tmp_path / "release" / "model.safetensors"
    state = {name.removeprefix("transformer."): x for name, x in load_file(file).items()}
    state |= {f"h.{i}.attn.bias": torch.ones(1, 1, 256, 256) for i in range(3)}
    state["lm_head.weight"] = state["wte.weight"].clone()
    save_file(state, file)
    take_in(tmp_path / "release", None, tmp_path / "run")
    ours = load_model(tmp_path / "run")[0]
    assert np.abs(our_logits(ours, tokens()) - their_logits(theirs, tokens())).max() <= LOGITS


def test_a_config_of_transformers_4(tmp_path):
    """Which has `rope_theta` and `rope_scaling` apart."""
    theirs = release("llama3", tmp_path / "release")
    file = tmp_path / "release" / "config.json"
    values = json.loads(file.read_text())
    rope = values.pop("rope_parameters")
    values |= {"rope_theta": rope.pop("rope_theta"), "rope_scaling": rope}
    file.write_text(json.dumps(values))
    take_in(tmp_path / "release", None, tmp_path / "run")
    ours = load_model(tmp_path / "run")[0]
    assert np.abs(our_logits(ours, tokens()) - their_logits(theirs, tokens())).max() <= LOGITS


def test_a_vocabulary_of_ours_gives_transformers_the_same_ids(tmp_path):
    texts = list(pydoc_data.topics.topics.values())
    ours = train_tokenizer(texts[:40], 700, tmp_path / "tokenizer" / "tokenizer.model")
    (tmp_path / "out").mkdir()
    export_tokenizer(tmp_path / "tokenizer", tmp_path / "out", 256)
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path / "out")
    nasty = "<|user_start|> <unk><0x41>\u2581 \u2581the\n\n\t  tab\r\n   é漢字👩‍👩‍👧e\u0301 12345 \0"
    for text in (*texts[40:], nasty, "", " ", "\n"):
        ids = ours.encode(text)
        assert theirs(text)["input_ids"] == ids
        assert theirs.decode(ids) == text
    assert theirs.bos_token_id == theirs.eos_token_id == ours.document_start
    assert theirs.decode([ours.document_start, *ours.encode("a b")], skip_special_tokens=True) == "a b"
    # And back in: the same tokenizer for us, structure included.
    again = load_tokenizer(tmp_path / "out" / "tokenizer.json")
    assert again.special_tokens == ours.special_tokens
    assert all(again.encode(text) == ours.encode(text) for text in (*texts[40:60], nasty))
    assert [again.token_bytes(i) for i in range(700)] == [ours.token_bytes(i) for i in range(700)]
