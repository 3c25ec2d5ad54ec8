"""Other people's tokenizers: the same ids as their libraries, and the same two promises as ours."""

import base64
import gzip
import hashlib
import json
import pickle
import pydoc_data.topics
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_pipeline.errors import UserError
from data_pipeline.foreign_tokenizers import BYTE_OF, ENCODINGS, with_special_tokens
from data_pipeline.special_tokens import DOCUMENT_START, SPECIAL_TOKENS, USER_START
from data_pipeline.tokenizer import find_tokenizer, load_tokenizer

tokenizers = pytest.importorskip("tokenizers", reason='needs pip install "trivium[tokenizers]"')
tiktoken = pytest.importorskip("tiktoken", reason='needs pip install "trivium[tokenizers]"')

DATA = Path(__file__).resolve().parents[2].parent / "shared" / "data"
TOPICS = list(pydoc_data.topics.topics.values())
SPECIAL = ["<|endoftext|>", USER_START, "<unk>", "<s>"]
ADDED = [" <tool_call>", "<think>", "hello"]
NASTY = (
    *SPECIAL,
    *ADDED,
    *("<|fim_prefix|>", "<|endofprompt|>", "<0x41>", "<0x0A>", "\u2581", " \u2581 ", "\u2581the", "\u0120", "\u010a"),
    *(
        "\n",
        "\r\n",
        "\t",
        "\0",
        " ",
        "   ",
        "\u2028",
        "\ufeff",
        "e\u0301",
        "é",
        "ﬁ",
        "漢字",
        "👩‍👩‍👧",
        "don't",
        "12345",
    ),
)
texts = st.lists(st.one_of(st.text(), st.sampled_from(NASTY), st.sampled_from(["The", " list", " hello"]))).map("".join)


def shared(path):
    if not (DATA / path).exists():
        pytest.skip(f"needs {path} in {DATA}, which holds real ranks and vocabularies for tests")
    return DATA / path


def byte_level_definition():
    """A tokenizer.json in GPT-2's manner, with every habit that would change a text or make a marker of it."""
    library = tokenizers.Tokenizer(tokenizers.models.BPE())
    library.normalizer = tokenizers.normalizers.NFC()
    library.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=True)
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=1000,
        special_tokens=SPECIAL,
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    library.train_from_iterator(TOPICS, trainer)
    library.add_tokens(ADDED)
    library.post_processor = tokenizers.processors.TemplateProcessing(
        single="<|endoftext|> $A", special_tokens=[("<|endoftext|>", library.token_to_id("<|endoftext|>"))]
    )
    library.enable_truncation(5)
    return json.loads(library.to_str())


def byte_fallback_definition():
    """A tokenizer.json in Llama 2's manner: "\u2581" for a space, one added in front, "<0x0A>" for bytes."""
    library = tokenizers.Tokenizer(tokenizers.models.BPE())
    library.normalizer = tokenizers.normalizers.Sequence(
        [tokenizers.normalizers.Prepend("\u2581"), tokenizers.normalizers.Replace(" ", "\u2581")]
    )
    pieces = [f"<0x{byte:02X}>" for byte in range(256)]
    library.train_from_iterator(
        [word for text in TOPICS for word in text.replace("\n", " ").replace(" ", "\n ").split("\n")],
        tokenizers.trainers.BpeTrainer(vocab_size=1000, special_tokens=["<unk>", *pieces, "<s>"], show_progress=False),
    )
    definition = json.loads(library.to_str())
    definition["added_tokens"] = [t for t in definition["added_tokens"] if t["content"] not in pieces]
    definition["model"] |= {"byte_fallback": True, "fuse_unk": True, "unk_token": "<unk>"}
    return definition


def written(folder, definition):
    path = folder / "tokenizer.json"
    path.write_text(json.dumps(definition))
    return path


@pytest.fixture(scope="module", params=["byte_level", "byte_fallback", "cl100k_base"])
def tokenizer(request, tmp_path_factory):
    if request.param == "cl100k_base":
        return load_tokenizer(shared("tiktoken_ranks/cl100k_base.tiktoken.gz"))
    definition = byte_level_definition() if request.param == "byte_level" else byte_fallback_definition()
    return load_tokenizer(written(tmp_path_factory.mktemp(request.param), definition))


@given(text=texts)
@settings(max_examples=150, deadline=None)
def test_any_text_comes_back_and_never_as_a_special_token(tokenizer, text):
    ids = tokenizer.encode(text)
    assert b"".join(map(tokenizer.token_bytes, ids)) == text.encode()
    assert tokenizer.decode(ids) == text
    assert not tokenizer.vocabulary.special_names.keys() & set(ids)
    assert tokenizer.encode_many([text, "x"]) == [ids, tokenizer.encode("x")]


def test_special_tokens(tokenizer):
    start = tokenizer.document_start
    assert tokenizer.piece(start) in ("<|endoftext|>", "<s>")
    assert tokenizer.token_bytes(start) == b""
    assert tokenizer.special_tokens[DOCUMENT_START] == start
    assert tokenizer.decode([start, *tokenizer.encode("a b"), start]) == "a b"
    with pytest.raises(UserError, match="lone surrogate"):
        tokenizer.encode("\udfff")


def test_saved_and_pickled_tokenizers_are_the_same(tokenizer, tmp_path):
    saved = tokenizer.save(tmp_path)
    assert find_tokenizer(tmp_path) == saved
    assert hashlib.sha256(saved.read_bytes()).hexdigest() == tokenizer.fingerprint
    for again in (load_tokenizer(saved), pickle.loads(pickle.dumps(tokenizer))):
        assert again.fingerprint == tokenizer.fingerprint
        assert again.encode("some text \u2581") == tokenizer.encode("some text \u2581")


@pytest.mark.parametrize("definition", [byte_level_definition, byte_fallback_definition])
def test_our_special_tokens_are_added_at_the_end(definition, tmp_path):
    tokenizer = load_tokenizer(written(tmp_path, definition()))
    extended = with_special_tokens(tokenizer)
    missing = [name for name in SPECIAL_TOKENS if name not in tokenizer.special_tokens]
    assert len(missing) > 5
    assert extended.vocab_size == tokenizer.vocab_size + len(missing)
    assert [extended.special_tokens[name] for name in missing] == list(range(tokenizer.vocab_size, extended.vocab_size))
    assert extended.document_start == tokenizer.document_start
    assert extended.special_tokens.items() >= tokenizer.special_tokens.items()
    assert extended.fingerprint != tokenizer.fingerprint
    text = "Hello " + "".join(NASTY) + "".join(SPECIAL_TOKENS)
    assert extended.encode(text) == tokenizer.encode(text)
    again = load_tokenizer(extended.save(tmp_path))
    assert again.special_tokens == extended.special_tokens
    assert again.vocabulary == extended.vocabulary
    assert again.fingerprint == extended.fingerprint
    assert with_special_tokens(again) is again
    library = tokenizers.Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    assert [library.token_to_id(name) for name in missing] == [extended.special_tokens[name] for name in missing]


def test_special_tokens_are_not_added_to_ranks():
    ranks = load_tokenizer(shared("tiktoken_ranks/cl100k_base.tiktoken.gz"))
    with pytest.raises(UserError, match=r"can only be added to a tokenizer.json"):
        with_special_tokens(ranks)


def test_byte_level_agrees_with_the_library(tmp_path):
    definition = byte_level_definition()
    tokenizer = load_tokenizer(written(tmp_path, definition))
    definition["pre_tokenizer"]["add_prefix_space"] = False
    definition["truncation"] = None
    library = tokenizers.Tokenizer.from_str(json.dumps(definition))
    for text in TOPICS[:20]:
        assert not any(marker in text for marker in (*SPECIAL, *ADDED))
        assert tokenizer.encode(text) == library.encode(text, add_special_tokens=False).ids
    assert tokenizer.vocab_size == library.get_vocab_size()
    assert tokenizer.special_tokens == {name: library.token_to_id(name) for name in (USER_START,)} | {
        DOCUMENT_START: library.token_to_id("<|endoftext|>")
    }
    # The library does make special tokens of text: the promise is not empty.
    assert library.token_to_id("<think>") in library.encode("a<think>b").ids


def test_byte_fallback_agrees_with_the_library(tmp_path):
    path = written(tmp_path, byte_fallback_definition())
    tokenizer, library = load_tokenizer(path), tokenizers.Tokenizer.from_file(str(path))
    for text in (*TOPICS[:5], "é漢字\n\n", "a  b"):
        assert tokenizer.encode(" " + text) == library.encode(text).ids, "the library adds the first space itself"
    assert [tokenizer.token_bytes(t) for t in tokenizer.encode("\u2581\n")] == [b"\xe2", b"\x96", b"\x81", b"\n"]


def test_byte_level_alphabet_is_the_library_s():
    assert set(BYTE_OF) == set(tokenizers.pre_tokenizers.ByteLevel.alphabet())
    byte_level = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    for character in map(chr, [*range(0x800), 0xFFFD, 0x1F600, 0x10FFFF]):
        [(written, _)] = byte_level.pre_tokenize_str(character)
        assert bytes(BYTE_OF[c] for c in written) == character.encode()


def test_an_ordinary_word_made_an_added_token_is_spelled_out(tmp_path):
    """The hard case: the marker is in the vocabulary, merges lead to it, and whole words are looked up first."""
    definition = byte_level_definition()
    word = "class"
    token = definition["model"]["vocab"][word]
    definition["model"]["ignore_merges"] = True
    before = load_tokenizer(written(tmp_path, definition))
    assert token in before.encode(word)
    definition["added_tokens"].append(definition["added_tokens"][0] | {"id": token, "content": word, "special": False})
    definition["added_tokens"].sort(key=lambda added: added["id"])
    after = load_tokenizer(written(tmp_path, definition))
    ids = after.encode(f"{word} {word}")
    assert token not in ids
    assert after.decode(ids) == f"{word} {word}"
    assert (after.piece(token), after.token_bytes(token)) == (word, b"")


def test_unusable_tokenizer_json_is_refused_in_one_line(tmp_path):
    good = byte_level_definition()
    lower = good | {"normalizer": {"type": "Lowercase"}}
    no_start = good | {"added_tokens": [], "post_processor": None}
    no_start["model"] = good["model"] | {"vocab": {k: v for k, v in good["model"]["vocab"].items() if k not in SPECIAL}}
    word_piece = tokenizers.Tokenizer(tokenizers.models.WordPiece({"[UNK]": 0, "a": 1}, unk_token="[UNK]"))
    few_bytes = tokenizers.Tokenizer(tokenizers.models.BPE())
    few_bytes.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel()
    few_bytes.train_from_iterator(
        ["only these letters"],
        tokenizers.trainers.BpeTrainer(vocab_size=50, special_tokens=["<s>"], show_progress=False),
    )
    for contents, said in [
        ("", "not a Hugging Face tokenizer.json"),
        ("{}", "not a Hugging Face tokenizer.json"),
        ('["a"]', "not a Hugging Face tokenizer.json"),
        (json.dumps(good)[:-100], "not a Hugging Face tokenizer.json"),
        (word_piece.to_str(), "WordPiece vocabulary"),
        (json.dumps(lower), "changes the text"),
        (few_bytes.to_str(), "changes the text"),
        (json.dumps(no_start), "no token starts a document"),
    ]:
        path = tmp_path / "tokenizer.json"
        path.write_text(contents)
        with pytest.raises(UserError, match=said) as caught:
            load_tokenizer(path)
        assert str(path) in str(caught.value)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("library", "name"), [("tokenizers", "tokenizer.json"), ("tiktoken", "r50k_base.tiktoken")])
def test_missing_library_says_what_to_install(tmp_path, monkeypatch, library, name):
    (tmp_path / name).write_text("{}")
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(UserError, match=r'pip install "trivium\[tokenizers\]"'):
        load_tokenizer(tmp_path / name)


# --- tiktoken


def test_gpt4_has_100277_symbols_and_says_hello_world():
    tokenizer = load_tokenizer(shared("tiktoken_ranks/cl100k_base.tiktoken.gz"))
    assert tokenizer.encode("hello world") == [15339, 1917]
    assert tokenizer.vocab_size == 100_277
    named = [token for token in range(100_277) if tokenizer.piece(token)]
    assert len(named) == 100_256 + 5, "ranks and special tokens; the other 16 ids are unused"
    assert tokenizer.document_start == 100_257
    assert tokenizer.encode("<|endoftext|>") == [27, 91, 8862, 728, 428, 91, 29]


@pytest.mark.parametrize("name", ENCODINGS)
def test_encodings_are_those_of_tiktoken(monkeypatch, name):
    from tiktoken_ext import openai_public

    hashes = []
    monkeypatch.setattr(
        openai_public, "load_tiktoken_bpe", lambda url, expected_hash: hashes.append(expected_hash) or {}
    )
    published = openai_public.ENCODING_CONSTRUCTORS[name]()
    assert ENCODINGS[name].pattern == published["pat_str"]
    assert ENCODINGS[name].special_tokens == published["special_tokens"]
    assert [ENCODINGS[name].sha256] == hashes


def test_gpt4_agrees_with_tiktoken_s_own(monkeypatch, tmp_path):
    """The library reads the ranks itself, from its cache: a file named after the sha1 of the address."""
    path = shared("tiktoken_ranks/cl100k_base.tiktoken.gz")
    address = "https://openaipublic.blob.core.windows.net/encodings/cl100k_base.tiktoken"
    (tmp_path / hashlib.sha1(address.encode()).hexdigest()).write_bytes(gzip.decompress(path.read_bytes()))
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path))
    library, tokenizer = tiktoken.get_encoding("cl100k_base"), load_tokenizer(path)
    for text in (*TOPICS[:20], *NASTY, "".join(NASTY)):
        ids = tokenizer.encode(text)
        assert ids == library.encode(text, disallowed_special=())
        assert list(map(tokenizer.token_bytes, ids)) == library.decode_tokens_bytes(ids)
    assert tokenizer.vocab_size == library.n_vocab


def test_gpt2_ranks_agree_with_gpt2_s_merges():
    """Two files and two libraries, one tokenizer: OpenAI's ranks, and the vocabulary released with GPT-2."""
    folder = shared("gpt2_tokenizer")
    ranks = load_tokenizer(shared("tiktoken_ranks/r50k_base.tiktoken.gz"))
    released = tokenizers.Tokenizer(
        tokenizers.models.BPE.from_file(str(folder / "encoder.json"), str(folder / "vocab.bpe"))
    )
    released.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    for text in TOPICS[:20]:
        assert ranks.encode(text) == released.encode(text).ids
    assert ranks.vocab_size == released.get_vocab_size() == 50_257


def test_unusable_ranks_are_refused(tmp_path):
    line = base64.b64encode(b"a") + b" 0\n"
    for name, contents, said in [
        ("mine.tiktoken", line, "known by their file name: r50k_base.tiktoken"),
        ("cl100k_base.tiktoken", line, "not OpenAI's cl100k_base"),
        ("cl100k_base.tiktoken.gz", line, "not gzip"),
        ("cl100k_base.tiktoken.gz", gzip.compress(line)[:-9], "not gzip, or it is damaged"),
    ]:
        (tmp_path / name).write_bytes(contents)
        with pytest.raises(UserError, match=said):
            load_tokenizer(tmp_path / name)
