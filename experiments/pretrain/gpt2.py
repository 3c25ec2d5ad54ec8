r"""GPT-2 (map row 6): the lecture's pretraining run, on a user's own text.

    python -m launch.train --config=experiments/pretrain/gpt2.py --workdir=runs/gpt2 \
        --config.data.sources='fineweb/*.jsonl.zst' --dollars_per_hour=24

Variants 124m (the default), 350m, 774m, 1558m. Rows of 1,024 tokens, 512 of them an update: half a million tokens, as
GPT-2 and llm.c have it; 19,560 updates are 10 billion tokens. A vocabulary of 50,257 symbols is trained on the text;
OpenAI's own is read with --config.data.tokenizer=r50k_base.tiktoken.

Not measured: nobody has yet run this file on an accelerator.
"""

from data_pipeline.errors import UserError
from data_pipeline.prepare import DocumentsConfig
from lm.experiment import CheckpointConfig, EvaluateConfig, Experiment, SampleConfig
from lm.model.presets import preset
from lm.optimizer import OptimizerConfig
from lm.sharding import MeshConfig

# Peak rate of each size, from the GPT-3 paper's table for models of these sizes (arXiv 2005.14165, table 2.1).
RATES = {"124m": 6e-4, "350m": 3e-4, "774m": 2.5e-4, "1558m": 2e-4}


def get_config(variant: str = "124m") -> Experiment:
    """The experiment of one size."""
    if variant not in RATES:
        raise UserError(f"experiments/pretrain/gpt2.py has no variant {variant!r}: choose one of {', '.join(RATES)}")
    return Experiment(
        steps=19_560,
        batch_size=512,
        accumulate=16 if variant == "1558m" else 8,  # 8 H100 hold as much: see --estimate
        model=preset(f"gpt2-{variant}"),
        data=DocumentsConfig(sources=("docstrings",), held_out=0.01, packing="split"),
        optimizer=OptimizerConfig(learning_rate=RATES[variant], warmup_steps=700, final_fraction=0.0),
        evaluate=EvaluateConfig(every=500, batches=20),
        sample=SampleConfig(every=500, prompts=("", "The meaning of life is"), tokens=64),
        checkpoint=CheckpointConfig(every=1000),
        mesh=MeshConfig(data=-1),
    )
