r"""Which parts of a recipe lower the loss per token, at the size of `tiny` (map row 6).

    python -m launch.sweep --config=experiments/pretrain/recipes.py --workdir=runs/recipes --parallel=2 \
        --config.data.sources='books/*.jsonl.gz'

One change at a time from a recipe in the middle (rotary positions, RMSNorm, squared ReLU, QK norm, Muon, a linear decay to
zero), with three seeds each, and `nanogpt`: what nanoGPT trains, a GPT-2 with AdamW and a cosine.

Measured on 24 English books (51 MB, Standard Ebooks; vocabulary 2,048), 150 steps of 4,096 tokens: nats per token held out, mean
of three seeds with its 95% interval, and the difference to the middle, seed by seed.

    | change            | loss          | difference      |
    |-------------------|---------------|-----------------|
    | tiny              | 4.416 ± 0.011 | -0.043 ± 0.018  |
    | gelu              | 4.421 ± 0.041 | -0.042 ± 0.024  |
    | wsd               | 4.435 ± 0.018 | -0.028 ± 0.010  |
    | normuon           | 4.447 ± 0.018 | -0.016 ± 0.014  |
    | no-qk-norm        | 4.449 ± 0.019 | -0.014 ± 0.003  |
    | value-embeddings  | 4.453 ± 0.020 | -0.010 ± 0.018  |
    | residual-scalars  | 4.453 ± 0.025 | -0.010 ± 0.021  |
    | middle            | 4.463 ± 0.022 |                 |
    | adamw (4e-3)      | 4.813 ± 0.034 | +0.350 ± 0.053  |
    | nanogpt (2e-3)    | 5.316 ± 0.091 | +0.853 ± 0.076  |

`tiny` is what tiny.py trains with, at this file's rate and weight decay. It was added later, and its difference is to the middle
as run then, 4.459 ± 0.023; nanogpt as run then had 5.320 ± 0.087, 0.904 ± 0.077 above `tiny`, seed by seed.

Kept for the school in experiments/pretrain/tiny.py, since the difference is not 0: Muon, NorMuon, WSD, no QK norm. GELU lowers
the loss too, but its steps are slower on a CPU (compare tokens/s in results.csv), and in that time the others read more. Value
embeddings and residual scalars did not part from noise at this size and so few tokens. Packing (`data.packing`) was left out: a
chapter is longer than a row, and both ways cut it.
Rates were tried on one seed at 200 steps: Muon 8e-3 4.401, 1.6e-2 4.332; AdamW in the middle
4e-3 4.558; nanogpt 2e-3 5.142, 4e-3 5.227, 8e-3 5.458.
"""

from typing import Any

from data_pipeline.prepare import DocumentsConfig
from lm.experiment import CheckpointConfig, EvaluateConfig, Experiment, SampleConfig
from lm.model.presets import preset
from lm.optimizer import OptimizerConfig

GPT2 = {
    "model.positions": "learned",
    "model.norm": "layernorm",
    "model.biases": True,
    "model.activation": "gelu",
    "model.qk_norm": False,
    "model.init_std": 0.02,
}
ADAMW = {"optimizer.name": "adamw", "optimizer.learning_rate": 4e-3}
NANOGPT = {
    **GPT2,
    **ADAMW,
    "optimizer.learning_rate": 2e-3,
    "optimizer.schedule": "cosine",
    "optimizer.final_fraction": 0.1,
}
TINY = {  # together, as tiny.py trains on the school
    "optimizer.name": "normuon",
    "optimizer.schedule": "wsd",
    "optimizer.decay_fraction": 0.4,
    "model.qk_norm": False,
}

CHANGES: dict[str, dict[str, Any]] = {
    "middle": {},
    "nanogpt": NANOGPT,
    "adamw": ADAMW,
    "normuon": {"optimizer.name": "normuon"},
    "no-qk-norm": {"model.qk_norm": False},
    "gelu": {"model.activation": "gelu"},
    "residual-scalars": {"model.residual_scalars": True},
    "value-embeddings": {"model.value_embeddings": True},
    "wsd": {"optimizer.schedule": "wsd", "optimizer.decay_fraction": 0.4},
    "tiny": TINY,
}


def get_config() -> Experiment:
    """The recipe in the middle."""
    return Experiment(
        steps=150,
        batch_size=16,
        model=preset("tiny"),
        data=DocumentsConfig(sources=("docstrings",), held_out=0.05),
        optimizer=OptimizerConfig(
            name="muon", learning_rate=1.6e-2, warmup_steps=15, schedule="linear", final_fraction=0.0, weight_decay=0.1
        ),
        evaluate=EvaluateConfig(every=0, batches=24),
        sample=SampleConfig(every=0, prompts=()),
        checkpoint=CheckpointConfig(every=0, keep_last=1),
    )


def sweep() -> list[dict[str, Any]]:
    """Each change with three seeds."""
    return [{**change, "seed": seed} for seed in range(3) for change in CHANGES.values()]
