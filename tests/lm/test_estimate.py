"""Estimates against closed forms, published runs, real arrays, and what XLA plans for the compiled step."""

import dataclasses
from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import pytest
from jax.experimental import topologies
from tiny_models import small

from data_pipeline.errors import UserError
from experiments.pretrain import gpt2, llama3
from lm.estimate import (
    CHIPS,
    GIB,
    USABLE,
    Hardware,
    enough_chips,
    estimate,
    kept_for_backward,
    memory,
    one_block,
    parse_hardware,
    remedies,
)
from lm.experiment import Experiment
from lm.flops import PEAK_FLOPS
from lm.model.config import ModelConfig
from lm.model.presets import preset
from lm.model.summary import parameter_count, parameter_shapes
from lm.objectives.next_token import next_token
from lm.optimizer import OptimizerConfig, make_optimizer
from lm.sharding import MeshConfig, batch_sharding, make_mesh
from lm.train import abstract_state, init_state, train_step

LECTURE = replace(
    gpt2.get_config("1558m"), steps=32_000, batch_size=1024, accumulate=8
)  # 33.6 billion tokens, as llm.c's run


def test_the_lectures_gpt2_takes_a_day_and_600_dollars():
    found = estimate(LECTURE, parse_hardware("h100:8"), mfu=0.5, dollars_per_chip_hour=3.5)
    assert found.parameters == 1_557_611_200  # the released model's
    assert found.tokens == 32_000 * 2**20
    # 6 N for the weights (the head is tied; positions are only looked up), 12 L D T for attention (arXiv 2204.02311)
    per_token = 6 * (found.parameters - 1024 * 1600) + 12 * 48 * 1600 * 1024
    assert found.flops_per_token == pytest.approx(per_token, rel=1e-3)  # 6 N counts the biases and norms too
    assert found.seconds == pytest.approx(per_token * found.tokens / (8 * 989e12 * 0.5), rel=1e-3)
    # llm.c's own: 24 hours, $672 on eight H100 at about 50% MFU
    assert found.seconds / 3600 == pytest.approx(24, rel=0.03)
    assert found.dollars == pytest.approx(672, rel=0.03)


def test_time_and_money_scale_as_they_must():
    one = estimate(LECTURE, parse_hardware("h100:8"), 0.5, 3.5)
    more_chips = estimate(LECTURE, parse_hardware("h100:16"), 0.5, 3.5)
    assert more_chips.seconds == pytest.approx(one.seconds / 2)
    assert more_chips.dollars == pytest.approx(one.dollars)
    assert estimate(LECTURE, parse_hardware("h100:8"), 0.25, 3.5).dollars == pytest.approx(2 * one.dollars)
    assert estimate(LECTURE, parse_hardware("h100:8"), 0.5, 0.0).dollars == 0


@pytest.mark.parametrize(
    ("name", "parameters"), [("1b", 1_235_814_400), ("8b", 8_030_261_248), ("405b", 405_853_388_800)]
)
def test_adamw_in_float32_takes_16_bytes_a_parameter_split_over_fsdp(name, parameters):
    config = replace(llama3.get_config(name), accumulate=1)
    found = memory(config, Hardware("h100", 512))  # mesh fsdp=512
    norms = (2 * config.model.layers + 1) * config.model.width  # not worth splitting: every device has them all
    wanted = 16 * ((parameters - norms) / 512 + norms)
    assert found.parameters + found.gradients + found.optimizer == pytest.approx(wanted, rel=1e-6)
    assert found.parameters == found.gradients
    tensor = memory(replace(config, batch_size=64, mesh=MeshConfig(1, 64, 8)), Hardware("h100", 512))
    assert tensor.parameters == found.parameters


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
@pytest.mark.parametrize("mesh", [MeshConfig(data=8), MeshConfig(1, 4, 2)], ids=["data=8", "fsdp=4,tensor=2"])
def test_the_state_is_as_large_as_the_real_one(eight_devices, optimizer, mesh):
    config = Experiment(batch_size=16, model=small(vocab_size=32), mesh=mesh, optimizer=OptimizerConfig(name=optimizer))
    real_mesh, transform = make_mesh(mesh, eight_devices), make_optimizer(config.optimizer, config.steps)
    shardings = jax.tree.map(lambda x: x.sharding, abstract_state(config, transform, real_mesh))
    init = jax.jit(partial(init_state, config=config, optimizer=transform), out_shardings=shardings)
    state = init(jax.random.key(0))
    found = memory(config, Hardware("h100", 8))

    def on_first_device(tree) -> int:
        return sum(leaf.addressable_shards[0].data.nbytes for leaf in jax.tree.leaves(tree))

    assert (found.parameters, found.optimizer) == (on_first_device(state.model), on_first_device(state.optimizer))


# Scanned, as the presets for accelerators are, in float32, and with XLA's attention: what a CPU can plan as they would.
SHAPE = {"vocab_size": 1024, "context_length": 128, "layers": 4, "width": 128, "heads": 4, "kv_heads": 4}
SHAPE |= {"mlp_width": 512, "layer_loop": "scan", "attention": "xla"}
GPT2 = {"positions": "learned", "norm": "layernorm", "activation": "gelu", "biases": True}
PLANNED = {
    "gpt2": (GPT2, {}, MeshConfig()),
    "llama, remat=dots": ({"tied_head": False, "remat": "dots"}, {}, MeshConfig()),
    "gpt2, remat=block, in parts": ({**GPT2, "remat": "block"}, {"accumulate": 4}, MeshConfig()),
    "many symbols": ({"vocab_size": 16_384, "remat": "block"}, {}, MeshConfig()),
    "muon, windows": ({"windows": (16, 0)}, {"optimizer": OptimizerConfig(name="muon")}, MeshConfig()),
    "unrolled": ({"layer_loop": "unrolled"}, {}, MeshConfig()),
    "data=8": ({"remat": "block"}, {"batch_size": 64}, MeshConfig(data=8)),
    "fsdp=8, wide": ({"width": 512, "mlp_width": 2048, "remat": "block"}, {"batch_size": 8}, MeshConfig(1, 8)),
    "fsdp=8, many symbols": ({"vocab_size": 16_384, "remat": "block"}, {"batch_size": 8}, MeshConfig(1, 8)),
    "fsdp=4,tensor=2": ({"remat": "none"}, {"batch_size": 64}, MeshConfig(1, 4, 2)),
}


def plan(config: Experiment, mesh: jax.sharding.Mesh):
    """The memory that XLA plans on each device of the mesh for the real step."""
    optimizer = make_optimizer(config.optimizer, config.steps)
    state = abstract_state(config, optimizer, mesh)
    step = partial(
        train_step,
        objective=partial(next_token, config=config.objective),
        optimizer=optimizer,
        accumulate=config.accumulate,
    )
    shape = (config.batch_size, config.model.context_length)
    rows = partial(jax.ShapeDtypeStruct, shape, sharding=batch_sharding(mesh))
    batch = {name: rows(jnp.int32) for name in ("tokens", "labels", "positions", "segment_ids")}
    shardings = jax.tree.map(lambda x: x.sharding, state)
    with jax.set_mesh(mesh):
        step = jax.jit(step, donate_argnums=0, out_shardings=(shardings, None))
        return step.lower(state, {**batch, "loss_mask": rows(jnp.bool_)}).compile().memory_analysis()


@pytest.mark.parametrize("name", PLANNED)
def test_the_total_is_within_a_quarter_of_what_xla_plans(eight_devices, name):
    model, changes, mesh_config = PLANNED[name]
    config = Experiment(model=ModelConfig(**{**SHAPE, **model}), mesh=mesh_config, **{"batch_size": 16, **changes})
    count = 1 if mesh_config == MeshConfig() else 8
    mesh = make_mesh(mesh_config, eight_devices[:count])
    planned, found = plan(config, mesh), memory(config, Hardware("h100", count))
    batch_bytes = config.batch_size // count * 128 * (4 * 4 + 1) * mesh.shape["tensor"]
    assert planned.argument_size_in_bytes == pytest.approx(found.parameters + found.optimizer + batch_bytes, rel=0.01)
    assert planned.alias_size_in_bytes == pytest.approx(found.parameters + found.optimizer, rel=0.01)
    temporary = found.total - found.parameters - found.optimizer
    # Unrolled, XLA computes some of what is kept again; in parts the estimate is up to a third above its plan.
    most = 1.5 if config.model.layer_loop == "unrolled" else 1.33 if config.accumulate > 1 else 1.25
    assert 0.75 < temporary / planned.temp_size_in_bytes < most


# As a pod runs them: bfloat16, Splash, and rows of several chunks of logits.
ON_TPU = {"context_length": 512, "width": 512, "mlp_width": 2048, "vocab_size": 8192}
ON_TPU |= {"compute_dtype": "bfloat16", "attention": "splash"}
PLANNED_ON_TPU = {
    "plain": ({}, {}, MeshConfig()),
    "remat=dots, in parts": ({"remat": "dots"}, {"accumulate": 2}, MeshConfig(data=4)),
    "remat=block, few rows": ({"remat": "block"}, {"batch_size": 8}, MeshConfig(1, 4)),
    "fsdp=2,tensor=2": ({}, {}, MeshConfig(1, 2, 2)),
}


@pytest.mark.parametrize("name", PLANNED_ON_TPU)
def test_the_total_is_within_a_quarter_of_what_xla_plans_for_a_tpu(name, monkeypatch):
    pytest.importorskip("libtpu", reason="libtpu is not installed: the compiler for TPUs is not asked")
    monkeypatch.setenv("TPU_SKIP_MDS_QUERY", "1")
    devices = list(topologies.get_topology_desc(platform="tpu", topology_name="v5p:2x2x1").devices)
    model, changes, mesh_config = PLANNED_ON_TPU[name]
    shape = ModelConfig(**{**SHAPE, **ON_TPU, **model})
    config = Experiment(model=shape, mesh=mesh_config, **{"batch_size": 32, **changes})
    count = 1 if mesh_config == MeshConfig() else 4
    with jax.default_matmul_precision("default"):  # float32, which tests ask for, is not for Splash
        planned = plan(config, make_mesh(mesh_config, devices[:count]))
    found = memory(config, Hardware("v5p", count))
    temporary = found.total - found.parameters - found.optimizer
    assert 0.75 < temporary / planned.temp_size_in_bytes < 1.25


def test_what_remat_block_keeps_is_the_input_of_each_block():
    model = replace(preset("gpt2-124m"), remat="block")
    kept, weight_copies = kept_for_backward(model, 128, 0.0)
    inputs = 12 * 1024 * 768 * 2  # bfloat16
    blocks = parameter_count({k: v for k, v in parameter_shapes(model).items() if k.startswith("blocks.")})
    around = 3 * 1024 * 768 * 4 + 1024 * 768 * 2  # the final norm's in float32, and what the head reads
    assert inputs + 0.5 * around < kept < inputs + 1.1 * around
    assert weight_copies == pytest.approx(4 * blocks, rel=0.01)  # as they are, in float32
    less = kept_for_backward(replace(model, remat="dots"), 128, 0.0)[0]
    # q, k, v, the output of attention, of the first MLP matrix, and of the second
    assert less - kept == pytest.approx(12 * 1024 * 768 * 2 * (1 + 1 + 1 + 1 + 4), rel=0.15)


def test_without_remat_the_cast_weights_are_kept_and_flash_keeps_no_weights_of_attention():
    model = preset("gpt2-124m")
    plain, weight_copies = kept_for_backward(replace(model, attention="xla"), 128, 0.0)
    assert weight_copies == pytest.approx(12 * 12 * 768**2 * 2, rel=1e-3)  # every matrix of the blocks in bfloat16
    flash = kept_for_backward(replace(model, attention="splash"), 128, 0.0)[0]
    triangle = 12 * 12 * 1024 * 1024 / 2
    assert plain - flash > triangle * (4 + 2)  # exponentials in float32, weights in bfloat16
    assert one_block(model, 128, 0.0) == pytest.approx(plain / 12, rel=0.1)


def test_memory_is_of_the_rows_that_a_device_takes_at_a_time():
    h100 = Hardware("h100", 8)
    parts8, parts16 = (memory(replace(LECTURE, accumulate=n), h100) for n in (8, 16))
    assert parts8.kept == 2 * parts16.kept
    whole = replace(LECTURE, accumulate=1, batch_size=128)
    assert memory(whole, h100).kept == parts8.kept
    assert memory(whole, h100).gradients == parts8.parameters
    assert parts8.gradients == 3 * parts8.parameters
    matrices = 48 * 12 * 1600**2
    assert parts8.weight_copies == pytest.approx(2 * matrices, rel=0.01)
    split = memory(replace(LECTURE, mesh=MeshConfig(1, 8)), h100)
    assert split.weight_copies == pytest.approx(2 * matrices / 8, rel=0.01)
    float32 = replace(LECTURE, model=replace(LECTURE.model, compute_dtype="float32"))
    assert memory(float32, h100).kept > 1.9 * parts8.kept  # and on a GPU, no cuDNN for float32
    assert memory(float32, h100).weight_copies == pytest.approx(2 * parts8.weight_copies, rel=0.01)


@pytest.mark.parametrize(
    ("config", "hardware"),
    [
        (LECTURE, "h100:8"),
        (replace(llama3.get_config("8b"), mesh=MeshConfig(data=-1)), "h100:64"),
        (replace(LECTURE, batch_size=1024, accumulate=32), "v5e:8"),  # nothing alone is enough
        (llama3.get_config("1b"), "a100-40gb"),
    ],
)
def test_remedies_fit_and_are_needed(config, hardware):
    hardware = parse_hardware(hardware)
    limit = USABLE * hardware.chip.memory * GIB
    assert memory(config, hardware).total > limit
    found = list(remedies(config, hardware))
    assert found
    for changes, promised in found:
        assert memory(with_changes(config, changes), hardware) == promised
        assert promised.total <= limit
        if hardware.name == "v5e":
            assert {"mesh.fsdp", "model.remat"} <= set(changes)
        if set(changes) == {"accumulate"}:  # and fewer parts would not do
            fewer = range(config.accumulate, changes["accumulate"])
            fewer = [n for n in fewer if config.batch_size % (n * hardware.count) == 0]
            assert all(memory(replace(config, accumulate=n), hardware).total > limit for n in fewer)


def with_changes(config: Experiment, changes: dict) -> Experiment:
    for key, value in changes.items():
        group, _, name = key.rpartition(".")
        new = {group: replace(getattr(config, group), **{name: value})} if group else {key: value}
        config = replace(config, **new)
    return config


def test_the_presets_as_they_are_fit_eight_h100():
    for config in (gpt2.get_config("124m"), llama3.get_config("8b")):
        assert memory(config, Hardware("h100", 8)).fits(CHIPS["h100"])


def test_where_no_setting_helps_more_chips_do():
    config = replace(llama3.get_config("70b"), accumulate=1)
    four = parse_hardware("h100:4")
    assert list(remedies(config, four)) == []
    enough = enough_chips(config, four)
    state_alone = 16 * 70.6e9 / (USABLE * 79 * GIB)  # 15.4 chips, before any activation
    assert state_alone < enough <= 64
    assert enough_chips(llama3.get_config("405b"), parse_hardware("l4:8")) is None


def test_every_chip_has_a_peak():
    assert {chip.kind for chip in CHIPS.values()} <= set(PEAK_FLOPS)
    assert Hardware("h100", 8).peak == 8 * 989e12
    assert parse_hardware("V5P:256") == Hardware("v5p", 256)
    assert parse_hardware("h100") == Hardware("h100", 1)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("h1000:8", "hardware 'h1000:8' is not known: choose one of a10, "),
        ("", "is not known"),
        ("h100:0", "'0' is not a number of chips"),
        ("h100:-8", "'-8' is not a number"),
        ("h100:", "'' is not a number"),
        ("h100:eight", "'eight' is not a number"),
    ],
)
def test_hardware_that_there_is_not(text, message):
    with pytest.raises(UserError, match=message):
        parse_hardware(text)


@pytest.mark.parametrize(
    ("changes", "hardware", "message"),
    [
        ({"batch_size": 1020}, "h100:8", "batch_size=1020 in accumulate=8 parts does not divide .* multiple of 64"),
        ({"batch_size": 8, "accumulate": 2}, "h100:8", "make it a multiple of 16"),
        ({"mesh": MeshConfig(data=3)}, "h100:8", "does not fit the 8 devices"),
        ({"mesh": MeshConfig(1, 1, 8)}, "h100:8", "cannot divide"),  # 50,257 symbols
    ],
)
def test_what_does_not_fit_the_mesh_is_told(changes, hardware, message):
    with pytest.raises(UserError, match=message):
        estimate(replace(LECTURE, **changes), parse_hardware(hardware), 0.5, 1.0)


def test_an_estimate_makes_no_array():
    before = {id(array) for array in jax.live_arrays()}
    config = replace(llama3.get_config("405b"), accumulate=1)
    found = estimate(config, parse_hardware("h200:512"), 0.4, 1.0)
    assert sum(array.nbytes for array in jax.live_arrays() if id(array) not in before) < 2**20
    assert dataclasses.asdict(found)["mesh"] == {"data": 1, "fsdp": 512, "tensor": 1}
