"""Learning in context: accuracy against the number of shots, on rules that no training document had (map row 8).

    python -m launch.train --config=experiments/pretrain/in_context.py --workdir=runs/in_context
    python -m launch.in_context --workdir=runs/in_context

Each document has a dictionary of its own (`data_pipeline/school/dictionaries.py`): a word's translation can be known only from
a line above. Measured (one seed, two CPU cores; 0.5 million parameters, 8,000 steps of 1,024 tokens; 500 questions for each
number of shots, about dictionaries that are held out; 95% intervals):

    shots           0               1               2               4               8               16
    right           3.4% (2 to 5)   14.0% (11, 17)  29.8% (26, 34)  41.4% (37, 46)  56.6% (52, 61)  64.6% (60, 69)
    best possible   3.1%            12.7%           29.0%           42.7%           68.4%           89.8%

Without a shot it guesses one translation of 32. Among few lines it finds the word again nearly always; among many it still
misses some, and its validation loss was falling when the run ended.
"""

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
