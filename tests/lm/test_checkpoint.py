"""Checkpoints: what is saved comes back, on any mesh; what is damaged is noticed."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from data_pipeline.errors import UserError
from lm.checkpoint import Checkpoints, checksum, restore_model
from lm.experiment import Experiment
from lm.model.config import ModelConfig
from lm.optimizer import OptimizerConfig, make_optimizer
from lm.sharding import MeshConfig, make_mesh
from lm.train import TrainState, abstract_state, init_state

CONFIG = Experiment(
    model=ModelConfig(vocab_size=64, layers=2, width=32, heads=4, kv_heads=2, mlp_width=64),
    optimizer=OptimizerConfig(name="muon"),
)
OPTIMIZER = make_optimizer(CONFIG.optimizer, CONFIG.steps)


def state_on(mesh_config: MeshConfig, devices) -> tuple[TrainState, TrainState]:
    """A fresh state lying on a mesh, and its abstract form."""
    mesh = make_mesh(mesh_config, devices)
    abstract = abstract_state(CONFIG, OPTIMIZER, mesh)
    shardings = jax.tree.map(lambda x: x.sharding, abstract)
    init = jax.jit(lambda key: init_state(key, CONFIG, OPTIMIZER), out_shardings=shardings)
    return init(jax.random.key(0)), abstract


def save(tmp_path, state: TrainState, *steps: int) -> None:
    checkpoints = Checkpoints(tmp_path, keep_last=3)
    for step in steps:
        checkpoints.save(step, state.model, state.optimizer, {"source": {"batches": step}})
    checkpoints.wait()
    checkpoints.close()


def test_comes_back_whole_on_another_mesh(tmp_path, eight_devices):
    state, _ = state_on(MeshConfig(data=2, fsdp=2, tensor=2), eight_devices)
    save(tmp_path, state, 7)
    for mesh, devices in ((MeshConfig(), eight_devices[:1]), (MeshConfig(data=1, fsdp=4), eight_devices[:4])):
        _, abstract = state_on(mesh, devices)
        model, optimizer, run = Checkpoints(tmp_path).restore(abstract.model, abstract.optimizer)
        jax.tree.map(np.testing.assert_array_equal, (state.model, state.optimizer), (model, optimizer))
        assert run["step"] == 7
        assert run["source"] == {"batches": 7}
        lies = jax.tree.map(lambda x, wanted: x.sharding == wanted.sharding, model, abstract.model)
        assert all(jax.tree.leaves(lies))


def test_no_checkpoint_is_none(tmp_path, eight_devices):
    _, abstract = state_on(MeshConfig(), eight_devices[:1])
    assert Checkpoints(tmp_path / "new").restore(abstract.model, abstract.optimizer) is None


def test_when_all_are_damaged_the_run_stops_instead_of_starting_again(tmp_path, eight_devices, capsys):
    state, abstract = state_on(MeshConfig(), eight_devices[:1])
    save(tmp_path, state, 1, 2)
    for file in tmp_path.rglob("d/*"):
        file.write_bytes(b"")
    with pytest.raises(UserError, match=r"no checkpoint in .* can be read"):
        Checkpoints(tmp_path).restore(abstract.model, abstract.optimizer)
    printed = capsys.readouterr().out
    assert "checkpoint 2 is damaged" in printed
    assert "checkpoint 1 is damaged" in printed
    assert {path.name for path in tmp_path.iterdir()} == {"damaged-1", "damaged-2"}  # nothing is thrown away
    with pytest.raises(UserError, match=r"no checkpoint in .* can be read"):  # nor does a second try start from nothing
        Checkpoints(tmp_path).restore(abstract.model, abstract.optimizer)


def test_a_half_written_checkpoint_is_never_chosen(tmp_path, eight_devices):
    state, abstract = state_on(MeshConfig(), eight_devices[:1])
    save(tmp_path, state, 1, 2)
    (tmp_path / "2").rename(tmp_path / "3.orbax-checkpoint-tmp")  # the name under which Orbax writes
    _, _, run = Checkpoints(tmp_path).restore(abstract.model, abstract.optimizer)
    assert run["step"] == 1


def test_the_model_alone(tmp_path, eight_devices):
    state, abstract = state_on(MeshConfig(), eight_devices[:1])
    save(tmp_path, state, 4, 9)
    model, step = restore_model(tmp_path, abstract.model)
    assert step == 9
    jax.tree.map(np.testing.assert_array_equal, state.model, model)
    assert restore_model(tmp_path, abstract.model, 4)[1] == 4
    with pytest.raises(UserError, match=r"no checkpoint 5 in .*: there are \[4, 9\]"):
        restore_model(tmp_path, abstract.model, 5)
    with pytest.raises(UserError, match="no checkpoints in"):
        restore_model(tmp_path / "elsewhere", abstract.model)


def test_checksum_sees_any_flipped_bit_and_no_sharding(eight_devices):
    state, _ = state_on(MeshConfig(), eight_devices[:1])
    spread, _ = state_on(MeshConfig(data=2, fsdp=2, tensor=2), eight_devices)
    whole = int(checksum(state.model))
    assert int(checksum(spread.model)) == whole
    embedding = np.asarray(state.model.token_embedding).copy()
    for bit in (0, 17, 31):
        flipped = embedding.view(np.uint32).copy()
        flipped[3, 5] ^= np.uint32(1 << bit)
        leaves, structure = jax.tree.flatten(state.model)
        at = next(i for i, leaf in enumerate(leaves) if leaf.shape == embedding.shape)
        leaves[at] = jnp.asarray(flipped.view(np.float32))
        assert int(checksum(structure.unflatten(leaves))) != whole


def test_checksum_by_hand():
    tree = [jnp.array([1.0, 2.0], jnp.float32), jnp.array([3], jnp.int32)]
    bits = np.array([1.0, 2.0], np.float32).view(np.uint32).astype(object)
    assert int(checksum(tree)) == (int(bits.sum()) * 1_000_003 + 3) % 2**32
