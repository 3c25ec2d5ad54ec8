"""A model that begins to write a tool's result ends its turn there, and is not said to follow the protocol."""

import pytest

from data_pipeline.conversation import Text, Turn, said
from data_pipeline.protocol import render
from data_pipeline.tokenizer import load_tokenizer, train_tokenizer
from lm.assistant import Toolbox, read_reply, request
from lm.inference.requests import STOP, Completion, Written
from lm.inference.sampling import Sampling


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.model"
    train_tokenizer(["who are you? a small model\n" * 20], 300, path)
    return load_tokenizer(path)


@pytest.mark.parametrize("toolbox", [None, Toolbox(())])
def test_the_marks_of_a_result_end_the_turn(tokenizer, toolbox):
    asked = request(tokenizer, [said("user", "who?")], 9, Sampling(), toolbox=toolbox, style="tokens")
    special = tokenizer.special_tokens
    assert {special["<|tool_result_start|>"], special["<|tool_result_end|>"]} < set(asked.stop_tokens)


@pytest.mark.parametrize(
    ("mark", "fine"), [("<|end_of_turn|>", True), ("<|tool_result_start|>", False), ("<|tool_result_end|>", False)]
)
def test_a_turn_that_ends_so_is_not_well_formed(tokenizer, mark, fine):
    end = tokenizer.special_tokens[mark]
    tokens = [*tokenizer.encode("a small model"), end]
    reply = read_reply(tokenizer, Completion(Written(tokens), STOP, end))
    assert reply.parts == (Text("a small model"),)  # nothing of it is a result
    assert (reply.well_formed, reply.forged) == (fine, not fine)
    assert render(tokenizer, [said("user", "who?"), Turn("assistant", reply.parts)])
