"""How every program starts and ends: flags parsed, mistakes told in one line, exit codes that scripts can trust.

Exit codes: 0 done; 2 a mistake the user can fix (one line on stderr says how); 130 and 143 stopped by Ctrl-C or SIGTERM.
"""

import difflib
import errno
import os
import sys
from collections.abc import Callable

from absl import app, flags, logging

from data_pipeline.errors import UserError


def run(main: Callable[[list[str]], int | None]) -> None:
    """Parse absl flags, call `main(positional_arguments)`, and exit with its return value (None: 0).

    A `UserError`, a flag that absl refuses, and a disk or permission error end as one line on stderr and exit code 2.
    """

    def guarded(argv: list[str]) -> int:
        logging.set_verbosity(logging.WARNING)  # libraries' remarks on what this machine lacks
        if len(argv) > 1:
            raise UserError(f"unexpected argument {argv[1]!r}: every option is a flag, --name=value (see --help)")
        return main(argv[1:]) or 0

    try:
        app.run(guarded, flags_parser=parse_flags)
    except UserError as error:
        fail(str(error))
    except OSError as error:
        fail(describe_os_error(error))
    except KeyboardInterrupt:
        print("\nstopped by Ctrl-C", file=sys.stderr)
        sys.exit(130)


def parse_flags(argv: list[str]) -> list[str]:
    """absl's parser, with its errors turned into `UserError` and with the nearest known flag named."""
    try:
        return flags.FLAGS(argv)
    except flags.UnrecognizedFlagError as error:
        near = difflib.get_close_matches(error.flagname, list(flags.FLAGS), n=1)
        hint = f"; did you mean --{near[0]}?" if near else "; --help lists them"
        raise UserError(f"unknown flag --{error.flagname}{hint}") from None
    except flags.Error as error:
        raise UserError(" ".join(str(error).split())) from None


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
