"""A trace of a few steps: where their time goes, on the devices and on the host.

TensorBoard (with its profile plugin) opens the folder, Perfetto (ui.perfetto.dev) the `.trace.json.gz` file inside it.
"""

from dataclasses import dataclass
from pathlib import Path

import jax

from data_pipeline.errors import UserError


@dataclass
class Profile:
    """Steps `first` to `last` are traced into `directory`; a run resumed after `first` traces none."""

    first: int
    last: int
    directory: Path
    tracing: bool = False

    def before(self, step: int) -> None:
        """Start tracing if this is the first of those steps."""
        if step == self.first:
            self.tracing = True
            jax.profiler.start_trace(str(self.directory))

    def ends_with(self, step: int) -> bool:
        """Whether this step is the last one traced."""
        return self.tracing and step == self.last

    def stop(self) -> Path:
        """Write the trace; the file that Perfetto opens."""
        self.tracing = False
        jax.profiler.stop_trace()
        return max(self.directory.rglob("*.trace.json.gz"), key=lambda path: path.stat().st_mtime)


def parse_profile(text: str, directory: Path, steps: int) -> Profile:
    """A `Profile` from `FIRST:LAST` or one step. Raises `UserError` for anything else, and for steps the run does not have."""
    first, colon, last = text.partition(":")
    if not first.isdigit() or (colon and not last.isdigit()):
        raise UserError(f"--profile={text}: write the first and the last step to trace, such as --profile=10:12")
    profile = Profile(int(first), int(last or first), directory)
    if not 1 <= profile.first <= profile.last <= steps:
        raise UserError(f"--profile={text}: must be steps between 1 and {steps}, the first not after the last")
    return profile
