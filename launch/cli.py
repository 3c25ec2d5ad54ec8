"""How every program starts and ends: flags parsed, mistakes told in one line, exit codes that scripts can trust.

Exit codes: 0 done; 2 a mistake the user can fix (one line on stderr says how); 75 another process of the run was lost (start
all again); 130 and 143 stopped by Ctrl-C or SIGTERM; 141 nobody reads its output any more.
"""

import difflib
import errno
import os
import shlex
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

from absl import app, flags, logging

from data_pipeline.errors import UserError

# Where tokenizers, tokenized documents and compiled programs are kept, for all runs.
CACHE = os.environ.get("TRIVIUM_CACHE", "~/.cache/trivium")


def run(
    main: Callable[[list[str]], int | None],
    check: Callable[[list[str]], None] | None = None,
    *,
    positional: bool = False,
) -> None:
    """Parse absl flags, call `main(positional_arguments)`, and exit with its return value (None: 0).

    `check(argv)` looks at the arguments before absl does. `positional`: the program takes arguments that are no flags. A
    `UserError`, a flag that absl refuses, and a disk or permission error end as one line on stderr and exit code 2.
    """

    def guarded(argv: list[str]) -> int:
        # Libraries log tracebacks of failures that they then raise, and we tell each of those in one line.
        logging.set_verbosity(logging.FATAL)
        _tell_failures_elsewhere_in_a_line()
        if len(argv) > 1 and not positional:
            raise UserError(f"unexpected argument {argv[1]!r}: every option is a flag, --name=value (see --help)")
        return main(argv[1:]) or 0

    def parse(argv: list[str]) -> list[str]:
        if check:
            check(argv)
        return parse_flags(argv)

    try:
        app.run(guarded, flags_parser=parse)
    except UserError as error:
        fail(str(error))
    except BrokenPipeError:  # the reader of our output went away (`| head`)
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)  # as a program that SIGPIPE ended
    except OSError as error:
        fail(describe_os_error(error))
    except KeyboardInterrupt:
        print("\nstopped by Ctrl-C", file=sys.stderr)
        sys.exit(130)


def remember_compilations(cache: Path) -> None:
    """Keep compiled programs in a folder, so that the second start of the same program is quick."""
    import jax

    jax.config.update("jax_compilation_cache_dir", str(cache.expanduser() / "compiled"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.3)


def keep_command(program: str, folder: Path) -> None:
    """Write the command that was given into FOLDER/command.txt, to be read by people."""
    (folder / "command.txt").write_text(shlex.join(["python", "-m", program, *sys.argv[1:]]) + "\n", encoding="utf-8")


def parse_flags(argv: list[str]) -> list[str]:
    """Absl's parser, with its errors turned into `UserError` and with the nearest known flag named."""
    try:
        return flags.FLAGS(argv)
    except flags.UnrecognizedFlagError as error:
        near = difflib.get_close_matches(error.flagname, list(flags.FLAGS), n=1)
        hint = f"; did you mean --{near[0]}?" if near else "; --help lists them"
        raise UserError(f"unknown flag --{error.flagname}{hint}") from None
    except flags.Error as error:
        raise UserError(" ".join(str(error).split())) from None


def _tell_failures_elsewhere_in_a_line() -> None:
    """A line in place of a traceback for what fails outside the main thread, or while Python ends.

    On a full disk Orbax's writer, TensorStore's callbacks and TensorBoard's last flush all fail. Who waits for them is given
    the exception, so nothing is hidden. A failure of the main thread that we did not foresee keeps its traceback.
    """

    def line(kind: type[BaseException] | None, error: BaseException | None) -> None:
        reason = str(error).strip().partition("\n")[0][:200]
        print(f"(in the background: {kind.__name__ if kind else 'failure'}: {reason})", file=sys.stderr)

    def anywhere(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if threading.current_thread() is threading.main_thread():
            sys.__excepthook__(kind, error, trace)
        else:
            line(kind, error)

    threading.excepthook = lambda failure: line(failure.exc_type, failure.exc_value)
    sys.unraisablehook = lambda failure: line(failure.exc_type, failure.exc_value)
    sys.excepthook = anywhere


def describe_os_error(error: OSError) -> str:
    """One line for what the operating system refused: what it was about and what to do."""
    where = f" ({error.filename})" if error.filename else ""
    advice = {
        errno.ENOSPC: "free some space, then run the same command again",
        errno.EACCES: "choose a folder that you may write to",
        errno.EPERM: "choose a folder that you may write to",
        errno.EROFS: "choose a folder that you may write to",
    }.get(error.errno or 0, "check the path, then run the same command again")
    return f"{os.strerror(error.errno) if error.errno else error}{where}: {advice}"


def fail(message: str) -> None:
    """Print one line on stderr and exit with 2."""
    print(f"error: {' '.join(message.split())}", file=sys.stderr)
    sys.exit(2)
