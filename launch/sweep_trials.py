"""From values to try to whole experiments: every trial is read as `launch.train` will read it, and checked, before any starts."""

import inspect
import re
import runpy
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from absl import flags
from ml_collections import config_flags

from data_pipeline.errors import UserError
from launch import config
from launch.sweep_expression import EXAMPLE, flag_text
from lm.experiment import Experiment, check_experiment
from lm.sweep import Trial as Values


@dataclass(frozen=True)
class Base:
    """What all trials share: FILE.py or FILE.py:VARIANT, and the `--config.KEY=VALUE` flags besides."""

    file: str
    overrides: tuple[str, ...] = ()

    @property
    def flags(self) -> tuple[str, ...]:
        """As on a command line."""
        return (f"--config={self.file}", *self.overrides)


@dataclass(frozen=True)
class Trial:
    """One experiment of a sweep. `values` have the types of the config's fields."""

    number: int
    values: Values
    flags: tuple[str, ...]  # the values again, as flags of launch.train
    experiment: Experiment

    @property
    def name(self) -> str:
        """Its folder: the number, and as much of the values as a name should hold."""
        words = ",".join(f"{short}={_short(self.values[path])}" for path, short in short_names(self.values).items())
        return f"{self.number:03d}-{re.sub(r'[^A-Za-z0-9_.,=+-]+', '_', words)[:60].rstrip(',_=')}"

    def __str__(self) -> str:
        return described(self.values)


def from_flags() -> Base:
    """The `--config` of this program and its overrides. Raises `UserError` if it was not given."""
    flag = flags.FLAGS["config"]
    if flag.value is None:
        raise UserError("--config is missing: name an experiment, such as --config=experiments/pretrain/tiny.py")
    values = dict(config.leaves(flags.FLAGS.config))
    return Base(
        config_flags.get_config_filename(flag),
        tuple(
            f"--config.{path}={flag_text(values[path], values[path])}"
            for path in config_flags.get_override_values(flag)
        ),
    )


def build(base: Base, trials: Iterable[Values], first: int = 0, check: bool = True) -> list[Trial]:
    """Number the trials from `first`, with their whole experiments. Raises `UserError` for one that makes no sense.

    Without `check`, only for paths and types.
    """
    defaults = known_values(base)
    built = []
    for number, values in enumerate(trials, first):
        for path in values:
            check_value(base, path, values[path])
        try:
            texts = tuple(f"--config.{path}={flag_text(value, defaults[path])}" for path, value in values.items())
            experiment = read((*base.flags, *texts), check)
        except UserError as error:
            raise UserError(f"trial {number} ({described(values)}): {error}") from None
        typed = dict(config.leaves(experiment))
        built.append(Trial(number, {path: typed[path] for path in values}, texts, experiment))
    return built


def known_values(base: Base) -> dict[str, Any]:
    """Every config path of the experiment file, with its value there."""
    return dict(config.leaves(config.load(base.file)))


def check_value(base: Base, path: str, value: Any) -> None:
    """Raise `UserError` for a path that the experiment lacks, or a number that is none."""
    if not isinstance(path, str):
        raise UserError(f"{path!r} is no config path: write it as text, such as 'optimizer.learning_rate'")
    if any(override.partition("=")[0] == f"--config.{path}" for override in base.overrides):
        raise UserError(f"{path} is swept, and set by --config.{path} as well: leave one out")
    text = flag_text(value, known_values(base).get(path))
    try:
        config.check_overrides(["", f"--config={base.file}", f"--config.{path}={text}"])
    except UserError as error:
        raise UserError(f"the sweep sets {path}: {error}") from None


def typed_choices(base: Base, path: str, values: Iterable[Any]) -> list[Any]:
    """Values of one path, texts as Python values, with the type of the field."""
    default = known_values(base).get(path)
    flag = f"--config.{path}="
    return [
        dict(config.leaves(read((*base.flags, flag + flag_text(value, default)), check=False)))[path]
        for value in values
    ]


def read(arguments: Iterable[str], check: bool = True) -> Experiment:
    """The experiment that these flags give `launch.train`. Raises `UserError` when it makes no sense."""
    found = flags.FlagValues()
    argv = ["launch.train", *arguments]
    config_flags.DEFINE_config_file("config", None, "", flag_values=found, sys_argv=argv)
    try:
        found(argv)
    except (flags.Error, ValueError, TypeError) as error:
        raise UserError(" ".join(str(error).split())) from None
    if check:
        config.check_types(found.config)
        check_experiment(found.config)
    return found.config


def defined(file: str) -> list[Values]:
    """What `sweep(variant)` or `sweep()` of an experiment file returns. Raises `UserError` when there is none."""
    name, _, variant = file.partition(":")
    sweep: Callable[..., Any] | None = runpy.run_path(name, run_name="experiment").get("sweep")
    if not callable(sweep):
        raise UserError(f"nothing to sweep: give --sweep, {EXAMPLE}, or define sweep() in {name}")
    takes_variant = bool(inspect.signature(sweep).parameters)
    trials = sweep(variant) if variant and takes_variant else sweep()
    if not isinstance(trials, list) or not all(isinstance(trial, dict) for trial in trials):
        raise UserError(f"sweep() of {name} must return a list of dicts from config paths to values (see lm/sweep.py)")
    return trials


def without_repeats(trials: list[Trial]) -> tuple[list[Trial], int]:
    """The trials whose experiment no earlier one is, renumbered, and how many were left out."""
    kept: list[Trial] = []
    for trial in trials:
        if all(trial.experiment != other.experiment for other in kept):
            kept.append(Trial(len(kept), trial.values, trial.flags, trial.experiment))
    return kept, len(trials) - len(kept)


def short_names(paths: Iterable[str]) -> dict[str, str]:
    """The last word of every path, or the whole path where two end alike."""
    paths = list(paths)
    count = Counter(path.rpartition(".")[2] for path in paths)
    return {path: path if count[path.rpartition(".")[2]] > 1 else path.rpartition(".")[2] for path in paths}


def described(values: Values) -> str:
    """Values on a line: `learning_rate=0.003, seed=1`."""
    return ", ".join(f"{name}={_short(values[path])}" for path, name in short_names(map(str, values)).items())


def _short(value: Any) -> str:
    if isinstance(value, tuple | list):
        return "+".join(map(_short, value)) or "none"
    return f"{value:g}" if isinstance(value, float) else str(value)
