"""Train a model.

    python -m launch.train --config=experiments/pretrain/tiny.py --workdir=runs/a
    python -m launch.train --config=experiments/pretrain/tiny.py:pydoc --workdir=runs/b --config.optimizer.learning_rate=3e-4
    python -m launch.train --config=experiments/pretrain/tiny.py --workdir=runs/c --config.data.sources=books/*.txt

The same command again resumes a run that was stopped or killed. Ctrl-C and SIGTERM save before they stop.
What a run leaves in its folder is listed in `launch/workdir.py`.
"""

import os
import sys
from pathlib import Path

from absl import flags

from data_pipeline.errors import UserError
from launch import cli, config

WORKDIR = flags.DEFINE_string("workdir", None, "The folder of the run; made if it does not exist.")
CACHE = flags.DEFINE_string(
    "cache",
    os.environ.get("TRIVIUM_CACHE", "~/.cache/trivium"),
    "Where tokenizers and tokenized documents are kept, for all runs. (The variable TRIVIUM_CACHE sets the default.)",
)
PRICE = flags.DEFINE_float("dollars_per_hour", 0.0, "Price of all this hardware: each line then shows the cost so far.")


def main(_: list[str]) -> int:
    """Prepare the data, build the stage, train, draw the loss."""
    if not WORKDIR.value:
        raise UserError("--workdir is missing: name a folder for the run, such as --workdir=runs/a")
    experiment = config.experiment()
    workdir = Path(WORKDIR.value).expanduser()

    # Imported late: a mistake in the flags is told at once, and not after the seconds that JAX takes to load.
    from data_pipeline.prepare import prepare
    from launch.figures import loss_figure
    from launch.workdir import open_workdir
    from lm.pretraining import pretraining
    from lm.sharding import make_mesh
    from lm.train import Interrupted, train

    with open_workdir(workdir, experiment):
        mesh = make_mesh(experiment.mesh)
        prepared = prepare(experiment.data, experiment.model.vocab_size, Path(CACHE.value).expanduser())
        prepared.tokenizer.save(workdir / "tokenizer")
        stage = pretraining(experiment, prepared, mesh)
        try:
            train(experiment, stage, mesh, workdir, PRICE.value)
        except Interrupted as stop:
            print(stop, file=sys.stderr)
            return 128 + stop.signum
        loss_figure(workdir)
    print(f"done: {workdir}")
    return 0


if __name__ == "__main__":
    cli.run(main)
