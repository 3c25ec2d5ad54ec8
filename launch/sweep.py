r"""Train the same experiment with many values, several trials at once, and see which does best.

    python -m launch.sweep --config=experiments/pretrain/tiny.py --workdir=runs/sweep --parallel=2 \
        --sweep='optimizer.learning_rate=1e-3,3e-3,1e-2 ; seed=0,1,2' --config.steps=100

What to try, over any path of the config:

    --sweep='optimizer.learning_rate=1e-3,3e-3 ; seed=0,1,2'           every combination: 6 trials
    --sweep='model.width=64,128 & model.heads=2,4 ; seed=0,1'          width and heads together: 2 x 2 trials
    --sweep='optimizer.learning_rate=log_uniform(1e-4,1e-2) ; seed=0,1' --trials=20
                                                                       20 draws, two seeds each; also uniform(LOW,HIGH)
                                                                       and choice(A,B,C)
    --sweep='data.sources=("school","pydoc"),("pydoc",)'               values with commas stand in brackets or quotes
    (no --sweep)                                                       what sweep() in the experiment file returns, see
                                                                       lm/sweep.py

    --sampler=optuna --trials=30                                       values chosen as results come in, and trials that do
                                                                       worse than the median given up

The same command again goes on: what is done stays, what was killed continues from its checkpoint, what failed is told and
waits for --retry. Ctrl-C and SIGTERM let the trials save first. It ends with a table, results.csv and sweep.png, ordered by
--metric, where less is better. Exit codes: 0 all done, 1 some failed, 2 a mistake, 130 and 143 stopped.
What the folder holds is listed in `launch/sweep_folder.py`.
"""

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from absl import flags

from data_pipeline.errors import UserError
from launch import cli, config
from launch.compare_runs import METRIC, split_metric

SAMPLERS = ("random", "optuna")


def define_flags() -> None:
    """The flags of this program."""
    config.define_flag()
    flags.DEFINE_string("workdir", None, "The folder of the sweep, with one for each trial; made if it does not exist.")
    flags.DEFINE_string(
        "sweep", "", "The values to try; see above. By default what sweep() in the experiment file returns."
    )
    flags.DEFINE_integer("trials", 0, "How often to draw, where --sweep draws; how many trials, with --sampler=optuna.")
    flags.DEFINE_integer("sweep_seed", 0, "Of the draws. (The seed of the trials is --config.seed, or swept.)")
    flags.DEFINE_enum("sampler", "random", SAMPLERS, "Who chooses the values that are drawn.")
    flags.DEFINE_integer("parallel", 0, "Trials at once, sharing CPU cores and GPUs; 0: one for each GPU, or one.")
    flags.DEFINE_bool("retry", False, "Run failed trials again, from their last checkpoint.")
    flags.DEFINE_string("metric", METRIC, "What trials are ordered by: validation.KEY or train.KEY, its last value.")
    flags.DEFINE_string("cache", cli.CACHE, "As for launch.train.")


def main(_: list[str]) -> int:
    """Plan, check everything, run, report."""
    values = flags.FLAGS
    if not values.workdir:
        raise UserError("--workdir is missing: name a folder for the sweep, such as --workdir=runs/sweep")
    if values.parallel < 0:
        raise UserError(f"--parallel={values.parallel}: must be at least 1, or 0 to let the hardware say")
    split_metric(values.metric)
    root, cache = Path(values.workdir).expanduser(), Path(values.cache).expanduser()

    from launch.executor import LocalExecutor, gpus
    from launch.sweep_folder import FAILED, keep_plan, open_sweep, planned_values
    from launch.sweep_optuna import OptunaSampler
    from launch.sweep_report import failures, report
    from launch.sweep_run import Sweep, known_results
    from launch.sweep_trials import Trial, build, from_flags, read, without_repeats

    base = from_flags()
    experiment = read(base.flags, check=False)
    chosen, space = plan(base, values.sampler == "optuna")
    trials, repeats = without_repeats(build(base, chosen))
    if repeats:
        print(f"left out {repeats} of {len(trials) + repeats} trials, which repeat others")
    # A sampler that chooses as it goes has its own description, and the folder says what it has chosen so far.
    sampler_settings = {"name": "optuna", "space": {path: str(d) for path, d in space.items()}, "metric": values.metric}
    sampler_settings |= {"seed": values.sweep_seed}

    def keep(chosen: Sequence[dict[str, Any]]) -> None:
        keep_plan(root, base, experiment, chosen, sampler_settings if space else None)

    def command(trial: Trial, folder: Path) -> list[str]:
        train = [sys.executable, "-m", "launch.train"]
        return [*train, *base.flags, *trial.flags, f"--workdir={folder}", f"--cache={cache}"]

    with open_sweep(root):
        stored = planned_values(root) if space else [trial.values for trial in trials]
        keep(stored)
        if space:
            trials = build(base, stored, check=False)
        results = known_results(root, trials, values.metric)
        if values.retry:
            results = {number: result for number, result in results.items() if result.status != FAILED}
        queue = [trial for trial in trials if trial.number not in results]
        needed = {root: experiment} if space else {root / trial.name: trial.experiment for trial in queue}
        prepare_for(needed, cache)
        sampler = None
        if space:
            settings = {"count": values.trials, "seed": values.sweep_seed, "metric": values.metric}
            sampler = OptunaSampler(base, space, root=root, known=trials, results=results, keep=keep, **settings)
            trials = sampler.trials  # it grows
        executor = LocalExecutor(values.parallel or max(len(gpus()), 1))
        waiting = f", {len(results)} of them have ended" if results else ""
        count = max(values.trials, len(trials)) if space else len(trials)
        print(f"{count} trials{waiting}; {executor.slots} at once, in {root}", flush=True)
        code = Sweep(root, executor, command, values.metric, queue, results, sampler).run()
        print(f"\n{report(root, trials, results, values.metric)}", flush=True)
        if failed := failures(root, trials, results):
            print("\nfailed:\n  " + "\n  ".join(failed) + "\nthe same command with --retry runs them again", flush=True)
    return code


def plan(base: Any, chooses: bool) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The values of every trial, and what a sampler that chooses (`chooses`) may choose from: one of the two is empty."""
    from launch.sweep_expression import EXAMPLE, parse
    from launch.sweep_trials import check_value, defined, known_values

    text, count = flags.FLAGS.sweep, flags.FLAGS.trials
    if not text:
        if chooses or count:
            which = "--sampler=optuna" if chooses else "--trials"
            raise UserError(
                f"{which} needs --sweep with something to draw: {EXAMPLE.replace('1e-3,3e-3', 'log_uniform(1e-4,1e-2)')}"
            )
        trials = defined(base.file)
        if not trials:
            raise UserError(f"sweep() of {base.file} returns no trials: nothing to run")
        return trials, {}
    expression = parse(text).for_config(known_values(base))
    for path, value in expression.examples():
        check_value(base, path, value)
    draws = chooses or bool(expression.space)
    if draws and count < 1:
        raise UserError("say how many trials to draw, such as --trials=20")
    if count and not draws:
        raise UserError(
            f"--trials={count}, but --sweep draws nothing: leave --trials out, or draw, as in log_uniform(1e-4,1e-2)"
        )
    if chooses:
        return [], expression.as_space()
    return expression.trials(count, flags.FLAGS.sweep_seed), {}


def prepare_for(experiments: Mapping[Path, Any], cache: Path) -> None:
    """What the trials in these folders begin with and read, made once before any of them starts.

    Runs that they learn from are trained; documents are tokenized, and what else they read by the first that needs it.
    """
    from data_pipeline.prepare import DocumentsConfig, prepare

    done = set()
    for folder, experiment in experiments.items():
        key = json.dumps([asdict(experiment.data), asdict(experiment.model), experiment.start_from])
        if key in done:
            continue
        if experiment.start_from:
            from launch.upstream import find_upstream

            find_upstream(experiment, folder, cache)
        elif isinstance(experiment.data, DocumentsConfig):  # in the tokens of its own
            prepare(experiment.data, experiment.model.vocab_size, cache)
        done.add(key)


if __name__ == "__main__":
    define_flags()
    cli.run(main, config.check_overrides)
