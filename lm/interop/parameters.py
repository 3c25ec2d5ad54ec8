"""A release's tensors into a checkpoint of ours, and back, one at a time.

In: every tensor is read, checked, put in our layout and appended to the file of its parameter, layer after layer; then the
files are mapped and Orbax writes them, in pieces, as a checkpoint. Memory holds one tensor (and a copy while it is turned),
then a few pieces; what is mapped, the kernel may drop at any time. It takes the model's size on disk twice for a while.

Out: one stacked parameter is restored at a time, and its layers are written where they belong in the mapped files.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from data_pipeline.errors import UserError
from lm.checkpoint import read_parameters, save_parameters
from lm.interop.names import Place, places
from lm.model.config import ModelConfig
from lm.model.summary import parameter_shapes
from lm.model.transformer import Transformer
from lm.sharding import path_name


class Tensors(Protocol):
    """The tensors of a release, by the names it gives them."""

    shapes: dict[str, tuple[int, ...]]
    dtype: str  # float32 | bfloat16: what holds all of them exactly

    def read(self, name: str) -> np.ndarray:
        """One tensor."""


def import_parameters(tensors: Tensors, modules: dict[str, str], config: ModelConfig, checkpoints: Path) -> None:
    """Write the tensors, whose names `modules` knows, as a checkpoint of a model of this config, in `param_dtype`.

    Raises `UserError`, before it writes, when a tensor is missing, has another shape or no place in the model; and for
    values that are not finite.
    """
    shapes = parameter_shapes(config)
    where = places(modules, shapes, config.layers)
    _check_tensors(tensors.shapes, _their_shapes(shapes, where))
    staging = checkpoints.with_name("staging")
    staging.mkdir(parents=True)
    dtype = jnp.dtype(config.param_dtype)
    with _progress(shapes, dtype.itemsize, "reading") as progress:
        for parameter, found in where.items():
            with (staging / parameter).open("wb") as file:
                for place in found:
                    x = tensors.read(place.name)
                    if not np.isfinite(x).all():
                        raise UserError(f"{place.name} holds values that are not finite: the release is damaged")
                    x = np.ascontiguousarray(place.view(x), dtype)
                    file.write(x.data.cast("B") if x.dtype == np.float32 else x.tobytes())
                    progress.update(x.nbytes)
    files = {name: np.memmap(staging / name, dtype, "r", shape=shape) for name, shape in shapes.items()}
    save_parameters(
        checkpoints, jax.tree_util.tree_map_with_path(lambda path, _: files[path_name(path)], _abstract(config))
    )
    for name in shapes:
        (staging / name).unlink()
    staging.rmdir()


def export_shapes(modules: dict[str, str], config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """The tensors of a release of this model."""
    shapes = parameter_shapes(config)
    return _their_shapes(shapes, places(modules, shapes, config.layers))


def export_parameters(
    checkpoints: Path, step: int | None, config: ModelConfig, modules: dict[str, str], tensors: dict[str, np.ndarray]
) -> int:
    """Write the parameters of a checkpoint (None: the newest) into `tensors`, which may be mapped files. Returns the step."""
    shapes = parameter_shapes(config)
    where = places(modules, shapes, config.layers)
    reading, step = read_parameters(checkpoints, _abstract(config), step)
    with _progress(shapes, jnp.dtype(config.param_dtype).itemsize, "writing") as progress:
        for parameter, x in reading:
            layers = x if parameter.startswith("blocks.") else x[None]
            for place, layer in zip(where[parameter], layers, strict=True):
                place.view(tensors[place.name])[...] = layer
                progress.update(layer.nbytes)
            del x, layers, layer  # before the next is read
    return step


def _abstract(config: ModelConfig) -> Transformer:
    return jax.eval_shape(lambda: Transformer(jax.random.key(0), config))


def _progress(shapes: dict[str, tuple[int, ...]], itemsize: int, what: str) -> tqdm:
    """A bar in bytes, with the time left."""
    total = sum(int(np.prod(shape, dtype=np.int64)) for shape in shapes.values()) * itemsize
    return tqdm(total=total, desc=what, unit="B", unit_scale=True, delay=1)


def _their_shapes(shapes: dict[str, tuple[int, ...]], where: dict[str, list[Place]]) -> dict[str, tuple[int, ...]]:
    return {
        place.name: place.shape(shapes[parameter][1:] if parameter.startswith("blocks.") else shapes[parameter])
        for parameter, found in where.items()
        for place in found
    }


def _check_tensors(given: dict[str, tuple[int, ...]], wanted: dict[str, tuple[int, ...]]) -> None:
    def some(names: Iterator[str]) -> str:
        first, *rest = sorted(names)
        return first + (f" and {len(rest)} more" if rest else "")

    if missing := wanted.keys() - given.keys():
        raise UserError(f"the release has no tensor {some(iter(missing))}, which a model of its config needs")
    if extra := given.keys() - wanted.keys():
        raise UserError(f"the release has tensors that a model of its config has no place for: {some(iter(extra))}")
    for name, shape in wanted.items():
        if given[name] != shape:
            raise UserError(f"{name} is {given[name]} and a model of the release's config needs {shape}")
