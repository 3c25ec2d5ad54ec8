"""A model of a million parameters on two CPU cores."""

from data_pipeline.errors import UserError
from data_pipeline.prepare import DocumentsConfig
from lm.experiment import Experiment, SampleConfig
from lm.model.presets import preset
from lm.optimizer import OptimizerConfig


def get_config(variant: str = "school") -> Experiment:
    """The experiment; `variant` is school or pydoc."""
    if variant not in ("school", "pydoc"):
        raise UserError(f"experiments/pretrain/tiny.py has no variant {variant!r}: choose school or pydoc")
    return Experiment(steps=800, model=preset("tiny"), data=DocumentsConfig(sources=(variant,)),
        optimizer=OptimizerConfig(name="muon", learning_rate=4e-3), sample=SampleConfig(prompts=("",)))
