"""The device mesh, and the one table that says how every array of a run lies on it.

Arrays are described by *logical* axes ("embed", "heads", ...). `RULES` maps those to the mesh axes `data` (copies of the
model), `fsdp` (parameters split, gathered layer by layer; arXiv 2004.13336) and `tensor` (matrices split by head or by
MLP unit; arXiv 1909.08053). Changing the parallelism of a run is changing `mesh`, never the model.
"""

import math
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jax.sharding import AbstractMesh, AxisType, Mesh, NamedSharding, PartitionSpec

from data_pipeline.errors import UserError

MESH_AXES = ("data", "fsdp", "tensor")

RULES: dict[str | None, str | tuple[str, ...] | None] = {
    "batch": ("data", "fsdp"),
    "embed": "fsdp",
    "vocab": "tensor",
    "heads": "tensor",
    "kv_heads": "tensor",
    "mlp": "tensor",
    "layers": None,
    None: None,
}

# Logical axes of each parameter, found by the end of its path. Those under `blocks` have "layers" in front.
PARAMETER_AXES: dict[str, tuple[str | None, ...]] = {
    "token_embedding": ("vocab", "embed"),
    "position_embedding": (None, "embed"),
    "head": ("embed", "vocab"),
    "scalar_head": ("embed",),
    "norm.scale": (None,),
    "norm.bias": (None,),
    "attention.query.kernel": ("embed", "heads"),
    "attention.query.bias": ("heads",),
    "attention.key.kernel": ("embed", "kv_heads"),
    "attention.key.bias": ("kv_heads",),
    "attention.value.kernel": ("embed", "kv_heads"),
    "attention.value.bias": ("kv_heads",),
    "attention.value_embedding": (None, "kv_heads"),
    "residual_scalars": (None,),
    "attention.output.kernel": ("heads", "embed"),
    "attention.output.bias": (None,),
    "mlp.gate.kernel": ("embed", "mlp"),
    "mlp.gate.bias": ("mlp",),
    "mlp.up.kernel": ("embed", "mlp"),
    "mlp.up.bias": ("mlp",),
    "mlp.down.kernel": ("mlp", "embed"),
    "mlp.down.bias": (None,),
    "ns_coeffs": (None,),  # not a parameter: Muon's constants, which optax keeps in its state
}
# Adapters (lm/lora.py) lie as their matrix does, along the axis that they share with it.
PARAMETER_AXES |= {
    f"{name.removesuffix('.kernel')}.{half}": axes
    for name, (inputs, *outputs) in PARAMETER_AXES.items()
    if outputs or name == "scalar_head"
    for half, axes in (("lora_a", (inputs, None)), ("lora_b", (None, *outputs)))
}


@dataclass
class MeshConfig:
    """Devices along each mesh axis; -1 (at most one) takes what is left. Not part of an experiment's identity."""

    data: int = -1
    fsdp: int = 1
    tensor: int = 1


def make_mesh(config: MeshConfig, devices: list[jax.Device] | None = None) -> Mesh:
    """A mesh over all devices (or the given ones). Raises `UserError` when the sizes do not multiply to their number."""
    devices = jax.devices() if devices is None else devices
    sizes = {name: getattr(config, name) for name in MESH_AXES}
    text = ", ".join(f"{name}={size}" for name, size in sizes.items())
    if any(size == 0 or size < -1 for size in sizes.values()) or list(sizes.values()).count(-1) > 1:
        raise UserError(f"mesh {text}: sizes are positive, and at most one may be -1 (the rest of the devices)")
    known = math.prod(size for size in sizes.values() if size != -1)
    if -1 in sizes.values() and len(devices) % known == 0:
        sizes = {name: len(devices) // known if size == -1 else size for name, size in sizes.items()}
    if math.prod(sizes.values()) != len(devices):
        raise UserError(
            f"mesh {text} does not fit the {len(devices)} devices here: data x fsdp x tensor must equal {len(devices)}"
        )
    return Mesh(np.asarray(devices).reshape(tuple(sizes.values())), MESH_AXES, axis_types=(AxisType.Auto,) * 3)


def is_split() -> bool:
    """Whether arrays may be split over devices here: under a mesh of several."""
    mesh = jax.sharding.get_abstract_mesh()
    return not mesh.empty and mesh.size > 1


def spec(*logical: str | None) -> PartitionSpec:
    """The mesh axes of an array with these logical axes."""
    return PartitionSpec(*(RULES[name] for name in logical))


def path_name(path: tuple[Any, ...]) -> str:
    """A pytree path as dotted text: `blocks.attention.query.kernel`."""
    return jax.tree_util.keystr(path, simple=True, separator=".")


def logical_axes(name: str, ndim: int) -> tuple[str | None, ...]:
    """Logical axes of the parameter at this path, or of an optimizer's copy of it (the path then ends the same way)."""
    if ndim == 0:
        return ()
    for ending, axes in PARAMETER_AXES.items():
        if name == ending or name.endswith(("." + ending, "_" + ending)):
            if "blocks." in name and ndim == len(axes) + 1:  # stacked
                axes = ("layers", *axes)
            if len(axes) == ndim:
                return axes
    raise ValueError(f"no logical axes for {name} with {ndim} axes: add it to PARAMETER_AXES")


def tree_shardings(mesh: Mesh, abstract: Any) -> Any:
    """A `NamedSharding` for each leaf of a model or train state given as shapes (`jax.eval_shape`).

    Raises `UserError` when a parameter does not divide over the mesh.
    """

    def leaf(path: tuple[Any, ...], array: jax.ShapeDtypeStruct) -> NamedSharding:
        axes = logical_axes(path_name(path), array.ndim)
        # An axis of length 1 (what is left of one that was averaged over) cannot be split, and need not be.
        axes = tuple(None if size == 1 else axis for axis, size in zip(axes, array.shape, strict=True))
        for axis, size in zip(axes, array.shape, strict=True):
            shards = _shards(mesh, axis)
            if size % shards:
                raise UserError(
                    f"{path_name(path)} has {size} along {axis!r}, which mesh {RULES[axis]}={shards} cannot divide: "
                    "change one of them"
                )
        return NamedSharding(mesh, spec(*axes))

    return jax.tree_util.tree_map_with_path(leaf, abstract)


def _shards(mesh: Mesh | AbstractMesh, axis: str | None) -> int:
    rule = RULES[axis]
    names = () if rule is None else (rule,) if isinstance(rule, str) else rule
    return math.prod(mesh.shape[name] for name in names)


def constrain(x: jax.Array, *logical: str | None) -> jax.Array:
    """Tell the compiler how an activation lies on the current mesh (`jax.set_mesh`); nothing without one."""
    mesh = jax.sharding.get_abstract_mesh()
    return x if mesh.empty else jax.lax.with_sharding_constraint(x, spec(*logical))


def constrain_kv(x: jax.Array) -> jax.Array:
    """As `constrain`, for a part of a KV cache (B, K, S, ...); an axis that the mesh does not divide is not split."""
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty:
        return x
    axes = [
        axis if size % _shards(mesh, axis) == 0 else None
        for axis, size in zip(("batch", "kv_heads"), x.shape[:2], strict=True)
    ]
    return constrain(x, *axes, *(None,) * (x.ndim - 2))


def batch_shards() -> int:
    """Into how many parts the rows of a batch are split on the current mesh (`jax.set_mesh`); 1 without one."""
    mesh = jax.sharding.get_abstract_mesh()
    return 1 if mesh.empty else _shards(mesh, "batch")


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """How a batch lies on the mesh: its first axis over `data` and `fsdp`."""
    return NamedSharding(mesh, spec("batch"))


def batch_rows(mesh: Mesh, batch_size: int) -> slice:
    """Which rows of each global batch this process must supply. Raises `UserError` when the batch does not divide."""
    shards = _shards(mesh, "batch")
    if batch_size % shards:
        raise UserError(f"batch_size={batch_size} does not divide over mesh data x fsdp = {shards}")
    indices = batch_sharding(mesh).addressable_devices_indices_map((batch_size,)).values()
    spans = [index[0].indices(batch_size) for index in indices if index is not None]
    return slice(min(start for start, _, _ in spans), max(stop for _, stop, _ in spans))


def put_batch(mesh: Mesh, batch: dict[str, np.ndarray], batch_size: int) -> dict[str, jax.Array]:
    """This process's rows (first axis) as global arrays of `batch_size` rows."""
    sharding = batch_sharding(mesh)
    return {
        name: jax.make_array_from_process_local_data(sharding, rows, (batch_size, *rows.shape[1:]))
        for name, rows in batch.items()
    }
