"""A run that begins with the parameters of another: `start_from` names its folder, a converted release's, or an experiment.

Read once: such a run saves a checkpoint before its first step, so that it goes on without the other folder.
"""

import dataclasses
import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax

from data_pipeline.conversations import ConversationsConfig
from data_pipeline.errors import UserError
from data_pipeline.locked import locked
from data_pipeline.tokenizer import Tokenizer, Vocabulary, find_tokenizer, load_tokenizer
from launch import config
from launch.workdir import HARDWARE, differences, lora_config, model_config, read_config, read_documents
from lm.experiment import Experiment, check_experiment
from lm.model.config import ModelConfig
from lm.stage import Start

CONVERTED = "converted.json"  # says of a folder that its model came from elsewhere, and from where
# How a model is run, and what its first parameters would have been: of no matter to the parameters it starts from.
FREE = ("init_std", "param_dtype", "compute_dtype", "layer_loop", "remat", "attention", "scalar_head")


def find_base(start_from: str, cache: Path) -> Path:
    """The folder that `start_from` means. An experiment file is trained first, unless that was done before.

    Raises `UserError` when that training fails, or would have to be started in a run of several processes.
    """
    if not start_from.partition(":")[0].endswith(".py"):
        return Path(start_from).expanduser()
    experiment = config.load(start_from)
    check_experiment(experiment)
    values = {name: value for name, value in dataclasses.asdict(experiment).items() if name not in HARDWARE}
    key = hashlib.sha256(json.dumps([start_from, values], sort_keys=True).encode()).hexdigest()[:16]
    folder = cache / "runs" / f"{Path(start_from.partition(':')[0]).parent.name}-{key}"
    done = folder / "done"
    if not done.exists():
        # A cluster's variables would make the training that is started here wait for others, and these hold the devices.
        if jax.distributed.is_initialized():
            raise UserError(
                f"{start_from} is not trained yet, and that is done by a process alone: train it with launch.train "
                "first, and give its folder as --config.start_from"
            )
        print(f"{start_from} is not trained yet: training it first, in {folder}", flush=True)
        with locked(folder.with_name(f"{folder.name}.lock")):
            if not done.exists():
                command = ["-m", "launch.train", f"--config={start_from}", f"--workdir={folder}", f"--cache={cache}"]
                code = subprocess.run([sys.executable, *command], check=False).returncode
                if code:
                    raise UserError(f"the training of {start_from} ended with exit code {code}: see above")
                done.touch()
    return folder


def check_base(base: Path, experiment: Experiment) -> None:
    """Raise `UserError` unless `base` holds the experiment's model, up to how it is run; symbols may be added.

    Rotary models may have another context: they have no parameter for a position.
    """
    there = model_config(read_config(base)["model"])
    free = FREE if there.positions == "learned" else (*FREE, "context_length")
    if experiment.model.vocab_size > there.vocab_size:
        free = (*free, "vocab_size")
    differ = differences(_fixed(there, free), _fixed(experiment.model, free), "model.")
    if differ:
        mine, its = _flags(experiment.model, free), _flags(there, free)
        change = " ".join(f"--config.model.{name}={value}" for name, value in its.items() if value != mine[name])
        raise UserError(f"start_from={base} holds another model ({'; '.join(differ)}): set {change}")


def make_start(base: Path, experiment: Experiment, tokenizer: Tokenizer) -> Start:
    """What the loop needs to begin with the model in `base`. Raises `UserError` unless that model knows this tokenizer."""
    values = read_config(base)
    there = model_config(values["model"])
    known = tokenizer_in(base)
    added = range(known.vocab_size, tokenizer.vocab_size)
    if not _extends(tokenizer.vocabulary, known.vocabulary):
        raise UserError(
            f"the tokenizer is not the one that the model in {base} knows: leave data.tokenizer out, or set "
            f"--config.data.tokenizer={base / 'tokenizer'}"
        )
    lora = lora_config(values)
    reads_turns = isinstance(experiment.data, ConversationsConfig)
    if not reads_turns or not read_documents(values) or (base / CONVERTED).exists():
        return Start(base / "checkpoints", there, tuple(added), lora)
    # A base model of ours has seen none of the protocol's tokens but this one.
    unseen = set(tokenizer.special_tokens.values()) - {tokenizer.document_start}
    return Start(base / "checkpoints", there, tuple(sorted(unseen | set(added))), lora)


def tokenizer_in(folder: Path) -> Tokenizer:
    """The tokenizer of a run."""
    return load_tokenizer(find_tokenizer(folder / "tokenizer"))


def _extends(longer: Vocabulary, shorter: Vocabulary) -> bool:
    """Whether nothing but special tokens was added: other ones would be written for what has been learnt otherwise."""
    count = len(shorter)
    names = {token: name for token, name in longer.special_names.items() if token < count}
    special = all(token in longer.special_names for token in range(count, len(longer)))
    return special and longer.bytes_by_id[:count] == shorter.bytes_by_id and names == shorter.special_names


def _fixed(config: ModelConfig, free: tuple[str, ...]) -> dict[str, Any]:
    values = json.loads(json.dumps(dataclasses.asdict(config)))
    return {name: value for name, value in values.items() if name not in free}


def _flags(config: ModelConfig, free: tuple[str, ...]) -> dict[str, Any]:
    """Values as they are written after `--config.model.KEY=` in a shell."""
    values = _fixed(config, free)
    scaling = {f"rope_scaling.{name}": value for name, value in values.pop("rope_scaling").items()}
    windows = ",".join(map(str, config.windows))
    return {**values, "windows": f"'({windows},)'", **scaling}
