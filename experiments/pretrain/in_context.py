from data_pipeline.prepare import DocumentsConfig
from lm.experiment import CheckpointConfig, EvaluateConfig, Experiment, SampleConfig
from lm.model.presets import preset
from lm.optimizer import OptimizerConfig


def get_config() -> Experiment:
    """A model of width 128 on `ciphers`, one document a row."""
    config = Experiment(
        steps=400,
        batch_size=16,
        model=preset("tiny"),
        data=DocumentsConfig(sources=("ciphers",)),
        optimizer=OptimizerConfig(
            name="muon", learning_rate=8e-3, schedule="linear", warmup_steps=30, final_fraction=0.0, weight_decay=0.0
        ),
        evaluate=EvaluateConfig(every=100),
        sample=SampleConfig(every=0, prompts=()),
        checkpoint=CheckpointConfig(every=100),
    )
    config.model.qk_norm = False
    config.model.vocab_size = 294  # all that so few words can fill
    return config
