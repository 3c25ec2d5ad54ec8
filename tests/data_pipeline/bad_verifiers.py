"""Verifiers that misbehave, importable by the processes that run them."""

import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from data_pipeline.errors import UserError
from data_pipeline.problem import Response, Verdict


@dataclass(frozen=True)
class Right:
    def __call__(self, response: Response) -> Verdict:
        return Verdict(1.0, response.text)


@dataclass(frozen=True)
class Wrong:
    def __call__(self, response: Response) -> Verdict:
        return Verdict(0.0, "never")


@dataclass(frozen=True)
class Length:
    """A tenth for each letter; some take longer than those after them."""

    def __call__(self, response: Response) -> Verdict:
        time.sleep(0.01 if response.text.startswith("a") else 0)
        return Verdict(len(response.text) / 10, response.text)


@dataclass(frozen=True)
class Hangs:
    """In C, where no signal handler runs."""

    def __call__(self, response: Response) -> Verdict:
        return Verdict(9**9**9**9 > 1, "")


@dataclass(frozen=True)
class Scores:
    score: object

    def __call__(self, response: Response) -> Verdict:
        return Verdict(self.score, "odd")


@dataclass(frozen=True)
class ThrowsInline:
    inline = True

    def __call__(self, response: Response) -> Verdict:
        raise KeyError("inline")


@dataclass(frozen=True)
class Does:
    """One of the ways to end badly."""

    what: str

    def __call__(self, response: Response) -> Verdict:
        match self.what:
            case "throw":
                raise ValueError("no such thing")
            case "exit":
                sys.exit(0)
            case "die":
                os._exit(1)
            case "eat":
                bytearray(6 << 30)
            case "chatter":  # the answer must not be mistaken for what is printed
                print("noise" * 1000, file=sys.stderr if response.text else sys.stdout)
                return Verdict(1.0, "")
            case "setup":
                raise UserError("install something")
            case "sleep":
                time.sleep(600)
            case "child":  # leave a process behind, whose number is in the file
                child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
                Path(response.text).write_text(str(child.pid))
                time.sleep(600)
        return None


@dataclass(frozen=True)
class DiesOnce:
    """Its process dies when the file is not there yet: not the answer's fault."""

    path: str

    def __call__(self, response: Response) -> Verdict:
        if not Path(self.path).exists():
            Path(self.path).touch()
            os._exit(1)
        return Verdict(1.0, "")


@dataclass(frozen=True)
class CannotLoad:
    def load(self) -> None:
        os._exit(1)

    def __call__(self, response: Response) -> Verdict:
        return Verdict(1.0, "")


@dataclass(frozen=True)
class SlowToLoad:
    def load(self) -> None:
        time.sleep(1.0)

    def __call__(self, response: Response) -> Verdict:
        return Verdict(1.0, "")
