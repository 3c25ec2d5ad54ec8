r"""A released model practises grade-school mathematics (GSM8K, arXiv 2110.14168).

    python -m launch.convert --from=Llama-3.2-1B-Instruct --workdir=runs/llama3-1b
    python -m launch.train --config=experiments/rl/gsm8k.py --workdir=runs/gsm8k --config.start_from=runs/llama3-1b \
        --config.data.problems.sources='("gsm8k/train.jsonl.gz",)' \
        --config.data.problems.held_out_sources='("gsm8k/test.jsonl.gz",)'

All of the train file is practised, and the first 300 problems of the test file are measured
(--config.data.problems.held_out=1319: all). For another release, a Qwen or SmolLM2, the program names the --config.model flags
that differ. MATH style rows (problem, and a solution with a box) do as well. Not measured: it needs a GPU.
"""

from data_pipeline.problems import ProblemsConfig
from experiments.pretrain import llama3
from lm.experiment import CheckpointConfig, EvaluateConfig, Experiment, SampleConfig
from lm.objectives.policy_gradient import preset
from lm.optimizer import OptimizerConfig
from lm.practice import PracticeConfig


def problems() -> ProblemsConfig:
    """The two files."""
    return ProblemsConfig(("gsm8k/train.jsonl.gz",), 10_000, held_out_sources=("gsm8k/test.jsonl.gz",))


def get_config() -> Experiment:
    """Two hundred updates of 32 problems, 8 tries each of 512 tokens at most."""
    model = llama3.get_config("1b").model
    model.context_length = 1024
    return Experiment(
        steps=200,
        batch_size=16,
        accumulate=4,
        start_from="runs/llama3-1b",
        model=model,
        data=PracticeConfig(
            problems=problems(),
            prompts=32,
            samples=8,
            tokens=512,
            slots=128,
        ),
        objective=preset("dr_grpo"),
        optimizer=OptimizerConfig(
            name="adamw", learning_rate=1e-6, warmup_steps=10, schedule="constant", weight_decay=0.0
        ),
        evaluate=EvaluateConfig(every=20),
        sample=SampleConfig(every=0),
        checkpoint=CheckpointConfig(every=20, keep_last=1),
    )
