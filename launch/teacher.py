"""The model whose probabilities a policy learns: on-policy distillation."""

from pathlib import Path

import jax
from jax.sharding import Mesh

from launch.workdir import load_model
from lm.checkpoint import find_step
from lm.model.transformer import Transformer
from lm.sharding import tree_shardings


def teacher_identity(folder: Path) -> str:
    """What must not change while a run goes on that learns from it: its newest checkpoint, which is the one that teaches."""
    return f"step {find_step(folder / 'checkpoints', None)}"


def load_teacher(folder: Path, mesh: Mesh) -> Transformer:
    """The newest model of a run, on the mesh."""
    model, _, step = load_model(folder)
    print(f"teacher: {folder} at step {step}", flush=True)
    return jax.device_put(model, tree_shardings(mesh, model))
