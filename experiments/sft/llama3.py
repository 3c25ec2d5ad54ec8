r"""A converted Llama 3 learns from public conversations, whole or by adapters.

    python -m launch.convert --from=Llama-3.2-1B --workdir=runs/llama3-1b
    python -m launch.train --config=experiments/sft/llama3.py:1b --workdir=runs/llama3-1b-chat \
        --config.start_from=runs/llama3-1b --config.data.sources='("gsm8k/train.jsonl.gz","oasst/*.jsonl.gz")'
    ... --config.lora.rank=16 --config.optimizer.learning_rate=2e-4

Sources are files, or tfds:NAME, in any of the formats that data_pipeline/chat_formats.py reads. Not measured: it needs a GPU.
"""

from data_pipeline.conversations import ConversationsConfig
from experiments.pretrain import llama3
from lm.experiment import CheckpointConfig, EvaluateConfig, Experiment, SampleConfig
from lm.optimizer import OptimizerConfig


def get_config(variant: str = "1b") -> Experiment:
    """Two thousand updates of 64 rows of 4,096 tokens."""
    model = llama3.get_config(variant).model
    model.context_length = 4096
    return Experiment(
        steps=2000,
        batch_size=64,
        accumulate=8,
        start_from=f"runs/llama3-{variant}",
        model=model,
        data=ConversationsConfig(sources=("chats.jsonl",), held_out=0.01, too_long="cut"),
        optimizer=OptimizerConfig(
            name="adamw", learning_rate=1e-5, warmup_steps=100, schedule="linear", final_fraction=0.0, weight_decay=0.0
        ),
        evaluate=EvaluateConfig(every=200, batches=50),
        sample=SampleConfig(every=200, prompts=("Who are you?", "What is 12 times 13?"), tokens=200),
        checkpoint=CheckpointConfig(every=200),
    )
