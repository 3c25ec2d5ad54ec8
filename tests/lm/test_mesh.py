"""The same run on any mesh of simulated devices: data, fsdp and tensor parallelism change the speed, not the losses."""

from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import jax
import numpy as np
import pytest
from tiny_models import build

from lm import sharding
from lm.checkpoint import save_parameters
from lm.experiment import CheckpointConfig, EvaluateConfig, Experiment
from lm.lora import LoraConfig
from lm.metrics import read_json_lines
from lm.model.config import ModelConfig
from lm.objectives.next_token import NextTokenConfig, next_token
from lm.optimizer import OptimizerConfig, make_optimizer
from lm.sharding import MeshConfig, make_mesh
from lm.stage import Stage, Start
from lm.train import abstract_state, init_state, train, train_step

STEPS = 5
MODELS = {
    "llama": ModelConfig(vocab_size=64, context_length=32, layers=2, width=32, heads=4, kv_heads=2, mlp_width=64),
    "gpt2": ModelConfig(
        vocab_size=64,
        context_length=32,
        layers=2,
        width=32,
        heads=4,
        kv_heads=4,
        mlp_width=64,
        positions="learned",
        norm="layernorm",
        activation="gelu",
        biases=True,
        layer_loop="scan",
        remat="block",
        tied_head=False,
    ),
    "scalars": ModelConfig(
        vocab_size=64,
        context_length=32,
        layers=2,
        width=32,
        heads=4,
        kv_heads=2,
        mlp_width=64,
        residual_scalars=True,
        value_embeddings=True,
        qk_norm=True,
    ),
}


def losses(
    model: ModelConfig, optimizer_name: str, mesh_config: MeshConfig, devices, accumulate: int
) -> list[tuple[float, float]]:
    config = Experiment(
        steps=STEPS,
        batch_size=16,
        model=model,
        optimizer=OptimizerConfig(name=optimizer_name, learning_rate=1e-2, warmup_steps=1),
    )
    optimizer = make_optimizer(config.optimizer, config.steps)
    mesh = make_mesh(mesh_config, devices)
    with jax.set_mesh(mesh):
        abstract = abstract_state(config, optimizer, mesh)
        shardings = jax.tree.map(lambda x: x.sharding, abstract)
        init = partial(init_state, config=config, optimizer=optimizer)
        state = jax.jit(init, out_shardings=shardings)(jax.random.key(0))
        objective = partial(next_token, config=NextTokenConfig(chunk=8))
        step = jax.jit(
            partial(train_step, objective=objective, optimizer=optimizer, accumulate=accumulate),
            out_shardings=(shardings, None),
            donate_argnums=0,
        )
        chance = np.random.default_rng(0)
        found = []
        for _ in range(STEPS):
            tokens = chance.integers(0, 8, (16, 33), dtype=np.int32)  # 8 of 64 symbols: something to learn
            batch = {
                "tokens": tokens[:, :-1],
                "labels": tokens[:, 1:],
                "positions": np.tile(np.arange(32, dtype=np.int32), (16, 1)),
                "segment_ids": np.tile(np.repeat(np.arange(2, dtype=np.int32), 16), (16, 1)),
                "loss_mask": chance.random((16, 32)) < 0.8,
            }
            state, metrics = step(state, sharding.put_batch(mesh, batch, 16))
            found.append((float(metrics["loss"]), float(metrics["gradient_norm"])))
        for leaf, wanted in zip(jax.tree.leaves(state), jax.tree.leaves(shardings), strict=True):
            assert leaf.sharding.is_equivalent_to(wanted, leaf.ndim)
    return found


def agree(name: str, optimizer: str, mesh: MeshConfig, devices, accumulate: int = 1) -> None:
    wanted = losses(MODELS[name], optimizer, MeshConfig(), devices[:1], accumulate=1)
    assert wanted[-1][0] < wanted[0][0] - 0.5  # it learns
    found = losses(MODELS[name], optimizer, mesh, devices, accumulate)
    np.testing.assert_allclose(found, wanted, rtol=2e-4)


@pytest.mark.parametrize(
    "mesh",
    [MeshConfig(data=8), MeshConfig(data=1, fsdp=8), MeshConfig(data=1, fsdp=4, tensor=2)],
    ids=["data=8", "fsdp=8", "fsdp=4,tensor=2"],
)
def test_every_mesh_gives_the_losses_of_one_device(mesh, eight_devices):
    agree("llama", "adamw", mesh, eight_devices)


def test_so_do_other_shapes_muon_and_accumulation(eight_devices):
    agree("gpt2", "muon", MeshConfig(data=2, fsdp=2, tensor=2), eight_devices, accumulate=2)


def test_so_do_normuon_value_embeddings_and_residual_scalars(eight_devices):
    agree("scalars", "normuon", MeshConfig(data=2, fsdp=2, tensor=2), eight_devices)


@pytest.mark.parametrize("rank", [0, 2])
def test_so_does_finetuning_from_a_checkpoint_with_new_tokens(eight_devices, tmp_path, rank):
    """The whole loop: a base model of fewer symbols is read onto the mesh, given rows, and taught sparse labels.

    With adapters of some rank, or without.
    """
    model = replace(MODELS["llama"], tied_head=False)
    base = replace(model, vocab_size=56)
    save_parameters(tmp_path / "base", jax.tree.map(np.asarray, build(base)))
    chance = np.random.default_rng(0)
    tokens = chance.integers(48, 64, (16, 33), dtype=np.int32)
    batch = {
        "tokens": tokens[:, :-1],
        "labels": tokens[:, 1:],
        "positions": np.tile(np.arange(32, dtype=np.int32), (16, 1)),
        "segment_ids": np.ones((16, 32), np.int32),
        "loss_mask": (chance.random((16, 32)) < 0.2) & (np.arange(16) % 3 > 0)[:, None],  # rows without any, too
    }
    source = SimpleNamespace(next=lambda _: batch, get_state=dict, set_state=None)
    objective = partial(next_token, config=NextTokenConfig(chunk=8))
    stage = Stage(source, objective, frozenset(), start=Start(tmp_path / "base", base, (3, 50)))
    config = Experiment(
        steps=4,
        batch_size=16,
        model=model,
        lora=LoraConfig(rank),
        optimizer=OptimizerConfig(learning_rate=1e-2, warmup_steps=1),
        evaluate=EvaluateConfig(every=0),
        checkpoint=CheckpointConfig(every=0),
    )

    def run(name: str, mesh: MeshConfig, devices) -> list[tuple[float, float]]:
        train(config, stage, make_mesh(mesh, devices), tmp_path / name)
        return [(r["loss"], r["gradient_norm"]) for r in read_json_lines(tmp_path / name / "metrics.jsonl")]

    wanted = run("one", MeshConfig(), eight_devices[:1])
    assert wanted[-1][0] < wanted[0][0] - 0.3
    np.testing.assert_allclose(run("eight", MeshConfig(2, 2, 2), eight_devices), wanted, rtol=2e-4)
