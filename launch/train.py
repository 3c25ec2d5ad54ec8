"""Train a model.

    python -m launch.train --config=experiments/pretrain/tiny.py --workdir=runs/a
    python -m launch.train --config=experiments/pretrain/tiny.py:pydoc --workdir=runs/b --config.optimizer.learning_rate=3e-4
    python -m launch.train --config=experiments/pretrain/tiny.py --workdir=runs/c --config.data.sources='books/*.txt'
    python -m launch.train --config=experiments/pretrain/gpt2.py:1558m --estimate --hardware=h100:8 --mfu=0.5

The same command again resumes a run that was stopped or killed. Ctrl-C and SIGTERM save before they stop.
On a cluster, start it once on every host: see `launch/cluster.py`. They share --workdir; the first one writes and speaks.
What a run leaves in its folder is listed in `launch/workdir.py`.
"""

import dataclasses
import sys
from contextlib import nullcontext
from pathlib import Path

from launch import huge_pages

if __name__ == "__main__":
    huge_pages.start_over()  # before the imports that take long, which would be made twice

from absl import flags

from data_pipeline.errors import UserError
from launch import cli, cluster, config, estimate
from lm.experiment import Experiment


def define_flags() -> None:
    """The flags of this program."""
    config.define_flag()
    cluster.define_flags()
    estimate.define_flags()
    flags.DEFINE_string("workdir", None, "The folder of the run; made if it does not exist.")
    flags.DEFINE_string(
        "cache",
        cli.CACHE,
        "Where tokenizers, tokenized documents and compiled programs are kept, for all runs. (The variable TRIVIUM_CACHE "
        "sets the default.)",
    )
    flags.DEFINE_string(
        "profile",
        None,
        "FIRST:LAST: write a trace of these steps to WORKDIR/profile, for TensorBoard or Perfetto.",
    )
    flags.DEFINE_float("dollars_per_hour", 0.0, "Price of all this hardware: each line then shows the cost so far.")


def main(_: list[str]) -> int:
    """Prepare the data, build the stage, train, draw the loss; or only say what that would take."""
    if flags.FLAGS.estimate:
        estimate.show(config.experiment())
        return 0
    if not flags.FLAGS.workdir:
        raise UserError("--workdir is missing: name a folder for the run, such as --workdir=runs/a")
    experiment = config.experiment()
    workdir = Path(flags.FLAGS.workdir).expanduser()

    # Joined before anything else touches JAX, and imported late: a mistake in the flags is told at once, and not after the
    # seconds that JAX takes to load.
    cluster.join()
    with cluster.leaving_at_once():
        return run(experiment, workdir)


def run(experiment: Experiment, workdir: Path) -> int:
    """Train in `workdir`, and return the exit code."""
    import jax

    from launch.compare_runs import read_run
    from launch.figures import loss_figure
    from launch.stages import make_stage, prepare_data
    from launch.upstream import find_upstream
    from launch.workdir import keep_data_identity, open_workdir, same_everywhere
    from lm import processes
    from lm.model.summary import summary
    from lm.profiler import parse_profile
    from lm.sharding import make_mesh
    from lm.train import Interrupted, check_fits, train

    traced = flags.FLAGS.profile
    profile = parse_profile(traced, workdir / "profile", experiment.steps) if traced else None
    cache = Path(flags.FLAGS.cache).expanduser()
    upstream = find_upstream(experiment, workdir, cache)
    cli.remember_compilations(cache)
    same_everywhere("experiment", dataclasses.asdict(experiment))
    with processes.first_does(lambda: open_workdir(workdir, experiment)) or nullcontext():
        mesh = make_mesh(experiment.mesh)
        check_fits(experiment, mesh)  # before the data, which may take long
        prepared = prepare_data(experiment, workdir, upstream, cache)
        same_everywhere("data", prepared.fingerprints)
        processes.first_does(lambda: keep_data_identity(workdir, prepared))
        processes.first_does(lambda: cli.keep_command("launch.train", workdir))
        print(f"model: {summary(experiment.model)}", flush=True)
        stage = make_stage(experiment, prepared, upstream, mesh, workdir)
        try:
            train(experiment, stage, mesh, workdir, flags.FLAGS.dollars_per_hour, profile)
        except jax.errors.JaxRuntimeError as error:
            if "RESOURCE_EXHAUSTED" not in str(error):
                raise
            raise UserError(
                "the devices are out of memory: raise accumulate, set model.remat=block, or lower batch_size (in another "
                f"--workdir); {str(error).strip().splitlines()[0][:200]}"
            ) from None
        except Interrupted as stop:
            print(stop, file=sys.stderr)
            return 128 + stop.signum
        if processes.is_first():
            loss_figure(workdir / "loss.png", read_run(workdir))
    print(f"done: {workdir}")
    return 0


if __name__ == "__main__":
    define_flags()
    cli.run(main, config.check_overrides)
