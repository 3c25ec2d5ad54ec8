"""The reward models of other runs, at the checkpoint that judged best."""

import json
from pathlib import Path

import jax
from jax.sharding import Mesh

from data_pipeline.errors import UserError
from launch.workdir import lora_config, model_config, read_config
from lm.checkpoint import restore_merged
from lm.metrics import read_json_lines
from lm.rl.rewarding import RewardModel
from lm.train import abstract_model


def best_evaluation(folder: Path) -> dict[str, float]:
    """The evaluation of a reward model's run with the lowest loss. Raises `UserError` where there is none."""
    config = model_config(read_config(folder)["model"])
    if not config.scalar_head:
        raise UserError(f"{folder} holds no reward model: train one with experiments/reward/tiny.py")
    evaluations = [record for record in read_json_lines(folder / "evaluations.jsonl") if record["step"] > 0]
    if not evaluations or "score_std" not in evaluations[-1]:
        raise UserError(
            f"{folder} holds a reward model that was never measured on held-out rankings: raise data.held_out"
        )
    return min(evaluations, key=lambda record: record["loss"])


def load_reward_model(folder: Path, mesh: Mesh) -> RewardModel:
    """On the mesh, and normalised by what it says of the held-out responses to its prompts. Raises `UserError` for none."""
    best = best_evaluation(folder)
    values = read_config(folder)
    abstract = abstract_model(model_config(values["model"]), mesh)
    model, step = restore_merged(folder / "checkpoints", abstract, lora_config(values), int(best["step"]))
    print(
        f"reward model: {folder} at step {step}, right about {best['pair_accuracy']:.1%} of held-out pairs", flush=True
    )
    return RewardModel(jax.block_until_ready(model), best["score_mean"], max(best["score_std"], 1e-6))


def fingerprint(folder: Path) -> str:
    """What must not change while a run goes on that is rewarded by it."""
    return json.dumps(best_evaluation(folder), sort_keys=True)
