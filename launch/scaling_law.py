r"""A power law of validation loss in parameters and tokens, from a sweep; a prediction, and what came of it.

    python -m launch.sweep --config=experiments/pretrain/scaling.py --workdir=runs/scaling
    python -m launch.scaling_law --workdir=runs/scaling --predict=experiments/pretrain/scaling.py:larger
    python -m launch.train --config=experiments/pretrain/scaling.py:larger --workdir=runs/larger
    python -m launch.scaling_law --workdir=runs/scaling --check=runs/larger

N counts all parameters, the embedding too: ours is the output head as well, so 6 N D are the FLOPs of all matrix products
with weights, and leaving it out bends the law where it is a large part of a small model (arXiv 2406.12907). D counts the
tokens trained on, those read twice twice. The loss is that of the last step on held-out text, nats per token.

Prints the runs with what the law says of each and its constants with 95% intervals, and draws DIR/scaling_law.png. --predict
writes the prediction to DIR/prediction.json, with the sweep's own --config.KEY=VALUE flags applied, and never changes it.
"""

import dataclasses
import json
import shlex
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from absl import flags

from data_pipeline.errors import UserError
from launch import cli, config
from launch.compare_runs import Run, cell, read_run, table

if TYPE_CHECKING:
    from lm.power_law import Fit

FILE = "prediction.json"
# What a run may differ in from the experiment that was predicted.
FREE = ("mesh", "seed", "sample", "checkpoint")


@dataclass(frozen=True)
class Point:
    """A finished run: N, D, and nats per token of held-out text."""

    run: Run
    parameters: int
    tokens: int
    loss: float

    @property
    def compute(self) -> float:
        """6 N D, in FLOPs."""
        return 6.0 * self.parameters * self.tokens


def define_flags() -> None:
    """The flags of this program."""
    flags.DEFINE_string("workdir", None, "The folder of the sweep.")
    flags.DEFINE_string("predict", "", "An experiment, FILE.py or FILE.py:VARIANT, that has not been run yet.")
    flags.DEFINE_string("check", "", "The folder of a run that was predicted.")


def main(_: list[str]) -> int:
    """Read, fit, print, predict or check, draw."""
    if not flags.FLAGS.workdir:
        raise UserError("--workdir is missing: name the folder of a sweep, such as --workdir=runs/scaling")
    if flags.FLAGS.predict and flags.FLAGS.check:
        raise UserError("--predict and --check are both given: predict, train, then check")
    root = Path(flags.FLAGS.workdir).expanduser()
    points, unfinished = read_points(root)
    if unfinished:
        print(f"{len(unfinished)} runs have not finished and are left out: {', '.join(unfinished)}")
    predictions = read_predictions(root)
    found: Point | None = None
    if flags.FLAGS.check:
        found = read_point(Path(flags.FLAGS.check).expanduser())
        prediction = matching(root, predictions, found)
        check_comparable([points[0], found])
    elif flags.FLAGS.predict:
        prediction = planned(root, flags.FLAGS.predict, points, predictions)

    from tqdm import tqdm

    from lm.power_law import fit

    columns = [[getattr(point, name) for point in points] for name in ("parameters", "tokens", "loss")]
    law = fit(
        columns[0], columns[1], columns[2], progress=lambda draws: tqdm(draws, "resampling", delay=5, leave=False)
    )
    print(described(points, law), flush=True)
    if found:
        print(f"\n{verdict(prediction, found, points)}")
    elif flags.FLAGS.predict:
        prediction |= dataclasses.asdict(law.predict(prediction["parameters"], prediction["tokens"]))
        prediction |= {"law": dataclasses.asdict(law.law), "runs": [point.run.folder.name for point in points]}
        predictions.append(prediction)
        from launch.sweep_folder import write_json

        write_json(root / FILE, predictions)
        print(f"\n{told(prediction)}\nwritten to {root / FILE}; now run it:\n  {command(prediction)}")
    print(f"\n{figure(root / 'scaling_law.png', points, law, predictions, found)}")
    return 0


def read_points(root: Path) -> tuple[list[Point], list[str]]:
    """The finished runs of a folder by size and tokens, and the names of the others.

    Raises `UserError` when there are none, or their losses cannot be compared.
    """
    if not root.is_dir():
        raise UserError(f"--workdir={root} is no folder: name that of a sweep (see launch.sweep)")
    if (root / "config.json").exists():
        raise UserError(f"--workdir={root} holds one run: name the folder of a sweep, which holds many")
    # A trial that failed early has a log, and perhaps no more.
    folders = sorted(file.parent for file in {*root.glob("*/config.json"), *root.glob("*/log.txt")})
    folders = list(dict.fromkeys(folders))
    finished = [folder for folder in folders if (folder / "config.json").exists() and is_finished(read_run(folder))]
    if not finished:
        reason = f"none of its {len(folders)} runs has finished" if folders else "there is none in it"
        raise UserError(f"--workdir={root} has no finished runs ({reason}): run launch.sweep with it first")
    points = sorted(map(read_point, finished), key=lambda point: (point.parameters, point.tokens))
    check_comparable(points)
    return points, [folder.name for folder in folders if folder not in finished]


def is_finished(run: Run) -> bool:
    """Whether the run has validated after its last step."""
    return bool(run.evaluations) and run.evaluations[-1]["step"] >= run.config["steps"]


def read_point(folder: Path) -> Point:
    """A run with its N and D. Raises `UserError` when it is none, or has not finished."""
    run = read_run(folder)
    if not is_finished(run):
        raise UserError(f"{folder} has not finished: run the same launch.train again to go on with it")
    return Point(run, count_parameters(run.config), count_tokens(run.config), float(run.evaluations[-1]["loss"]))


def count_parameters(experiment: dict[str, Any]) -> int:
    """N: all parameters of a run's model, counted without making it."""
    from launch.workdir import model_config
    from lm.model.summary import parameter_count, parameter_shapes

    return parameter_count(parameter_shapes(model_config(experiment["model"])))


def count_tokens(experiment: dict[str, Any]) -> int:
    """D: the places for tokens in all updates of a run (all of them filled where data.packing is split)."""
    return experiment["steps"] * experiment["batch_size"] * experiment["model"]["context_length"]


def check_comparable(points: list[Point]) -> None:
    """Raise `UserError` when the losses of runs are not of the same tokens."""
    first, *others = points
    for other in others:
        check_same_task(first, other.run.config, other.run.folder)
        there, here = (_data_identity(point.run.folder) for point in (first, other))
        if changed := [name for name in there.keys() & here.keys() if there[name] != here[name]]:
            raise UserError(
                f"{other.run.folder} was trained when {', '.join(sorted(changed))} had changed: train it again"
            )


def check_same_task(first: Point, experiment: dict[str, Any], name: Path | str) -> None:
    """Raise `UserError` when an experiment predicts other tokens than a run does."""
    from launch.workdir import differences

    if differ := differences(_task(first.run.config), _task(experiment)):
        raise UserError(
            f"losses cannot be compared: {name} differs from {first.run.folder} in {'; '.join(differ)}; make them the same"
        )


def _task(experiment: dict[str, Any]) -> dict[str, Any]:
    model, evaluate = experiment["model"], experiment["evaluate"]
    return {
        "data": experiment["data"],
        "model": {key: model[key] for key in ("vocab_size", "context_length")},
        "evaluate": {"batches times batch_size": evaluate["batches"] * experiment["batch_size"]},
    }


def _data_identity(folder: Path) -> dict[str, str]:
    file = folder / "data.json"
    return json.loads(file.read_text()) if file.exists() else {}


def read_predictions(root: Path) -> list[dict[str, Any]]:
    """What prediction.json holds, none when there is no such file. Raises `UserError` when it is damaged."""
    file = root / FILE
    if not file.exists():
        return []
    try:
        predictions = json.loads(file.read_text())
        if isinstance(predictions, list) and all(p.keys() >= {"experiment", "law", "written"} for p in predictions):
            return predictions
        problem = "it is none of launch.scaling_law's"
    except (ValueError, AttributeError) as error:
        problem = str(error)
    raise UserError(f"{file} is damaged ({problem}): restore it, or move it away")


def planned(root: Path, file: str, points: list[Point], predictions: list[dict[str, Any]]) -> dict[str, Any]:
    """The experiment to predict, without its loss yet. Raises `UserError` when it was predicted or run before."""
    from launch.sweep_folder import read_plan
    from launch.sweep_trials import read

    overrides = read_plan(root).get("overrides", []) if (root / "sweep.json").exists() else []
    arguments = [f"--config={file}", *overrides]
    config.check_overrides(["", *arguments])
    experiment = json.loads(json.dumps(dataclasses.asdict(read(arguments))))
    for earlier in predictions:
        if not _differences(earlier["experiment"], experiment):
            raise UserError(
                f"{root / FILE} already has a prediction for {file} (of {earlier['written']}): it is not overwritten"
            )
    for point in points:
        if not _differences(point.run.config, experiment):
            raise UserError(f"{file} has been run, in {point.run.folder}: predict a run that is still to be made")
    check_same_task(points[0], experiment, file)
    return {
        "config": file,
        "overrides": overrides,
        "written": datetime.now(UTC).isoformat(timespec="seconds"),
        "parameters": count_parameters(experiment),
        "tokens": count_tokens(experiment),
        "experiment": experiment,
    }


def matching(root: Path, predictions: list[dict[str, Any]], found: Point) -> dict[str, Any]:
    """The prediction of a run. Raises `UserError` when there is none."""
    if not predictions:
        raise UserError(f"{root} has no {FILE}: predict first, with --predict=FILE.py:VARIANT, then train")
    differ = [_differences(prediction["experiment"], found.run.config) for prediction in predictions]
    nearest = min(range(len(predictions)), key=lambda i: len(differ[i]))
    if differ[nearest]:
        raise UserError(
            f"{found.run.folder} is not the run that was predicted as {predictions[nearest]['config']} "
            f"({'; '.join(differ[nearest][:5])}): give that one's folder"
        )
    return predictions[nearest]


def _differences(there: dict[str, Any], here: dict[str, Any]) -> list[str]:
    from launch.workdir import differences

    return [line for line in differences(there, here) if line.split(".")[0].split(":")[0] not in FREE]


def described(points: list[Point], fit: "Fit") -> str:
    """The runs, the constants, and what to think of them."""
    from lm.power_law import frontier, line

    rows = []
    for point in points:
        fitted = float(fit.law.loss(point.parameters, point.tokens))
        rows.append(
            [f"{point.parameters:,}", f"{point.tokens:,}", f"{point.compute:.2e}", cell(point.loss), cell(fitted)]
        )
        rows[-1].append(f"{100 * (point.loss / fitted - 1):+.2f}%")
    lines = [table(["parameters", "tokens", "6ND", "loss", "law", "loss over law"], rows), ""]
    names = {"E": "", "A": "", "alpha": "of parameters", "B": "", "beta": "of tokens"}
    names |= {"compute_exponent": "N of least loss grows as compute^this"}
    constants = [
        [
            name,
            f"{getattr(fit.law, name):.4g}",
            *(f"{end:.3g}" if end > 1e-4 else "0" for end in fit.interval(name)),
            meaning,
        ]
        for name, meaning in names.items()
    ]
    lines += [f"L = E + A N^-alpha + B D^-beta, fitted to {len(points)} runs"]
    lines += [table(["constant", "value", "95% from", "to", ""], constants)]
    lines.append(f"R^2 of log losses {fit.r_squared:.4f}; {len(fit.resampled)} resamples of the runs for the intervals")
    for name in ("alpha", "beta"):
        low, high = fit.interval(name)
        if high > 2 * low:
            lines.append(f"{name} is not settled by these runs: {low:.2g} or {high:.2g} would do nearly as well")
    if fit.interval("E")[0] < 0.1 * fit.law.loss(points[-1].parameters, points[-1].tokens):
        lines.append("E cannot be told from zero by these runs, so the exponents hold only near them")
    best = [points[i] for i in frontier([point.compute for point in points], [point.loss for point in points])]
    if len(best) > 2:
        factor, exponent = line([point.compute for point in best], [point.loss for point in best])
        lines.append(f"the best {len(best)} runs for their compute C = 6ND: loss = {factor:.3g} C^-{exponent:.3f}")
    return "\n".join(lines)


def told(prediction: dict[str, Any]) -> str:
    """A prediction as a line."""
    return (
        f"{prediction['config']}: {prediction['parameters']:,} parameters and {prediction['tokens']:,} tokens, "
        f"predicted loss {prediction['loss']:.4f} (95%: {prediction['low']:.4f} to {prediction['high']:.4f})"
    )


def command(prediction: dict[str, Any]) -> str:
    """What to type to make the run."""
    words = ["python", "-m", "launch.train", f"--config={prediction['config']}", *prediction["overrides"]]
    return shlex.join([*words, "--workdir=runs/larger"])


def verdict(prediction: dict[str, Any], found: Point, points: list[Point]) -> str:
    """What came of a prediction."""
    inside = prediction["low"] <= found.loss <= prediction["high"]
    lines = [
        f"{told(prediction)}, written {prediction['written']}",
        f"found {found.loss:.4f}: {'inside' if inside else 'OUTSIDE'} the interval, "
        f"{100 * (found.loss / prediction['loss'] - 1):+.2f}% from the prediction; "
        f"the best run of the sweep has {min(point.loss for point in points):.4f}",
    ]
    ended = (found.run.folder / "evaluations.jsonl").stat().st_mtime
    if ended < datetime.fromisoformat(prediction["written"]).timestamp():
        lines.append("but the run had ended before the prediction was written")
    return "\n".join(lines)


def figure(path: Path, points: list[Point], fit: "Fit", predictions: list[dict[str, Any]], found: Point | None) -> Path:
    """Draw loss against tokens, a curve a size, and against compute, with what was predicted and what came out."""
    import matplotlib as mpl

    mpl.use("Agg")
    import numpy as np
    from matplotlib import pyplot as plt
    from matplotlib.ticker import MaxNLocator, NullFormatter, ScalarFormatter

    from lm.power_law import PowerLaw, frontier, line

    picture, (left, right) = plt.subplots(1, 2, figsize=(12, 5), layout="constrained", sharey=True)
    sizes = sorted({point.parameters for point in points})
    fewest, most = min(point.tokens for point in points), max(point.tokens for point in points)
    tokens = np.geomspace(fewest, most)
    for number, size in enumerate(sizes):
        color = mpl.colormaps["viridis"](0.9 * number / max(len(sizes) - 1, 1))
        own = [point for point in points if point.parameters == size]
        for axes, xs, curve in (
            (left, [point.tokens for point in own], tokens),
            (right, [point.compute for point in own], 6.0 * size * tokens),
        ):
            axes.plot(curve, fit.law.loss(size, tokens), color=color, linewidth=1)
            axes.plot(xs, [point.loss for point in own], "o", color=color, label=f"{size:,} parameters")
    best = [points[i] for i in frontier([point.compute for point in points], [point.loss for point in points])]
    if len(best) > 2:
        factor, exponent = line([point.compute for point in best], [point.loss for point in best])
        span = np.array([best[0].compute, best[-1].compute])
        label = f"best for their compute: $C^{{-{exponent:.3f}}}$"
        right.plot(span, factor * span**-exponent, color="grey", linestyle=":", label=label)
    for number, p in enumerate(predictions):
        curve = np.geomspace(fewest, p["tokens"])
        for axes, scale in ((left, 1.0), (right, 6.0 * p["parameters"])):
            predicted = PowerLaw(**p["law"]).loss(p["parameters"], curve)
            axes.plot(scale * curve, predicted, "--", color="tab:red", linewidth=1)
        for axes, x in ((left, p["tokens"]), (right, 6.0 * p["parameters"] * p["tokens"])):
            error = [[p["loss"] - p["low"]], [p["high"] - p["loss"]]]
            label = (
                "" if number else f"predicted: {p['parameters']:,} parameters" if len(predictions) == 1 else "predicted"
            )
            axes.errorbar(x, p["loss"], yerr=error, fmt="D", color="tab:red", mfc="none", capsize=4, label=label)
    if found:
        for axes, x in ((left, found.tokens), (right, found.compute)):
            axes.plot(x, found.loss, "*", color="black", markersize=11, label=f"found: {found.loss:.3f}")
    for axes in (left, right):
        axes.set(xscale="log", yscale="log")
        axes.grid(alpha=0.3, which="both")
        axes.yaxis.set_major_locator(MaxNLocator(8, steps=[1, 2, 5, 10]))
        axes.yaxis.set_major_formatter(ScalarFormatter())
        axes.yaxis.set_minor_formatter(NullFormatter())
    left.set(xlabel="tokens D", ylabel="validation loss (nats per token)")
    law, (low, high), (lower, upper) = fit.law, fit.interval("alpha"), fit.interval("beta")
    left.set_title(
        f"$L = {law.E:.2f} + A\\,N^{{-{law.alpha:.2f}}} + B\\,D^{{-{law.beta:.2f}}}$\n"
        f"95%: $\\alpha$ {low:.2f} to {high:.2f}, $\\beta$ {lower:.2f} to {upper:.2f}",
        fontsize=11,
    )
    right.set(xlabel="compute 6ND (FLOPs)")
    right.legend(fontsize=8)
    picture.savefig(path, dpi=120)
    plt.close(picture)
    return path


if __name__ == "__main__":
    define_flags()
    cli.run(main)
