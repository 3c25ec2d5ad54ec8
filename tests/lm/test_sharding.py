"""Meshes of eight simulated devices: their errors, where each parameter lies, and that splitting changes no result."""

import re
from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec
from tiny_models import CONFIGS, abstract, build, small, tokens_of

from data_pipeline.errors import UserError
from lm.model.config import ModelConfig
from lm.model.presets import PRESETS, preset
from lm.objectives.next_token import NextTokenConfig, next_token
from lm.optimizer import OptimizerConfig, make_optimizer
from lm.sharding import (
    MESH_AXES,
    MeshConfig,
    batch_rows,
    batch_sharding,
    constrain,
    make_mesh,
    put_batch,
    tree_shardings,
)

# Every kind of parameter that there is.
EVERYTHING = small(biases=True, positions="learned", norm="layernorm", tied_head=False, qk_norm=True, vocab_size=30)


@pytest.mark.parametrize(
    ("config", "sizes"),
    [
        (MeshConfig(), (8, 1, 1)),
        (MeshConfig(data=2, fsdp=-1, tensor=2), (2, 2, 2)),
        (MeshConfig(data=1, fsdp=8), (1, 8, 1)),
        (MeshConfig(data=8, fsdp=-1), (8, 1, 1)),
        (MeshConfig(data=1, fsdp=1, tensor=-1), (1, 1, 8)),
    ],
)
def test_meshes(eight_devices, config, sizes):
    mesh = make_mesh(config, eight_devices)
    assert tuple(mesh.shape.items()) == tuple(zip(MESH_AXES, sizes, strict=True))
    assert list(mesh.devices.flat) == eight_devices
    assert make_mesh(MeshConfig(), eight_devices[:1]).size == 1


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (MeshConfig(data=3), "mesh data=3, fsdp=1, tensor=1 does not fit the 8 devices here"),
        (MeshConfig(data=-1, fsdp=3), "mesh data=-1, fsdp=3, tensor=1 does not fit the 8 devices here"),
        (MeshConfig(data=-1, fsdp=16), "mesh data=-1, fsdp=16, tensor=1 does not fit the 8 devices here"),
        (MeshConfig(data=2, fsdp=2), "mesh data=2, fsdp=2, tensor=1 does not fit the 8 devices here"),
        (
            MeshConfig(data=-1, fsdp=-1),
            "mesh data=-1, fsdp=-1, tensor=1: sizes are positive, and at most one may be -1",
        ),
        (MeshConfig(data=0), "mesh data=0, fsdp=1, tensor=1: sizes are positive"),
        (MeshConfig(data=-2, fsdp=-4), "mesh data=-2, fsdp=-4, tensor=1: sizes are positive"),
    ],
)
def test_meshes_that_do_not_fit_are_one_clear_line(eight_devices, config, message):
    with pytest.raises(UserError, match=f"^{re.escape(message)}.*$"):
        make_mesh(config, eight_devices)


def specs(mesh, tree) -> dict[str, PartitionSpec]:
    leaves = jax.tree_util.tree_leaves_with_path(tree_shardings(mesh, tree))
    return {jax.tree_util.keystr(path, simple=True, separator="."): sharding.spec for path, sharding in leaves}


def test_where_each_parameter_lies(eight_devices):
    """Matrices are split over fsdp along the residual stream and over tensor along the other axis."""
    got = specs(make_mesh(MeshConfig(2, 2, 2), eight_devices), abstract(EVERYTHING))
    into, out_of = (None, "fsdp", "tensor"), (None, "tensor", "fsdp")  # the layers in front are never split
    expected = {
        "token_embedding": ("tensor", "fsdp"),
        "position_embedding": (None, "fsdp"),
        "head": ("fsdp", "tensor"),
        "final_norm.scale": (None,),
        "final_norm.bias": (None,),
        **{f"blocks.{norm}_norm.{part}": (None, None) for norm in ("attention", "mlp") for part in ("scale", "bias")},
        **{
            f"blocks.attention.{norm}_norm.{part}": (None, None)
            for norm in ("query", "key")
            for part in ("scale", "bias")
        },
        **{f"blocks.{name}.kernel": into for name in ("attention.query", "attention.key", "attention.value")},
        **{f"blocks.{name}.kernel": into for name in ("mlp.gate", "mlp.up")},
        **{f"blocks.{name}.kernel": out_of for name in ("attention.output", "mlp.down")},
        **{f"blocks.attention.{name}.bias": (None, "tensor") for name in ("query", "key", "value")},
        **{f"blocks.mlp.{name}.bias": (None, "tensor") for name in ("gate", "up")},
        **{f"blocks.{name}.bias": (None, None) for name in ("attention.output", "mlp.down")},
    }
    assert got == {name: PartitionSpec(*axes) for name, axes in expected.items()}


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
@pytest.mark.parametrize("name", [*PRESETS, *CONFIGS])
def test_every_parameter_of_every_model_and_its_optimizer_has_a_place(eight_devices, name, optimizer):
    mesh = make_mesh(MeshConfig(2, 2, 2), eight_devices)
    model = abstract(divisible(preset(name) if name in PRESETS else CONFIGS[name]))
    state = specs(mesh, jax.eval_shape(make_optimizer(OptimizerConfig(optimizer), 1000).init, model))
    moments = 0
    for parameter, place in specs(mesh, model).items():
        assert len(place) >= 1
        for path, its_place in state.items():
            if path.endswith(f".{parameter}"):  # moments lie where their parameter does
                assert its_place == place, path
                moments += 1
    kernels = sum(path.endswith("kernel") for path in specs(mesh, model))
    assert moments == 2 * len(jax.tree.leaves(model)) - (kernels if optimizer == "muon" else 0)  # Muon has one moment


def divisible(config: ModelConfig) -> ModelConfig:
    """The model with even numbers of everything."""
    return replace(config, vocab_size=config.vocab_size + config.vocab_size % 2)


@pytest.mark.parametrize("name", [name for name in PRESETS if name.startswith("llama3")])
def test_a_llama_fits_a_mesh_with_all_axes(eight_devices, name):
    tree_shardings(make_mesh(MeshConfig(2, 2, 2), eight_devices), abstract(preset(name)))


@pytest.mark.parametrize(
    ("changes", "mesh", "message"),
    [
        ({}, MeshConfig(4, 1, 2), "token_embedding has 29 along 'vocab', which mesh tensor=2 cannot divide"),
        (
            {"vocab_size": 32, "width": 36},
            MeshConfig(1, 8),
            "blocks.attention.key.kernel has 36 along 'embed', which mesh fsdp=8",
        ),
        (
            {"vocab_size": 32, "mlp_width": 50},
            MeshConfig(2, 1, 4),
            "blocks.mlp.down.kernel has 50 along 'mlp', which mesh tensor=4 cannot divide",
        ),
    ],
)
def test_widths_that_do_not_divide_are_one_clear_line(eight_devices, changes, mesh, message):
    with pytest.raises(UserError, match=f"^{re.escape(message)}"):
        tree_shardings(make_mesh(mesh, eight_devices), abstract(small(**changes)))


def test_a_parameter_without_axes_is_named(eight_devices):
    with pytest.raises(ValueError, match=r"^no logical axes for blocks\.novel\.kernel with 3 axes"):
        tree_shardings(make_mesh(MeshConfig(), eight_devices), {"blocks": {"novel": {"kernel": jnp.zeros((2, 8, 8))}}})


def test_rows_of_this_process(eight_devices):
    for config in (MeshConfig(), MeshConfig(2, 2, 2), MeshConfig(1, 1, 8)):
        assert batch_rows(make_mesh(config, eight_devices), 16) == slice(0, 16)  # one process has them all
    assert batch_rows(make_mesh(MeshConfig(2, 1, 4), eight_devices), 6) == slice(0, 6)
    with pytest.raises(UserError, match=r"^batch_size=6 does not divide over mesh data x fsdp = 4$"):
        batch_rows(make_mesh(MeshConfig(2, 2, 2), eight_devices), 6)


def test_a_batch_is_split_by_rows(eight_devices):
    mesh = make_mesh(MeshConfig(2, 2, 2), eight_devices)
    rows = np.arange(8 * 3).reshape(8, 3)
    (got,) = put_batch(mesh, {"tokens": rows}, 8).values()
    assert got.sharding == batch_sharding(mesh)
    np.testing.assert_array_equal(got, rows)
    pieces = {shard.data.shape for shard in got.addressable_shards}
    assert pieces == {(2, 3)}  # four pieces, each on the two devices of `tensor`


def test_without_a_mesh_nothing_is_constrained():
    x = np.zeros((3, 5))
    assert constrain(x, "batch", None) is x


@pytest.mark.parametrize("mesh", [MeshConfig(2, 2, 2), MeshConfig(1, 2, 4)], ids=str)
def test_loss_and_gradients_do_not_depend_on_the_mesh(eight_devices, mesh):
    config: ModelConfig = replace(EVERYTHING, vocab_size=32, kv_heads=2, layer_loop="scan", remat="block")
    model = build(config)
    tokens = tokens_of(config, 8, 17)
    place = np.broadcast_to(np.arange(16, dtype=np.int32), (8, 16))
    names = ("tokens", "labels", "positions", "segment_ids", "loss_mask")
    batch = dict(zip(names, (tokens[:, :-1], tokens[:, 1:], place % 9, place // 9, place % 5 != 0), strict=True))
    value = jax.jit(jax.value_and_grad(partial(next_token, config=NextTokenConfig(1e-3, 4)), has_aux=True))
    expected = value(model, batch)

    mesh = make_mesh(mesh, eight_devices)
    shardings = tree_shardings(mesh, model)
    with jax.set_mesh(mesh):
        got = value(jax.device_put(model, shardings), put_batch(mesh, batch, 8))
    for one, other in zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5, rtol=1e-4)
