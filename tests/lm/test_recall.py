"""Learning works where it can and fails where it must: told facts become likelier than others, untold ones cannot."""

import jax
import numpy as np
import pytest

from data_pipeline.prepare import DocumentsConfig, prepare
from data_pipeline.school.world import SchoolConfig
from lm.experiment import CheckpointConfig, EvaluateConfig, Experiment, SampleConfig
from lm.inference.score import score_continuations
from lm.model.config import ModelConfig
from lm.model.transformer import Transformer
from lm.optimizer import OptimizerConfig
from lm.pretraining import pretraining
from lm.recall import school_recall
from lm.sharding import MeshConfig, make_mesh
from lm.train import train

SCHOOL = SchoolConfig(people=24, unknown_people=24, frequencies=(16,), arithmetic_documents=0, place_frequency=2)


@pytest.fixture(scope="module")
def taught(tmp_path_factory):
    """A small model that read a small school some twenty times, and its tokenizer."""
    folder = tmp_path_factory.mktemp("school")
    config = Experiment(
        steps=200,
        batch_size=16,
        model=ModelConfig(
            vocab_size=768,
            context_length=64,
            layers=2,
            width=64,
            heads=2,
            kv_heads=2,
            mlp_width=256,
            activation="relu2",
        ),
        data=DocumentsConfig(sources=("school",), school=SCHOOL),
        optimizer=OptimizerConfig(name="muon", learning_rate=1e-2, warmup_steps=20),
        evaluate=EvaluateConfig(every=0),
        sample=SampleConfig(every=0, tokens=4),
        checkpoint=CheckpointConfig(every=0),
    )
    prepared = prepare(config.data, config.model.vocab_size, folder / "cache")
    mesh = make_mesh(MeshConfig(), jax.devices()[:1])
    return train(config, pretraining(config, prepared, mesh), mesh, folder / "run"), prepared.tokenizer


def test_told_facts_are_preferred_and_untold_ones_are_not(taught):
    recall = {entry.frequency: entry for entry in school_recall(*taught, SCHOOL)}
    told, never = recall[16], recall[0]
    assert told.preferred > 0.9
    assert told.first > 0.6
    # 120 facts nobody told: being likelier than another value is a toss-up. Facts share prompts, hence the wide margin.
    assert never.facts == 120
    assert 0.35 < never.preferred < 0.65
    assert never.first < 0.3


def test_a_model_that_read_nothing_knows_nothing(taught):
    model, tokenizer = taught
    fresh = Transformer(jax.random.key(1), model.config)
    for entry in school_recall(fresh, tokenizer, SCHOOL):
        assert 0.3 < entry.preferred < 0.7


def test_continuations_are_scored_by_the_rule_of_the_chain(taught):
    model, _ = taught
    chance = np.random.default_rng(0)
    pairs = [
        (chance.integers(20, 500, length).tolist(), chance.integers(20, 500, more).tolist())
        for length, more in ((1, 1), (3, 5), (9, 2), (16, 1))
    ]
    scores = score_continuations(model, pairs).log_probs
    forward = jax.jit(model)
    for (prompt, continuation), score in zip(pairs, scores, strict=True):
        total = 0.0
        for at, token in enumerate(continuation):
            seen = prompt + continuation[:at]
            logits = forward(np.array([seen + [0] * (32 - len(seen))]))[0, len(seen) - 1]
            total += float(jax.nn.log_softmax(logits)[token])
        assert score == pytest.approx(total, abs=1e-3)
