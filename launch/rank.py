"""A page where people put a model's responses in order, the best first: the rankings that a reward model learns from.

    python -m launch.rank --write_prompts=session/prompts.jsonl       # prompts to begin with, and instructions to edit
    python -m launch.rank --workdir=runs/assistant --prompts=session/prompts.jsonl --out=session/rankings.jsonl
    python -m launch.rank --agreement=session/rankings.jsonl

Each prompt is answered several times by the run's model; the answers are written ahead, in the background, and kept beside
--out. Any number of people may rank at once, each under a name: http://127.0.0.1:8000/?rater=Ada. They get the same prompts
and the same responses, shuffled for each. Every ranking is on the disk before the page says so, in rows that
data_pipeline/ranking_rows.py reads as they are. Started again, a session goes on where everybody was.

Anybody who can connect can rank, under any name; only this machine can unless --host says otherwise.
"""

import signal
import socket
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from absl import flags

from data_pipeline.errors import UserError
from data_pipeline.ranking_rows import read_rankings
from data_pipeline.set_aside import SetAside
from launch import cli
from launch.ranking.prompts import instructions_beside, read_prompts, write_session
from launch.serve import listen

if TYPE_CHECKING:  # imported late
    from launch.ranking.record import Record
    from launch.ranking.rollouts import Rollouts


def define_flags() -> None:
    """The flags of this program."""
    flags.DEFINE_string("workdir", None, "The folder of the run whose model answers.")
    flags.DEFINE_integer("step", None, "Which checkpoint of the run; the newest unless given.")
    flags.DEFINE_string("prompts", None, "A file of prompts: a line of text each, or JSONL rows with a prompt.")
    flags.DEFINE_string("out", None, "The file that rankings are appended to.")
    flags.DEFINE_integer("samples", 5, "How many responses to each prompt.", 2, 9)
    flags.DEFINE_integer("tokens", 200, "How many tokens at most, of each response.", 1)
    flags.DEFINE_float("temperature", 1.0, "Of the responses.")
    flags.DEFINE_integer("seed", 0, "Another seed gives other responses.")
    flags.DEFINE_string("host", "127.0.0.1", "The address to listen at; 0.0.0.0 lets other machines connect.")
    flags.DEFINE_integer("port", 8000, "The port to listen at; 0: any free one.", 0, 65535)
    flags.DEFINE_string("write_prompts", None, "Write prompts to begin with, and instructions, to this file; then end.")
    flags.DEFINE_string("agreement", None, "Tell how far the raters of this file agree; then end.")


def main(_: list[str]) -> None:
    """Write a session's prompts, compare its raters, or serve it until a signal."""
    options = flags.FLAGS
    if options.write_prompts:
        path = Path(options.write_prompts).expanduser()
        beside = write_session(path, options.seed)
        print(
            f"wrote {path} and {beside}, which raters see first: edit both, then start a session with --prompts={path}"
        )
    elif options.agreement:
        compare_raters(options.agreement)
    else:
        start_session(options)


def start_session(options: flags.FlagValues) -> None:
    """Load the model and the prompts that it can answer, then serve the page until a signal."""
    for name in ("workdir", "prompts", "out"):
        if not getattr(options, name):
            raise UserError(f"--{name} is missing: python -m launch.rank --workdir=RUN --prompts=FILE --out=FILE")
    if options.temperature <= 0:
        raise UserError(f"--temperature={options.temperature}: above 0, or all responses are alike")
    out, workdir = Path(options.out).expanduser(), Path(options.workdir).expanduser()
    if out.suffix != ".jsonl":
        raise UserError(f"--out={options.out}: name a file that ends in .jsonl")
    set_aside = SetAside(out.with_suffix(".set_aside.jsonl"))
    prompts = read_prompts(options.prompts, set_aside)
    instructions = instructions_beside(options.prompts)
    try:
        import fastapi  # noqa: F401
        import uvicorn  # noqa: F401
    except ModuleNotFoundError as error:
        raise UserError(f'serving needs the {error.name} package: pip install "trivium[serve]"') from None
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    listener = listen(options.host, options.port)  # a port that is taken is told before the model is loaded

    from launch.ranking.record import Record
    from launch.ranking.rollouts import Rollouts
    from launch.ranking.sampler import fitting, make_sampler
    from launch.talking import load_talker

    record, sampled = Record(out), Record(out.with_suffix(".rollouts.jsonl"))
    cli.remember_compilations(Path(cli.CACHE))
    talker = load_talker(workdir, options.step)
    prompts = fitting(talker, prompts, options.tokens, set_aside)
    if set_aside.counts:
        print(set_aside.summary(), file=sys.stderr)
    if not prompts:
        raise UserError(f"the model can answer no prompt of {options.prompts}: {set_aside.summary()}")
    sampler = make_sampler(talker, options.samples, options.tokens, options.temperature)
    facts = {
        "workdir": str(workdir.absolute()),
        "step": talker.step,
        "samples": options.samples,
        "max_tokens": options.tokens,
        "temperature": options.temperature,
    }
    rollouts = Rollouts(prompts, sampler, sampled, facts, options.seed)
    print(f"{workdir} at step {talker.step}: {len(prompts)} prompts, {options.samples} responses each", flush=True)
    serve(record, rollouts, instructions, listener)


def serve(record: "Record", rollouts: "Rollouts", instructions: str, listener: socket.socket) -> None:
    """The page until a signal. What the sampling failed of is raised here."""
    import uvicorn

    from launch.ranking.app import make_app
    from launch.ranking.session import Session

    session = Session(record, rollouts)
    config = uvicorn.Config(
        make_app(session, instructions),
        log_level="warning",
        access_log=False,
        lifespan="off",
        timeout_graceful_shutdown=5,
    )
    server = uvicorn.Server(config)
    rollouts.on_failure = lambda: setattr(server, "should_exit", True)
    host, port = listener.getsockname()[:2]
    print(
        f"ready at http://{f'[{host}]' if ':' in host else host}:{port}; rankings go to {record.path}; Ctrl-C stops",
        flush=True,
    )
    try:
        if not rollouts.failure:
            server.run(sockets=[listener])
    finally:
        rollouts.close()
        if rollouts.failure:
            raise rollouts.failure


def compare_raters(source: str) -> None:
    """Print how far the raters of some files of rankings agree."""
    from launch.ranking.agreement import report

    set_aside = SetAside(Path(tempfile.gettempdir()) / "trivium_agreement.set_aside.jsonl")
    rankings = list(read_rankings(source, set_aside))
    if set_aside.counts:
        print(set_aside.summary(), file=sys.stderr)
    if not rankings:
        raise UserError(f"{source} holds no ranking")
    print(report(rankings))


if __name__ == "__main__":
    define_flags()
    cli.run(main)
