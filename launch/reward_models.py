"""The reward models of other runs, at the checkpoint that judged best."""

import json
from pathlib import Path

import jax
from jax.sharding import Mesh

from data_pipeline.errors import UserError
from data_pipeline.tokenizer import Tokenizer
from launch.start_from import find_base, tokenizer_in
from launch.workdir import lora_config, model_config, read_config
from lm.checkpoint import restore_merged
from lm.experiment import Experiment
from lm.metrics import read_json_lines
from lm.practice import PracticeConfig
from lm.rl.rewarding import RewardModel
from lm.train import abstract_model


def find_reward_models(experiment: Experiment, cache: Path) -> dict[str, Path]:
    """The folders of the reward models that a run practises with, by how the experiment names them; trained if need be.

    Before JAX takes the devices: that training may need them. Raises `UserError` as `find_base` does.
    """
    data = experiment.data
    return {name: find_base(name, cache) for name in data.taste.models} if isinstance(data, PracticeConfig) else {}


def check_reads(folder: Path, tokenizer: Tokenizer, context_length: int) -> None:
    """Raise `UserError` unless the reward model reads what a policy with this tokenizer and context writes."""
    there = model_config(read_config(folder)["model"]).context_length
    if tokenizer_in(folder).fingerprint != tokenizer.fingerprint:
        raise UserError(f"data.taste.models: {folder} has another tokenizer: it must read the policy's tokens")
    if there < context_length:
        raise UserError(
            f"data.taste.models: {folder} has a context of {there} tokens, the policy one of {context_length}: set "
            f"--config.model.context_length={there}"
        )


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
