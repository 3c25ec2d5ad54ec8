"""One process at a time in a folder that several share."""

import fcntl
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tqdm import tqdm


@contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Hold the folder (made if it is not there) against other processes, or wait for the one that holds it, saying so.

    The system lets go of the lock however this process ends.
    """
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / "lock").open("w") as file:
        start = time.monotonic()
        told = float("-inf")
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if (now := time.monotonic()) > told + 8:
                    told = now
                    tqdm.write(
                        f"waiting for the process that is preparing {directory} ... {now - start:.0f}s", file=sys.stderr
                    )
                time.sleep(0.1)
        yield
