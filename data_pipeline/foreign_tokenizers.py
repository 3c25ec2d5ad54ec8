"""Other people's vocabularies behind our interface: Hugging Face tokenizer.json files and OpenAI's tiktoken ranks.

A pretrained model comes with its tokenizer, and GPT-4's 100,277 symbols are worth looking at. The `tokenizers` and
`tiktoken` libraries do the encoding (`pip install "trivium[tokenizers]"`). What is ours is keeping the two promises of
`tokenizer.py`: text is never changed, and never becomes a special token.
"""

import base64
import gzip
import hashlib
import json
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data_pipeline.errors import UserError
from data_pipeline.special_tokens import DOCUMENT_START, SPECIAL_TOKENS
from data_pipeline.tokenizer import (
    SPACE_MARK,
    Tokenizer,
    Vocabulary,
    encode_around_space_mark,
    metaspace_bytes,
    require_unicode,
    write_file,
)

if TYPE_CHECKING:
    import tokenizers

# Bytes that a byte-level vocabulary may lack: control characters, and what begins the planes of Unicode that hold nothing yet.
# (SmolLM's lacks eight of them.) A text with one is refused.
RARE_BYTES = frozenset({*range(0x20), 0x7F, 0xF1, 0xF2}) - set(b"\t\n\r")
NEVER_BYTES = frozenset({0xC0, 0xC1, *range(0xF5, 0x100)})  # in no UTF-8

# What other projects call the token before a document, ours first (a vocabulary may have been exported from here).
DOCUMENT_STARTS = (DOCUMENT_START, "<|begin_of_text|>", "<|endoftext|>", "<s>", "<bos>")


@dataclass(frozen=True)
class ForeignTokenizer:
    """A tokenizer from elsewhere. Follows `Tokenizer`.

    `encode_one` and `encode_batch` are the library's, without special tokens. `space_mark_ids` are the byte tokens of
    U+2581 where the vocabulary writes a space as that character, None where it does not.
    """

    encode_one: Callable[[str], list[int]]
    encode_batch: Callable[[list[str]], list[list[int]]]
    vocabulary: Vocabulary
    special_tokens: dict[str, int]
    file_name: str
    contents: bytes
    space_mark_ids: list[int] | None = None
    unwritable: frozenset[int] = frozenset()  # bytes that no token stands for

    @property
    def vocab_size(self) -> int:
        """V: see `Tokenizer`."""
        return len(self.vocabulary)

    @property
    def document_start(self) -> int:
        """The id that this vocabulary writes before a document."""
        return self.special_tokens[DOCUMENT_START]

    @property
    def fingerprint(self) -> str:
        """sha256 (hex) of the file, decompressed."""
        return hashlib.sha256(self.contents).hexdigest()

    def _require_writable(self, text: str) -> None:
        require_unicode(text)
        if self.unwritable and not self.unwritable.isdisjoint(text.encode()):
            character = next(c for c in text if not self.unwritable.isdisjoint(c.encode()))
            raise UserError(
                f"the text holds U+{ord(character):04X}, for which this vocabulary has no token, at character "
                f"{text.index(character):,}; remove or replace it"
            )

    def encode(self, text: str) -> list[int]:
        """The ids of a text, never a special token. Raises `UserError` on what is not text or has no tokens."""
        self._require_writable(text)
        if self.space_mark_ids is None:
            return self.encode_one(text)
        return encode_around_space_mark(text, self.encode_one, self.space_mark_ids)

    def encode_many(self, texts: Iterable[str]) -> list[list[int]]:
        """`encode` of each text, in the library's threads."""
        batch = list(texts)
        for text in batch:
            self._require_writable(text)
        encoded = self.encode_batch(batch)
        if self.space_mark_ids is None:
            return encoded
        return [self.encode(text) if SPACE_MARK in text else ids for text, ids in zip(batch, encoded, strict=True)]

    def decode(self, ids: Iterable[int]) -> str:
        """The text of the ids, special tokens left out."""
        return self.vocabulary.decode(ids)

    def token_bytes(self, token: int) -> bytes:
        """The bytes of one id; b"" for a special or unused id."""
        return self.vocabulary.token_bytes(token)

    def piece(self, token: int) -> str:
        """A token for showing."""
        return self.vocabulary.piece(token)

    def save(self, directory: Path) -> Path:
        """Write the file, decompressed, into a folder and return its path."""
        return write_file(directory / self.file_name, self.contents)


def load_huggingface(path: Path) -> ForeignTokenizer:
    """Read a tokenizer.json: byte-level BPE (GPT-2, Llama 3, Qwen) or BPE with byte fallback (Llama 2, Mistral).

    Its ids are those of `tokenizers` itself, with these differences, which the two promises ask for:
    - Added tokens are never made from text, whether or not the file flags them as special. The few vocabularies that
      keep runs of spaces as added tokens (Pythia, Gemma) spell such runs with more tokens here.
    - No space is added before the text (Llama 2 does; write the space yourself for its ids), no Unicode composition.
    - Nothing is added around the text: document starts are written by id.

    Raises `UserError` for a file that is damaged, of another kind, or has no token to start a document.
    """
    return _huggingface(path.read_bytes(), path)


def with_special_tokens(tokenizer: Tokenizer) -> Tokenizer:
    """The same vocabulary with those of our special tokens that it lacks added at its end, in their order.

    `save` and `load_tokenizer` keep them. The model needs rows of embedding for them: the ids from `tokenizer.vocab_size`
    on. A vocabulary that has them all is returned as it is. Raises `UserError` where the file's format has no place for them.
    """
    missing = [name for name in SPECIAL_TOKENS if name not in tokenizer.special_tokens]
    if not missing:
        return tokenizer
    if not isinstance(tokenizer, ForeignTokenizer) or tokenizer.file_name != "tokenizer.json":
        raise UserError("special tokens can only be added to a tokenizer.json: take this vocabulary in that format")
    definition = json.loads(tokenizer.contents)
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    definition["added_tokens"] = [
        *definition.get("added_tokens", []),
        *({"id": token, "content": name, **flags} for token, name in enumerate(missing, tokenizer.vocab_size)),
    ]
    return _huggingface(json.dumps(definition, ensure_ascii=False).encode(), Path(tokenizer.file_name))


def _huggingface(contents: bytes, path: Path) -> ForeignTokenizer:
    try:
        import tokenizers
    except ModuleNotFoundError:
        raise missing_library("tokenizers", path) from None
    try:
        original = tokenizers.Tokenizer.from_buffer(contents)
    except Exception as error:  # the library raises nothing narrower
        raise UserError(f"{path} is not a Hugging Face tokenizer.json, or it is damaged: {error}") from None
    definition = json.loads(original.to_str())  # the library's own writing: older files lack fields, or differ in form
    model = definition["model"]
    vocab: dict[str, int] = model.get("vocab", {})
    byte_level = "ByteLevel" in json.dumps(definition["pre_tokenizer"])
    if model["type"] != "BPE" or not (byte_level or model["byte_fallback"]):
        raise UserError(
            f"{path}: this is a {model['type']} vocabulary that cannot write every byte; use byte-level BPE"
        )
    special = {token["content"]: token["id"] for token in definition["added_tokens"]}
    special |= {name: vocab[name] for name in (*SPECIAL_TOKENS, *DOCUMENT_STARTS) if name in vocab}
    start = next((special[name] for name in DOCUMENT_STARTS if name in special), None)
    if start is None:
        raise UserError(f"{path}: no token starts a document in this vocabulary; it needs one of {DOCUMENT_STARTS}")
    encoder = tokenizers.Tokenizer.from_str(json.dumps(text_only(definition, special)))
    piece_bytes = byte_level_bytes if byte_level else metaspace_bytes
    bytes_by_id = [b""] * (max([*vocab.values(), *special.values()]) + 1)
    for piece, token in vocab.items():
        if piece not in special:
            bytes_by_id[token] = piece_bytes(piece)
    missing = frozenset(byte for piece, byte in BYTE_OF.items() if piece not in vocab) - NEVER_BYTES
    return ForeignTokenizer(
        encode_one=partial(encode_huggingface, encoder),
        encode_batch=partial(encode_huggingface_batch, encoder),
        vocabulary=Vocabulary(bytes_by_id, {token: name for name, token in special.items()}),
        special_tokens={name: special[name] for name in SPECIAL_TOKENS if name in special} | {DOCUMENT_START: start},
        file_name="tokenizer.json",
        contents=contents,
        space_mark_ids=None if byte_level else [vocab.get(f"<0x{byte:02X}>", 0) for byte in SPACE_MARK.encode()],
        unwritable=missing if byte_level and missing <= RARE_BYTES else frozenset(),
    )


def encode_huggingface(encoder: "tokenizers.Tokenizer", text: str) -> list[int]:
    """The ids of one text."""
    return encoder.encode(text, add_special_tokens=False).ids


def encode_huggingface_batch(encoder: "tokenizers.Tokenizer", texts: list[str]) -> list[list[int]]:
    """The ids of each text, in threads."""
    return [encoding.ids for encoding in encoder.encode_batch_fast(texts, add_special_tokens=False)]


def text_only(definition: dict[str, Any], special: dict[str, int]) -> dict[str, Any]:
    """A tokenizer.json that reads text and nothing but text.

    Special tokens are taken out of the added tokens, of the vocabulary and of the merges: what a vocabulary does not
    hold, no text can become.
    """
    model = definition["model"]
    merges = [pair for pair in model["merges"] if special.keys().isdisjoint([*pair, "".join(pair)])]
    vocab = {piece: token for piece, token in model["vocab"].items() if piece not in special}
    return definition | {
        "model": model | {"vocab": vocab, "merges": merges, "unk_token": None, "dropout": None},
        "added_tokens": [],
        "normalizer": unchanging(definition["normalizer"]),
        "pre_tokenizer": unchanging(definition["pre_tokenizer"]),
        "post_processor": None,
        "truncation": None,
        "padding": None,
    }


def unchanging(step: dict[str, Any] | None) -> dict[str, Any] | None:
    """A normaliser or pre-tokenizer without an added first space and without Unicode composition."""
    if step is None or step["type"] in ("Prepend", "NFC"):
        return None
    if step["type"] == "Sequence":
        parts = "normalizers" if "normalizers" in step else "pretokenizers"
        return step | {parts: [part for part in map(unchanging, step[parts]) if part is not None]}
    no_first_space = {"add_prefix_space": False, "prepend_scheme": "never"}
    return step | {name: value for name, value in no_first_space.items() if name in step}


def byte_level_alphabet() -> dict[str, int]:
    """GPT-2's writing of bytes as visible characters: Latin-1 where it can be seen, else the next from U+0100 on."""
    visible = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    hidden = [byte for byte in range(256) if byte not in visible]
    return {chr(byte): byte for byte in visible} | {chr(0x100 + i): byte for i, byte in enumerate(hidden)}


BYTE_OF = byte_level_alphabet()


def byte_level_bytes(piece: str) -> bytes:
    """The bytes of a piece in GPT-2's writing. A piece in other characters is one that no text becomes: its UTF-8."""
    return bytes(BYTE_OF[c] for c in piece) if BYTE_OF.keys() >= set(piece) else piece.encode()


@dataclass(frozen=True)
class Encoding:
    """What OpenAI publishes of an encoding besides its ranks, and the sha256 of the ranks file."""

    sha256: str
    pattern: str
    special_tokens: dict[str, int]


GPT2_PATTERN = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s"

# From tiktoken 0.14 (openai_public.py): a tokenizer is its ranks and these, so they are quoted as published.
ENCODINGS = {
    "r50k_base": Encoding(
        "306cd27f03c1a714eca7108e03d66b7dc042abe8c258b44c199a7ed9838dd930", GPT2_PATTERN, {"<|endoftext|>": 50256}
    ),
    "p50k_base": Encoding(
        "94b5ca7dff4d00767bc256fdd1b27e5b17361d7b8a5f968547f9f23eb70d2069", GPT2_PATTERN, {"<|endoftext|>": 50256}
    ),
    "cl100k_base": Encoding(
        "223921b76ee99bde995b7ff738513eef100fb51d18c93597a113bcffe865b2a7",
        r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+|\s++$"
        r"|\s*[\r\n]|\s+(?!\S)|\s",
        {
            "<|endoftext|>": 100257,
            "<|fim_prefix|>": 100258,
            "<|fim_middle|>": 100259,
            "<|fim_suffix|>": 100260,
            "<|endofprompt|>": 100276,
        },
    ),
    "o200k_base": Encoding(
        "446a9538cb6c348e3516120d7c08b09f57c36495e2acfffe59a5bf8b0cfb1a2d",
        r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
        r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
        r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+",
        {"<|endoftext|>": 199999, "<|endofprompt|>": 200018},
    ),
}


def load_tiktoken(path: Path) -> ForeignTokenizer:
    """Read OpenAI's ranks, `NAME.tiktoken` or `NAME.tiktoken.gz` with NAME one of `ENCODINGS`; cl100k_base is GPT-4's.

    GPT-4's 100,277 symbols are the ids 0 to 100,276: 100,256 ranks (0 to 100,255), 5 special tokens, and 16 ids that
    nothing uses. Raises `UserError` for an encoding not known here, and for ranks that are not OpenAI's by sha256.
    """
    name = path.name.removesuffix(".gz").removesuffix(".tiktoken")
    if name not in ENCODINGS:
        raise UserError(f"{path}: ranks are known by their file name: {', '.join(f'{n}.tiktoken' for n in ENCODINGS)}")
    try:
        import tiktoken
    except ModuleNotFoundError:
        raise missing_library("tiktoken", path) from None
    contents = path.read_bytes()
    if path.name.endswith(".gz"):
        try:
            contents = gzip.decompress(contents)
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise UserError(f"{path} is not gzip, or it is damaged: {error}; fetch it again") from None
    encoding = ENCODINGS[name]
    if hashlib.sha256(contents).hexdigest() != encoding.sha256:
        raise UserError(f"{path} is not OpenAI's {name}: its sha256 differs; fetch it again")
    ranks = {base64.b64decode(token): int(rank) for token, rank in map(bytes.split, contents.splitlines())}
    library = tiktoken.Encoding(
        name, pat_str=encoding.pattern, mergeable_ranks=ranks, special_tokens=encoding.special_tokens
    )
    bytes_by_id = [b""] * library.n_vocab
    for token, rank in ranks.items():
        bytes_by_id[rank] = token
    return ForeignTokenizer(
        encode_one=library.encode_ordinary,
        encode_batch=library.encode_ordinary_batch,
        vocabulary=Vocabulary(bytes_by_id, {token: name for name, token in encoding.special_tokens.items()}),
        special_tokens={DOCUMENT_START: encoding.special_tokens["<|endoftext|>"]},
        file_name=f"{name}.tiktoken",
        contents=contents,
    )


def missing_library(name: str, path: Path) -> UserError:
    """What to tell a user who lacks the optional libraries."""
    return UserError(f'reading {path} needs the {name} package: pip install "trivium[tokenizers]"')
