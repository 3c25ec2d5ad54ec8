"""Where documents come from: one string names a source, and every source is an iterator of `Document`.

    school              the small world of `data_pipeline.school`
    dictionaries        word pairs, a dictionary of its own in each document: `data_pipeline.school.dictionaries`
    echoes              texts that say everything twice, of people made up for each: `data_pipeline.school.echoes`
    pydoc               the Python language reference, 0.47 MB of English that ships with CPython
    docstrings          the documentation strings of the standard library and of the installed packages
    tfds:NAME[:SPLIT]   a TensorFlow Dataset stored as ArrayRecord (split "train" unless named)
    a file or a glob    plain text, or .jsonl rows {"text": ..., "id": ...}; each also as .gz or .zst
    paragraphs:SOURCE   any of these, cut at blank lines into short documents, each text once

Every source can be read again and gives the same documents in the same order: resuming relies on it.
"""

import dataclasses
import difflib
import hashlib
import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from data_pipeline.document import Document
from data_pipeline.errors import UserError
from data_pipeline.files import files_fingerprint, find_files, near_files, read_files
from data_pipeline.files import read_rows as read_json_rows
from data_pipeline.paragraphs import VERSION as PARAGRAPHS_VERSION
from data_pipeline.paragraphs import paragraphs
from data_pipeline.python_docs import (
    docstrings,
    docstrings_fingerprint,
    language_reference,
    language_reference_fingerprint,
)
from data_pipeline.school.dictionaries import DICTIONARIES_VERSION
from data_pipeline.school.dictionaries import documents as dictionary_documents
from data_pipeline.school.echoes import ECHOES_VERSION
from data_pipeline.school.echoes import documents as echo_documents
from data_pipeline.school.exposition import SCHOOL_VERSION
from data_pipeline.school.exposition import documents as school_documents
from data_pipeline.school.world import SchoolConfig
from data_pipeline.set_aside import SetAside
from data_pipeline.tfds_source import read_tfds, read_tfds_rows, tfds_fingerprint

SOURCES = ("school", "dictionaries", "echoes", "pydoc", "docstrings")
PREFIXES = {"tfds": "NAME", "paragraphs": "SOURCE"}  # and what stands after the colon
PARAGRAPHS = "paragraphs:"


def read_documents(source: str, *, school: SchoolConfig, set_aside: SetAside) -> Iterator[Document]:
    """The documents of `source`, always in the same order. `school` matters to "school", its seed to "dictionaries" and "echoes".

    Rows that cannot be used go to `set_aside`. Raises `UserError`: at once where the source cannot be found, while
    reading where a compressed file is damaged, and at the end where there was not one document.
    """
    match source:
        case "school":
            documents = school_documents(school)
        case "dictionaries":
            documents = dictionary_documents(school.seed)
        case "echoes":
            documents = echo_documents(school.seed)
        case "pydoc":
            documents = language_reference()
        case "docstrings":
            documents = docstrings(set_aside)
        case _ if source.startswith(PARAGRAPHS):
            whole = read_documents(source.removeprefix(PARAGRAPHS), school=school, set_aside=set_aside)
            documents = paragraphs(whole, set_aside)
        case _ if source.startswith("tfds:"):
            documents = read_tfds(source, set_aside)
        case _:
            documents = read_files(_find_files(source), set_aside)
    return _at_least_one(source, documents, set_aside)


def source_fingerprint(source: str, *, school: SchoolConfig) -> str:
    """sha256 (hex) that changes when the documents of `source` would; the folder that files lie in does not matter."""
    match source:
        case "school":
            identity = json.dumps([SCHOOL_VERSION, dataclasses.asdict(school)], sort_keys=True)
        case "dictionaries":
            identity = json.dumps(["dictionaries", DICTIONARIES_VERSION, school.seed])
        case "echoes":
            identity = json.dumps(["echoes", ECHOES_VERSION, school.seed])
        case "pydoc":
            identity = language_reference_fingerprint()
        case "docstrings":
            identity = docstrings_fingerprint()
        case _ if source.startswith(PARAGRAPHS):
            whole = source_fingerprint(source.removeprefix(PARAGRAPHS), school=school)
            identity = json.dumps([PARAGRAPHS, PARAGRAPHS_VERSION, whole])
        case _ if source.startswith("tfds:"):
            identity = tfds_fingerprint(source)
        case _:
            identity = files_fingerprint(_find_files(source))
    return hashlib.sha256(identity.encode()).hexdigest()


def of_school(sources: Iterable[str]) -> bool:
    """Whether one of them is the school, or a topic of it."""
    return any(source.partition(":")[0] == "school" for source in sources)


def _find_files(source: str) -> list[Path]:
    if "://" in source:
        raise UserError(f"{source} is an address; copy the data to a local file first")
    if re.fullmatch(r"[\w:-]*", source) and not (source and Path(source).exists()):
        name, _, rest = source.partition(":")
        near = difflib.get_close_matches(name.lower(), [*SOURCES, *PREFIXES], n=1)
        if near:
            meant = f"{near[0]}:{rest or PREFIXES[near[0]]}" if near[0] in PREFIXES else near[0]
            hint = f"; did you mean {meant}?"
        else:
            hint = (
                near_files(Path(source)) if source else ""
            ) or f"; choose {', '.join(SOURCES)}, tfds:NAME, a file or a glob, or paragraphs: before one of these"
        raise UserError(f'there is no source and no file "{source}"{hint}')
    return find_files(source)


def _at_least_one(source: str, documents: Iterator[Document], set_aside: SetAside) -> Iterator[Document]:
    unusable = set_aside.counts.total()
    document = None
    for document in documents:
        yield document
    if document is None:
        if set_aside.counts.total() > unusable:
            raise UserError(f"{source} holds no documents that can be used: {set_aside.summary()}")
        raise UserError(f"{source} holds no documents")


def read_rows(source: str, set_aside: SetAside) -> Iterator[tuple[str, dict[str, Any]]]:
    """(where, row) of every record of tfds:NAME[:SPLIT], or of the JSONL or JSON files of a path or a glob.

    Rows that cannot be used go to `set_aside`. Raises `UserError` where the source cannot be found or read.
    """
    if source.startswith("tfds:"):
        return read_tfds_rows(source, set_aside)
    return read_json_rows(_find_files(source), set_aside)
