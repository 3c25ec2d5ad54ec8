"""A million parameters on two CPU cores (map rows 3, 5, 6, 9, 10).

    python -m launch.train --config=experiments/pretrain/tiny.py --workdir=runs/school
    python -m launch.report --workdir=runs/school
    python -m launch.train --config=experiments/pretrain/tiny.py:pydoc --workdir=runs/pydoc
    python tests/benchmarks/bits_per_byte.py --workdir=runs/pydoc
    python -m launch.train --config=experiments/pretrain/tiny.py:bytes --workdir=runs/bytes
    python -m launch.train --config=experiments/pretrain/tiny.py:copying --workdir=runs/copying

Measured on two CPU cores, one seed each, by these commands: school, 300 steps (1.2 M tokens), 0.913 nats per token and 0.346
bits per byte held out; facts told in 12 documents or more are likelier than the same sentence with another value 100% of the
time, facts told once 94%, facts never told 47% (chance 50%). pydoc, 300 steps (1.2 M tokens), 1.796 bits per byte held out; a
byte 4-gram has 2.063, a 5-gram 1.910, `xz -9e` 2.380. bytes (the school, a byte a token), 600 steps (4.9 M tokens): 0.362 bits
per byte held out. copying, 1,200 steps (4.9 M tokens): 0.621 bits per byte of both; in fourteen held-out
texts that were read it said the made-up words of every list again without a mistake (see experiments/lecture/memory.py).
"""

from data_pipeline.errors import UserError
from data_pipeline.prepare import DocumentsConfig
from lm.experiment import CheckpointConfig, EvaluateConfig, Experiment, SampleConfig
from lm.model.presets import preset
from lm.optimizer import OptimizerConfig

SCHOOL_PROMPTS = ("", "Bruno Lockwood works as a", "Orson Kovats was born in the city of", "Emily buys 3 apples and")
# The smallest vocabulary: special tokens, 256 bytes, and the characters of the school. All are ASCII: a byte a token.
SCHOOL_CHARACTERS = 336
PYDOC_PROMPTS = ("", 'The "assert" statement', "A list is")


def school_optimizer() -> OptimizerConfig:
    """What did best on books, see recipes.py; the weight decay is for the eight epochs."""
    return OptimizerConfig(
        name="normuon",
        learning_rate=4e-3,
        warmup_steps=40,
        schedule="wsd",
        decay_fraction=0.4,
        final_fraction=0.0,
        weight_decay=2.0,
    )


def pydoc_optimizer() -> OptimizerConfig:
    """So many epochs over so little text want a strong weight decay, and with that QK norm and a cosine.

    Held-out bits per byte: 1.796; with the school's recipe and this weight decay 1.913. With a weight decay of 0.1 (and a
    final_fraction of 0.1) they turned at step 150, from 2.04 back up to 2.17 at step 300.
    """
    return OptimizerConfig(name="muon", learning_rate=4e-3, warmup_steps=40, weight_decay=4.0, final_fraction=0.0)


def get_config(variant: str = "school") -> Experiment:
    """The experiment on the school (`small`: by a smaller model, in bytes) or on pydoc, the Python language reference.

    `copying` reads the school as often, and three times as much of `echoes`, texts from which copying is learnt.
    """
    if variant not in ("school", "small", "bytes", "copying", "pydoc"):
        raise UserError(
            f"experiments/pretrain/tiny.py has no variant {variant!r}: choose school, small, bytes, copying or pydoc"
        )
    school = variant != "pydoc"
    config = Experiment(
        steps=300,
        batch_size=16,
        model=preset("tiny"),
        data=DocumentsConfig(sources=("school" if school else "pydoc",)),
        optimizer=school_optimizer() if school else pydoc_optimizer(),
        evaluate=EvaluateConfig(every=60),
        sample=SampleConfig(every=60, prompts=SCHOOL_PROMPTS if school else PYDOC_PROMPTS),
        checkpoint=CheckpointConfig(every=60),
    )
    config.model.qk_norm = not school
    config.model.vocab_size = 2048 if school else 1024  # pydoc holds too little text for more
    if variant == "small":
        config.model.layers, config.model.width, config.model.mlp_width = 2, 64, 256
    if variant == "bytes":
        config.model.vocab_size = SCHOOL_CHARACTERS
        config.model.context_length, config.steps = 512, 600  # four times the tokens in as many epochs
    if variant == "copying":
        config.data = DocumentsConfig(sources=("school", "echoes"), weights=(1, 3))
        config.steps *= 4
    return config
