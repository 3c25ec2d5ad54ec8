"""What a run would need, before any array exists: arithmetic, time, money, and memory on each device.

Needs neither the data nor the hardware. Parameters and optimizer state are counted from the shapes of the real ones, on a
mesh of devices that are only names. For the rest of the memory, with P the bytes of a device's share of the parameters:

    gradients            P, and 3 P where `accumulate` adds them up
    weight copies        what the backward pass keeps of the blocks' weights: cast to the compute dtype, or as they are
    kept                 what else it keeps of the forward pass, in proportion to the rows that a device takes at a time;
                         both are counted in a trace of the real objective, so they know `model.remat`
    working space        the larger of two moments: one block again in full, with two of its weights gathered by
                         `mesh.fsdp`; or a chunk of logits and its gradient, with a gathered head

The total is within a quarter of what XLA plans for models whose layers are scanned (a third when the batch is taken in
parts), as tests/lm/test_estimate.py holds it against the plans for simulated CPU devices and, where
libtpu is installed, for a TPU v5p. Unrolled layers take up to a third less, as XLA computes some of what is kept
again; but a CPU drops `remat` from them, and there they take what remat=none does.
"""

import dataclasses
import functools
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp

from data_pipeline.errors import UserError
from lm import flops
from lm.experiment import Experiment
from lm.model.attention import SPLASH_BLOCK
from lm.model.config import ModelConfig
from lm.model.summary import parameter_count, parameter_shapes
from lm.model.transformer import Transformer
from lm.objectives.next_token import NextTokenConfig, next_token
from lm.optimizer import make_optimizer
from lm.sharding import MeshConfig, make_mesh
from lm.train import abstract_state

GIB = 2**30
MFU = 0.4  # unless given or measured: well-tuned runs of dense models reach 40 to 60% on these chips
USABLE = 0.92  # of a chip's memory: the driver, the runtime and fragmentation take the rest
GPU_SHARE = 0.75  # of a GPU's memory: what JAX takes unless XLA_CLIENT_MEM_FRACTION says otherwise


@dataclass(frozen=True)
class Chip:
    """A chip: its name in `flops.PEAK_FLOPS`, its memory in GiB, and dollars an hour."""

    kind: str
    memory: float
    dollars: float

    @property
    def is_gpu(self) -> bool:
        """A GPU, or else a TPU."""
        return self.kind.startswith("NVIDIA")


# Memory as the drivers show it, rounded down. Prices are assumptions, for --price to replace: about what the cheaper clouds
# asked on demand in 2025. (H100: llm.c's GPT-2 1558M, $672 for 24 hours of eight. TPUs: Google's list in the US.)
CHIPS = {
    "a10": Chip("NVIDIA A10", 22, 0.75),
    "l4": Chip("NVIDIA L4", 22, 0.70),
    "a100-40gb": Chip("NVIDIA A100", 40, 1.30),
    "a100": Chip("NVIDIA A100", 80, 1.80),
    "h100": Chip("NVIDIA H100", 79, 3.50),
    "h200": Chip("NVIDIA H200", 139, 4.00),
    "b200": Chip("NVIDIA B200", 178, 6.00),
    "v4": Chip("TPU v4", 32, 3.22),
    "v5e": Chip("TPU v5e", 16, 1.20),
    "v5p": Chip("TPU v5p", 95, 4.20),
    "v6e": Chip("TPU v6e", 32, 2.70),
}


@dataclass(frozen=True)
class Hardware:
    """So many chips of a kind."""

    name: str
    count: int

    @property
    def chip(self) -> Chip:
        """What the name stands for."""
        return CHIPS[self.name]

    @property
    def peak(self) -> float:
        """Dense bf16 FLOP/s of all chips together."""
        return flops.PEAK_FLOPS[self.chip.kind] * self.count


def parse_hardware(text: str) -> Hardware:
    """`h100:8`, or `h100` for one. Raises `UserError` for a chip that is not known and for a count that is none."""
    name, colon, count = text.strip().lower().partition(":")
    if name not in CHIPS:
        raise UserError(f"hardware {text!r} is not known: choose one of {', '.join(CHIPS)}, as in h100:8")
    if colon and not (count.isdecimal() and int(count) > 0):
        raise UserError(f"hardware {text!r}: {count!r} is not a number of chips; write it as in h100:8")
    return Hardware(name, int(count or 1))


@dataclass(frozen=True)
class Memory:
    """Bytes on each device, as the head of this file explains them."""

    parameters: int
    optimizer: int
    gradients: int
    weight_copies: int
    kept: int
    working: int

    @property
    def total(self) -> int:
        """All of it, bytes."""
        return sum(dataclasses.astuple(self))

    def fits(self, chip: Chip) -> bool:
        """Whether it fits the usable part of a chip's memory."""
        return self.total <= USABLE * chip.memory * GIB


@dataclass(frozen=True)
class Estimate:
    """What a run needs."""

    parameters: int
    tokens: int  # places in the rows, padding included
    flops_per_token: float  # to train on one token
    seconds: float
    dollars: float
    mesh: dict[str, int]  # devices along each axis
    rows: int  # that a device takes at a time
    memory: Memory

    @property
    def flops(self) -> float:
        """Of the whole run."""
        return self.flops_per_token * self.tokens


def estimate(config: Experiment, hardware: Hardware, mfu: float, dollars_per_chip_hour: float) -> Estimate:
    """The estimate of a run that reaches this MFU (arXiv 2204.02311) on all its steps, and does nothing but steps.

    Raises `UserError` when the mesh does not fit the hardware, or the batch or a parameter the mesh.
    """
    length = config.model.context_length
    tokens = config.steps * config.batch_size * length
    flops_per_token = flops.train_flops_per_token(config.model, length)
    seconds = flops_per_token * tokens / (hardware.peak * mfu)
    mesh = mesh_shape(config.mesh, hardware)
    return Estimate(
        parameters=parameter_count(parameter_shapes(config.model)),
        tokens=tokens,
        flops_per_token=flops_per_token,
        seconds=seconds,
        dollars=seconds / 3600 * hardware.count * dollars_per_chip_hour,
        mesh=mesh,
        rows=rows_at_a_time(config, mesh),
        memory=memory(config, hardware),
    )


@dataclass(frozen=True)
class AbsentDevice:
    """What a mesh asks of a device, for hardware that is not here."""

    id: int
    device_kind: str
    platform: str = "absent"
    process_index: int = 0


def absent_mesh(config: MeshConfig, hardware: Hardware) -> jax.sharding.AbstractMesh:
    """The mesh of this hardware. Raises `UserError` as `make_mesh` does."""
    devices: list[Any] = [AbsentDevice(i, hardware.chip.kind) for i in range(hardware.count)]
    return make_mesh(config, devices).abstract_mesh


def mesh_shape(config: MeshConfig, hardware: Hardware) -> dict[str, int]:
    """Devices along each axis of the mesh, -1 worked out."""
    return dict(absent_mesh(config, hardware).shape)


def rows_at_a_time(config: Experiment, mesh: dict[str, int]) -> int:
    """Rows of each part of the batch on each device. Raises `UserError` when they do not divide."""
    shards = mesh["data"] * mesh["fsdp"]
    rows, left_over = divmod(config.batch_size, config.accumulate * shards)
    if left_over or not rows:
        raise UserError(
            f"batch_size={config.batch_size} in accumulate={config.accumulate} parts does not divide over "
            f"mesh data x fsdp = {shards}: make it a multiple of {config.accumulate * shards}"
        )
    return rows


def memory(config: Experiment, hardware: Hardware) -> Memory:
    """Bytes on each device. Raises `UserError` when the mesh does not fit the hardware or the model."""
    mesh = absent_mesh(config.mesh, hardware)
    rows = rows_at_a_time(config, dict(mesh.shape))
    state = abstract_state(config, make_optimizer(config.optimizer, config.steps), mesh)  # type: ignore[arg-type]
    trained, optimizer, base = map(_local_bytes, (state.model, state.optimizer, state.base))
    parameters = trained + 2 * base  # of adapters: the frozen model, and the one that they are merged into

    model = _share_of_model(config.model, mesh.shape["tensor"], hardware.chip)
    objective = config.objective
    chunk = min(objective.chunk, model.context_length)
    z_loss = objective.z_loss if isinstance(objective, NextTokenConfig) else 0.0
    kept, weight_copies = kept_for_backward(model, chunk, z_loss)
    block = one_block(model, chunk, z_loss)
    block_weights, head_weights = _gathered(config.model, mesh.shape["tensor"]) if mesh.shape["fsdp"] > 1 else (0, 0)
    itemsize = jnp.dtype(model.compute_dtype).itemsize
    logits_and_gradient = rows * chunk * model.vocab_size * (4 + itemsize)  # float32, and the compute dtype
    return Memory(
        parameters=parameters,
        optimizer=optimizer,
        gradients=(trained + base) * (3 if config.accumulate > 1 else 1),
        weight_copies=weight_copies // mesh.shape["fsdp"],
        kept=kept * rows,
        working=max(block * rows + 2 * block_weights, logits_and_gradient + head_weights),
    )


def _local_bytes(tree: Any) -> int:
    """Bytes of a tree of shapes with shardings, on one device."""
    return sum(math.prod(leaf.sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


def _share_of_model(model: ModelConfig, tensor: int, chip: Chip) -> ModelConfig:
    """The model as one device computes it: its share of heads, MLP units and symbols, and the attention of this chip."""
    # cuDNN and Splash keep the same: queries, keys, values, outputs and a normaliser. Splash can be traced anywhere.
    kernel = model.compute_dtype == "bfloat16" or not chip.is_gpu
    flash = kernel and model.attention != "xla" and model.context_length % SPLASH_BLOCK == 0
    return replace(
        model,
        head_dim=model.dim_per_head,
        heads=model.heads // tensor,
        kv_heads=model.kv_heads // tensor,
        mlp_width=model.mlp_width // tensor,
        vocab_size=model.vocab_size // tensor,
        attention="splash" if flash else "xla",
    )


def kept_for_backward(model: ModelConfig, chunk: int, z_loss: float) -> tuple[int, int]:
    """Bytes that the backward pass is given for each row of T tokens, and bytes of the blocks' weights.

    What a trace gives does not depend on the rows where it comes of the weights alone. The head's count is left out: it
    is the parameter itself, transposed. Traced at two depths, since every group of `windows` layers keeps the same.
    """
    period = len(model.windows)
    (shallow_row, shallow_weights), (deep_row, deep_weights) = (
        _per_row_and_rest(replace(model, layers=period * groups), chunk, z_loss) for groups in (1, 2)
    )
    row, weights = deep_row - shallow_row, deep_weights - shallow_weights
    return shallow_row + row * (model.layers - period) // period, weights * model.layers // period


def one_block(model: ModelConfig, chunk: int, z_loss: float) -> int:
    """Bytes that one block would keep for each row if nothing were computed again."""
    whole = replace(model, remat="none", layer_loop="scan", layers=len(model.windows))
    deeper = replace(whole, layers=2 * whole.layers)
    more = _per_row_and_rest(deeper, chunk, z_loss)[0] - _per_row_and_rest(whole, chunk, z_loss)[0]
    return more // whole.layers


@functools.cache
def _per_row_and_rest(model: ModelConfig, chunk: int, z_loss: float) -> tuple[int, int]:
    """Bytes that the backward pass is given for each row, and bytes whatever the number of rows."""
    one, two = (
        sum(array.size * array.dtype.itemsize for array in _residuals(model, chunk, z_loss, rows)) for rows in (1, 2)
    )
    return two - one, 2 * one - two


def _residuals(model: ModelConfig, chunk: int, z_loss: float, rows: int) -> list[Any]:
    """Shapes of the arrays that the backward pass of `rows` rows is given, the parameters and the batch left out."""
    parameters = jax.eval_shape(lambda: Transformer(jax.random.key(0), model))
    shape = (rows, model.context_length)
    batch = {name: jax.ShapeDtypeStruct(shape, jnp.int32) for name in ("tokens", "labels", "positions", "segment_ids")}
    batch["loss_mask"] = jax.ShapeDtypeStruct(shape, jnp.bool_)
    objective = NextTokenConfig(z_loss, chunk)

    def backward(parameters: Transformer, batch: dict[str, jax.Array]) -> Any:
        return jax.vjp(lambda model: next_token(model, batch, objective)[0], parameters)[1]

    jaxpr = jax.make_jaxpr(backward)(parameters, batch).jaxpr
    given = set(jaxpr.invars)
    kept = {id(v): v for v in jaxpr.outvars if not hasattr(v, "val") and v not in given}  # `val`: a constant
    return [v.aval for v in kept.values()]


def _gathered(model: ModelConfig, tensor: int) -> tuple[int, int]:
    """Bytes, in the compute dtype, of one block's weights and of the largest of the others, gathered from `fsdp`."""
    shapes = parameter_shapes(model)
    itemsize = jnp.dtype(model.compute_dtype).itemsize
    blocks = sum(math.prod(shape) for name, shape in shapes.items() if name.startswith("blocks."))
    largest = max(math.prod(shape) for name, shape in shapes.items() if not name.startswith("blocks."))
    return blocks // model.layers // tensor * itemsize, largest // tensor * itemsize


def remedies(config: Experiment, hardware: Hardware) -> Iterator[tuple[dict[str, Any], Memory]]:
    """Settings that make a run fit which does not, each with the memory it then takes: one by one, else together.

    `accumulate` costs nothing while the parts are large, `mesh.fsdp` costs communication, `model.remat` arithmetic.
    """
    mesh = mesh_shape(config.mesh, hardware)
    spread = {"mesh.data": 1, "mesh.fsdp": hardware.count // mesh["tensor"]}
    parts = config.accumulate * rows_at_a_time(config, mesh)  # one row at a time on each device
    more_parts = [{"accumulate": n} for n in range(config.accumulate + 1, parts + 1) if parts % n == 0]
    remat: list[dict[str, Any]] = [{"model.remat": "dots"}, {"model.remat": "block"}]
    families: list[list[dict[str, Any]]] = [
        more_parts,
        [spread] if mesh["fsdp"] < spread["mesh.fsdp"] else [],
        remat[1:] if config.model.remat == "dots" else remat if config.model.remat == "none" else [],
    ]
    found = False
    for family in families:
        for changes in family:
            needed = _memory_with(config, hardware, changes)
            if needed is not None and needed.fits(hardware.chip):
                yield changes, needed
                found = True
                break
    if not found:
        for parts_of in [{}, *more_parts]:
            together = {**parts_of, **spread, "model.remat": "block"}
            needed = _memory_with(config, hardware, together)
            if needed is not None and needed.fits(hardware.chip):
                yield together, needed
                return


def enough_chips(config: Experiment, hardware: Hardware) -> int | None:
    """How many of these chips would hold the run with all of them along `mesh.fsdp` and full remat: a power of two."""
    for count in (2**n for n in range(hardware.count.bit_length(), 17)):
        changes = {"mesh.data": 1, "mesh.fsdp": count, "mesh.tensor": 1, "model.remat": "block", "accumulate": 1}
        needed = _memory_with(config, replace(hardware, count=count), {**changes, "batch_size": count})
        if needed is not None and needed.fits(hardware.chip):
            return count
    return None


def _memory_with(config: Experiment, hardware: Hardware, changes: dict[str, Any]) -> Memory | None:
    """The memory after some settings are changed; None where they do not fit the mesh."""
    for key, value in changes.items():
        group, dot, name = key.partition(".")
        changed = replace(getattr(config, group), **{name: value}) if dot else value
        config = replace(config, **{group: changed})
    try:
        return memory(config, hardware)
    except UserError:
        return None
