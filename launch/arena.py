"""An arena: who answers better? Every run answers every prompt, somebody judges every two answers, and the votes become ratings.

    python -m launch.arena --runs=runs/course,runs/assistant,runs/practice,int8=runs/practice:int8 \
        --prompts=school:either --judge=verifier --out=runs/arena
    python -m launch.arena --runs=... --prompts=prompts.jsonl --judge=people --out=runs/arena         # a page to vote on
    python -m launch.arena --runs=... --prompts=prompts.jsonl --judge=rule:data_pipeline.taste:gold --out=runs/arena

A run is FOLDER, FOLDER@STEP, FOLDER@best or FOLDER:int8 (int4), with NAME= before it to call it otherwise. Prompts are described
in launch/arena_prompts.py, judges in launch/arena_judges.py. Judges by machine see every pair twice, with the answers in either
order; people see it once each, in an order by chance. Answers are kept in OUT/answers, so that another judge needs no
model. OUT/JUDGE holds votes.jsonl, ratings.json, ratings.png and wins.png. Killed and started again, it goes on.

A base model, which was never finetuned, answers by prompt alone: it goes on with a dialogue.
"""

import re
import signal
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from absl import flags

from data_pipeline.errors import UserError
from data_pipeline.locked import locked
from data_pipeline.resumable import begin
from data_pipeline.set_aside import SetAside
from launch import cli, inference_flags
from launch.arena_judges import PEOPLE, VERIFIER, check_judge, make_judge

if TYPE_CHECKING:  # JAX is imported late
    from launch.arena_votes import Answers, Pair


def define_flags() -> None:
    """The flags of this program."""
    flags.DEFINE_list(
        "runs", [], "[NAME=]FOLDER[@STEP|@best][:int8|int4] of two runs or more. best: with the lowest held-out loss."
    )
    flags.DEFINE_string("prompts", None, "What is asked: school:TOPIC, gym:TASK, countdown, or a file of prompts.")
    flags.DEFINE_integer("count", 100, "So many prompts at most.", lower_bound=1)
    flags.DEFINE_string("judge", None, "verifier, people, rule:MODULE:FUNCTION, reward:RUN or model:ADDRESS#MODEL.")
    flags.DEFINE_string("out", None, "The folder for answers, votes and ratings.")
    flags.DEFINE_string("anchor", None, "Who has 1000 points; else the mean of all does.")
    flags.DEFINE_integer("max_tokens", 128, "Of an answer, at most.", lower_bound=1)
    inference_flags.define_sampling()
    inference_flags.define_tools("auto")
    flags.DEFINE_integer("seed", 0, "Of the answers, of the intervals, and of what people see first.", lower_bound=0)
    flags.DEFINE_string(
        "host", "127.0.0.1", "For people: the address to listen at; 0.0.0.0 lets other machines connect."
    )
    flags.DEFINE_integer("port", 8000, "For people: the port to listen at; 0: any free one.", 0, 65535)


def main(_: list[str]) -> None:
    """Answer what is not answered yet, judge what is not judged yet, and tell."""
    options = flags.FLAGS
    for name, example in (
        ("runs", "runs/course,runs/assistant"),
        ("prompts", "school:either"),
        ("judge", VERIFIER),
        ("out", "runs/arena"),
    ):
        if not getattr(options, name):
            raise UserError(f"--{name} is missing: --{name}={example}")
    check_judge(options.judge)

    from launch.arena_answers import Asking, answers, contenders, whose
    from launch.arena_prompts import prompts
    from launch.arena_report import ratings_of, report
    from launch.arena_votes import judged, pairs, remarks, votes_of
    from launch.serve import listen

    asking = Asking(inference_flags.sampling(), options.max_tokens, options.seed, options.tools)
    runs = contenders(options.runs)
    if options.anchor and options.anchor not in [run.name for run in runs]:
        raise UserError(f"--anchor={options.anchor}: choose one of {', '.join(run.name for run in runs)}")
    out = Path(options.out).expanduser()
    set_aside = SetAside(out / "prompts.set_aside.jsonl")
    problems = prompts(options.prompts, options.count, set_aside, verified=options.judge == VERIFIER)
    if set_aside.counts:
        print(set_aside.summary(), file=sys.stderr)
    cli.remember_compilations(Path(cli.CACHE))
    listener = None
    if options.judge == PEOPLE:
        need_server()
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
        listener = listen(options.host, options.port)  # a port that is taken is told before the models are loaded
    else:
        judge, identity = make_judge(options.judge)
    folder = out / re.sub(r"[^\w.-]+", "-", options.judge)
    with locked(out):
        found = {run.name: answers(run, problems, out, asking) for run in runs}
        for line in unread(found):
            print(line, file=sys.stderr)
        every = list(pairs(problems, found))
        if not every:
            raise UserError("no prompt was answered by two runs: see the answers' faults, and give shorter prompts")
        folder.mkdir(parents=True, exist_ok=True)
        cli.keep_command("launch.arena", folder)
        if listener:
            serve(every, {run.name: whose(run, out) for run in runs}, folder, listener)
            return
        begin(folder / "judge.json", {"judge": identity})
        rows = judged(folder / "votes.jsonl", every, judge)
        print(report(ratings_of(votes_of(rows), options.anchor, options.seed), folder, remarks(rows)))
        print(f"wrote {folder}/ratings.json, ratings.png and wins.png")


def need_server() -> None:
    """Raise `UserError` unless the page can be served."""
    try:
        import fastapi  # noqa: F401
        import uvicorn  # noqa: F401
    except ModuleNotFoundError as error:
        raise UserError(f'the page needs the {error.name} package: pip install "trivium[serve]"') from None


def unread(found: "Answers") -> list[str]:
    """A line for each run that could not read some prompts."""
    faults = {name: [row["fault"] for row in rows.values() if "fault" in row] for name, rows in found.items()}
    return [
        f"{name} could not be asked {len(some)} of {len(found[name])} prompts, which nobody judges of it ({some[0]})"
        for name, some in faults.items()
        if some
    ]


def serve(every: "list[Pair]", runs: dict[str, dict[str, Any]], folder: Path, listener: socket.socket) -> None:
    """Let people vote until a signal, then write what they said."""
    import uvicorn

    from launch.arena_page import make_app
    from launch.arena_people import Ballots
    from launch.arena_report import ratings_of, report
    from launch.ranking.record import Record

    options = flags.FLAGS
    ballots = Ballots(Record(folder / "votes.jsonl"), every, options.seed, runs)
    host, port = listener.getsockname()[:2]
    print(
        f"ready at http://{f'[{host}]' if ':' in host else host}:{port}; Ctrl-C ends, and tells the ratings", flush=True
    )
    config = uvicorn.Config(
        make_app(ballots, options.anchor, options.seed), log_level="warning", access_log=False, lifespan="off"
    )
    try:
        uvicorn.Server(config).run(sockets=[listener])
    finally:
        votes = ballots.votes()
        if votes:
            print(report(ratings_of(votes, options.anchor, options.seed), folder, [f"{ballots.raters()} raters"]))
            print(f"wrote {folder}/ratings.json, ratings.png and wins.png", flush=True)
        else:
            print("nobody has voted", flush=True)


if __name__ == "__main__":
    define_flags()
    cli.run(main)
