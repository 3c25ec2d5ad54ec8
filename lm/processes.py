"""Several processes that train as one: who does what only one may do, and how all come to know the same.

Every process runs the same program over the same global arrays. Each function here is a collective: all processes call it,
in the same order. With one process none of them does anything.
"""

import json
from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from data_pipeline.errors import UserError

Result = TypeVar("Result")


def is_first() -> bool:
    """Whether this is the process that writes files and speaks."""
    return jax.process_index() == 0


def tell_all(value: Any) -> Any:
    """In every process, the JSON value that the first one gave."""
    if jax.process_count() == 1:
        return value
    data = np.frombuffer(json.dumps(value).encode() if is_first() else b"", np.uint8)
    size = int(multihost_utils.broadcast_one_to_all(np.int32(len(data))))
    text = multihost_utils.broadcast_one_to_all(data if is_first() else np.zeros(size, np.uint8))
    return json.loads(np.asarray(text).astype(np.uint8).tobytes())


def first_does(work: Callable[[], Result]) -> Result | None:
    """Let the first process do `work` while the others wait; its result, None in the others.

    Its `UserError` or `OSError` is raised in every process, as `UserError`.
    """
    if jax.process_count() == 1:
        return work()
    result, problem = None, None
    if is_first():
        try:
            result = work()
        except (UserError, OSError) as error:
            problem = str(error)
    problem = tell_all(problem)
    if problem:
        raise UserError(problem)
    return result


def first_problem(problem: str | None) -> str | None:
    """What the first process with a problem says of it; None when none has any."""
    if jax.process_count() == 1:
        return problem
    data = np.zeros(512, np.uint8)
    text = (problem or "").encode()[:512]
    data[: len(text)] = np.frombuffer(text, np.uint8)
    told = np.asarray(multihost_utils.process_allgather(data)).astype(np.uint8)
    problems = [row.tobytes().rstrip(b"\0").decode(errors="replace") for row in told if row.any()]
    return problems[0] if problems else None


class Vote:
    """The largest of a number that each process has, as a device value: waiting for it is up to the caller."""

    def __init__(self, mesh: Mesh) -> None:
        self._sharding = NamedSharding(mesh, PartitionSpec(mesh.axis_names))
        self._voters = len(mesh.local_devices)
        self._largest = jax.jit(jnp.max, out_shardings=NamedSharding(mesh, PartitionSpec()))

    def cast(self, value: int) -> jax.Array:
        """An int32 scalar, the same in all processes once it is there."""
        mine = np.full(self._voters, value, np.int32)
        return self._largest(jax.make_array_from_process_local_data(self._sharding, mine))
