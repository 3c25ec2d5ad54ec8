"""A run that begins with the parameters of another: `start_from` names the folder of a run, or of a converted release.

Read once: such a run saves a checkpoint before its first step, so that it goes on without the other folder.
"""

import dataclasses
import json
from pathlib import Path
from typing import Any

from data_pipeline.errors import UserError
from data_pipeline.prepare import DocumentsConfig
from data_pipeline.tokenizer import Tokenizer, load_tokenizer
from launch.workdir import differences, model_config, read_config, started
from lm.experiment import Experiment
from lm.model.config import ModelConfig

CONVERTED = "converted.json"  # says of a folder that its model came from elsewhere, and from where
# How a model is run, and what its first parameters would have been: of no matter to the parameters it starts from.
FREE = ("init_std", "param_dtype", "compute_dtype", "layer_loop", "remat", "attention")


def check_start(experiment: Experiment) -> None:
    """Raise `UserError` unless `start_from` holds the experiment's model, up to how it is run.

    Rotary models may have another context: they have no parameter for a position.
    """
    there = model_config(read_config(Path(experiment.start_from).expanduser())["model"])
    free = FREE if there.positions == "learned" else (*FREE, "context_length")
    differ = differences(_fixed(there, free), _fixed(experiment.model, free), "model.")
    if differ:
        mine, its = _flags(experiment.model, free), _flags(there, free)
        change = " ".join(f"--config.model.{name}={value}" for name, value in its.items() if value != mine[name])
        raise UserError(f"start_from={experiment.start_from} holds another model ({'; '.join(differ)}): set {change}")


def _fixed(config: ModelConfig, free: tuple[str, ...]) -> dict[str, Any]:
    values = json.loads(json.dumps(dataclasses.asdict(config)))
    return {name: value for name, value in values.items() if name not in free}


def _flags(config: ModelConfig, free: tuple[str, ...]) -> dict[str, Any]:
    """Values as they are written after `--config.model.KEY=` in a shell."""
    values = _fixed(config, free)
    scaling = {f"rope_scaling.{name}": value for name, value in values.pop("rope_scaling").items()}
    windows = ",".join(map(str, config.windows))
    return {**values, "windows": f"'({windows},)'", **scaling}


def with_its_tokenizer(experiment: Experiment, workdir: Path) -> DocumentsConfig:
    """The data of an experiment, read with the tokenizer of `start_from` unless it names one."""
    if not experiment.start_from or experiment.data.tokenizer:
        return experiment.data
    folder = workdir if started(workdir) else Path(experiment.start_from).expanduser()
    return dataclasses.replace(experiment.data, tokenizer=str(folder / "tokenizer"))


def check_tokenizer(experiment: Experiment, tokenizer: Tokenizer) -> None:
    """Raise `UserError` when this is not the tokenizer that the model of `start_from` has learnt with."""
    its = Path(experiment.start_from).expanduser() / "tokenizer"
    if load_tokenizer(its).fingerprint != tokenizer.fingerprint:
        raise UserError(
            f"data.tokenizer={experiment.data.tokenizer} is not the one that the model in {experiment.start_from} knows: "
            f"leave it out, or set --config.data.tokenizer={its}"
        )
