"""Which items of a reasoning-gym task: "TASK?SETTING=VALUE&levels=3".

chain_sum                          as the task itself has them
chain_sum?min_terms=2&max_terms=3  with these settings
chain_sum?levels=3                 a third from each of levels 0, 1 and 2 of the task's curriculum
"""

import ast
import dataclasses
import difflib
from typing import Any

from data_pipeline.errors import UserError

Settings = tuple[tuple[str, Any], ...]
SETTINGS: dict[str, dict[str, Any]] = {
    "decimal_arithmetic": {"min_num_decimal_places": 1, "max_num_decimal_places": 2, "max_terms": 4},
}
"""Where the task's own are too long for a short context."""


def parse(name: str) -> tuple[str, list[Settings]]:
    """(task, its settings for each level). Raises `UserError` for a task, a setting or a curriculum that does not exist."""
    task, _, rest = name.partition("?")
    given: dict[str, Any] = {}
    for pair in filter(None, rest.split("&")):
        key, equals, value = pair.partition("=")
        if not equals:
            raise UserError(f"gym:{name}: {pair!r} is not SETTING=VALUE")
        given[key] = _value(value)
    levels = given.pop("levels", None)
    if levels is not None and (not isinstance(levels, int) or levels < 1):
        raise UserError(f"gym:{name}: levels={levels} must be 1 or more")
    try:
        import reasoning_gym
        from reasoning_gym import factory
    except ImportError:
        raise UserError('reasoning-gym\'s tasks need the package reasoning-gym: pip install "trivium[gym]"') from None
    if task not in factory.DATASETS:
        near = difflib.get_close_matches(task, list(factory.DATASETS), n=1)
        raise UserError(f"reasoning-gym has no task {task!r}" + (f"; did you mean {near[0]}?" if near else ""))
    known = {each.name for each in dataclasses.fields(factory.DATASETS[task][1])} - {"seed", "size"}
    if unknown := set(given) - known:
        raise UserError(
            f"reasoning-gym's task {task} has no setting {min(unknown)!r}: choose {', '.join(sorted(known))}"
        )
    if levels is not None and not factory.has_curriculum(task):
        raise UserError(f"reasoning-gym's task {task} has no curriculum: leave out levels")
    result: list[Settings] = []
    for level in range(levels or 1):
        settings = (
            SETTINGS.get(task, {}) if levels is None else _of_level(factory.create_curriculum(task), level, known)
        )
        settings = {**settings, **given}
        try:
            reasoning_gym.create_dataset(task, seed=0, size=1, **settings)
        except Exception as error:  # tasks assert what they want of their settings
            raise UserError(f"reasoning-gym's task {task} refuses {settings}: {' '.join(str(error).split())}") from None
        result.append(tuple(sorted(settings.items())))
    return task, result


def _of_level(curriculum: Any, level: int, known: set[str]) -> dict[str, Any]:
    for name, attribute in curriculum.attributes.items():
        curriculum.set_attr_level(name, min(level, len(attribute.levels) - 1))
    made = dataclasses.asdict(curriculum.generate_configuration())
    return {key: value for key, value in made.items() if key in known}


def _value(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text
