"""The model whose probabilities a policy learns: on-policy distillation."""

from pathlib import Path

import jax
from jax.sharding import Mesh

from data_pipeline.errors import UserError
from data_pipeline.tokenizer import Tokenizer
from launch.workdir import load_model
from lm.experiment import Experiment
from lm.model.transformer import Transformer
from lm.sharding import tree_shardings


def load_teacher(folder: Path, experiment: Experiment, ours: Tokenizer, mesh: Mesh) -> Transformer:
    """The newest model of a run. Raises `UserError` unless it reads the policy's tokens, and as many."""
    model, tokenizer, step = load_model(folder)
    if tokenizer.fingerprint != ours.fingerprint:
        raise UserError(f"data.teacher={folder} has another tokenizer: it must read the policy's tokens")
    if model.config.context_length < experiment.model.context_length:
        raise UserError(
            f"data.teacher={folder} has a context of {model.config.context_length} tokens, the policy one of "
            f"{experiment.model.context_length}: set --config.model.context_length={model.config.context_length}"
        )
    print(f"teacher: {folder} at step {step}", flush=True)
    return jax.device_put(model, tree_shardings(mesh, model))
