r"""How far reward models can be pleased before the rater turns away, by RL and by the best of n (map row 26; arXiv 2210.10760).

    python -m launch.sweep --config=experiments/rlhf/overoptimization.py --workdir=runs/hump
    python -m launch.best_of --workdir=runs/assistant --prompts=jokes --rule=data_pipeline.taste:gold --n=64 --out=runs/best-of \
        --reward=experiments/reward/tiny.py:100,experiments/reward/tiny.py:1000
    python -m launch.overoptimization --workdir=runs/hump --best_of=runs/best-of

Reads the evaluations of the sweep's runs (reward, gold, KL) and the table of `launch.best_of`; both name reward models alike.
Prints the fitted curves (lm/overoptimization.py), where gold was highest, and where evaluate.patience=2 would have stopped;
draws WORKDIR/overoptimization.png and writes WORKDIR/overoptimization.json.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from absl import flags

from data_pipeline.errors import UserError
from launch import cli
from lm.overoptimization import BEST, PATIENCE, RL, Curve, Trajectory, fit_curve, patient_stop


def define_flags() -> None:
    """The flags of this program."""
    flags.DEFINE_string("workdir", None, "The folder of the sweep.")
    flags.DEFINE_string("best_of", "", "The folder of launch.best_of.")


def main(_: list[str]) -> None:
    """Read, fit, tell, draw."""
    if not flags.FLAGS.workdir:
        raise UserError("--workdir is missing: name the folder of a sweep of RLHF runs, such as --workdir=runs/hump")
    root = Path(flags.FLAGS.workdir).expanduser()
    found = rl_trajectories(root)
    if flags.FLAGS.best_of:
        found += best_of_trajectories(Path(flags.FLAGS.best_of).expanduser())

    from data_pipeline.resumable import write_whole
    from launch.overoptimization_figure import overoptimization_figure

    fits = {(each.reward_model, each.way): fit(found, each.reward_model, each.way) for each in found}
    table = [row(each, fits[each.reward_model, each.way]) for each in found]
    print(told(table))
    write_whole(root / "overoptimization.json", json.dumps(table, indent=1) + "\n")
    print(f"wrote {overoptimization_figure(root / 'overoptimization.png', found, fits)}")


def rl_trajectories(root: Path) -> list[Trajectory]:
    """Of the runs of a sweep. Raises `UserError` where there are none, and for a run whose gold or KL was not measured."""
    from lm.metrics import read_json_lines

    found = []
    for file in sorted(root.glob("*/config.json")):
        evaluations = read_json_lines(file.parent / "evaluations.jsonl")
        models = json.loads(file.read_text())["data"].get("taste", {}).get("models", [])
        if not evaluations or not models:
            raise UserError(
                f"{file.parent} is no finished run that a reward model rewarded: see experiments/rlhf/tiny.py"
            )
        if "gold" not in evaluations[0] or "kl" not in evaluations[0]:
            raise UserError(
                f"{file.parent} does not tell gold and KL: data.reference must be true, and the rater known"
            )
        found.append(trajectory(",".join(models), RL, evaluations))
    if not found:
        raise UserError(f"{root} holds no runs: make them with launch.sweep")
    return found


def best_of_trajectories(folder: Path) -> list[Trajectory]:
    """Of each reward model in the table of `launch.best_of`. Raises `UserError` where there is none, or no gold in it."""
    file = folder / "best_of.json"
    if not file.exists():
        raise UserError(f"{file} is not there: run launch.best_of first")
    table = json.loads(file.read_text())
    if "gold" not in table[0]:
        raise UserError(f"{file} does not tell gold: run launch.best_of with --rule")
    names = dict.fromkeys(row["reward_model"] for row in table)
    return [trajectory(name, BEST, [row for row in table if row["reward_model"] == name]) for name in names]


def trajectory(reward_model: str, way: str, points: Sequence[dict[str, Any]]) -> Trajectory:
    """Of points with kl, reward and gold; the first is where it began."""
    kl = [max(point["kl"], 0.0) for point in points]  # an estimate from samples may be below 0
    return Trajectory(
        reward_model,
        way,
        kl,
        *([point[name] - points[0][name] for point in points] for name in ("reward", "gold")),
    )


def fit(trajectories: Sequence[Trajectory], reward_model: str, way: str) -> Curve | None:
    """One curve for all runs with a reward model, which differ by their seeds."""
    points = [
        (kl**0.5, gold)
        for each in trajectories
        if (each.reward_model, each.way) == (reward_model, way)
        for kl, gold in zip(each.kl, each.gold, strict=True)
    ]
    return fit_curve([d for d, _ in points], [gold for _, gold in points], logarithmic=way == RL)


def row(each: Trajectory, curve: Curve | None) -> dict[str, Any]:
    """What one trajectory comes to."""
    best = max(range(len(each.gold)), key=each.gold.__getitem__)
    stopped = patient_stop(each.gold, PATIENCE)
    return {
        "reward_model": each.reward_model,
        "way": each.way,
        "best_gold": each.gold[best],
        "best_kl": each.kl[best],
        "last_gold": each.gold[-1],
        "last_reward": each.reward[-1],
        "last_kl": each.kl[-1],
        "stopped_kl": each.kl[stopped],
        "a": curve.a if curve else None,
        "b": curve.b if curve else None,
    }


def told(table: Sequence[dict[str, Any]]) -> str:
    """The table for people."""
    lines = [
        "gains over the model that it began with; d is the root of KL in nats a response",
        f"{'way':10} {'best gold':>9} {'at KL':>6} {'last gold':>9} {'proxy':>6} {'at KL':>6} {'stop at':>7}  "
        f"{'fit':28} reward model",
    ]
    for each in table:
        bend = "d" if each["way"] == BEST else "log d"
        curve = f"d ({each['a']:.3f} - {each['b']:.3f} {bend})" if each["a"] is not None else ""
        lines.append(
            f"{each['way']:10} {each['best_gold']:9.3f} {each['best_kl']:6.1f} {each['last_gold']:9.3f} "
            f"{each['last_reward']:6.2f} {each['last_kl']:6.1f} {each['stopped_kl']:7.1f}  {curve:28} {each['reward_model']}"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    define_flags()
    cli.run(main)
