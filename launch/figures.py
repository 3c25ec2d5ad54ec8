"""Pictures of a run."""

from pathlib import Path

from lm.metrics import read_json_lines


def loss_figure(workdir: Path) -> Path:
    """Draw training and validation loss (nats per token) against steps into `workdir/loss.png`."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    steps = read_json_lines(workdir / "metrics.jsonl")
    evaluations = read_json_lines(workdir / "evaluations.jsonl")
    figure, axes = plt.subplots(figsize=(8, 4.5), layout="constrained")
    axes.plot([r["step"] for r in steps], [r["loss"] for r in steps], linewidth=0.8, alpha=0.8, label="training")
    if evaluations:
        axes.plot([r["step"] for r in evaluations], [r["loss"] for r in evaluations], marker="o", label="validation")
    axes.set(xlabel="step", ylabel="loss (nats per token)", title=workdir.name)
    axes.grid(alpha=0.3)
    axes.legend()
    path = workdir / "loss.png"
    figure.savefig(path, dpi=120)
    plt.close(figure)
    return path
