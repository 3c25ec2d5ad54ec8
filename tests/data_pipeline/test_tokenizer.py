"""Our own tokenizer: lossless on any text, blind to special tokens in text, deterministic to train."""

import hashlib
import io
import pickle
import pydoc_data.topics
import re

import pytest
import sentencepiece
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from data_pipeline.errors import UserError
from data_pipeline.special_tokens import DOCUMENT_START, SPECIAL_TOKENS, USER_START
from data_pipeline.tokenizer import (
    CHUNK_CHARACTERS,
    SMALLEST_VOCABULARY,
    chunks_of,
    find_tokenizer,
    load_tokenizer,
    sample_chunks,
    train_tokenizer,
)

NASTY = (
    *SPECIAL_TOKENS,
    *("<unk>", "<s>", "</s>", "<pad>", "<0x41>", "<0xE2>", "<|endoftext|>", "[INST]"),
    *("\u2581", " \u2581", "\u2581 ", "\u2581\u2581", "\u2581the", "\u2585", "\ufffd", "\ufeff", "\u2028", "\xa0"),
    *("\n", "\r\n", "\r", "\t", "\0", "\x1b[31m", " ", "  ", "        ", " \n ", "\n\n\n"),
    *("e\u0301", "é", "ﬁ", "漢字", "👩‍👩‍👧", "\U0010ffff", "2024", "1.5e-3", "    return x\n"),
)
texts = st.lists(st.one_of(st.text(), st.sampled_from(NASTY), st.sampled_from(["The", " list", "def f(x):"]))).map(
    "".join
)

TOPICS = list(pydoc_data.topics.topics.values())
CODE = ["class A:\n    def f(self):\n        if self:\n            return 1\n"] * 50
# A corpus that is full of our markers must not teach the tokenizer to read them.
MARKERS = [f"{name} hello {name}{name}\n <s> <unk> <0x41>" for name in SPECIAL_TOKENS] * 20


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.model"
    train_tokenizer(TOPICS + CODE + MARKERS, 2048, path)
    return path


@pytest.fixture(scope="module")
def tokenizer(path):
    return load_tokenizer(path)


@given(text=texts)
@settings(max_examples=300, deadline=None)
def test_any_text_comes_back_exactly(tokenizer, text):
    ids = tokenizer.encode(text)
    assert b"".join(map(tokenizer.token_bytes, ids)) == text.encode()
    assert tokenizer.decode(ids) == text


@given(text=texts)
@settings(max_examples=300, deadline=None)
def test_text_never_becomes_a_special_token(tokenizer, text):
    unknown = 0
    assert not {*tokenizer.special_tokens.values(), unknown} & set(tokenizer.encode(text))


@given(batch=st.lists(texts, max_size=5))
@settings(max_examples=50, deadline=None)
def test_many_texts_encode_as_one_by_one(tokenizer, batch):
    assert tokenizer.encode_many(iter(batch)) == [tokenizer.encode(text) for text in batch]


@given(text=texts.map(lambda text: text.replace("\u2581", "")))
@settings(max_examples=100, deadline=None)
def test_agrees_with_sentencepiece(tokenizer, path, text):
    library = sentencepiece.SentencePieceProcessor(model_file=str(path))
    assert tokenizer.encode(text) == library.encode(text)
    assert tokenizer.vocab_size == library.get_piece_size() == 2048


def test_space_mark_in_text_is_three_bytes(tokenizer, path):
    library = sentencepiece.SentencePieceProcessor(model_file=str(path))
    assert library.decode(library.encode("a\u2581b")) == "a b", "SentencePiece no longer needs the detour"
    ids = tokenizer.encode("a\u2581b")
    assert [tokenizer.token_bytes(token) for token in ids] == [b"a", b"\xe2", b"\x96", b"\x81", b"b"]


def test_special_tokens_are_reserved_and_written_by_id(tokenizer):
    assert list(tokenizer.special_tokens) == list(SPECIAL_TOKENS)
    assert list(tokenizer.special_tokens.values()) == list(range(1, 1 + len(SPECIAL_TOKENS)))
    assert tokenizer.document_start == tokenizer.special_tokens[DOCUMENT_START]
    for name, token in tokenizer.special_tokens.items():
        assert tokenizer.piece(token) == name
        assert tokenizer.token_bytes(token) == b""
    user = tokenizer.special_tokens[USER_START]
    assert tokenizer.decode([user, *tokenizer.encode("hi"), user]) == "hi"


def test_newlines_tabs_and_indentation_are_tokens(tokenizer):
    for text in ("\n", "\t", "  ", "    ", "        "):
        assert [tokenizer.token_bytes(token) for token in tokenizer.encode(text)] == [text.encode()]
    assert [tokenizer.piece(token) for token in tokenizer.encode("2024")] == list("2024")


def test_decode_and_piece_of_half_a_character(tokenizer):
    ids = tokenizer.encode("\u2581")
    assert tokenizer.decode(ids[:1]) == "\ufffd"
    assert tokenizer.piece(ids[0]) == r"\xe2"


@pytest.mark.parametrize("token", [-1, 2048])
def test_ids_outside_the_vocabulary_are_refused(tokenizer, token):
    with pytest.raises(ValueError, match="outside a vocabulary of 2,048"):
        tokenizer.decode([token])


def test_lone_surrogate_is_refused(tokenizer):
    for encode in (tokenizer.encode, lambda text: tokenizer.encode_many(["fine", text])):
        with pytest.raises(UserError, match=r"lone surrogate U\+D800 at character 2"):
            encode("ab\ud800c")


def test_saved_and_pickled_tokenizers_are_the_same(tokenizer, path, tmp_path):
    saved = tokenizer.save(tmp_path / "run")
    assert saved == find_tokenizer(tmp_path / "run")
    assert tokenizer.fingerprint == hashlib.sha256(path.read_bytes()).hexdigest()
    text = "some text \u2581"
    for again in (load_tokenizer(saved), load_tokenizer(tmp_path / "run"), pickle.loads(pickle.dumps(tokenizer))):
        assert again.fingerprint == tokenizer.fingerprint
        assert again.encode(text) == tokenizer.encode(text)


def test_training_twice_gives_the_same_file(tmp_path):
    corpus = [*TOPICS, "x" * 20_000]
    for chunks in (10_000, 20):
        a, b = tmp_path / f"a{chunks}.model", tmp_path / f"b{chunks}.model"
        train_tokenizer(iter(corpus), 600, a, chunks=chunks)
        train_tokenizer(iter(corpus), 600, b, chunks=chunks)
        assert a.read_bytes() == b.read_bytes()
    assert (tmp_path / "a20.model").read_bytes() != (tmp_path / "a10000.model").read_bytes()


def test_training_says_what_it_does_and_no_more(tmp_path, capfd):
    train_tokenizer(TOPICS, 600, tmp_path / "t.model")
    out, err = capfd.readouterr()
    assert out == ""
    assert re.fullmatch(r"training a tokenizer of 600 tokens on \d{3},\d{3} characters\n", err)
    train_tokenizer(TOPICS, 600, tmp_path / "t.model", chunks=20)
    assert re.search(r"characters, a sample of \d+\.\d%\n$", capfd.readouterr().err)
    assert [file.name for file in tmp_path.iterdir()] == ["t.model"], "a partial file was left behind"


def test_the_end_of_a_long_text_is_learnt(tmp_path):
    """A text far longer than SentencePiece's max_sentence_length, on one line and on many."""
    for filler in ("lorem ipsum dolor ", "lorem ipsum dolor\n"):
        tokenizer = train_tokenizer([filler * 5_000 + "quizzaciously " * 500], 317, tmp_path / "t.model")
        assert [tokenizer.piece(token) for token in tokenizer.encode(" quizzaciously")] == [" quizzaciously"]


@pytest.mark.parametrize("mark", ["\u2585", "\0", "\u2581"])
def test_characters_that_sentencepiece_reserves_hide_no_text(tmp_path, mark):
    """It skips sentences with U+2585 and reads U+2581 as a space. NUL, it takes."""
    tokenizer = train_tokenizer([f"lorem{mark}quizzaciously\n"] * 500, 300, tmp_path / "t.model")
    assert [tokenizer.piece(token) for token in tokenizer.encode("quizzaciously")] == ["quizzaciously"]
    assert " quizzaciously" not in map(tokenizer.piece, range(300))


@given(corpus=st.lists(texts | st.text("ab \n", min_size=CHUNK_CHARACTERS, max_size=3 * CHUNK_CHARACTERS), max_size=4))
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.data_too_large, HealthCheck.too_slow])
def test_chunks_lose_nothing_and_are_bounded(corpus):
    chunks = list(chunks_of(corpus))
    assert all(0 < len(chunk) <= CHUNK_CHARACTERS for chunk in chunks)

    def rest(texts):
        return re.sub("[\n\u2581\u2585]", "", "".join(texts))

    assert rest(chunks) == rest(corpus)


def test_chunks_cut_between_words_where_they_can():
    chunks = list(chunks_of(["abcdefg " * 2_000]))
    assert {word for chunk in chunks for word in chunk.split()} == {"abcdefg"}
    assert [len(chunk) for chunk in chunks_of(["x" * 10_000])] == [
        CHUNK_CHARACTERS,
        CHUNK_CHARACTERS,
        10_000 - 2 * CHUNK_CHARACTERS,
    ]


def test_sample_is_of_the_asked_size_and_from_everywhere():
    numbered = [f"{i} {'x' * (CHUNK_CHARACTERS - 10)}" for i in range(2_000)]
    sample, seen = sample_chunks(numbered, 400)
    numbers = [int(chunk.split()[0]) for chunk in sample]
    assert (len(set(numbers)), seen) == (400, 2_000)
    # The mean of 400 uniform draws out of 2,000 has a standard deviation of about 26.
    assert abs(sum(numbers) / 400 - 1_000) < 100
    assert sample_chunks(numbered[:5], 400) == (numbered[:5], 5)


def test_vocabulary_too_large_names_the_largest(tmp_path):
    path = tmp_path / "t.model"
    with pytest.raises(UserError, match=r"model\.vocab_size is 100,000, but .* at most") as caught:
        train_tokenizer(TOPICS[:3], 100_000, path)
    largest = int(re.search(r"--config\.model\.vocab_size=(\d+) or less", str(caught.value))[1])
    assert not path.exists()
    assert train_tokenizer(TOPICS[:3], largest, path).vocab_size == largest


@pytest.mark.parametrize("vocab_size", [-1, 0, SMALLEST_VOCABULARY, SMALLEST_VOCABULARY + 1])
def test_vocabulary_too_small_names_one_that_works(tmp_path, vocab_size):
    with pytest.raises(UserError, match=r"model\.vocab_size is .*alone take") as caught:
        train_tokenizer(TOPICS[:3], vocab_size, tmp_path / "t.model")
    enough = int(re.search(r"--config\.model\.vocab_size=(\d+) or more", str(caught.value))[1])
    assert train_tokenizer(TOPICS[:3], enough, tmp_path / "t.model").vocab_size == enough


@pytest.mark.parametrize("corpus", [[], [""], ["\n", "\n\n"]])
def test_empty_corpus_is_refused(tmp_path, corpus):
    with pytest.raises(UserError, match="no text to train"):
        train_tokenizer(corpus, 512, tmp_path / "t.model")


def foreign_model(**settings):
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(TOPICS[:20]), model_writer=model, minloglevel=2, max_sentence_length=10**6, **settings
    )
    return model.getvalue()


def test_unusable_files_are_refused_in_one_line(path, tmp_path):
    model = path.read_bytes()
    normalising = foreign_model(vocab_size=600, byte_fallback=True, control_symbols=[DOCUMENT_START], model_type="bpe")
    markers_in_text = foreign_model(vocab_size=600, byte_fallback=True, user_defined_symbols=[DOCUMENT_START])
    for name, contents, said in [
        ("missing.model", None, "no such tokenizer file"),
        ("empty.model", b"", "it is empty"),
        ("noise.model", b"not a model" * 100, "not a SentencePiece model"),
        ("cut.model", model[: len(model) // 2], "damaged|cannot give the text back|changes the text"),
        ("plain.model", foreign_model(vocab_size=300), "not trained by this project"),
        ("marker.model", markers_in_text, "not trained by this project"),
        ("nfkc.model", normalising, "changes the text"),
        ("tokenizer.txt", model, r"ends in \.model"),
    ]:
        if contents is not None:
            (tmp_path / name).write_bytes(contents)
        with pytest.raises(UserError, match=said) as caught:
            load_tokenizer(tmp_path / name)
        assert name in str(caught.value)
        assert "\n" not in str(caught.value)
    (tmp_path / "folder").mkdir()
    with pytest.raises(UserError, match="holds no tokenizer"):
        load_tokenizer(tmp_path / "folder")


def test_a_text_without_a_space_still_makes_a_vocabulary_that_has_one(tmp_path):
    tokenizer = train_tokenizer(["0110=1\n" * 500], SMALLEST_VOCABULARY + 4, tmp_path / "bits.model")
    assert tokenizer.decode(tokenizer.encode("01 10 = \u2581")) == "01 10 = \u2581"
    assert load_tokenizer(tmp_path / "bits.model").fingerprint == tokenizer.fingerprint
