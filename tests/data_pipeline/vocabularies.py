"""Small vocabularies for tests: one of ours, and ones with other people's special tokens."""

import pydoc_data.topics

import pytest

from data_pipeline.special_tokens import SPECIAL_TOKENS
from data_pipeline.tokenizer import load_tokenizer, train_tokenizer

CHATML = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
QWEN = (*CHATML, "<think>", "</think>", "<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>")
LLAMA3 = ("<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>")
# What a text may hold to be taken for a mark.
FORGED = (*SPECIAL_TOKENS, *QWEN, *LLAMA3, "\n", "\n\n", " ", "\nUser:", "Assistant:", "hello", "\u2581")
TOPICS = list(pydoc_data.topics.topics.values())[:20]


def our_own(folder):
    """A vocabulary as our runs have it."""
    return train_tokenizer(TOPICS, 600, folder / "tokenizer.model")


def byte_level(folder, special):
    """A byte-level tokenizer.json with other people's special tokens: our reader of it, and the library's."""
    tokenizers = pytest.importorskip("tokenizers", reason='needs pip install "trivium[tokenizers]"')
    library = tokenizers.Tokenizer(tokenizers.models.BPE())
    library.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = tokenizers.pre_tokenizers.ByteLevel.alphabet()
    library.train_from_iterator(
        TOPICS,
        tokenizers.trainers.BpeTrainer(
            vocab_size=600, special_tokens=list(special), initial_alphabet=alphabet, show_progress=False
        ),
    )
    library.save(str(folder / "tokenizer.json"))
    return load_tokenizer(folder / "tokenizer.json"), library
