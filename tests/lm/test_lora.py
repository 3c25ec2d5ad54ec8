"""Adapters: nothing at first, a dense update at full rank, the base untouched, and only they are kept."""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from test_train import MODEL, Batches, experiment, random_batch, weighted_objective
from tiny_models import CONFIGS, build

from data_pipeline.errors import UserError
from lm.checkpoint import Checkpoints, restore_merged, restore_model, save_parameters
from lm.experiment import check_experiment
from lm.lora import TARGETS, Adapters, LoraConfig, Pair, check_lora, init_adapters, merged
from lm.objectives.next_token import NextTokenConfig, next_token
from lm.optimizer import OptimizerConfig, make_optimizer
from lm.sharding import MeshConfig, make_mesh, path_name
from lm.stage import Stage, Start
from lm.train import TrainState, abstract_model, begin_state, train, train_step

SMALL = LoraConfig(rank=2, alpha=4.0)


def moved(adapters: Adapters, seed: int = 0) -> Adapters:
    """As after some training."""
    chance = np.random.default_rng(seed)
    return jax.tree.map(lambda x: x + 0.1 * chance.standard_normal(x.shape).astype(np.float32), adapters)


@pytest.mark.parametrize("name", CONFIGS)
def test_at_first_the_model_is_as_it_was(name):
    """To the bit, whatever the switches of the model."""
    base = build(CONFIGS[name])
    adapters = init_adapters(jax.random.key(0), base, SMALL)
    assert all(np.any(pair.lora_a) for pair in adapters.pairs.values())
    jax.tree.map(np.testing.assert_array_equal, merged(base, adapters), base)


def test_the_formula():
    """W + (alpha / rank) A B, layer by layer, in float64; biases, norms and what is no target stay as they are."""
    base = build(CONFIGS["biased"])
    adapters = moved(
        init_adapters(jax.random.key(0), base, replace(SMALL, targets=("query", "down", "token_embedding")))
    )
    names = {"blocks.attention.query", "blocks.mlp.down", "token_embedding"}
    assert adapters.pairs.keys() == names
    before, after = jax.tree_util.tree_leaves_with_path(base), jax.tree.leaves(merged(base, adapters))
    for (path, old), new in zip(before, after, strict=True):
        name = path_name(path).removesuffix(".kernel")
        if name not in names:
            np.testing.assert_array_equal(new, old)
            continue
        a, b = (np.asarray(x, np.float64) for x in adapters.pairs[name])
        product = a @ b if a.ndim == 2 else np.stack([a[i] @ b[i] for i in range(len(a))])
        assert a.shape[-1] == SMALL.rank
        np.testing.assert_allclose(new, old + 4.0 / 2 * product, rtol=1e-5, atol=1e-6)


def test_every_target_is_a_matrix_and_every_matrix_can_be_one():
    untied = build(CONFIGS["llama3"])
    pairs = init_adapters(jax.random.key(0), untied, LoraConfig(rank=1)).pairs
    assert {name.rpartition(".")[2] for name in pairs} == set(TARGETS)
    matrices = {
        path_name(p).removesuffix(".kernel") for p, x in jax.tree_util.tree_leaves_with_path(untied) if x.ndim > 1
    }
    assert pairs.keys() == {name for name in matrices if "norm" not in name}


def test_a_scalar_head_is_adapted_whatever_the_targets():
    """It begins at 0, and adapters before a head that stays there would learn nothing."""
    base = build(replace(MODEL, scalar_head=True))
    adapters = init_adapters(jax.random.key(0), base, replace(SMALL, targets=("query",)))
    assert adapters.pairs.keys() == {"blocks.attention.query", "scalar_head"}
    x, y = jax.random.normal(jax.random.key(1), (64, MODEL.width)), jnp.arange(64.0)

    def loss(adapters):
        return jnp.mean((x @ merged(base, adapters).scalar_head - y) ** 2)

    a, b = adapters.pairs["scalar_head"]
    np.testing.assert_allclose(
        jax.grad(loss)(adapters).pairs["scalar_head"].lora_b,
        2.0 * a.T @ (2 / 64 * x.T @ (x @ base.scalar_head - y)),  # alpha / rank, and the derivative of a linear map
        rtol=1e-3,
        atol=1e-3,
    )
    assert not np.any(b)


def test_full_rank_is_a_dense_update():
    """One linear map on a squared error: with A fixed to the identity, a step on B is the step on W itself."""
    chance = np.random.default_rng(0)
    w, x, y = (chance.standard_normal(shape) for shape in ((4, 4), (16, 4), (16, 4)))
    w, x, y = map(jnp.asarray, (w, x, y))

    base = {"query": {"kernel": w}}
    adapters = Adapters({"query": Pair(jnp.eye(4), jnp.zeros((4, 4)))}, 1.0)

    def loss(b):
        pairs = {"query": Pair(adapters.pairs["query"].lora_a, b)}
        matrix = merged(base, replace(adapters, pairs=pairs))["query"]["kernel"]
        return jnp.mean(jnp.sum((x @ matrix - y) ** 2, axis=1))

    gradient = jax.grad(loss)(adapters.pairs["query"].lora_b)
    dense = 2 / len(x) * np.asarray(x).T @ (np.asarray(x) @ np.asarray(w) - np.asarray(y))
    np.testing.assert_allclose(gradient, dense, rtol=1e-4, atol=1e-5)
    # Any update of W can be written, and none of a higher rank by a lower one.
    update = chance.standard_normal((4, 4))
    u, s, v = np.linalg.svd(update)
    for rank in (4, 2):
        pair = Pair(jnp.asarray(u[:, :rank] * s[:rank]), jnp.asarray(v[:rank]))
        found = merged(base, Adapters({"query": pair}, 1.0))["query"]["kernel"] - w
        error = np.linalg.norm(np.asarray(found) - update)
        np.testing.assert_allclose(error, np.linalg.norm(s[rank:]), atol=1e-5)


def test_a_step_is_the_chain_rule():
    """With G the gradient of W: that of A is scale G B^T, that of B is scale A^T G. The base stays, to the bit."""
    base = build(MODEL)
    adapters = moved(init_adapters(jax.random.key(0), base, SMALL))
    objective = partial(next_token, config=NextTokenConfig())
    batch = random_batch(0)
    g = jax.jit(jax.grad(lambda model: objective(model, batch)[0]))(merged(base, adapters))
    optimizer = optax.sgd(1.0)
    state = TrainState(adapters, optimizer.init(adapters), base)
    after, _ = jax.jit(partial(train_step, objective=objective, optimizer=optimizer))(state, batch)
    jax.tree.map(np.testing.assert_array_equal, after.base, base)
    for name, dense in (("blocks.mlp.up", g.blocks.mlp.up.kernel), ("token_embedding", g.token_embedding)):
        (a, b), (new_a, new_b) = adapters.pairs[name], after.model.pairs[name]
        np.testing.assert_allclose(a - new_a, 2.0 * dense @ jnp.swapaxes(b, -1, -2), rtol=1e-3, atol=1e-5)
        np.testing.assert_allclose(b - new_b, 2.0 * jnp.swapaxes(a, -1, -2) @ dense, rtol=1e-3, atol=1e-5)


# --- a run


def start_of(folder) -> Start:
    if not (folder / "pretrained").exists():
        save_parameters(folder / "pretrained", jax.tree.map(np.asarray, build(MODEL)))
    return Start(folder / "pretrained", MODEL, new_tokens=(3,))


def run(folder, name: str, poisoned: int = 0, **changes):
    config = experiment(
        lora=SMALL, start_from="pretrained", optimizer=OptimizerConfig(learning_rate=1e-2, warmup_steps=1)
    )
    stage = Stage(Batches(poisoned), weighted_objective, frozenset(), start=start_of(folder))
    return train(replace(config, **changes), stage, make_mesh(MeshConfig(), jax.devices()[:1]), folder / name)


def shapes(config=MODEL):
    return abstract_model(config, make_mesh(MeshConfig(), jax.devices()[:1]))


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("lora")
    return folder, run(folder, "whole")


def test_the_base_is_kept_as_it_began_and_adapters_alone_are_saved(trained):
    folder, _ = trained
    base, _ = restore_model(folder / "whole" / "base", shapes())
    began, known = build(MODEL), np.arange(MODEL.vocab_size) != 3
    for (path, x), y in zip(jax.tree_util.tree_leaves_with_path(base), jax.tree.leaves(began), strict=True):
        if path_name(path) == "token_embedding":  # with the row of the new token
            np.testing.assert_array_equal(x[known], y[known])
            np.testing.assert_allclose(x[3], np.asarray(y, np.float64)[known].mean(0), atol=1e-6)
        else:
            np.testing.assert_array_equal(x, y)
    optimizer = make_optimizer(OptimizerConfig(warmup_steps=1), 6)
    state = begin_state(base, experiment(lora=SMALL), optimizer)
    count = sum(x.size for x in jax.tree.leaves(state.model))
    assert count < 0.3 * sum(x.size for x in jax.tree.leaves(base))
    # The optimizer's state is that of the adapters: two moments of each.
    assert sum(x.size for x in jax.tree.leaves(state.optimizer) if x.ndim) == 2 * count
    newest = folder / "whole" / "checkpoints" / "6" / "model"
    abstract = jax.eval_shape(lambda: state.model)
    adapters = restore_model(folder / "whole" / "checkpoints", with_shardings(abstract))[0]
    assert jax.tree.structure(adapters) == jax.tree.structure(state.model)
    stored = sum(path.stat().st_size for path in (newest / "d").glob("*"))
    assert stored < 4 * sum(x.size for x in jax.tree.leaves(base)) / 2


def with_shardings(tree):
    one = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=one), tree)


def test_what_is_loaded_is_the_merged_model(trained):
    folder, model = trained
    found, step = restore_merged(folder / "whole" / "checkpoints", shapes(), SMALL)
    assert step == 6
    jax.tree.map(partial(np.testing.assert_allclose, atol=1e-6), found, model)
    tokens = random_batch(9)["tokens"]
    np.testing.assert_allclose(found(tokens), model(tokens), atol=1e-5)
    assert np.abs(np.asarray(found(tokens) - build(MODEL)(tokens))).max() > 0.01  # it has learnt
    single, _ = restore_merged(folder / "whole" / "checkpoints", with_shardings(shapes()), SMALL, 4)
    assert not np.array_equal(single.token_embedding, found.token_embedding)


def test_it_resumes_exactly_without_the_run_it_started_from(trained, tmp_path):
    _, model = trained
    with pytest.raises(UserError, match="step 4"):
        run(tmp_path, "stopped", poisoned=4)
    for path in sorted((tmp_path / "pretrained").rglob("*"), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()
    resumed = run(tmp_path, "stopped")
    jax.tree.map(np.testing.assert_array_equal, resumed, model)


@pytest.mark.parametrize(
    ("damage", "told"), [("gone", "is gone, which the adapters belong to"), ("flipped", "can be read")]
)
def test_a_base_that_is_gone_or_damaged_is_told(tmp_path, damage, told):
    run(tmp_path, "run", steps=2)
    base = tmp_path / "run" / "base"
    if damage == "gone":
        base.rename(tmp_path / "elsewhere")
    else:
        largest = max((path for path in base.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)
        contents = bytearray(largest.read_bytes())
        contents[len(contents) // 2] ^= 0x10
        largest.write_bytes(contents)
    with pytest.raises(UserError, match=told):
        run(tmp_path, "run", steps=3)


def test_a_run_killed_before_its_first_checkpoint_begins_again(trained, tmp_path, monkeypatch):
    """The base is there and no checkpoint is: both are written again."""
    _, model = trained
    with monkeypatch.context() as patch:
        save = Checkpoints.save

        def killed(self, *args):
            if self.directory.name == "checkpoints":
                raise KeyboardInterrupt
            save(self, *args)

        patch.setattr(Checkpoints, "save", killed)
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path, "killed")
    assert (tmp_path / "killed" / "base" / "0").exists()
    jax.tree.map(np.testing.assert_array_equal, run(tmp_path, "killed"), model)


def test_a_run_may_start_from_adapters(trained, tmp_path):
    """The next run begins with the merged model, adapters or not."""
    folder, model = trained
    start = Start(folder / "whole" / "checkpoints", MODEL, lora=SMALL)
    stage = Stage(Batches(), weighted_objective, frozenset(), start=start)
    still = OptimizerConfig(learning_rate=1e-12, warmup_steps=1)
    config = experiment(steps=1, optimizer=still)
    found = train(config, stage, make_mesh(MeshConfig(), jax.devices()[:1]), tmp_path / "next")
    jax.tree.map(partial(np.testing.assert_allclose, atol=1e-6), found, model)


@pytest.mark.parametrize("name", ["muon", "normuon"])
def test_other_optimizers_take_adapters(name, tmp_path):
    run(tmp_path, "run", steps=1, optimizer=OptimizerConfig(name=name, warmup_steps=0))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (LoraConfig(rank=-1), "lora.rank=-1"),
        (LoraConfig(rank=2, alpha=0.0), "lora.alpha=0.0"),
        (LoraConfig(rank=2, targets=("querry",)), "names 'querry': choose from query, key"),
        (LoraConfig(rank=2, targets=()), "no matrix at all"),
    ],
)
def test_senseless_adapters_are_refused(config, message):
    with pytest.raises(UserError, match=message):
        check_lora(config)


def test_adapters_need_a_model():
    with pytest.raises(UserError, match="name it with start_from"):
        check_experiment(experiment(lora=SMALL))
