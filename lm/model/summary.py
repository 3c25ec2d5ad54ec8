"""What a model consists of, counted without making it."""

import math

import jax

from lm.model.config import ModelConfig
from lm.model.transformer import Transformer
from lm.sharding import path_name


def parameter_shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """The shape of each parameter, by its path. Those of `blocks` have all L layers stacked on their first axis."""
    model = jax.eval_shape(lambda: Transformer(jax.random.key(0), config))
    return {path_name(path): leaf.shape for path, leaf in jax.tree_util.tree_flatten_with_path(model)[0]}


def parameter_count(shapes: dict[str, tuple[int, ...]]) -> int:
    """How many numbers that is."""
    return sum(math.prod(shape) for shape in shapes.values())


def summary(config: ModelConfig) -> str:
    """One line: how many parameters there are, and where."""
    shapes = parameter_shapes(config)
    blocks = parameter_count({name: shape for name, shape in shapes.items() if name.startswith("blocks.")})
    rest = [f"{name} {math.prod(shape):,}" for name, shape in shapes.items() if "blocks." not in name]
    return f"{parameter_count(shapes):,} parameters: {config.layers} blocks of {blocks // config.layers:,}, {', '.join(rest)}"
