r"""Does a power law of loss in parameters and tokens show at tiny scale, and does it foretell a larger run?

    python -m launch.sweep --config=experiments/pretrain/scaling.py --workdir=runs/scaling \
        --config.data.sources='books/*.jsonl.gz'
    python -m launch.scaling_law --workdir=runs/scaling --predict=experiments/pretrain/scaling.py:larger
    python -m launch.train --config=experiments/pretrain/scaling.py:larger --workdir=runs/larger \
        --config.data.sources='books/*.jsonl.gz'
    python -m launch.scaling_law --workdir=runs/scaling --check=runs/larger

Four sizes by four token budgets, each with a learning rate that decays to zero at its own end: a budget cut out of a longer run
would not have decayed (arXiv 2203.15556). `larger` has 3.7 times the parameters of the largest and twice the longest budget. Rows
are always full, so that every place of a batch is a token trained on. Give at least 2 million tokens of text, or the longest
runs read some twice.

Measured on 24 English books (51 MB, one seed): alpha 0.19 (95%: 0.08 to 0.79), beta 0.21 (0.14 to 0.41), E 0.57 (0 to 2.8), R^2
0.99. Predicted for `larger`, before it was run, 3.55 nats per token (3.40 to 3.80); found 3.86, outside the interval: the law
falls too fast. The short runs of the grid spend most of their tokens on what every model learns first.
"""

from data_pipeline.errors import UserError
from data_pipeline.prepare import DocumentsConfig
from lm.experiment import CheckpointConfig, EvaluateConfig, Experiment, SampleConfig
from lm.model.presets import preset
from lm.optimizer import OptimizerConfig
from lm.sweep import Trial, product, zipped

WIDTHS = (32, 48, 64, 96)
STEPS = (25, 50, 100, 200)
HEAD_DIM = 16


def learning_rate(width: int) -> float:
    """4e-3 at the width of `tiny`, and as 1 / sqrt(width).

    Muon's updates here have the same RMS at every size, so their largest singular value grows as sqrt(width), and that of the
    weights does not; this keeps the two in proportion (arXiv 2310.17813).
    """
    return float(f"{4e-3 * (128 / width) ** 0.5:.3g}")


def get_config(variant: str = "grid") -> Experiment:
    """The largest run of the grid, or the `larger` one that is predicted from the grid."""
    if variant not in ("grid", "larger"):
        raise UserError(f"experiments/pretrain/scaling.py has no variant {variant!r}: choose grid or larger")
    width, layers, steps = (160, 6, 400) if variant == "larger" else (WIDTHS[-1], 4, STEPS[-1])
    config = Experiment(
        steps=steps,
        batch_size=16,
        model=preset("tiny"),
        data=DocumentsConfig(sources=("docstrings",), held_out=0.05, packing="split"),
        optimizer=OptimizerConfig(
            name="muon",
            learning_rate=learning_rate(width),
            warmup_steps=steps // 10,
            schedule="linear",
            final_fraction=0.0,
            weight_decay=0.1,
        ),
        evaluate=EvaluateConfig(every=0, batches=32),
        sample=SampleConfig(every=0, prompts=()),
        checkpoint=CheckpointConfig(every=0, keep_last=1),
    )
    config.model.vocab_size = 1024  # a larger one would be most of the smallest model
    config.model.layers, config.model.width, config.model.mlp_width = layers, width, 4 * width
    config.model.heads = config.model.kv_heads = width // HEAD_DIM
    return config


def sweep() -> list[Trial]:
    """Every size with every budget."""
    sizes = zipped(
        {
            "model.width": WIDTHS,
            "model.mlp_width": [4 * width for width in WIDTHS],
            "model.heads": [width // HEAD_DIM for width in WIDTHS],
            "model.kv_heads": [width // HEAD_DIM for width in WIDTHS],
            "optimizer.learning_rate": [learning_rate(width) for width in WIDTHS],
        }
    )
    budgets = zipped({"steps": STEPS, "optimizer.warmup_steps": [steps // 10 for steps in STEPS]})
    return product(sizes, budgets)
