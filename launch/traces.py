"""A policy's right answers to practice problems, as conversations to finetune on (map row 22).

    python -m launch.traces --workdir=runs/practice --out=runs/traces --samples=4
    python -m launch.train --config=experiments/rl/distillation.py:distilled --workdir=runs/distilled \
        --config.data.sources='("runs/traces/traces.jsonl",)'

Finetuning a smaller model on them is distillation, as DeepSeek-R1's small models were made (arXiv 2501.12948); finetuning the
policy itself, and trying again, is expert iteration. --hint adds STaR's second chance: where no try is right, the model is told
the answer, and what it then writes is kept without the hint.

The problems are those that the run practised, unless --problems names others; never those held out. Killed and started again, it
goes on. In the folder: traces.jsonl has {"id", "messages"}, tries.jsonl what came of each problem's tries.
"""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from absl import flags

from data_pipeline.errors import UserError
from data_pipeline.locked import locked
from data_pipeline.problem import Problem
from data_pipeline.problems import ProblemsConfig, prepare_problems
from data_pipeline.resumable import Row, begin, do_rows, write_rows
from data_pipeline.rewards import RewardConfig
from data_pipeline.tools.python import python_tool
from data_pipeline.verifying import Verifiers
from launch import cli

BATCH = 32  # problems that are tried at once, and whose tries are lost when it is killed
SLOTS = 64
SECONDS = 5.0  # for one verdict


def define_flags() -> None:
    """The flags of this program."""
    flags.DEFINE_string("workdir", None, "The folder of the run whose model tries.")
    flags.DEFINE_integer("step", None, "Which checkpoint of the run; the newest unless given.")
    flags.DEFINE_string("out", None, "The folder for what is kept.")
    flags.DEFINE_list("problems", [], "Sources, as in data.problems.sources; by default those that the run practised.")
    flags.DEFINE_integer("count", 2_000, "Problems of each source, at most.", lower_bound=1)
    flags.DEFINE_integer("samples", 4, "Tries at each problem.", lower_bound=1)
    flags.DEFINE_integer("keep", 1, "Different right answers to a problem that are kept, at most.", lower_bound=1)
    flags.DEFINE_float("temperature", 1.0, "Of the tries.", lower_bound=0.0)
    flags.DEFINE_integer("tokens", 96, "Of a try, at most.", lower_bound=1)
    flags.DEFINE_integer("calls", 2, "Calls of Python allowed in a try; 0: no tools.", lower_bound=0)
    flags.DEFINE_bool("hint", False, "Try again, with the answer in the prompt, where no try was right (STaR).")
    flags.DEFINE_integer("seed", 0, "Of the tries.")


def main(_: list[str]) -> None:
    """Try, verify, keep, and tell how many of each there are."""
    options = flags.FLAGS
    for name in ("workdir", "out"):
        if not getattr(options, name):
            raise UserError(f"--{name} is missing: python -m launch.traces --workdir=RUN --out=FOLDER")

    from launch.workdir import load_model, read_config, read_documents
    from lm.assistant import Toolbox
    from lm.inference.engine import Engine
    from lm.inference.sampling import Sampling, check_sampling
    from lm.rl.rollout import Rollout, collect
    from lm.rl.stage import WORKERS, fitting
    from lm.rl.traces import traces_of

    check_sampling(Sampling(temperature=options.temperature))
    workdir, out = Path(options.workdir).expanduser(), Path(options.out).expanduser()
    values = read_config(workdir)
    if read_documents(values):
        raise UserError(f"{workdir} holds a base model, which answers nothing: finetune it first")
    sets = prepare_problems(problems_config(values, options.problems, options.count), out / "problems_set_aside.jsonl")
    cli.remember_compilations(Path(cli.CACHE))
    model, tokenizer, step = load_model(workdir, options.step)
    problems = fitting(sets.train, tokenizer, model.config.context_length)
    names = ("samples", "temperature", "tokens", "calls", "hint", "seed")
    asked = {name: getattr(options, name) for name in names}
    engine = Engine(model, slots=SLOTS, symbols=tokenizer.vocab_size, steady=True)
    verifiers = Verifiers(WORKERS, SECONDS)

    def attempt(some: Sequence[Problem], draw: str) -> list[Rollout]:
        found = collect(
            engine,
            tokenizer,
            some,
            verifiers,
            RewardConfig(),
            samples=options.samples,
            tokens=options.tokens,
            temperature=options.temperature,
            toolbox=Toolbox((python_tool(),), calls=options.calls) if options.calls else None,
            seed=options.seed,
            draw=draw,
        )
        return found.rollouts

    def work(some: list[tuple[str, Problem]]) -> list[Row]:
        return traces_of([problem for _, problem in some], attempt, tokenizer, hint=options.hint)

    with locked(out):
        begin(out / "settings.json", {"model": f"{workdir} at step {step}", "problems": sets.fingerprint, **asked})
        items = [(problem.id, problem) for problem in problems]
        try:
            rows = do_rows(out / "tries.jsonl", items, work, batch=BATCH, name="trying")
        finally:
            verifiers.close()
        traces = [
            {"id": f"trace/{id}/{number}", "messages": messages}
            for id, row in rows.items()
            for number, messages in enumerate(row["conversations"][: options.keep])
        ]
        write_rows(out / "traces.jsonl", traces)
    print(summary(list(rows.values()), len(traces), options.hint))
    print(f"wrote {out / 'traces.jsonl'}")


def summary(rows: list[Row], kept: int, hint: bool) -> str:
    """What came of all tries, in a few lines."""
    tries: Counter[str] = Counter()
    for row in rows:
        tries.update(row["tries"])
    solved = [row for row in rows if row["conversations"]]
    helped = f", {sum(row['hinted'] for row in solved):,} of them with the hint" if hint else ""
    outcomes = ", ".join(f"{count:,} {outcome}" for outcome, count in tries.most_common())
    return (
        f"{len(rows):,} problems, {len(solved):,} with a right answer{helped}: {kept:,} conversations kept\n"
        f"tries{' (the last at each problem)' if hint else ''}: {outcomes}"
    )


def problems_config(values: dict[str, Any], named: list[str], count: int) -> ProblemsConfig:
    """The problems that are tried: those that a run (its config.json) practised, or those named, of the same school.

    Raises `UserError` where neither says which.
    """
    from launch.workdir import school_of

    practised = values["data"].get("problems", {})
    if not (practised or named):
        raise UserError("--problems is missing: this run has practised none; name sources, such as school:either")
    held_out = () if named else practised["held_out_sources"]
    return ProblemsConfig(
        tuple(named or practised["sources"]),
        count,
        seed=practised.get("seed", 0),
        school=school_of(values),
        held_out_sources=tuple(held_out),
    )


if __name__ == "__main__":
    define_flags()
    cli.run(main)
