"""The folder of a run: one experiment each, one process at a time.

config.json         the experiment            metrics.jsonl       a line a step
checkpoints/        Orbax                     evaluations.jsonl   a line a validation
tokenizer/          to read what it wrote     samples.jsonl       a line a text
loss.png            the loss figure           tensorboard/
data.json           fingerprints of the data and the tokenizer
command.txt         the command that was given last
base/               the model that adapters (lm/lora.py) belong to, or that a policy is compared with
rollouts.jsonl      of reinforcement learning: the best, the worst and odd ones of each round
rankings.jsonl      what the model told and the synthetic rater put in order, where jokes are ranked
"""

import dataclasses
import json
import shutil
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import jax
from jax.sharding import SingleDeviceSharding

from data_pipeline.conversations import PreparedConversations
from data_pipeline.errors import UserError
from data_pipeline.prepare import PreparedDocuments
from data_pipeline.school.world import SchoolConfig
from data_pipeline.tokenizer import Tokenizer, find_tokenizer, load_tokenizer
from launch.folder import hold
from lm import processes
from lm.checkpoint import restore_merged
from lm.experiment import Experiment
from lm.lora import LoraConfig
from lm.model.config import ModelConfig, RopeScaling
from lm.model.transformer import Transformer

if TYPE_CHECKING:  # the other stages are loaded by who runs them
    from data_pipeline.rankings import PreparedRankings
    from lm.rl.stage import PreparedProblems

# Not part of an experiment's identity: a run may be resumed on other hardware.
HARDWARE = ("mesh", "data.mesh")


def open_workdir(path: Path, config: Experiment) -> IO[str]:
    """Make the folder, or check that it holds this experiment; the returned file is a lock, kept until closed.

    Raises `UserError` when it belongs to another experiment (naming the differences), to another process that is
    running, or when `path` cannot be a folder that we may write to.
    """
    lock = hold(path, "another process is training in")
    here = json.loads(json.dumps(dataclasses.asdict(config)))
    file = path / "config.json"
    there = read_config(path) if file.exists() else here
    if not isinstance(there, dict) or not there.keys() >= {"steps", "model", "optimizer"}:
        raise UserError(f"{file} is not the config of a run: choose another --workdir")
    if (path / "converted.json").exists():
        raise UserError(
            f"{path} holds a converted release: train in another --workdir, with --config.start_from={path}"
        )
    if started(path):
        differ = [line for line in differences(there, here) if not of_hardware(line)]
        if differ:
            raise UserError(
                f"{path} holds another experiment ({'; '.join(differ)}): choose another --workdir, or run the same again"
            )
    temporary = path / "config.json.tmp"
    temporary.write_text(json.dumps(here, indent=2) + "\n")
    temporary.replace(file)
    return lock


def started(path: Path) -> bool:
    """Whether a run has made steps in this folder, so that something could be lost."""
    return (path / "metrics.jsonl").exists() or (path / "checkpoints").exists()


def keep_data_identity(
    path: Path, prepared: "PreparedDocuments | PreparedConversations | PreparedProblems | PreparedRankings"
) -> None:
    """Keep the tokenizer, and what the data was, in the folder; a run goes on with those or not at all.

    Raises `UserError` when the run's sources or tokenizer have changed since its first step.
    """
    file = path / "data.json"
    if started(path) and file.exists():
        there = json.loads(file.read_text())
        changed = [name for name, fingerprint in prepared.fingerprints.items() if there.get(name) != fingerprint]
        if changed:
            raise UserError(
                f"{', '.join(changed)} changed since the run in {path} began: put the old one back, or choose another --workdir"
            )
    shutil.rmtree(path / "tokenizer", ignore_errors=True)
    prepared.tokenizer.save(path / "tokenizer")
    file.write_text(json.dumps(prepared.fingerprints, indent=2) + "\n")


def same_everywhere(what: str, values: dict[str, Any]) -> None:
    """Raise `UserError` in a process whose experiment or data differ from the first process's."""
    mine = json.loads(json.dumps(values))
    differ = differences(processes.tell_all(mine), mine)
    problem = processes.first_problem("; ".join(differ) or None)
    if problem:
        raise UserError(f"the processes of this run were given another {what} each ({problem}): give all the same")


def of_hardware(difference: str) -> bool:
    """Whether a line of `differences` is about hardware alone."""
    key = difference.partition(":")[0]
    return any(key == name or key.startswith(f"{name}.") for name in HARDWARE)


def differences(there: dict[str, Any], here: dict[str, Any], prefix: str = "") -> list[str]:
    """What differs between two configs as nested dicts: `optimizer.learning_rate: 0.001 there, 0.0003 here`."""
    lines = []
    for key in [*there, *(key for key in here if key not in there)]:
        a, b = there.get(key, "(nothing)"), here.get(key, "(nothing)")
        if isinstance(a, dict) and isinstance(b, dict):
            lines += differences(a, b, f"{prefix}{key}.")
        elif a != b:
            lines.append(f"{prefix}{key}: {a} there, {b} here")
    return lines


def read_config(path: Path) -> dict[str, Any]:
    """The experiment of a run, as nested dicts. Raises `UserError` when there is none."""
    file = path / "config.json"
    if not file.is_file():
        raise UserError(f"{path} holds no run (it has no config.json): check --workdir")
    try:
        return json.loads(file.read_text())
    except ValueError as error:
        raise UserError(f"{file} is damaged ({error}): restore it, or choose another --workdir") from None


def read_documents(values: dict[str, Any]) -> bool:
    """Whether a run (its config.json) read documents, and not conversations: its model is a base model."""
    return "packing" in values["data"]


def sources_of(values: dict[str, Any]) -> tuple[str, ...]:
    """What a run (its config.json) read, or the problems that it practised."""
    data = values["data"]
    return tuple(data["sources"] if "sources" in data else data["problems"]["sources"])


def school_of(values: dict[str, Any]) -> SchoolConfig:
    """The school that a run (its config.json) learnt."""
    data = values["data"]
    school = data["school"] if "school" in data else data["problems"]["school"]
    return SchoolConfig(**{**school, "frequencies": tuple(school["frequencies"])})


def model_config(values: dict[str, Any]) -> ModelConfig:
    """The `model` part of a config.json. Raises `UserError` for one of another version."""
    try:
        scaling = RopeScaling(**values["rope_scaling"])
        return ModelConfig(**{**values, "windows": tuple(values["windows"]), "rope_scaling": scaling})
    except (TypeError, KeyError) as error:
        raise UserError(f"the run's config.json is of another version of this project ({error}): train again") from None


def lora_config(values: dict[str, Any]) -> LoraConfig:
    """The adapters of a run (its config.json); of rank 0 where it trained the whole model."""
    there = values.get("lora", {})
    return LoraConfig(**{**there, **({"targets": tuple(there["targets"])} if there else {})})


def load_model(path: Path, step: int | None = None) -> tuple[Transformer, Tokenizer, int]:
    """The model of a run at a checkpoint (None: the newest), adapters merged, on one device; its tokenizer; the step.

    Raises `UserError` when there is none.
    """
    values = read_config(path)
    config = model_config(values["model"])
    device = SingleDeviceSharding(jax.devices()[0])
    shapes = jax.eval_shape(lambda: Transformer(jax.random.key(0), config))
    abstract = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=device), shapes)
    model, step = restore_merged(path / "checkpoints", abstract, lora_config(values), step)
    return model, load_tokenizer(find_tokenizer(path / "tokenizer")), step
