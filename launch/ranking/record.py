"""A file of JSON lines that only grows: what `append` has returned from is on the disk, whatever happens next."""

import contextlib
import fcntl
import json
import os
import stat
import sys
from pathlib import Path
from typing import Any

from data_pipeline.errors import UserError

Row = dict[str, Any]


class Record:
    """The file, held against other programs. A last line that a kill tore is dropped, with a note on stderr."""

    def __init__(self, path: Path) -> None:
        """Raises `UserError` when another program has it, and OSError where it cannot be had."""
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("a+b", buffering=0)
        self._regular = stat.S_ISREG(os.fstat(self._file.fileno()).st_mode)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._file.close()
            raise UserError(f"another program writes to {path}: wait for it or choose another --out") from None
        if self._regular:
            self._mend()

    def rows(self) -> list[Row]:
        """The rows so far. Lines that hold none are left where they are, and told of on stderr."""
        rows = []
        for number, line in enumerate(self._contents().splitlines(), 1):
            try:
                row = json.loads(line)
            except ValueError:
                row = None
            if isinstance(row, dict):
                rows.append(row)
            else:
                print(f"({self.path}:{number} holds no row: passed over)", file=sys.stderr)
        return rows

    def append(self, row: Row) -> None:
        """Raises OSError where it cannot be written whole; then nothing of it is."""
        line = (json.dumps(row, ensure_ascii=False) + "\n").encode()
        descriptor = self._file.fileno()
        end = os.fstat(descriptor).st_size
        try:
            while line:
                line = line[os.write(descriptor, line) :]
            if self._regular:
                os.fsync(descriptor)
        except OSError:
            with contextlib.suppress(OSError):
                os.ftruncate(descriptor, end)
            raise

    def close(self) -> None:
        """Let others have it."""
        self._file.close()

    def _contents(self) -> bytes:
        if not self._regular:
            return b""
        self._file.seek(0)
        return self._file.read()

    def _mend(self) -> None:
        contents = self._contents()
        end = contents.rfind(b"\n") + 1
        torn = contents[end:]
        if torn:
            try:
                json.loads(torn)
                os.write(self._file.fileno(), b"\n")  # it is whole: only its end of line is missing
            except ValueError:
                os.ftruncate(self._file.fileno(), end)
                print(f"({self.path}: dropped a last line that was not written whole)", file=sys.stderr)
        folder = os.open(self.path.parent, os.O_RDONLY)
        os.fsync(folder)  # so that a new file's name is on the disk too
        os.close(folder)
