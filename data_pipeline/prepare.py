"""From named sources to tokenized documents: read, train a tokenizer, tokenize, each once, kept under a cache folder.

    CACHE/tokenizers/KEY/tokenizer.model        a tokenizer trained on the training documents of these sources
    CACHE/documents/KEY/{train,validation}/     one source, tokenized (see `shards.py`), with its manifest
    CACHE/documents/KEY/set_aside.jsonl         rows that could not be used

A KEY is a hash of everything the result depends on, so a changed file or setting makes a new folder, and runs that share
data share the work.
"""

import hashlib
import itertools
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from data_pipeline.errors import UserError
from data_pipeline.locked import locked
from data_pipeline.repeats import check_repeats
from data_pipeline.school.world import SchoolConfig
from data_pipeline.school.world import check as check_school
from data_pipeline.set_aside import SetAside
from data_pipeline.shards import Manifest, TokenizedRecords, is_held_out, tokenize_documents
from data_pipeline.sources import read_documents, source_fingerprint
from data_pipeline.tokenizer import Tokenizer, load_tokenizer, train_tokenizer


@dataclass
class DocumentsConfig:
    """What is read in pretraining."""

    sources: tuple[str, ...] = ("school",)
    """school, pydoc, docstrings, tfds:NAME, or files: a path or a glob of text or JSONL, also .gz and .zst.

    paragraphs:SOURCE is any of them, cut at blank lines into short documents.
    """
    weights: tuple[float, ...] = ()
    """How often each source is drawn from, row by row; empty: every document once an epoch."""
    held_out: float = 0.1
    """The share of documents kept for validation, chosen by a hash of the text. (The school chooses its own.)"""
    tokenizer: str = ""
    """A tokenizer file or folder; empty: train one of `model.vocab_size` symbols on the training documents."""
    packing: str = "whole"
    """whole: documents that fit a row are never cut | split: rows are always full."""
    repeats: tuple[int, ...] = ()
    """How often an epoch reads the documents of each group: they are dealt into so many groups of the same size, by a hash
    of their ids. A group read 0 times is a control that nothing is learnt from. Empty: every document once."""
    school: SchoolConfig = field(default_factory=SchoolConfig)


@dataclass(frozen=True)
class PreparedDocuments:
    """Sources ready to be packed: one entry a source in `train` and in `validation`, in the order of `names`."""

    tokenizer: Tokenizer
    names: list[str]
    train: list[TokenizedRecords]
    validation: list[TokenizedRecords]
    fingerprints: dict[str, str]  # of each source, and of the tokenizer: they change when what a run would read does


def check_documents(config: DocumentsConfig) -> None:
    """Raise `UserError` for values that make no sense."""
    if not config.sources:
        raise UserError("data.sources is empty: name at least one source, such as school or a file")
    if repeated := {source for source in config.sources if config.sources.count(source) > 1}:
        raise UserError(
            f"data.sources names {', '.join(sorted(repeated))} twice: use data.weights to draw more from it"
        )
    if config.weights and len(config.weights) != len(config.sources):
        raise UserError(
            f"data.weights has {len(config.weights)} numbers for {len(config.sources)} data.sources: one for each, or none"
        )
    if not 0 <= config.held_out < 1:
        raise UserError(f"data.held_out={config.held_out}: a share, at least 0 and below 1")
    if config.packing not in ("whole", "split"):
        raise UserError(f"data.packing={config.packing!r}: choose whole or split")
    check_repeats(config.repeats)
    check_school(config.school)


def prepare(config: DocumentsConfig, vocab_size: int, cache: Path) -> PreparedDocuments:
    """Tokenize every source that is not in the cache yet. A killed preparation goes on where it was.

    Raises `UserError` when a source cannot be found or holds nothing, and when the tokenizer does not suit `vocab_size`.
    """
    fingerprints = [source_fingerprint(source, school=config.school) for source in config.sources]
    tokenizer = _tokenizer(config, fingerprints, vocab_size, cache)
    if tokenizer.vocab_size > vocab_size:
        raise UserError(
            f"the tokenizer {config.tokenizer} has {tokenizer.vocab_size} symbols and model.vocab_size is {vocab_size}: "
            f"set model.vocab_size to {tokenizer.vocab_size} or more"
        )
    folders = [tokenized(source, config.school, tokenizer, config.held_out, cache) for source in config.sources]
    return PreparedDocuments(
        tokenizer,
        list(config.sources),
        [TokenizedRecords(folder, "train") for folder in folders],
        [TokenizedRecords(folder, "validation") for folder in folders],
        {**dict(zip(config.sources, fingerprints, strict=True)), "the tokenizer": tokenizer.fingerprint},
    )


def tokenized(source: str, school: SchoolConfig, tokenizer: Tokenizer, held_out: float, cache: Path) -> Path:
    """The folder of a source's documents in tokens, made if it is not there yet."""
    fingerprint = source_fingerprint(source, school=school)
    folder = cache / "documents" / cache_key(fingerprint, tokenizer.fingerprint, held_out)
    set_aside = SetAside(folder / "set_aside.jsonl")
    manifest = tokenize_documents(
        read_documents(source, school=school, set_aside=set_aside),
        tokenizer,
        folder,
        held_out=held_out,
        source=fingerprint,  # not the name: the same files may be found by another path
        set_aside=set_aside,
    )
    print(_described(source, manifest, set_aside), flush=True)
    return folder


def _tokenizer(config: DocumentsConfig, fingerprints: list[str], vocab_size: int, cache: Path) -> Tokenizer:
    if config.tokenizer:
        return load_tokenizer(Path(config.tokenizer))
    folder = cache / "tokenizers" / cache_key(*fingerprints, config.held_out, vocab_size)
    return trained_tokenizer(_training_texts(config, folder), config.sources, vocab_size, folder)


def trained_tokenizer(texts: Iterator[str], sources: Sequence[str], vocab_size: int, folder: Path) -> Tokenizer:
    """The tokenizer in a folder of the cache; trained on `texts`, those of `sources` to learn from, if there is none yet.

    Raises `UserError` where there is no text.
    """
    path = folder / "tokenizer.model"
    if not path.exists():
        with locked(folder):
            if not path.exists():
                first = next(texts, None)
                if first is None:
                    raise UserError(
                        f"all of {', '.join(sources)} is held out for validation: lower data.held_out, or give more"
                    )
                train_tokenizer(itertools.chain([first], texts), vocab_size, path)
    return load_tokenizer(path)


def _training_texts(config: DocumentsConfig, folder: Path) -> Iterator[str]:
    """The texts that are not held out, a document of each source in turn."""

    def texts(number: int, source: str) -> Iterator[str]:
        set_aside = SetAside(folder / f"set_aside-{number}.jsonl")
        for document in read_documents(source, school=config.school, set_aside=set_aside):
            if not is_held_out(document, config.held_out):
                yield document.text

    return in_turn(texts(number, source) for number, source in enumerate(config.sources))


def in_turn(sources: Iterable[Iterator[str]]) -> Iterator[str]:
    """A text of each source in turn, until all have ended: so that a large one cannot hide a small one."""
    return (text for turn in itertools.zip_longest(*sources) for text in turn if text is not None)


def _described(source: str, manifest: Manifest, set_aside: SetAside) -> str:
    train, validation = manifest.train, manifest.validation
    return (
        f"{source}: {train.documents:,} documents ({train.text_bytes:,} bytes, {train.tokens:,} tokens) to learn from, "
        f"{validation.documents:,} ({validation.text_bytes:,} bytes) held out{set_aside_note(manifest, set_aside)}"
    )


def set_aside_note(manifest: Manifest, set_aside: SetAside) -> str:
    """The end of a line about a source: what of it was set aside, why and where; nothing where all was used."""
    if not manifest.set_aside:
        return ""
    reasons = ", ".join(f"{count} {reason}" for reason, count in manifest.set_aside.items())
    return f"; {sum(manifest.set_aside.values())} rows set aside ({reasons}) in {set_aside.path}"


def cache_key(*parts: object) -> str:
    """A name for what follows from `parts`, which JSON can write."""
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]
