"""Both sides of the practice benchmark write as many tokens to prompts of the same length, and learn from them."""

from dataclasses import replace

import practice
import pytest
from practice_sides import MARKS, PROBLEMS, Round, Words, check, ours, peer, words

from data_pipeline.conversation import said
from data_pipeline.protocol import prompt
from lm.model.summary import parameter_count, parameter_shapes

ROUND = Round(prompts=2, samples=2, prompt=12, answer=5)
TOY = replace(practice.llama(), layers=1, width=32, heads=2, kv_heads=2, mlp_width=48, vocab_size=64, context_length=32)


def test_our_steps_write_every_answer_to_its_full_length(tmp_path):
    work = ours(TOY, ROUND, str(tmp_path), rows=2)
    assert work.tokens == 2 * 2 * 5
    work.facts()
    work.step()  # raises where a token is missing
    assert all(seconds > 0 for seconds in work.facts().values())


def test_the_peers_steps_do_too(tmp_path):
    pytest.importorskip("torch", reason="PyTorch is not installed: the practice benchmark's peer is not tested")
    pytest.importorskip("trl", reason="TRL is not installed: the practice benchmark's peer is not tested")
    work = peer(TOY, ROUND, str(tmp_path), compiled=False)
    work.step()
    assert all(seconds > 0 for seconds in work.facts().values())


def test_prompts_have_the_length_that_they_are_said_to_have():
    tokenizer = Words(2048)
    asked = words(PROBLEMS, ROUND.prompt - MARKS, tokenizer.vocab_size)
    found = [prompt(tokenizer, (said("user", text),), "tokens") for text in asked]
    assert {len(each.tokens) for each in found} == {ROUND.prompt}
    assert min(token for each in found for token in each.stop_tokens) >= tokenizer.vocab_size  # never written
    assert max(token for each in found for token in each.tokens) < 2048


def test_who_writes_less_is_found_out():
    check(20, ROUND)
    with pytest.raises(ValueError, match="19 tokens"):
        check(19, ROUND)


def test_a_million_parameters():
    assert parameter_count(parameter_shapes(practice.llama())) == pytest.approx(1e6, rel=0.1)
