"""A Python that a model may run: pydantic-monty, an interpreter with no files, no network and no C behind it.

It runs in worker processes of its own. Limits on time, memory and recursion are kept inside the worker; one that does not keep
them is killed and replaced. What reaches this process is only text and the value of the last expression.

The same code gives the same answer, so that a run can be repeated: its random numbers always begin alike, and its clock stands
still at `CLOCK`.
"""

import atexit
import datetime
import os
import threading
from dataclasses import dataclass
from typing import Any

from data_pipeline.tools.tool import Tool, ToolError

CLOCK = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)

# Between the limit that a worker keeps itself and the moment it is killed.
GRACE = 0.25


@dataclass(frozen=True)
class PythonLimits:
    """What one piece of code may take. `memory` is in bytes, `output` and `code` in characters."""

    seconds: float = 1.0
    memory: int = 32 << 20
    recursion: int = 200
    output: int = 10_000
    code: int = 20_000


def python_tool(limits: PythonLimits = PythonLimits(), workers: int | None = None) -> Tool:
    """Runs {"code": ...} and answers what it printed, then the value of its last expression, if that is not None.

    Every call starts from nothing. At most `workers` (None: one for each CPU) run at once, others wait; they start with the
    first call and end with this process. Safe to call from several threads.
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
    """Worker processes, started by the first call, and again in a forked process, where the old ones' threads are gone."""

    def __init__(self, limits: PythonLimits, workers: int | None) -> None:
        self._limits = limits
        self._workers = workers
        self._lock = threading.Lock()
        self._pool: Any = None
        self._process = 0

    def session(self) -> Any:
        """A fresh interpreter, to be used in a `with` statement."""
        import pydantic_monty

        with self._lock:
            if self._process != os.getpid():
                pool = pydantic_monty.Monty(
                    max_processes=self._workers,
                    request_timeout=self._limits.seconds + 2 * GRACE,
                    feed_duration_limit_grace=GRACE,
                )
                pool.__enter__()
                atexit.register(pool.__exit__, None, None, None)
                self._pool, self._process = pool, os.getpid()
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
    printed = pydantic_monty.CollectString(max_bytes=4 * limits.output)
    try:
        with pool.session() as session:
            value = session.feed_run(code, print_callback=printed)
        last = "" if value is None else repr(value)
    except pydantic_monty.MontyCrashedError:
        last = f"error: stopped after {limits.seconds:g} s, or for the memory it took"
    except (pydantic_monty.MontySyntaxError, pydantic_monty.MontyRuntimeError) as error:
        last = f"error: {_message(error)}"
    except (pydantic_monty.MontyError, ValueError, RecursionError) as error:  # a value that cannot leave the sandbox
        last = f"error: {error}"
    before = printed.output
    return "\n".join(filter(None, [before.removesuffix("\n"), last])) or "(no output)"


def _message(error: Any) -> str:
    """The exception on one line, with the line of the code it came from."""
    frames = error.traceback()
    where = f" (line {frames[-1].line})" if frames else ""
    return " ".join(error.display(format="type-msg").split()) + where
