"""Rows that cannot be used: counted and kept in a file, so that nothing is ever dropped in silence.

One damaged row in ten million must not stop a run, and the person who runs it must still be able to see which it was.
"""

import json
from collections import Counter
from pathlib import Path


class SetAside:
    """Writes one JSON line {"where", "reason", "raw"} per unusable row to `path`; `counts` holds how many per reason.

    The file appears with the first row and replaces the one of an earlier run.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.counts: Counter[str] = Counter()

    def add(self, where: str, reason: str, raw: bytes) -> None:
        r"""Keep `raw`, found at `where` (such as "books.jsonl:12"). Bytes that are not UTF-8 are written as \xNN."""
        first = not self.counts
        self.counts[reason] += 1
        self.path.parent.mkdir(parents=True, exist_ok=True)
        row = {"where": where, "reason": reason, "raw": raw.decode("utf-8", "backslashreplace")}
        with self.path.open("w" if first else "a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")

    def summary(self) -> str:
        """One line, such as "set aside 3 rows (2 invalid UTF-8, 1 empty text) in runs/a/set_aside.jsonl"."""
        if not self.counts:
            return "set aside no rows"
        reasons = ", ".join(f"{count} {reason}" for reason, count in self.counts.most_common())
        rows = "row" if self.counts.total() == 1 else "rows"
        return f"set aside {self.counts.total()} {rows} ({reasons}) in {self.path}"
