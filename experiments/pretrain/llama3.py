r"""Llama 3 shapes (arXiv 2407.21783) on a user's own text, parameters split over all devices.

    python -m launch.train --config=experiments/pretrain/llama3.py:8b --workdir=runs/llama \
        --config.data.sources='fineweb/*.jsonl.zst' --config.data.tokenizer=llama3/tokenizer.json --config.mesh.tensor=8

Variants 1b (the default), 8b, 70b, 405b. Rows of 8,192 tokens, 512 of them (4 million tokens) an update.

Not measured: nobody has yet run this file on an accelerator.
"""

from data_pipeline.errors import UserError
from data_pipeline.prepare import DocumentsConfig
from lm.experiment import CheckpointConfig, EvaluateConfig, Experiment, SampleConfig
from lm.model.presets import preset
from lm.optimizer import OptimizerConfig
from lm.sharding import MeshConfig

# Peak rates of the paper's table 3; the 1B has none there and takes the 8B's.
RATES = {"1b": 3e-4, "8b": 3e-4, "70b": 1.5e-4, "405b": 8e-5}


def get_config(variant: str = "1b") -> Experiment:
    """The experiment of one size."""
    if variant not in RATES:
        raise UserError(f"experiments/pretrain/llama3.py has no variant {variant!r}: choose one of {', '.join(RATES)}")
    return Experiment(
        steps=100_000,
        batch_size=512,
        accumulate=8,
        model=preset(f"llama3-{variant}"),
        data=DocumentsConfig(sources=("docstrings",), held_out=0.01, packing="split"),
        optimizer=OptimizerConfig(learning_rate=RATES[variant], warmup_steps=8000, final_fraction=0.01),
        evaluate=EvaluateConfig(every=1000, batches=20),
        sample=SampleConfig(every=1000, prompts=("", "The meaning of life is"), tokens=64),
        checkpoint=CheckpointConfig(every=1000),
        mesh=MeshConfig(data=1, fsdp=-1),
    )
