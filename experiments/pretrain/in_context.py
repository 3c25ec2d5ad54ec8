"""Learning in context: accuracy against the number of shots (map row 8)."""

from data_pipeline.prepare import DocumentsConfig
from lm.experiment import CheckpointConfig, EvaluateConfig, Experiment, SampleConfig
from lm.model.presets import preset
from lm.optimizer import OptimizerConfig


def get_config() -> Experiment:
    """Two layers: one to see the word before, one to find the same word again. One document a row."""
    config = Experiment(
        steps=8000,
        batch_size=16,
        model=preset("tiny"),
        data=DocumentsConfig(sources=("dictionaries",)),
        optimizer=OptimizerConfig(
            name="muon",
            learning_rate=8e-3,
            warmup_steps=30,
            schedule="wsd",
            decay_fraction=0.4,
            final_fraction=0.0,
            weight_decay=0.0,
        ),
        evaluate=EvaluateConfig(every=1000),
        sample=SampleConfig(every=0, prompts=()),
        checkpoint=CheckpointConfig(every=2000),
    )
    config.model.layers = 2
    config.model.context_length = 64
    config.model.qk_norm = False
    config.model.vocab_size = 470  # every word is one token
    return config
