"""Invention before and after probing, with a control, over several seeds: one command for map rows 13 and 14.

    python -m launch.hallucination --root=runs/hallucination --seeds=3

For each seed, in ROOT/NAME-SEED: `before` is finetuned on answers alone and then probed (`probe`); `after` and `control` are
finetuned anew with its refusals, or with as many of questions drawn at random. The table and the figure are those of
launch/lesson.py. Killed and started again, it goes on where it was.
"""

from absl import flags

from launch import cli
from launch.lesson import Evaluation, define_common_flags, last_evaluation, report, root_folder, run, train

EXPERIMENT = "experiments/sft/hallucination.py"
RUNS = {"before": "", "after": "refusals.jsonl", "control": "random_refusals.jsonl"}
MEASURES = {
    "hallucination": {
        "unknown: refuses": "facts.unknown.refused",
        "asked: right": "facts.asked.right",
        "told: right": "facts.told.right",
        "told: refuses": "facts.told.refused",
    }
}


def main(_: list[str]) -> None:
    """Train and probe what is not there yet, then the table and the figure."""
    from experiments.sft.hallucination import SOURCES

    root = root_folder()
    found: dict[str, list[Evaluation]] = {name: [] for name in RUNS}
    for seed in range(flags.FLAGS.seeds):
        probe = root / f"probe-{seed}"
        for name, refusals in RUNS.items():
            data = (
                {"sources": (*SOURCES, str(probe / refusals)), "repeats": (1,) * len(SOURCES) + (2,)}
                if refusals
                else {}
            )
            workdir = root / f"{name}-{seed}"
            train(EXPERIMENT, workdir, seed, *(f"--config.data.{name}={value!r}" for name, value in data.items()))
            found[name].append(last_evaluation(workdir))
            if name == "before":
                run("launch.probe", f"--workdir={workdir}", f"--out={probe}", f"--seed={seed}")
    report(root, found, MEASURES)


if __name__ == "__main__":
    define_common_flags()
    cli.run(main)
