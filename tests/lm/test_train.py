"""The one loop: an update is what it says, learning works, and nothing that is not finite is ever passed over."""

import math
from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from data_pipeline.errors import UserError
from lm.experiment import CheckpointConfig, EvaluateConfig, Experiment, SampleConfig, check_experiment
from lm.metrics import read_json_lines
from lm.model.config import ModelConfig
from lm.model.transformer import Transformer
from lm.objectives.next_token import NextTokenConfig, next_token
from lm.optimizer import OptimizerConfig, make_optimizer
from lm.sharding import MeshConfig, make_mesh
from lm.stage import Stage
from lm.train import TrainState, init_state, train, train_step

MODEL = ModelConfig(vocab_size=64, context_length=16, layers=2, width=32, heads=2, kv_heads=1, mlp_width=64)
B, T = 4, MODEL.context_length


def random_batch(seed: int, kept: float = 1.0) -> dict[str, np.ndarray]:
    chance = np.random.default_rng(seed)
    tokens = chance.integers(0, MODEL.vocab_size, (B, T + 1), dtype=np.int32)
    return {
        "tokens": tokens[:, :-1],
        "labels": tokens[:, 1:],
        "positions": np.tile(np.arange(T, dtype=np.int32), (B, 1)),
        "segment_ids": np.ones((B, T), np.int32),
        "loss_mask": chance.random((B, T)) < kept,
    }


class Batches:
    """A source that gives the same batches every time; `poisoned` says at which one (from 1) the data is damaged."""

    def __init__(self, poisoned: int = 0) -> None:
        self.at, self.poisoned = 0, poisoned

    def next(self, model):
        self.at += 1
        batch = random_batch(self.at)
        batch["weights"] = np.full((B, 1), np.nan if self.at == self.poisoned else 1.0, np.float32)
        return batch

    def get_state(self):
        return {"at": self.at}

    def set_state(self, state):
        self.at = state["at"]

    def describe(self, batch):
        return ["book:3", "book:5"]


def weighted_objective(model, batch):
    loss, metrics = next_token(model, batch, NextTokenConfig())
    return loss * jnp.mean(batch["weights"]), metrics


def experiment(**changes) -> Experiment:
    never = {"evaluate": EvaluateConfig(0), "sample": SampleConfig(0), "checkpoint": CheckpointConfig(2)}
    optimizer = OptimizerConfig(warmup_steps=1)
    return Experiment(**{"steps": 6, "batch_size": B, "model": MODEL, "optimizer": optimizer, **never, **changes})


def run(config: Experiment, workdir, poisoned: int = 0) -> Transformer:
    stage = Stage(Batches(poisoned), weighted_objective, frozenset())
    return train(config, stage, make_mesh(MeshConfig(), jax.devices()[:1]), workdir)


def test_accumulating_parts_of_unequal_weight_gives_the_gradient_of_the_whole_batch():
    optimizer = optax.sgd(1.0)  # the update is the gradient itself
    model = Transformer(jax.random.key(0), MODEL)
    batch = random_batch(0, kept=0.4)
    batch["loss_mask"][1] = False  # one row with nothing to learn
    objective = partial(next_token, config=NextTokenConfig(z_loss=0.1))
    step = jax.jit(partial(train_step, objective=objective, optimizer=optimizer), static_argnames="accumulate")
    whole, whole_metrics = step(TrainState(model, optimizer.init(model)), batch)
    for parts in (2, 4):
        split, metrics = step(TrainState(model, optimizer.init(model)), batch, accumulate=parts)
        jax.tree.map(partial(np.testing.assert_allclose, rtol=2e-4, atol=1e-6), whole.model, split.model)
        for name, value in whole_metrics.items():
            np.testing.assert_allclose(metrics[name], value, rtol=1e-5, err_msg=name)


@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize("name", ["adamw", "muon"])
def test_an_update_keeps_every_dtype(name, accumulate):
    config = experiment(model=replace(MODEL, param_dtype="bfloat16"), optimizer=OptimizerConfig(name, warmup_steps=0))
    optimizer = make_optimizer(config.optimizer, config.steps)
    step = partial(
        train_step, objective=partial(next_token, config=NextTokenConfig()), optimizer=optimizer, accumulate=accumulate
    )
    before = jax.eval_shape(partial(init_state, config=config, optimizer=optimizer), jax.random.key(0))
    after, _ = jax.eval_shape(step, before, random_batch(0))
    for one, other in zip(jax.tree.leaves(before), jax.tree.leaves(after), strict=True):
        assert (one.shape, one.dtype) == (other.shape, other.dtype)


def test_one_batch_can_be_learnt_by_heart():
    config = OptimizerConfig(name="muon", learning_rate=1e-2, schedule="constant", warmup_steps=0, weight_decay=0.0)
    optimizer = make_optimizer(config, steps=200)
    model = Transformer(jax.random.key(0), MODEL)
    step = jax.jit(partial(train_step, objective=partial(next_token, config=NextTokenConfig()), optimizer=optimizer))
    state, batch = TrainState(model, optimizer.init(model)), random_batch(1)
    first = None
    for _ in range(200):
        state, metrics = step(state, batch)
        first = first if first is not None else float(metrics["loss"])
    assert first == pytest.approx(math.log(MODEL.vocab_size), abs=1.0)
    assert float(metrics["loss"]) < 0.02


def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_the_last_good_checkpoint(tmp_path):
    with pytest.raises(UserError, match=r"loss is nan at step 4 \(documents in the batch: book:3, book:5\)"):
        run(experiment(), tmp_path, poisoned=4)
    assert [record["step"] for record in read_json_lines(tmp_path / "metrics.jsonl")] == [1, 2, 3]
    # The data mended, the same run goes on from the checkpoint before and ends as if nothing had happened.
    mended = run(experiment(), tmp_path)
    untouched = run(experiment(), tmp_path / "other")
    jax.tree.map(np.testing.assert_array_equal, mended, untouched)


def test_even_a_bad_last_step_is_noticed(tmp_path):
    with pytest.raises(UserError, match="step 6"):
        run(experiment(), tmp_path, poisoned=6)
    assert not (tmp_path / "checkpoints" / "6").exists()


def test_the_seed_decides_everything(tmp_path):
    one, again, other = (
        run(experiment(seed=seed), tmp_path / name) for seed, name in ((1, "one"), (1, "again"), (2, "other"))
    )
    jax.tree.map(np.testing.assert_array_equal, one, again)
    assert not np.array_equal(one.token_embedding, other.token_embedding)


def test_keeps_the_best_checkpoint_besides_the_last_ones(tmp_path):
    losses = iter([3.0, 1.0, 2.0, 2.5, 2.6, 2.7])
    stage = Stage(Batches(), weighted_objective, frozenset(), evaluate=lambda model: {"loss": next(losses)})
    config = experiment(evaluate=EvaluateConfig(1), checkpoint=CheckpointConfig(1, keep_last=2))
    train(config, stage, make_mesh(MeshConfig(), jax.devices()[:1]), tmp_path)
    kept = sorted(int(path.name) for path in (tmp_path / "checkpoints").iterdir() if path.name.isdigit())
    assert kept == [2, 5, 6]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"steps": -3}, "steps=-3"),
        ({"batch_size": 0}, "batch_size=0"),
        ({"accumulate": 3}, "does not divide by accumulate=3"),
        ({"seed": -1}, "seed=-1"),
        ({"optimizer": OptimizerConfig(warmup_steps=7)}, "warmup_steps=7"),
        ({"optimizer": OptimizerConfig(name="sgd")}, "choose one of adamw, muon"),
        ({"checkpoint": CheckpointConfig(keep_last=0)}, "keep_last=0"),
        ({"model": replace(MODEL, heads=3)}, "width=32 does not divide by model.heads=3"),
    ],
)
def test_senseless_experiments_are_refused(changes, message):
    with pytest.raises(UserError, match=message):
        check_experiment(experiment(**changes))
