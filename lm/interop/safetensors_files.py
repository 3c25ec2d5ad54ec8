"""Safetensors on disk, whole or in shards with an index: read tensor by tensor, written in place.

The format is 8 bytes of header length, a JSON header that says where each tensor lies, then the bytes of the tensors.
"""

import json
import os
import shutil
import struct
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from data_pipeline.errors import UserError

INDEX = "model.safetensors.index.json"
SHARD_BYTES = 5 * 10**9  # what Hugging Face's own files are split at
DTYPES = {"float32": ("F32", np.dtype(np.float32)), "bfloat16": ("BF16", np.dtype(ml_dtypes.bfloat16))}


class SafetensorsFolder:
    """The tensors of a release in Hugging Face's format. Opening it checks every shard, and reads none of the tensors."""

    def __init__(self, folder: Path) -> None:
        from safetensors import SafetensorError, safe_open

        self._shards: dict[str, Any] = {}
        self.shapes: dict[str, tuple[int, ...]] = {}
        dtypes: set[str] = set()
        for path, promised in _files(folder).items():
            try:
                shard = safe_open(path, framework="numpy")
            except (SafetensorError, OSError) as error:
                raise UserError(f"{path} is damaged, or not a safetensors file ({error}): fetch it again") from None
            names = list(shard.keys())
            for name in sorted(promised - set(names)):
                raise UserError(f"{path} has no {name}, which {INDEX} says it has: fetch the release again")
            for name in names:
                if name in self._shards:
                    raise UserError(f"{path}: {name} is in another file of the release too")
                entry = shard.get_slice(name)
                self._shards[name], self.shapes[name] = shard, tuple(entry.get_shape())
                dtypes.add(entry.get_dtype())
        if unknown := dtypes - {"F32", "F16", "BF16"}:
            raise UserError(f"{folder} has tensors of type {', '.join(sorted(unknown))}: F32, F16 and BF16 can be read")
        self.dtype = "bfloat16" if dtypes == {"BF16"} else "float32"  # either holds what is in the files exactly

    def read(self, name: str) -> np.ndarray:
        """One tensor."""
        return self._shards[name].get_tensor(name)

    def rows(self, name: str, start: int, stop: int) -> np.ndarray:
        """Some rows of a tensor, as many as there are."""
        return self._shards[name].get_slice(name)[start : min(stop, self.shapes[name][0])]


def _files(folder: Path) -> dict[Path, set[str]]:
    """The safetensors files of a release, with the tensors that the index promises of each."""
    index, single = folder / INDEX, folder / "model.safetensors"
    if not index.exists():
        if not single.exists():
            raise UserError(f"{folder} has neither model.safetensors nor {INDEX}: pickled (.bin) weights are not read")
        return {single: set()}
    try:
        places: dict[str, str] = json.loads(index.read_text())["weight_map"]
        promised: dict[Path, set[str]] = {}
        for name, file in places.items():
            promised.setdefault(folder / file, set()).add(name)
    except (ValueError, KeyError, TypeError, AttributeError):
        raise UserError(f"{index} is not an index of safetensors files, or it is damaged: fetch it again") from None
    for path in promised:
        if not path.exists():
            raise UserError(f"{path}, which {index.name} names, is missing: fetch it, too")
    return promised


def create_safetensors(
    folder: Path, shapes: dict[str, tuple[int, ...]], dtype: str, shard_bytes: int = SHARD_BYTES
) -> dict[str, np.ndarray]:
    """Files of the right size and headers for tensors of these shapes, which are returned to be written to, mapped.

    A shard holds at most `shard_bytes`, or one tensor. Raises `UserError` when the disk has no room for all of them.
    """
    code, numpy_dtype = DTYPES[dtype]
    size = {name: int(np.prod(shape, dtype=np.int64)) * numpy_dtype.itemsize for name, shape in shapes.items()}
    room = shutil.disk_usage(folder).free
    if sum(size.values()) > room:
        raise UserError(
            f"{folder.parent} has room for {room:,} bytes and the release takes {sum(size.values()):,}: free some"
        )
    shards: list[list[str]] = [[]]
    for name in shapes:
        if shards[-1] and sum(size[other] for other in shards[-1]) + size[name] > shard_bytes:
            shards.append([])
        shards[-1].append(name)
    tensors: dict[str, np.ndarray] = {}
    weight_map: dict[str, str] = {}
    for number, names in enumerate(shards, 1):
        single = len(shards) == 1
        file = "model.safetensors" if single else f"model-{number:05}-of-{len(shards):05}.safetensors"
        header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
        end = 0
        for name in names:
            header[name] = {"dtype": code, "shape": shapes[name], "data_offsets": [end, end + size[name]]}
            end += size[name]
        text = json.dumps(header).encode()
        text += b" " * (-len(text) % 8)  # so that the tensors are aligned
        with (folder / file).open("wb") as output:
            output.write(struct.pack("<Q", len(text)) + text)
            output.flush()
            # Writing to a mapped file for which the disk has no room left kills the process: take the room now.
            os.posix_fallocate(output.fileno(), 0, 8 + len(text) + end)
        data = np.memmap(folder / file, np.uint8, "r+", offset=8 + len(text))
        for name in names:
            start, stop = header[name]["data_offsets"]
            tensors[name] = data[start:stop].view(numpy_dtype).reshape(shapes[name])
            weight_map[name] = file
    if len(shards) > 1:
        index = {"metadata": {"total_size": sum(size.values())}, "weight_map": weight_map}
        (folder / INDEX).write_text(json.dumps(index, indent=2) + "\n")
    return tensors
