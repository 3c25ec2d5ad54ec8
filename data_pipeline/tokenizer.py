"""Text to token ids and back, exactly: one interface, and behind it our own SentencePiece BPE or others' vocabularies.

Two promises hold for every tokenizer here, and the tests fuzz both:

- *Lossless.* The bytes of a text's tokens, joined, are the text's UTF-8 bytes: no normalisation, no added space, no
  unknown token. So bytes per token and bits per byte mean what they say.
- *Text is only text.* No text, whatever it contains, is encoded to a special token. Special tokens are written by id.
"""

import hashlib
import io
import os
import random
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import sentencepiece
from tqdm import tqdm

from data_pipeline.errors import UserError
from data_pipeline.special_tokens import DOCUMENT_START, SPECIAL_TOKENS

# SentencePiece writes a space as U+2581 ("▁") inside its pieces, so it reads a "▁" in a text as a space.
SPACE_MARK = "\u2581"

# The trainer sees text in chunks of about this many characters, cut at a newline or a space where there is one:
# SentencePiece drops what is longer than its `max_sentence_length`, and equal chunks make a fair sample.
CHUNK_CHARACTERS = 4096

# Larger corpora are sampled: 10,000 chunks are 41 million characters, enough for stable merges at the vocabulary sizes
# used here, while training takes seconds and under a gigabyte.
TRAINING_CHUNKS = 10_000

# Never merged into longer pieces. SentencePiece learns no newline by itself: without this every "\n" is a byte token.
WHITESPACE_SYMBOLS = ("\n", "\t")

# <unk>, which SentencePiece insists on and byte fallback never needs, our special tokens, "\n", "\t", and the bytes.
SMALLEST_VOCABULARY = 1 + len(SPECIAL_TOKENS) + len(WHITESPACE_SYMBOLS) + 256


class Tokenizer(Protocol):
    """What the rest of the project knows of a tokenizer. All ids are in [0, vocab_size)."""

    @property
    def vocab_size(self) -> int:
        """V: one more than the largest id, special and unused ids included."""

    @property
    def special_tokens(self) -> dict[str, int]:
        """Our names (`special_tokens.py`) to ids, as far as this tokenizer has them; always has `DOCUMENT_START`."""

    @property
    def vocabulary(self) -> "Vocabulary":
        """What every id stands for, with the names of all special tokens, other people's too."""

    @property
    def document_start(self) -> int:
        """The id written before every document."""

    @property
    def fingerprint(self) -> str:
        """sha256 (hex) of what defines the tokenizer: the contents of its file, decompressed."""

    def encode(self, text: str) -> list[int]:
        """The ids of a text, never a special token. Raises `UserError` on a lone surrogate, which is not text."""

    def encode_many(self, texts: Iterable[str]) -> list[list[int]]:
        """`encode` of each text, on several cores where the library can."""

    def decode(self, ids: Iterable[int]) -> str:
        """The text of the ids. Special tokens are left out; bytes that are not UTF-8 become U+FFFD."""

    def token_bytes(self, token: int) -> bytes:
        """The bytes that a token stands for; b"" for a special or unused id."""

    def piece(self, token: int) -> str:
        r"""A token for showing: a special token's name, else its text with stray bytes as `\xe2`."""

    def save(self, directory: Path) -> Path:
        """Write the tokenizer's file into a folder; `load_tokenizer` of the returned path gives it back."""


@dataclass(frozen=True)
class Vocabulary:
    """What every id stands for: `token_bytes[id]`, b"" if the id is special (then it has a name) or unused."""

    bytes_by_id: list[bytes]
    special_names: dict[int, str]

    def __len__(self) -> int:
        return len(self.bytes_by_id)

    def token_bytes(self, token: int) -> bytes:
        """The bytes of one id. Raises ValueError for an id outside the vocabulary."""
        if not 0 <= token < len(self.bytes_by_id):
            raise ValueError(f"token {token} is outside a vocabulary of {len(self.bytes_by_id):,}")
        return self.bytes_by_id[token]

    def decode(self, ids: Iterable[int]) -> str:
        """The text of the ids, special tokens left out, invalid UTF-8 replaced."""
        return b"".join([self.token_bytes(token) for token in ids]).decode("utf-8", errors="replace")

    def piece(self, token: int) -> str:
        r"""A special token's name, or the token's text with stray bytes as `\xe2`."""
        return self.special_names.get(token) or self.token_bytes(token).decode("utf-8", errors="backslashreplace")


class SentencePieceTokenizer:
    """A vocabulary trained by `train_tokenizer`. Follows `Tokenizer`."""

    def __init__(self, contents: bytes):
        """Read the bytes of a `.model` file. Raises ValueError if they are not a model with our special tokens."""
        if not contents:
            raise ValueError("it is empty")
        try:
            processor = sentencepiece.SentencePieceProcessor(model_proto=contents)
        except RuntimeError:
            raise ValueError("it is not a SentencePiece model, or it is damaged") from None
        pieces = [processor.id_to_piece(token) for token in range(len(processor))]
        control = {name: token for token, name in enumerate(pieces) if processor.is_control(token)}
        byte_tokens = {name: token for token, name in enumerate(pieces) if processor.is_byte(token)}
        if DOCUMENT_START not in control or len(byte_tokens) != 256:
            raise ValueError(
                f"it was not trained by this project (no {DOCUMENT_START}, or no byte tokens): read other people's "
                "vocabularies from a tokenizer.json"
            )
        self._contents = contents
        self._processor = processor
        self._space_mark_ids = [byte_tokens[f"<0x{byte:02X}>"] for byte in SPACE_MARK.encode()]
        self.special_tokens = {name: control[name] for name in SPECIAL_TOKENS if name in control}
        unknown = processor.unk_id()
        special_names = {token: name for name, token in control.items()} | {unknown: pieces[unknown]}
        self.vocabulary = Vocabulary(
            [b"" if token in special_names else metaspace_bytes(piece) for token, piece in enumerate(pieces)],
            special_names,
        )

    def __reduce__(self) -> tuple[type["SentencePieceTokenizer"], tuple[bytes]]:
        # Grain's worker processes receive the tokenizer pickled.
        return SentencePieceTokenizer, (self._contents,)

    @property
    def vocab_size(self) -> int:
        """V: see `Tokenizer`."""
        return len(self.vocabulary)

    @property
    def document_start(self) -> int:
        """The id of `<|document_start|>`."""
        return self.special_tokens[DOCUMENT_START]

    @property
    def fingerprint(self) -> str:
        """sha256 (hex) of the `.model` file."""
        return hashlib.sha256(self._contents).hexdigest()

    def encode(self, text: str) -> list[int]:
        """The ids of a text, never a special token. Raises `UserError` on a lone surrogate."""
        require_unicode(text)
        return encode_around_space_mark(text, self._processor.encode, self._space_mark_ids)

    def encode_many(self, texts: Iterable[str]) -> list[list[int]]:
        """`encode` of each text, in threads."""
        batch = list(texts)
        for text in batch:
            require_unicode(text)
        encoded = self._processor.encode(batch)
        return [self.encode(text) if SPACE_MARK in text else ids for text, ids in zip(batch, encoded, strict=True)]

    def decode(self, ids: Iterable[int]) -> str:
        """The text of the ids, special tokens left out."""
        return self.vocabulary.decode(ids)

    def token_bytes(self, token: int) -> bytes:
        """The bytes of one id; b"" for a special token."""
        return self.vocabulary.token_bytes(token)

    def piece(self, token: int) -> str:
        """A token for showing."""
        return self.vocabulary.piece(token)

    def save(self, directory: Path) -> Path:
        """Write `tokenizer.model` into a folder and return its path."""
        return write_file(directory / "tokenizer.model", self._contents)


def train_tokenizer(
    texts: Iterable[str], vocab_size: int, path: Path, *, chunks: int = TRAINING_CHUNKS
) -> SentencePieceTokenizer:
    """Train a byte-pair encoding (1508.07909) with byte fallback and our special tokens, and write it to `path`.

    The same texts in the same order give the same file, byte for byte. `chunks` bounds what training keeps in memory:
    a corpus of more than that many chunks of `CHUNK_CHARACTERS` is sampled, uniformly and always alike. The file
    appears whole or not at all.

    Raises `UserError` if there is no text, if `vocab_size` is more than the text can fill, or less than the bytes,
    the special tokens and the text's characters need.
    """
    if path.suffix != ".model":
        raise ValueError(f"{path}: load_tokenizer knows a SentencePiece model by its name, so it must end in .model")
    reading = tqdm(texts, desc="reading for the tokenizer", unit=" documents", delay=1, leave=False)
    sample, seen = sample_chunks(reading, chunks)
    if not sample:
        raise UserError("there is no text to train a tokenizer on: every document is empty; check the data source")
    characters = f"{sum(map(len, sample)):,} characters" + (f", a sample of {len(sample) / seen:.1%}" * (seen > chunks))
    print(f"training a tokenizer of {vocab_size:,} tokens on {characters}", file=sys.stderr, flush=True)
    model = train_sentencepiece(sample, vocab_size)
    tokenizer = SentencePieceTokenizer(model)
    write_file(path, model)
    return tokenizer


def train_sentencepiece(sample: list[str], vocab_size: int) -> bytes:
    """The bytes of a SentencePiece model trained on the sample; its complaints about vocab_size as `UserError`."""
    if vocab_size <= SMALLEST_VOCABULARY:
        raise UserError(
            f"model.vocab_size is {vocab_size:,}, too small: the 256 bytes and the special tokens alone take "
            f"{SMALLEST_VOCABULARY}; set --config.model.vocab_size=512 or more"
        )
    # A space that is too rare to get a piece would become the bytes of the space mark.
    rare = sum(text.count(" ") for text in sample) < 0.001 * sum(map(len, sample))
    symbols = (*WHITESPACE_SYMBOLS, SPACE_MARK) if rare else WHITESPACE_SYMBOLS
    model = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(sample),
            model_writer=model,
            model_type="bpe",
            vocab_size=vocab_size,
            byte_fallback=True,
            split_digits=True,
            # Text is kept as it is: nothing normalised, no space added or removed, runs of spaces (code) learnt.
            normalization_rule_name="identity",
            remove_extra_whitespaces=False,
            add_dummy_prefix=False,
            allow_whitespace_only_pieces=True,
            # Control symbols cannot be produced by text; user-defined ones can, and whitespace may.
            control_symbols=list(SPECIAL_TOKENS),
            user_defined_symbols=list(symbols),
            bos_id=-1,
            eos_id=-1,
            pad_id=-1,
            max_sentence_length=4 * CHUNK_CHARACTERS,  # in bytes
            minloglevel=2,
        )
    except RuntimeError as error:
        if found := re.search(r"size too high .* value <= (\d+)", str(error)):
            raise UserError(
                f"model.vocab_size is {vocab_size:,}, but this text fills a vocabulary of at most {int(found[1]):,}: "
                f"set --config.model.vocab_size={found[1]} or less, or train on more text"
            ) from None
        if found := re.search(r"smaller than required_chars\. \d+ vs (\d+)", str(error)):
            raise UserError(
                f"model.vocab_size is {vocab_size:,}, but the bytes, the special tokens and the characters of this "
                f"text alone take {int(found[1]):,}: set --config.model.vocab_size={found[1]} or more"
            ) from None
        raise
    return model.getvalue()


def sample_chunks(texts: Iterable[str], size: int) -> tuple[list[str], int]:
    """A uniform sample of at most `size` chunks, and how many there were (reservoir sampling, fixed seed)."""
    generator = random.Random(0)
    reservoir: list[str] = []
    seen = 0
    for chunk in chunks_of(texts):
        seen += 1
        if len(reservoir) < size:
            reservoir.append(chunk)
        elif (slot := generator.randrange(seen)) < size:
            reservoir[slot] = chunk
    return reservoir, seen


# A stretch of one line: as much as fits and ends before whitespace; failing that, as much as fits.
STRETCH = re.compile(rf"[^\n]{{1,{CHUNK_CHARACTERS}}}(?!\S)|[^\n]{{1,{CHUNK_CHARACTERS}}}")

# Characters that the trainer reserves: it reads U+2581 as a space, and skips sentences with U+2585 (its unknown mark).
# A newline ends a piece just as well, and both are still encoded, as bytes.
RESERVED = str.maketrans({SPACE_MARK: "\n", "\u2585": "\n"})


def chunks_of(texts: Iterable[str]) -> Iterator[str]:
    """The texts' lines, joined or cut to chunks of at most `CHUNK_CHARACTERS`; no token spans a newline anyway."""
    lines: list[str] = []
    length = 0
    for text in texts:
        require_unicode(text)
        for line in STRETCH.findall(text.translate(RESERVED)):
            if lines and length + len(line) > CHUNK_CHARACTERS:
                yield "\n".join(lines)
                lines, length = [], 0
            lines.append(line)
            length += len(line) + 1
    if lines:
        yield "\n".join(lines)


def load_tokenizer(path: Path) -> Tokenizer:
    """Read a tokenizer by its file name, or from a folder that one was saved in (a run's).

    `.model`: a vocabulary that `train_tokenizer` wrote. `.json`: a Hugging Face tokenizer.json. `.tiktoken` or
    `.tiktoken.gz`: OpenAI's ranks, named after their encoding (`cl100k_base.tiktoken`). The last two need
    `pip install "trivium[tokenizers]"`. Raises `UserError` for a file that is missing, damaged, of another kind, or
    whose tokenizer cannot give back every text it reads.
    """
    from data_pipeline import foreign_tokenizers  # it imports this module

    if path.is_dir():
        path = find_tokenizer(path)
    if not path.is_file():
        raise UserError(f"{path}: there is no such tokenizer file; check the path")
    tokenizer: Tokenizer
    if path.name.endswith(".model"):
        try:
            tokenizer = SentencePieceTokenizer(path.read_bytes())
        except ValueError as error:
            raise UserError(f"{path} cannot be used as a tokenizer: {error}") from None
    elif path.name.endswith(".json"):
        tokenizer = foreign_tokenizers.load_huggingface(path)
    elif path.name.endswith((".tiktoken", ".tiktoken.gz")):
        tokenizer = foreign_tokenizers.load_tiktoken(path)
    else:
        raise UserError(f"{path}: a tokenizer's file ends in .model, .json, .tiktoken or .tiktoken.gz")
    unwritable = tokenizer.unwritable if isinstance(tokenizer, foreign_tokenizers.ForeignTokenizer) else frozenset()
    require_lossless(tokenizer, path, unwritable)
    return tokenizer


def find_tokenizer(directory: Path) -> Path:
    """The file that `Tokenizer.save` wrote into a folder. Raises `UserError` if there is none."""
    for pattern in ("tokenizer.model", "tokenizer.json", "*.tiktoken"):
        if found := sorted(directory.glob(pattern)):
            return found[0]
    raise UserError(f"{directory} holds no tokenizer (tokenizer.model, tokenizer.json or *.tiktoken); check the path")


def require_unicode(text: str) -> None:
    """Raise `UserError` if the text holds a lone surrogate: half a character, which UTF-8 cannot write."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise UserError(
            f"the text is not valid Unicode: a lone surrogate U+{ord(text[error.start]):04X} at character "
            f"{error.start:,}, near {text[max(error.start - 20, 0) : error.start + 20]!r}; remove or replace it"
        ) from None


# Every byte that UTF-8 can hold, and what normalisers like to change: case, runs of spaces, accents, ligatures, width.
PROBE = "".join(
    [" Hello  world \r\n\t<0x41><unk><s>\u2581 e\u0301 \ufb01\uff21 ", *map(chr, range(0x800))]
    + [chr(k << 12) for k in range(1, 16) if k != 0xD]
    + [chr(0xD000), *(chr(k << 18) for k in range(1, 4)), chr(0x10000), chr(0x10FFFF), " "]
)


def require_lossless(tokenizer: Tokenizer, path: Path, unwritable: frozenset[int] = frozenset()) -> None:
    """Raise `UserError` if the tokenizer does not give back, byte for byte, a text of every kind of character.

    But for characters with `unwritable` bytes, which the tokenizer refuses to read.
    """
    probe = "".join(character for character in PROBE if unwritable.isdisjoint(character.encode()))
    if b"".join(map(tokenizer.token_bytes, tokenizer.encode(probe))) != probe.encode():
        raise UserError(
            f"{path}: this tokenizer changes the text it reads (a normaliser, or characters it does not know), so its "
            "tokens cannot give the text back; use a byte-level or byte-fallback BPE tokenizer"
        )


def metaspace_bytes(piece: str) -> bytes:
    """The bytes of a piece in SentencePiece's writing: "<0x0A>" is one byte, "\u2581" a space."""
    if BYTE_PIECE.fullmatch(piece):
        return bytes([int(piece[3:5], 16)])
    return piece.replace(SPACE_MARK, " ").encode()


BYTE_PIECE = re.compile("<0x[0-9A-F]{2}>")


def encode_around_space_mark(text: str, encode: Callable[[str], list[int]], space_mark_ids: list[int]) -> list[int]:
    """Encode what lies between the "\u2581" of a text, and write each "\u2581" as its three byte tokens."""
    ids: list[int] = []
    for i, part in enumerate(text.split(SPACE_MARK)):
        if i > 0:
            ids += space_mark_ids
        ids += encode(part)
    return ids


def write_file(path: Path, contents: bytes) -> Path:
    """Write a file whole or not at all (rename is atomic), making its folder. Returns the path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    partial.write_bytes(contents)
    return partial.replace(path)
