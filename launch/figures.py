"""Pictures of a run."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from launch.compare_runs import Run
    from lm.evaluation.estimate import Estimate

DPI = 150


def loss_figure(path: Path, run: "Run") -> Path:
    """Draw training and validation loss (nats per token, or a ranking) against steps."""
    plt = pyplot()
    steps, evaluations = run.steps, run.evaluations
    figure, axes = plt.subplots(figsize=(6.4, 3.8), layout="constrained")
    axes.plot([r["step"] for r in steps], [r["loss"] for r in steps], linewidth=0.8, alpha=0.8, label="training")
    if evaluations:
        axes.plot([r["step"] for r in evaluations], [r["loss"] for r in evaluations], marker="o", label="validation")
    unit = "" if steps and "pair_accuracy" in steps[0] else " (nats per token)"
    axes.set(xlabel="step", ylabel=f"loss{unit}", title=run.folder.name)
    axes.grid(alpha=0.3)
    axes.legend()
    return save(figure, path)


def practice_figure(path: Path, run: "Run") -> Path:
    """Draw how practice went: reward, answers, their length, and pass@k before and after."""
    plt = pyplot()
    steps, evaluations = run.steps, run.evaluations
    figure, (answers, lengths, passes) = plt.subplots(1, 3, figsize=(11, 4), layout="constrained")
    at = [r["step"] for r in steps]
    answers.plot(at, [r["right"] for r in steps], linewidth=0.8, alpha=0.8, label="right, in practice")
    answers.plot(at, [r["reward"] for r in steps], linewidth=0.8, alpha=0.8, linestyle=":", label="reward, in practice")
    if any(r["calls"] for r in steps):
        answers.plot(at, [r["calls"] for r in steps], linewidth=0.8, alpha=0.8, label="tool calls a rollout")
    answers.plot(
        [r["step"] for r in evaluations],
        [r["accuracy"] for r in evaluations],
        marker="o",
        label="right, held out, greedy",
    )
    answers.set(xlabel="step", ylabel="share of rollouts")
    lengths.plot(at, [r["length"] for r in steps], linewidth=0.8, label="mean")
    lengths.plot(at, [r["length_max"] for r in steps], linewidth=0.5, alpha=0.6, label="longest")
    lengths.set(xlabel="step", ylabel="tokens of a rollout")
    for record, name in zip((evaluations[:1] + evaluations[1:][-1:]), ("before", "after"), strict=False):
        ks = sorted(int(key.removeprefix("pass_at_")) for key in record if key.startswith("pass_at_"))
        values = [record[f"pass_at_{k}"] for k in ks]
        passes.plot(ks, values, marker="o", label=f"{name} (step {record['step']})")
        passes.set_xticks(ks)
    passes.set(xlabel="k", ylabel="pass@k, held out", ylim=(-0.03, 1.03))
    for axes in (answers, lengths, passes):
        axes.grid(alpha=0.3)
        axes.legend()
    return save(figure, path)


def recall_figure(path: Path, recall: list[dict[str, Any]]) -> Path:
    """Draw recall against how often a fact was told; `recall` as in `lm.recall.Recall`."""
    plt = pyplot()
    figure, axes = plt.subplots(figsize=(6.4, 3.4), layout="constrained")
    places = range(len(recall))
    axes.plot(places, [r["preferred"] for r in recall], marker="o", label="preferred to another value")
    axes.plot(places, [r["first"] for r in recall], marker="o", label="first of eight")
    for chance in (1 / 2, 1 / 8):
        axes.axhline(chance, color="grey", linestyle=":", linewidth=1)
    axes.set(xlabel="documents that tell the fact", ylabel="share of facts", ylim=(0, 1.03))
    axes.set_xticks(list(places), [str(r["frequency"] or "never") for r in recall])
    axes.grid(alpha=0.3)
    axes.legend()
    return save(figure, path)


def estimates_figure(
    path: Path, places: list[str], lines: "dict[str, list[Estimate]]", *, xlabel: str, ylabel: str, **known: list[float]
) -> None:
    """Draw shares with their 95% intervals at named places, a line each; those of `known` are exact, and dotted."""
    plt = pyplot()
    figure, axes = plt.subplots(figsize=(8, 4), layout="constrained")
    at = range(len(places))
    for label, estimates in lines.items():
        values = [one.value for one in estimates]
        # Wilson's ends may lie within the value by a rounding.
        below = [max(one.value - (one.low or 0.0), 0.0) for one in estimates]
        above = [max((one.high or 0.0) - one.value, 0.0) for one in estimates]
        axes.errorbar(at, values, [below, above], marker="o", capsize=3, label=label)
    for label, exact in known.items():
        axes.plot(at, exact, color="grey", linestyle=":", label=label.replace("_", " "))
    axes.set(xlabel=xlabel, ylabel=ylabel, ylim=(-0.03, 1.03))
    axes.set_xticks(list(at), places)
    axes.grid(alpha=0.3)
    axes.legend()
    save(figure, path)


def bars_figure(path: Path, places: list[str], groups: "dict[str, list[Estimate]]", *, ylabel: str) -> None:
    """Draw shares with their 95% intervals as bars: at each place one of every group."""
    plt = pyplot()
    figure, axes = plt.subplots(figsize=(max(6, 1.6 * len(places)), 4), layout="constrained")
    width = 0.8 / len(groups)
    for number, (label, estimates) in enumerate(groups.items()):
        values = [one.value for one in estimates]
        below = [max(one.value - (one.low or 0.0), 0.0) for one in estimates]
        above = [max((one.high or 0.0) - one.value, 0.0) for one in estimates]
        at = [place + (number - (len(groups) - 1) / 2) * width for place in range(len(places))]
        axes.bar(at, values, width, yerr=[below, above], capsize=3, label=label)
    axes.set(ylabel=ylabel, ylim=(0, 1.03))
    axes.set_xticks(range(len(places)), places)
    axes.grid(axis="y", alpha=0.3)
    figure.legend(loc="outside upper center", ncols=len(groups))  # bars reach everywhere else
    save(figure, path)


def pyplot() -> Any:
    """Matplotlib, imported late."""
    import matplotlib as mpl

    mpl.use("Agg")  # figures are files: no window system is needed
    from matplotlib import pyplot as plt

    return plt


def save(figure: Any, path: Path) -> Path:
    """Write a figure as a PNG, and forget it."""
    figure.savefig(path, dpi=DPI)
    pyplot().close(figure)
    return path
