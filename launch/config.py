"""The `--config` flag: an experiment file with overrides, `--config=FILE.py[:VARIANT] --config.optimizer.learning_rate=3e-4`."""

import dataclasses
import difflib
import importlib.util
import inspect
import itertools
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from absl import flags
from ml_collections import config_flags

from data_pipeline.errors import UserError
from lm.experiment import Experiment, check_experiment

NAMES = {int: "whole number", float: "number", str: "text, in quotes", bool: "true or false"}


def define_flag() -> None:
    """Define `--config`."""
    config_flags.DEFINE_config_file(
        "config",
        None,
        "The experiment: FILE.py or FILE.py:VARIANT. Any value in it can be overridden: --config.optimizer.learning_rate=3e-4",
    )


def experiment() -> Experiment:
    """The experiment that the flags describe, checked. Raises `UserError` if it was not given or makes no sense."""
    config = flags.FLAGS.config
    if config is None:
        raise UserError("--config is missing: name an experiment, such as --config=experiments/pretrain/tiny.py")
    check_types(config)
    check_experiment(config)
    return config


def check_types(config: Any, prefix: str = "") -> None:
    """Raise `UserError` where a tuple holds values of another type than its field says: absl checks all but those."""
    hints = typing.get_type_hints(type(config))
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if dataclasses.is_dataclass(value):
            check_types(value, f"{prefix}{field.name}.")
        elif isinstance(value, tuple):
            wanted = typing.get_args(hints[field.name])[0]
            accepted = (int, float) if wanted is float else wanted
            if not all(isinstance(item, accepted) for item in value):
                raise UserError(f"{prefix}{field.name}={value}: every item must be a {NAMES[wanted]}")


def check_overrides(argv: list[str]) -> None:
    """Raise `UserError` for a `--config` file that does not load and for `--config.KEY` flags that name nothing.

    Runs before absl parses, whose own errors for these are tracebacks.
    """
    given = [argument.removeprefix("-").removeprefix("-") for argument in argv if argument.startswith("-")]
    files = [argument.partition("=")[2] for argument in given if argument.startswith("config=")]
    files += [value for flag, value in itertools.pairwise(argv) if flag in ("-config", "--config")]
    keys = [argument.partition("=") for argument in given if argument.startswith("config.")]
    if not files:
        if keys:
            raise UserError(f"--{keys[0][0]} needs --config=FILE.py before it")
        return
    known = dict(leaves(load(files[-1])))
    for name, equals, value in keys:
        key = name.removeprefix("config.")
        if key in known:
            if equals:
                _check_value(key, known[key], value)
            continue
        inside = [other for other in known if other.startswith(key + ".")]
        if inside:
            raise UserError(f"--config.{key} is a group: set one of its values, such as --config.{inside[0]}")
        last_words = {other: other.rpartition(".")[2] for other in known}
        near = difflib.get_close_matches(key, known, n=1, cutoff=0.6) or [
            other
            for word in difflib.get_close_matches(key.rpartition(".")[2], last_words.values(), n=1)
            for other in known
            if last_words[other] == word
        ]
        hint = f"did you mean --config.{near[0]}?" if near else f"there are {', '.join(known)}"
        raise UserError(f"the experiment has no {key!r}: {hint}")


def _check_value(key: str, default: Any, text: str) -> None:
    """Absl would refuse the same values, but less plainly."""
    if type(default) in (int, float):
        try:
            type(default)(text)
        except ValueError:
            raise UserError(f"--config.{key}={text}: must be a {NAMES[type(default)]}") from None


def load(value: str) -> Any:
    """What `get_config` of FILE.py:VARIANT returns. Raises `UserError` when there is no such file or variant."""
    name, _, variant = value.partition(":")
    path = Path(name)
    if path.is_dir() or not path.exists():
        folder = path if path.is_dir() else path.parent
        files = sorted(str(file) for file in folder.glob("*.py") if file.name != "__init__.py")
        near = difflib.get_close_matches(name, files, n=1)
        hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(files)}" if files else "check the path"
        raise UserError(f"no experiment file {name}: {hint}")
    module_spec = importlib.util.spec_from_file_location("experiment", path)
    if module_spec is None or module_spec.loader is None:
        raise UserError(f"{name} is not a Python file: an experiment is a .py file with a get_config function")
    module = importlib.util.module_from_spec(module_spec)
    module_spec.loader.exec_module(module)
    if not hasattr(module, "get_config"):
        raise UserError(f"{name} has no get_config function: see experiments/pretrain/tiny.py for one")
    if variant and not inspect.signature(module.get_config).parameters:
        raise UserError(f"{name} has no variants: leave out {variant!r}")
    return module.get_config(variant) if variant else module.get_config()


def leaves(config: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every dotted key of a nested dataclass, with its value."""
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if dataclasses.is_dataclass(value):
            yield from leaves(value, f"{prefix}{field.name}.")
        else:
            yield prefix + field.name, value
