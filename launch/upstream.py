"""The runs that a run learns from: whose parameters it starts with, who rewards it, who teaches it."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from data_pipeline.errors import UserError
from data_pipeline.tokenizer import Tokenizer
from launch.start_from import check_base, find_base, tokenizer_in
from launch.workdir import model_config, read_config, started
from lm.experiment import Experiment
from lm.practice import PracticeConfig


@dataclass(frozen=True)
class Upstream:
    """Their folders."""

    base: Path | None  # None for a run that starts from nothing, and for one that goes on
    reward_models: Mapping[str, Path]  # by how the experiment names them
    teacher: Path | None


def find_upstream(experiment: Experiment, workdir: Path, cache: Path) -> Upstream:
    """What a run in `workdir` needs, trained if need be: before JAX takes the devices, since that training may need them.

    Raises `UserError` as `find_base` and `check_base` do.
    """
    base, data = None, experiment.data
    if experiment.start_from and not started(workdir):
        base = find_base(experiment.start_from, cache)
        check_base(base, experiment)  # before the data, which may take long
    if not isinstance(data, PracticeConfig):
        return Upstream(base, {}, None)
    judges = {name: find_base(name, cache) for name in data.taste.models}
    return Upstream(base, judges, find_base(data.teacher, cache) if data.teacher else None)


def check_reads(flag: str, folder: Path, tokenizer: Tokenizer, context_length: int) -> None:
    """Raise `UserError` unless the run that `flag` names reads what a policy with this tokenizer and context writes."""
    there = model_config(read_config(folder)["model"]).context_length
    if tokenizer_in(folder).fingerprint != tokenizer.fingerprint:
        raise UserError(f"{flag}: {folder} has another tokenizer: it must read the policy's tokens")
    if there < context_length:
        raise UserError(
            f"{flag}: {folder} has a context of {there} tokens, the policy one of {context_length}: set "
            f"--config.model.context_length={there}"
        )
