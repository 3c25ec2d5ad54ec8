"""Who is in the arena, and what each of them answers to the prompts: written once, kept, and used by every judge.

OUT/answers/NAME/settings.json     the run, its step, how it is held in memory, how it was sampled
OUT/answers/NAME/answers.jsonl     {"id", "text", "seed", "tokens", "calls"}, a row a prompt, or {"id", "text": null, "fault"}
"""

import hashlib
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from data_pipeline.errors import UserError
from data_pipeline.model_text import writable
from data_pipeline.problem import Problem
from data_pipeline.resumable import Row, begin, do_rows

if TYPE_CHECKING:  # JAX is imported late
    from lm.assistant import Reply
    from lm.inference.requests import Request
    from lm.inference.sampling import Sampling

BATCH = 64  # prompts that are answered at once
NAME = re.compile(r"[\w.@+-]+")
RUN = re.compile(r"(?:(?P<name>[^=/]*)=)?(?P<folder>.+?)(?:@(?P<step>\d+))?(?::(?P<quantize>int8|int4))?")


@dataclass(frozen=True)
class Contender:
    """A run's checkpoint (None: the newest), perhaps with its weights as integers."""

    name: str
    folder: Path
    step: int | None
    quantize: str | None


@dataclass(frozen=True)
class Asking:
    """How everybody is asked."""

    sampling: "Sampling"
    max_tokens: int
    seed: int
    tools: list[str]  # as --tools


def contenders(runs: Sequence[str]) -> list[Contender]:
    """What --runs says: [NAME=]FOLDER[@STEP][:int8|int4]. Raises `UserError` for fewer than two, and for one name twice."""
    found = [_contender(run) for run in runs]
    if len(found) < 2:
        raise UserError(
            f"--runs names {len(found) or 'no'} run{'s' * (not found)}: an arena needs at least two, FOLDER,FOLDER"
        )
    names = [one.name for one in found]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise UserError(f"--runs: two are named {twice}: give each a name, such as --runs=one=FOLDER,other=FOLDER")
    return found


def _contender(run: str) -> Contender:
    read = RUN.fullmatch(run)
    if read is None:
        raise UserError(f"--runs: {run!r} is no run: write FOLDER, NAME=FOLDER, FOLDER@STEP or FOLDER:int8")
    folder, step, quantize = Path(read["folder"]).expanduser(), read["step"], read["quantize"]
    suffix = f"@{step}" * (step is not None) + f"-{quantize}" * (quantize is not None)
    name = folder.absolute().name + suffix if read["name"] is None else read["name"]
    if not NAME.fullmatch(name):
        raise UserError(f"--runs: {run!r}: {name!r} is no name: use letters, digits and .@+-, as in NAME=FOLDER")
    return Contender(name, folder, None if step is None else int(step), quantize)


def key(problem: Problem) -> str:
    """What tells a prompt from all others, whatever else stands in its source."""
    told = json.dumps([(turn.role, turn.text) for turn in problem.turns])
    return hashlib.sha256(told.encode()).hexdigest()[:16]


def seed_of(seed: int, prompt: str) -> int:
    """Of the answers to one prompt: the same for everybody, so that two that hardly differ answer alike."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{prompt}".encode()).digest()[:4], "big")


def answers(contender: Contender, problems: Sequence[Problem], out: Path, asking: Asking) -> dict[str, Row]:
    """The row of every prompt by its `key`; only what is not there yet is asked, and only for that the model is loaded.

    A prompt that the model cannot read has a `fault` in place of a text. Raises `UserError` where there is no such run or
    checkpoint, or the folder holds answers of another one under this name.
    """
    from launch.workdir import read_config
    from lm.checkpoint import find_step

    read_config(contender.folder)
    step = find_step(contender.folder / "checkpoints", contender.step)
    folder = out / "answers" / contender.name
    how = {**asdict(asking), "run": str(contender.folder), "step": step, "quantize": contender.quantize}
    begin(folder / "settings.json", how)
    model: list[Callable[[Sequence[Problem]], list[Row]]] = []

    def work(some: list[tuple[str, Problem]]) -> list[Row]:
        if not model:
            model.append(_answerer(contender, step, folder, asking))
        return model[0]([problem for _, problem in some])

    items = [(key(problem), problem) for problem in problems]
    return do_rows(folder / "answers.jsonl", items, work, batch=BATCH, name=f"{contender.name} answers")


def whose(contender: Contender, out: Path) -> Row:
    """Whose answers are there under its name: {"run", "step", "quantize"}."""
    settings = json.loads((out / "answers" / contender.name / "settings.json").read_text("utf-8"))
    return {name: settings[name] for name in ("run", "step", "quantize")}


def _answerer(
    contender: Contender, step: int, folder: Path, asking: Asking
) -> Callable[[Sequence[Problem]], list[Row]]:
    from launch.talking import load_talker, make_toolbox
    from lm.assistant import replies, request
    from lm.inference.engine import Engine
    from lm.inference.quantization import quantized

    talker = load_talker(contender.folder, step)
    toolbox = make_toolbox(talker, asking.tools, None, folder / "search.set_aside.jsonl")
    model = quantized(talker.model, contender.quantize) if contender.quantize else talker.model
    tokenizer = talker.tokenizer
    engine = Engine(model, slots=BATCH, symbols=tokenizer.vocab_size, token_bytes=tokenizer.token_bytes)

    def asked(problem: Problem) -> "Request | UserError":
        try:
            made = request(
                tokenizer,
                problem.turns,
                asking.max_tokens,
                asking.sampling,
                seed=seed_of(asking.seed, key(problem)),
                toolbox=toolbox,
                style=talker.style,
            )
            engine.check(made)
            return made
        except UserError as error:  # too long, or with parts that it has no marks for
            return error

    def answer(problems: Sequence[Problem]) -> list[Row]:
        requests = [asked(problem) for problem in problems]
        written = iter(replies(engine, tokenizer, [one for one in requests if not isinstance(one, UserError)]))
        return [
            {"id": key(problem), "text": None, "fault": str(one)}
            if isinstance(one, UserError)
            else {"id": key(problem), "seed": one.seed} | _row(next(written)[0], one.stop_strings)
            for problem, one in zip(problems, requests, strict=True)
        ]

    return answer


def _row(reply: "Reply", stop_strings: Sequence[str]) -> Row:
    text = reply.text
    for ending in stop_strings:  # of a dialogue by prompt alone: it is the next turn's
        text = text.partition(ending)[0]
    return {"text": writable(text.strip()), "tokens": sum(reply.completion.written.drawn), "calls": len(reply.calls)}
