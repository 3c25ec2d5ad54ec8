"""A Python that a model may run: pydantic-monty, an interpreter with no files, no network and no C behind it.

It runs in worker processes of its own. Limits on time, memory and recursion are kept inside the worker; one that does not keep
them is killed and replaced. Nothing but text reaches this process: even showing a value can take for ever (a list that holds the
same list twice, forty times over), so that too happens inside, and code is never parsed here.

The same code gives the same answer, so that a run can be repeated: its random numbers always begin alike, and its clock stands
still at `CLOCK`.
"""

import atexit
import contextlib
import datetime
import io
import itertools
import os
import re
import threading
import tokenize
from dataclasses import dataclass
from typing import Any

from data_pipeline.errors import UserError
from data_pipeline.tools.tool import Tool, ToolError, cut

CLOCK = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)

# Between the limit that a worker keeps itself and the moment it is killed.
GRACE = 0.25

PRINTED = 1 << 20

OPENING, CLOSING = ("(", "[", "{"), (")", "]", "}")

# What monty calls the two limits; its own messages say by how much, which differs from run to run.
OUT_OF_TIME = re.compile("TimeoutError: .*time limit exceeded")
OUT_OF_MEMORY = re.compile("MemoryError: .*memory limit")


@dataclass(frozen=True)
class PythonLimits:
    """What one piece of code may take. `memory` is in bytes, `code` in characters.

    `output` is how many characters are shown of what it printed, and as many of its last value. It is stopped where it prints
    `PRINTED` bytes.
    """

    seconds: float = 1.0
    memory: int = 32 << 20
    recursion: int = 1000
    output: int = 800
    code: int = 10_000


def python_tool(limits: PythonLimits = PythonLimits(), workers: int | None = None) -> Tool:
    """Runs {"code": ...} and answers what it printed, then the value of its last expression, if that is not None.

    Every call starts from nothing. At most `workers` (None: one for each CPU) run at once, others wait; they start with the
    first call and end with this process, which waits for a call that still runs. Safe to call from several threads.
    """
    pool = _Pool(limits, workers)
    description = (
        "Runs Python code and answers what it prints and the value of its last expression. There are no files, no network "
        "and no packages beyond parts of the standard library."
    )
    parameters = {
        "type": "object",
        "properties": {"code": {"type": "string", "description": "Python code"}},
        "required": ["code"],
        "additionalProperties": False,
    }
    return Tool("python", description, parameters, lambda arguments: _run(pool, limits, arguments["code"]))


class _Pool:
    """Worker processes, started by the first call."""

    def __init__(self, limits: PythonLimits, workers: int | None) -> None:
        self._limits = limits
        self._workers = workers
        self._lock = threading.Lock()
        self._pool: Any = None
        self._process = 0

    def session(self) -> Any:
        """A fresh interpreter, to be used in a `with` statement. Raises `UserError` where none can be started."""
        import pydantic_monty

        with self._lock:
            if self._pool is None:
                pool = pydantic_monty.Monty(
                    max_processes=self._workers,
                    request_timeout=self._limits.seconds + 2 * GRACE,
                    feed_duration_limit_grace=GRACE,
                )
                try:
                    pool.__enter__()
                except (RuntimeError, OSError) as error:
                    raise UserError(f"the Python tool's interpreter does not start: {error}") from None
                atexit.register(pool.__exit__, None, None, None)
                self._pool, self._process = pool, os.getpid()
        if self._process != os.getpid():  # it would wait for ever: a fork takes no threads along
            raise UserError("the Python tool does not work in a forked process: start that one with spawn")
        return self._pool.checkout(
            limits={
                "max_feed_duration_secs": self._limits.seconds,
                "max_memory": self._limits.memory,
                "max_recursion_depth": self._limits.recursion,
            },
            os_policy={"datetime": CLOCK, "sleep": "zero", "random_start": {"seed": 0}},
        )


def _run(pool: _Pool, limits: PythonLimits, code: str) -> str:
    import pydantic_monty

    if len(code) > limits.code:
        raise ToolError(f"the code has {len(code):,} characters; at most {limits.code:,} are run")
    # Code that does not end in an expression is no Python any more with its value taken: it is a syntax error before it runs.
    if program := with_value(code):
        with contextlib.suppress(pydantic_monty.MontySyntaxError):
            return _answer(pool, limits, program)
    try:
        return _answer(pool, limits, f"{code}\nNone")
    except pydantic_monty.MontySyntaxError as error:
        return f"error: {cut(_message(error, limits), limits.output)}"


def _answer(pool: _Pool, limits: PythonLimits, program: str) -> str:
    """What `program`, whose last expression is text or None, prints and says. Raises `MontySyntaxError`."""
    import pydantic_monty

    printed = pydantic_monty.CollectString(max_bytes=PRINTED)
    try:
        with pool.session() as session:
            last = session.feed_run(program, print_callback=printed) or ""
    except pydantic_monty.MontyRuntimeError as error:
        last = f"error: {_message(error, limits)}"
    except pydantic_monty.MontyCrashedError:
        last = f"error: TimeoutError: stopped after {limits.seconds:g} s"
    shown = [cut(printed.output.removesuffix("\n"), limits.output), cut(last, limits.output)]
    return "\n".join(filter(None, shown)) or "(no output)"


def with_value(code: str) -> str | None:
    """The same code, ending in the text of the last expression's value; None where its last statement is not found.

    It is made from tokens, in a time that is linear in the code. What it takes for an expression may be none.
    """
    start = end = (1, 0)  # of the last statement: row from 1, column from 0
    indentation, depth, fresh, colon = 0, 0, True, False
    try:
        for token in tokenize.generate_tokens(io.StringIO(code).readline):
            if token.type in (tokenize.NL, tokenize.COMMENT, tokenize.ENDMARKER):
                continue
            if token.type in (tokenize.INDENT, tokenize.DEDENT):
                indentation += 1 if token.type == tokenize.INDENT else -1
            elif token.type == tokenize.NEWLINE:
                fresh, colon = True, False
            elif token.string == ";" and not depth and not colon:  # after a colon it may stand in a block of one line
                fresh = True
            else:
                if fresh and not indentation:
                    start = token.start
                fresh, end = False, token.end
                depth += (token.string in OPENING) - (token.string in CLOSING)
                colon |= token.string == ":" and not depth
    except (tokenize.TokenError, SyntaxError):
        return None
    lines = list(itertools.accumulate((len(line) + 1 for line in code.split("\n")), initial=0))
    first, last = (lines[row - 1] + column for row, column in (start, end))
    if first == last:
        return None
    # On the same line, so that an error's line is the model's own.
    value = f"None if __value is None else f'{{__value!r}}'[:{PRINTED}]"
    return f"{code[:first]}__value = ({code[first:last]})\n{value}"


def _message(error: Any, limits: PythonLimits) -> str:
    """The exception on one line, with the line of the code that it came from."""
    message = " ".join(error.display(format="type-msg").split())
    if OUT_OF_TIME.match(message):
        return f"TimeoutError: stopped after {limits.seconds:g} s"
    if OUT_OF_MEMORY.match(message):
        return f"MemoryError: more than {limits.memory >> 20} MB, or {PRINTED >> 20} MB printed"
    frames = error.traceback()
    return f"{message} (line {frames[-1].line})" if frames else message
