r"""Verbatim recall against how often a document was seen, and against model size (map row 9).

    python -m launch.sweep --config=experiments/pretrain/recitation.py --workdir=runs/recitation
    python -m launch.recitation --workdir=runs/recitation

The passages of the Python language reference are dealt into seven groups of the same size: an epoch reads those of one group
0 times (the control), of the others 1, 2, 4, 8, 16 or 32 times, shuffled. Four models of different width read one epoch, the
same for all. The metric is stated in `lm/recitation.py`.

With Python 3.11: 949 passages to learn from (135,126 tokens, 135 or 136 passages a group), 15 held out, 230 set aside since
their text came before; 8,512 copies, 1.2 M tokens, 5,059 rows, so that an epoch is 1,264 steps of 4 rows. Another Python's
reference differs by a few passages. On text of one's own, let `launch.recitation` say how many epochs some steps are:

    python -m launch.sweep --config=experiments/pretrain/recitation.py --workdir=runs/books --config.steps=N \
        --config.data.sources='paragraphs:books/*.jsonl.gz' --config.model.vocab_size=4096

Measured (one seed, Python 3.11, `launch.recitation` with its defaults: the 32 tokens after the first 16): the model of 919
thousand parameters recites 0.7% of the passages seen 4 times, 39% of those seen 8 times, 94% (16) and all (32); the one of 263
thousand 67% of those seen 32 times and none of the others; smaller ones none, and none recites a passage of the control group.

Many small updates make a small model remember: the one of 263 thousand recited none with batches of 16, half the learning rate
and a weight decay of 0.1 in the same epoch.
"""

from data_pipeline.prepare import DocumentsConfig
from lm.experiment import CheckpointConfig, EvaluateConfig, Experiment, SampleConfig
from lm.model.presets import preset
from lm.optimizer import OptimizerConfig
from lm.sweep import Trial, zipped

WIDTHS = (16, 32, 64, 128)


def get_config() -> Experiment:
    """The model of width 128."""
    config = Experiment(
        steps=1264,
        batch_size=4,
        model=preset("tiny"),
        data=DocumentsConfig(sources=("paragraphs:pydoc",), held_out=0.02, repeats=(0, 1, 2, 4, 8, 16, 32)),
        # Decay to zero, so that what was read last is not remembered best; no weight decay, to let it remember.
        optimizer=OptimizerConfig(
            name="muon", learning_rate=8e-3, schedule="linear", warmup_steps=30, final_fraction=0.0, weight_decay=0.0
        ),
        evaluate=EvaluateConfig(every=0),
        sample=SampleConfig(every=0, prompts=()),
        checkpoint=CheckpointConfig(every=400, keep_last=1),
    )
    config.model.vocab_size = 1024  # it holds too little text for more
    return config


def sweep() -> list[Trial]:
    """A model of each width, with heads of 32 where it is so wide."""
    heads = [max(width // 32, 1) for width in WIDTHS]
    return zipped(
        {
            "model.width": WIDTHS,
            "model.mlp_width": [4 * width for width in WIDTHS],
            "model.heads": heads,
            "model.kv_heads": heads,
        }
    )
