"""Documents out of TensorFlow Datasets, stored as ArrayRecord: found and read without importing TensorFlow.

Data sets are read from disk only. Preparing one may download hundreds of gigabytes: that is the user's decision.
"""

import hashlib
import json
import os
import re
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from tqdm import tqdm

from data_pipeline.document import Document
from data_pipeline.errors import UserError
from data_pipeline.set_aside import SetAside

# tfds:NAME or tfds:NAME:SPLIT, where NAME may hold a configuration and a version ("wiki40b/en:1.3.0") and SPLIT a slice
# with a colon of its own ("train[:10%]").
SOURCE = re.compile(r"tfds:(?P<name>[\w/.-]+(:[\d*]+\.[\d*]+\.[\d*]+)?)(:(?P<split>.+))?")


def read_tfds(source: str, set_aside: SetAside) -> Iterator[Document]:
    """The documents of `tfds:NAME[:SPLIT]`. Raises `UserError`, at once, where it is not on disk or holds no text."""
    builder, split = _find(source)
    field = _text_field(source, builder.info.features)
    return _documents(_rows(source, builder, split), field, f"{builder.info.full_name}:{split}", set_aside)


def read_tfds_rows(source: str, set_aside: SetAside) -> Iterator[tuple[str, dict[str, Any]]]:
    """(where, row) of every example of `tfds:NAME[:SPLIT]`, with its bytes as text and its arrays as lists.

    Examples with bytes that are not UTF-8 are set aside. Raises `UserError`, at once, where it is not on disk.
    """
    builder, split = _find(source)
    return _plain_rows(_rows(source, builder, split), f"{builder.info.full_name}:{split}", set_aside)


def _plain_rows(rows: Sequence[Any], name: str, set_aside: SetAside) -> Iterator[tuple[str, dict[str, Any]]]:
    for index in range(len(rows)):
        where = f"tfds:{name}#{index}"
        try:
            yield where, _plain(rows[index])
        except UnicodeDecodeError as error:
            set_aside.add(where, "invalid UTF-8", error.object)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, np.ndarray):
        return _plain(value.tolist())
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, bytes):
        return value.decode()
    return value.item() if isinstance(value, np.generic) else value


def _rows(source: str, builder: Any, split: str) -> Sequence[Any]:
    try:
        return builder.as_data_source(split=split)
    except NotImplementedError:
        stored_as = builder.info.file_format.value
        raise UserError(f"{source} is stored as {stored_as}, not as array_record: {_prepare(builder.name)}") from None


def tfds_fingerprint(source: str) -> str:
    """sha256 over name, configuration, version, split and counts: TFDS changes the version when the content changes."""
    builder, split = _find(source)
    info = builder.info
    identity = [info.full_name, split, info.splits[split].num_examples, info.dataset_size]
    return hashlib.sha256(json.dumps(identity).encode()).hexdigest()


def _documents(rows: Sequence[Any], field: str, name: str, set_aside: SetAside) -> Iterator[Document]:
    bar = tqdm(total=len(rows), desc="reading", unit=" rows", delay=1, leave=False)
    with bar:
        for index in range(len(rows)):
            raw = rows[index][field]
            bar.update()
            where = f"tfds:{name}#{index}"
            try:
                text = raw.decode()
            except UnicodeDecodeError:
                set_aside.add(where, "invalid UTF-8", raw)
                continue
            if text.strip():
                yield Document(where, text)
            else:
                set_aside.add(where, "empty text", raw)


def _find(source: str) -> tuple[Any, str]:
    """(builder, split) of a data set on disk."""
    parsed = SOURCE.fullmatch(source)
    if not parsed:
        raise UserError(
            f"{source} is not tfds:NAME or tfds:NAME:SPLIT, such as tfds:lm1b or tfds:wiki40b/en:train[:10%]"
        )
    import tensorflow_datasets as tfds  # Here, because it takes half a second that other sources need not wait for.

    name, split = parsed["name"], parsed["split"] or "train"
    data_dir = os.environ.get("TFDS_DATA_DIR")
    try:
        builder = tfds.core.read_only_builder.builder_from_files(name, data_dir=data_dir)
    except tfds.core.registered.DatasetNotFoundError:
        places = data_dir or "~/tensorflow_datasets"
        raise UserError(
            f"{source} is not prepared in {places}: {_prepare(name)}, or set TFDS_DATA_DIR to its folder"
        ) from None
    except ValueError as error:
        raise UserError(f"{source}: {_one_line(error)}") from None
    try:
        builder.info.splits[split]
    except (KeyError, ValueError) as error:
        raise UserError(f"{source} has the splits {', '.join(builder.info.splits)}: {_one_line(error)}") from None
    return builder, split


def _text_field(source: str, features: Any) -> str:
    """The feature "text", or else the only one that is a string."""
    strings = [
        name for name, each in sorted(features.items()) if each.shape == () and each.np_dtype == np.dtype(object)
    ]
    if "text" in strings:
        return "text"
    if len(strings) != 1:
        found = f"several strings ({', '.join(strings)})" if strings else f"no string ({', '.join(sorted(features))})"
        raise UserError(f"{source} has no feature named text, and {found}: export the text you want as JSONL")
    return strings[0]


def _prepare(name: str) -> str:
    return f'prepare it with tfds.builder("{name}", file_format="array_record").download_and_prepare()'


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
