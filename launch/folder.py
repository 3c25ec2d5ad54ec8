"""A folder that one program at a time works in."""

import fcntl
from pathlib import Path
from typing import IO

from data_pipeline.errors import UserError


def hold(path: Path, busy: str) -> IO[str]:
    """Make the folder, and lock it; the returned file is the lock, kept until closed.

    Raises `UserError` when `path` cannot be a folder that we may write to, and, saying `busy`, when another process has it.
    """
    if path.exists() and not path.is_dir():
        raise UserError(f"--workdir={path} is a file: name a folder")
    try:
        path.mkdir(parents=True, exist_ok=True)
        lock = (path / "lock").open("w")
    except OSError as error:
        raise UserError(f"--workdir={path} cannot be written ({error.strerror}): choose another folder") from None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.close()
        raise UserError(f"{busy} {path}: wait for it or choose another --workdir") from None
    return lock
