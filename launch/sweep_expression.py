"""The `--sweep` expression: which values to try, in one line.

    optimizer.learning_rate=1e-3,3e-3 ; seed=0,1,2                  every combination: 6 trials
    model.width=64,128 & model.heads=2,4                            together, row by row: 2 trials
    optimizer.learning_rate=log_uniform(1e-4,1e-2)                  drawn, as often as --trials says
    data.sources=("school","pydoc"),("pydoc",) ; data.packing=whole,split

`;` multiplies, `&` zips and binds tighter, `,` lists. A value that holds one of these stands in quotes or brackets.
"""

import ast
import difflib
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from data_pipeline.errors import UserError
from lm.sweep import Choice, Distribution, Trial, Uniform, choice, log_uniform, product, random, uniform, zipped

DISTRIBUTIONS: dict[str, Callable[..., Distribution]] = {
    "uniform": uniform,
    "log_uniform": log_uniform,
    "choice": choice,
}
EXAMPLE = "such as --sweep='optimizer.learning_rate=1e-3,3e-3 ; seed=0,1,2'"
OPENING, CLOSING = "([{", ")]}"


@dataclass(frozen=True)
class Expression:
    """A parsed `--sweep`: the factors of a product, in order. Values of lists are still text."""

    factors: list[list[Trial] | dict[str, Distribution]]

    @property
    def space(self) -> dict[str, Distribution]:
        """What is drawn, by path."""
        return {path: d for factor in self.factors if isinstance(factor, dict) for path, d in factor.items()}

    @property
    def paths(self) -> list[str]:
        """Every path that is swept."""
        return [path for factor in self.factors for path in (factor if isinstance(factor, dict) else factor[0])]

    def examples(self) -> Iterator[tuple[str, Any]]:
        """(path, value) for every value in a list, and one of each distribution, to be checked."""
        for factor in self.factors:
            if isinstance(factor, dict):
                for path, distribution in factor.items():
                    values = distribution.values if isinstance(distribution, Choice) else (distribution.at(0.0),)
                    yield from ((path, value) for value in values)
            else:
                yield from (item for trial in factor for item in trial.items())

    def for_config(self, defaults: dict[str, Any]) -> "Expression":
        """Draws of fields that are whole numbers (`defaults`: any value of the field, by path) are whole numbers."""

        def adapted(path: str, distribution: Distribution) -> Distribution:
            if isinstance(distribution, Uniform) and type(defaults.get(path)) is int:
                return replace(distribution, low=round(distribution.low), high=round(distribution.high), whole=True)
            return distribution

        return Expression(
            [
                {path: adapted(path, d) for path, d in factor.items()} if isinstance(factor, dict) else factor
                for factor in self.factors
            ]
        )

    def trials(self, draws: int, seed: int) -> list[Trial]:
        """The product; what is drawn is drawn `draws` times, and counts as one factor, where the first draw stands."""
        drawn = random(self.space, draws, seed) if self.space else []
        factors: list[list[Trial]] = []
        for factor in self.factors:
            if not isinstance(factor, dict):
                factors.append(factor)
            elif drawn:
                factors.append(drawn)
                drawn = []
        return product(*factors)

    def as_space(self) -> dict[str, Distribution]:
        """Everything as something to draw from, for samplers that choose: a list is a choice. Refuses zipped values."""
        space: dict[str, Distribution] = {}
        for factor in self.factors:
            if isinstance(factor, dict):
                space |= factor
            elif len(factor[0]) > 1:
                raise UserError(f"--sweep: {' & '.join(factor[0])} cannot be zipped where a sampler chooses each value")
            else:
                space |= {path: Choice(tuple(trial[path] for trial in factor)) for path in factor[0]}
        return space


def parse(text: str) -> Expression:
    """Parse a `--sweep` expression. Raises `UserError` that says what is wrong with it."""
    factors: list[list[Trial] | dict[str, Distribution]] = []
    for term in _split(text, ";"):
        columns: dict[str, Distribution | list[str]] = {}
        for part in _split(term, "&"):
            path, equals, values = part.partition("=")
            path = path.strip().removeprefix("--").removeprefix("config.")
            if not equals or not path or not values.strip():
                raise UserError(f"--sweep: {part.strip()!r} is not PATH=VALUE,VALUE,..., {EXAMPLE}")
            if path in columns:
                raise UserError(f"--sweep: {path} is named twice")
            columns[path] = _values(path, values)
        drawn = {path: values for path, values in columns.items() if not isinstance(values, list)}
        listed = {path: values for path, values in columns.items() if isinstance(values, list)}
        if drawn and listed:
            raise UserError(f"--sweep: {next(iter(drawn))} is drawn and {next(iter(listed))} listed: join them with ;")
        try:
            factors.append(drawn or zipped(listed))
        except UserError as error:
            raise UserError(f"--sweep: {error}") from None
    expression = Expression(factors)
    if twice := [path for path in expression.paths if expression.paths.count(path) > 1]:
        raise UserError(f"--sweep: {twice[0]} is named twice")
    return expression


def _values(path: str, text: str) -> list[str] | Distribution:
    text = text.strip()
    call = re.fullmatch(r"([A-Za-z_]\w*)\s*\((.*)\)", text, re.DOTALL)
    if not call:
        return [item.strip() for item in _split(text, ",")]
    name, arguments = call[1], [item.strip() for item in _split(call[2], ",")]
    if name not in DISTRIBUTIONS:
        near = difflib.get_close_matches(name, DISTRIBUTIONS, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(DISTRIBUTIONS)}"
        raise UserError(f"--sweep: {path}={text}: no distribution {name!r}: {hint}")
    try:
        if name == "choice":
            return choice(*arguments)
        low, high = (float(argument) for argument in arguments)
        return DISTRIBUTIONS[name](low, high)
    except ValueError:
        raise UserError(f"--sweep: {path}={text}: {name} takes two numbers, such as {name}(1e-4,1e-2)") from None
    except UserError as error:
        raise UserError(f"--sweep: {path}={error}") from None


def _split(text: str, separator: str) -> list[str]:
    """Cut at the separators that stand in no quotes and no brackets. Raises `UserError` where one of those stays open."""
    parts, start, quote, brackets = [], 0, "", ""
    for at, letter in enumerate(text):
        if quote:
            quote = "" if letter == quote else quote
        elif letter in "'\"":
            quote = letter
        elif letter in OPENING:
            brackets += letter
        elif letter in CLOSING:
            if not brackets or OPENING.index(brackets[-1]) != CLOSING.index(letter):
                raise UserError(f"--sweep: {letter!r} closes nothing in {text.strip()!r}")
            brackets = brackets[:-1]
        elif letter == separator and not brackets:
            parts.append(text[start:at])
            start = at + 1
    if quote or brackets:
        raise UserError(f"--sweep: {quote or brackets[-1]!r} is not closed in {text.strip()!r}")
    parts.append(text[start:])
    if not all(part.strip() for part in parts):
        raise UserError(f"--sweep: nothing before or after a {separator!r} in {text.strip()!r}, {EXAMPLE}")
    return parts


def flag_text(value: Any, default: Any) -> str:
    """What to write after `--config.PATH=` so that a field of the kind of `default` gets `value`.

    `value` is text, as after `--sweep`, or Python's, as a `sweep()` returns it.
    """
    if hasattr(value, "item"):  # NumPy's numbers
        value = value.item()
    if isinstance(default, tuple):
        value = _literal(value)
        return repr(tuple(value) if isinstance(value, tuple | list) else (value,))
    if isinstance(value, str):
        literal = _literal(value)
        return literal if isinstance(literal, str) else value
    return str(value).lower() if isinstance(value, bool) else repr(value)


def _literal(value: Any) -> Any:
    """The Python value that a text spells, if it spells one."""
    try:
        return ast.literal_eval(value) if isinstance(value, str) else value
    except (ValueError, SyntaxError):
        return value
