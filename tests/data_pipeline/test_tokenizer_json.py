"""A tokenizer.json made of another vocabulary gives the ids of that vocabulary's own library, for every text."""

import json
import pydoc_data.topics
import random
import struct
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_pipeline.errors import UserError
from data_pipeline.tokenizer import load_tokenizer, train_tokenizer
from data_pipeline.tokenizer_json import BYTE, CONTROL, NORMAL, Piece, from_byte_level, from_pieces, from_sentencepiece

tokenizers = pytest.importorskip("tokenizers", reason='needs pip install "trivium[tokenizers]"')

TOPICS = list(pydoc_data.topics.topics.values())
STORIES = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "weights" / "stories260K" / "tok512.bin"
NASTY = ("<|user_start|>", "<unk>", "<0x41>", "\u2581", "\n", "\t", "\r", "    ", "\0", "é", "漢", "👩‍👧", "e\u0301")


@pytest.fixture(scope="module")
def vocabulary(tmp_path_factory):
    """A vocabulary of ours with many pieces that overlap themselves (runs, periods), and its tokenizer.json's library."""
    chance = random.Random(0)
    runs = ["".join(chance.choices(["a", "aa", "ab", "ba", "-", "--", "  ", " "], k=60)) for _ in range(300)]
    ours = train_tokenizer([*TOPICS[:30], *runs], 800, tmp_path_factory.mktemp("vocabulary") / "tokenizer.model")
    text = from_sentencepiece(ours._contents)
    theirs = tokenizers.Tokenizer.from_str(text)
    theirs.encode_special_tokens = True  # what split_special_tokens turns on: markers in a text are text
    return ours, theirs, text


@given(
    st.one_of(
        st.text(alphabet="aabb -\n"),
        st.lists(st.one_of(st.text(), st.sampled_from(NASTY), st.sampled_from(["The ", "list", "aa"]))).map("".join),
    )
)
@settings(max_examples=500, deadline=None)
def test_any_text_has_the_ids_of_sentencepiece(vocabulary, text):
    ours, theirs, _ = vocabulary
    assert theirs.encode(text, add_special_tokens=False).ids == ours.encode(text)
    assert theirs.decode(ours.encode(text)) == text


def test_real_text_and_long_runs(vocabulary, tmp_path):
    ours, theirs, text = vocabulary
    (tmp_path / "tokenizer.json").write_text(text)
    again = load_tokenizer(tmp_path)
    for sample in (*TOPICS[30:], *(unit * n for unit in ("a", "ab", "aab", "-", " ", "a-") for n in (5, 31, 1000))):
        assert theirs.encode(sample).ids == again.encode(sample) == ours.encode(sample)
    assert again.special_tokens == ours.special_tokens


def test_another_order_of_merges_is_told_apart(vocabulary):
    ours, _, text = vocabulary
    definition = json.loads(text)
    definition["model"]["merges"].reverse()
    other = tokenizers.Tokenizer.from_str(json.dumps(definition))
    assert any(other.encode(sample).ids != ours.encode(sample) for sample in TOPICS[30:40])


def test_llama2c_s_vocabulary_by_its_own_algorithm(tmp_path):
    """llama2.c merges, of all neighbours, the pair with the best score, the first of equals, until none can be merged."""
    if not STORIES.exists():
        pytest.skip(f"llama2.c's vocabulary is NOT checked: there is no {STORIES}")
    from lm.interop.llama2c import read_vocabulary

    contents, at, score_of, ids = STORIES.read_bytes(), 4, {}, {}
    while at < len(contents):
        score, length = struct.unpack_from("<fi", contents, at)
        piece = contents[at + 8 : at + 8 + length].decode()
        score_of[piece], ids[piece] = score, len(ids)
        at += 8 + length

    def encode(text: str) -> list[int]:
        parts = [part for c in text for part in ([c] if c in ids else [f"<0x{byte:02X}>" for byte in c.encode()])]
        while True:
            found = [(score_of[a + b], -i) for i, (a, b) in enumerate(zip(parts, parts[1:])) if a + b in score_of]  # noqa: B905, RUF007
            if not found:
                return [ids[part] for part in parts]
            i = -max(found)[1]
            parts[i : i + 2] = [parts[i] + parts[i + 1]]

    (tmp_path / "tokenizer.json").write_text(from_pieces(read_vocabulary(STORIES, 512)))
    tokenizer = load_tokenizer(tmp_path)
    assert tokenizer.vocab_size == 512
    for text in (
        " Once upon a time, there was a little girl.",
        'Lily\'s mom\nsaid, "ééé 漢"',
        "aaaa bbb",
        TOPICS[0][:2000],
    ):
        assert tokenizer.encode(text) == encode(text)


def test_vocabularies_that_cannot_be_exact_are_refused():
    bytes_ = [Piece(f"<0x{byte:02X}>", 0.0, BYTE) for byte in range(256)]
    for pieces, said in [
        ([*bytes_, Piece("ab", -1, NORMAL), Piece("cd", -1, NORMAL)], "same text or score"),
        ([*bytes_, Piece("ab", -1, NORMAL), Piece("ab", -2, NORMAL)], "same text or score"),
        ([*bytes_[:-1], Piece("a", -1, NORMAL), Piece("<s>", 0, CONTROL)], "no piece for each byte"),
    ]:
        with pytest.raises(UserError, match=said):
            from_pieces(pieces)
    with pytest.raises(UserError, match="cut words as 'falcon'"):
        from_byte_level(["a"], [], [], "falcon")
    with pytest.raises(UserError, match="merges 'a' and 'b'"):
        from_byte_level(["a", "b"], ["a b"], [], "gpt-2")


def test_smollm_cuts_digits_apart():
    tokens = [*tokenizers.pre_tokenizers.ByteLevel.alphabet(), "12", "ab", "<|endoftext|>"]
    for name, number in (("gpt-2", ["12"]), ("smollm", ["1", "2"])):
        library = tokenizers.Tokenizer.from_str(from_byte_level(tokens, ["1 2", "a b"], [258], name))
        assert library.encode("12ab").tokens == [*number, "ab"]
