"""Which training documents does a model recite? Against how often they were seen, and against model size.

    python -m launch.sweep --config=experiments/pretrain/recitation.py --workdir=runs/recitation
    python -m launch.recitation --workdir=runs/recitation
    python -m launch.recitation --workdir=runs/recitation --prompt_tokens=8 --tokens=50

The metric is stated in `lm/recitation.py`. `--workdir` is a run, or a folder of runs such as a sweep. Their documents are
found again from their configs; the newest checkpoint of each is asked. Writes recitation.csv and recitation.png there.
"""

import csv
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from absl import flags

from data_pipeline.errors import UserError
from data_pipeline.prepare import DocumentsConfig, PreparedDocuments
from data_pipeline.tokenizer import Tokenizer
from launch import cli

if TYPE_CHECKING:  # JAX is imported late
    from collections import Counter

    from lm.recitation import Passage, Recall, Recitation


def define_flags() -> None:
    """The flags of this program."""
    flags.DEFINE_string("workdir", None, "The folder of a run, or of a sweep.")
    flags.DEFINE_integer("prompt_tokens", 16, "How much of a document the model is given; the document start counts.")
    flags.DEFINE_integer("tokens", 32, "How much it is to recite.")
    flags.DEFINE_integer("documents", 500, "How many documents of each group are asked for, at most.")
    flags.DEFINE_string("cache", cli.CACHE, "Where tokenized documents and compiled programs are kept, for all runs.")


@dataclass(frozen=True)
class Run:
    """A run whose model can be asked."""

    folder: Path
    config: dict[str, Any]
    parameters: int


@dataclass(frozen=True)
class Asked:
    """What a run's model recited. `epochs` is how often it had read its data by `step`."""

    run: Run
    step: int
    epochs: float
    recall: "list[Recall]"
    recited: "list[Recitation]"
    tokenizer: Tokenizer


def main(_: list[str]) -> None:
    """Find the runs and their documents, ask every model, write the table, the figure and two examples."""
    options = flags.FLAGS
    if not options.workdir:
        raise UserError("--workdir is missing: name the folder of a run or a sweep, such as --workdir=runs/recitation")
    for name, least in (("prompt_tokens", 1), ("tokens", 1), ("documents", 1)):
        if getattr(options, name) < least:
            raise UserError(f"--{name}={getattr(options, name)}: must be at least {least}")
    root, cache = Path(options.workdir).expanduser(), Path(options.cache).expanduser()
    runs = find_runs(root)

    cli.remember_compilations(cache)
    asked = ask_all(runs, cache)
    print(f"\n{report(asked)}\n")
    for line in examples(asked[-1]):
        print(line)
    write_csv(root / "recitation.csv", asked)
    recitation_figure(root / "recitation.png", asked, options.prompt_tokens, options.tokens)
    print(f"wrote {root / 'recitation.csv'} and {root / 'recitation.png'}")


def find_runs(root: Path) -> list[Run]:
    """The run in a folder, or the runs in its folders, from the smallest model to the largest.

    Folders without a checkpoint are told on stderr. Raises `UserError` when there is no run that can be asked.
    """
    if not root.is_dir():
        raise UserError(f"there is no folder {root}: check --workdir")
    folders = [root] if (root / "config.json").exists() else sorted(path.parent for path in root.glob("*/config.json"))
    if not folders:
        raise UserError(f"{root} holds no run and no runs (no config.json): check --workdir")

    from launch.workdir import model_config, read_config
    from lm.model.summary import parameter_count, parameter_shapes
    from lm.recitation import check_fits

    runs = []
    for folder in folders:
        if not any(path.name.isdigit() for path in (folder / "checkpoints").glob("*")):
            print(f"{folder} has no checkpoint yet and is left out", file=sys.stderr)
            continue
        config = read_config(folder)
        if not config.keys() >= {"model", "data", "seed", "batch_size"}:
            raise UserError(f"{folder / 'config.json'} is not the config of a run: leave this folder out")
        model = model_config(config["model"])
        check_fits(flags.FLAGS.prompt_tokens, flags.FLAGS.tokens, model.context_length)
        if config["data"]["weights"]:
            raise UserError(
                f"{folder} was trained with data.weights, which read some sources more often: train without to count copies"
            )
        runs.append(Run(folder, config, parameter_count(parameter_shapes(model))))
    if not runs:
        raise UserError(f"no run in {root} has a checkpoint yet: train first")
    return sorted(runs, key=lambda run: (run.parameters, run.folder))


def ask_all(runs: Sequence[Run], cache: Path) -> list[Asked]:
    """Ask every model for the documents that it was trained on. Runs that read the same share the work of finding it."""
    from tqdm import tqdm

    from launch.workdir import load_model
    from lm.recitation import passages, recall, recite

    options = flags.FLAGS
    sizes = {"prompt_tokens": options.prompt_tokens, "tokens": options.tokens, "most": options.documents}
    found: dict[str, tuple[list[Passage], Counter[int], int]] = {}
    keys = []
    for run in runs:
        settings = {"data": run.config["data"], "identity": _identity(run.folder), "seed": run.config["seed"]}
        keys.append(json.dumps([settings, run.config["model"]["context_length"]]))
        if keys[-1] in found:
            continue
        data, prepared = prepare_again(run, cache)
        each = [passages(documents, data.repeats, **sizes) for documents in prepared.train]
        too_short = sum((counter for _, counter in each), start=type(each[0][1])())
        found[keys[-1]] = ([one for some, _ in each for one in some], too_short, rows_per_epoch(run, data, prepared))
        if not found[keys[-1]][0]:
            raise UserError(
                f"no document that {run.folder} was trained on has {options.prompt_tokens} + {options.tokens} tokens: "
                "lower --prompt_tokens or --tokens"
            )
    asked = []
    with tqdm(total=sum(len(found[key][0]) for key in keys), desc="reciting", unit=" documents") as bar:
        for run, key in zip(runs, keys, strict=True):
            wanted, too_short, rows = found[key]
            model, tokenizer, step = load_model(run.folder)
            recited = recite(
                model, wanted, stop=tokenizer.document_start, symbols=tokenizer.vocab_size, on_progress=bar.update
            )
            epochs = step * run.config["batch_size"] / rows
            asked.append(Asked(run, step, epochs, recall(recited, too_short), recited, tokenizer))
    return asked


def prepare_again(run: Run, cache: Path) -> tuple[DocumentsConfig, PreparedDocuments]:
    """The documents that a run read. Raises `UserError` when they are no longer the same."""
    from data_pipeline.prepare import prepare

    data = data_config(run.config["data"])
    # The run's own tokenizer is the one its documents are cached under, and need not be trained again.
    prepared = prepare(replace(data, tokenizer=str(run.folder / "tokenizer")), run.config["model"]["vocab_size"], cache)
    there = _identity(run.folder)
    changed = [name for name, fingerprint in prepared.fingerprints.items() if there.get(name) != fingerprint]
    if changed:
        raise UserError(f"{', '.join(changed)} changed since {run.folder} was trained: put the old one back")
    return data, prepared


def data_config(values: dict[str, Any]) -> DocumentsConfig:
    """The `data` part of a config.json. Raises `UserError` for one of another version."""
    from data_pipeline.school.world import SchoolConfig

    def with_tuples(part: dict[str, Any]) -> dict[str, Any]:
        return {name: tuple(value) if isinstance(value, list) else value for name, value in part.items()}

    try:
        return DocumentsConfig(**{**with_tuples(values), "school": SchoolConfig(**with_tuples(values["school"]))})
    except (TypeError, KeyError) as error:
        raise UserError(f"the run's config.json is of another version of this project ({error}): train again") from None


def rows_per_epoch(run: Run, data: DocumentsConfig, prepared: PreparedDocuments) -> int:
    """Rows that an epoch of the run has, as `lm.pretraining` packs them."""
    from data_pipeline.loader import PackedSource
    from data_pipeline.repeats import repeated

    pairs = zip(prepared.train, prepared.names, strict=True)
    source = PackedSource(
        [repeated(documents, data.repeats, name) for documents, name in pairs],
        prepared.names,
        None,
        row_length=run.config["model"]["context_length"],
        batch_size=1,
        seed=run.config["seed"],
        packing=data.packing,
    )
    return source.rows_per_epoch


def _identity(folder: Path) -> dict[str, str]:
    file = folder / "data.json"
    try:
        return json.loads(file.read_text())
    except (OSError, ValueError):
        raise UserError(f"{file} is missing or damaged: it says what the run read; train again") from None


def report(asked: Sequence[Asked]) -> str:
    """Two tables, a row a model: the share recited exactly with its interval, and the mean share before a difference."""
    from launch.compare_runs import table

    columns = sorted({group.repeats for one in asked for group in one.recall})

    def rows(cell: Any) -> list[list[str]]:
        found = []
        for one in asked:
            groups = {group.repeats: group for group in one.recall}
            cells = [cell(groups[often]) if often in groups else "-" for often in columns]
            found.append([one.run.folder.name, f"{one.run.parameters:,}", f"{one.epochs:.2f}", *cells])
        return found

    header = ["run", "parameters", "epochs", *(f"x{often}" for often in columns)]
    exact = table(header, rows(lambda group: f"{group.exact:.1%} [{group.low:.0%}, {group.high:.0%}]"))
    before = table(header, rows(lambda group: f"{group.before_first_difference:.1%}"))
    counts = ", ".join(f"{group.documents} x{group.repeats}" for group in asked[-1].recall)
    too_short = sum(group.left_out for group in asked[-1].recall)
    k, n = flags.FLAGS.prompt_tokens, flags.FLAGS.tokens
    return (
        f"xN: documents that an epoch reads N times. Asked for: {counts}; {too_short} left out, shorter than {k + n} tokens.\n\n"
        f"share whose {n} tokens after the first {k} are recited exactly [95% interval, Wilson]\n{exact}\n\n"
        f"mean share of the {n} tokens before the first difference\n{before}"
    )


def examples(asked: Asked) -> list[str]:
    """One document that was recited although seen least, and the most that was right of one that was not recited."""
    seen = [one for one in asked.recited if one.passage.repeats > 0]
    recited = [one for one in seen if one.exact]
    others = [one for one in seen if not one.exact]
    chosen = []
    if recited:
        chosen.append(("recited", min(recited, key=lambda one: one.passage.repeats)))
    if others:
        best = max(others, key=lambda one: (one.passage.repeats, one.before_first_difference))
        chosen.append((f"right for {best.before_first_difference} tokens", best))
    lines = []
    for what, one in chosen:
        parts = {"prompt": one.passage.prompt, "original": one.passage.original, "model": one.written}
        lines.append(f"{one.passage.document_id}, read {one.passage.repeats} times an epoch: {what}")
        lines += [f"  {name:>8}  {asked.tokenizer.decode(tokens)!r}" for name, tokens in parts.items()]
        lines.append("")
    return lines


def write_csv(file: Path, asked: Sequence[Asked]) -> None:
    """A line for each run and number of repeats; the file appears whole or not at all."""
    names = ["documents", "left_out", "exact", "low", "high", "before_first_difference"]
    temporary = file.with_suffix(".tmp")
    with temporary.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["run", "parameters", "step", "epochs", "repeats", "times_seen", *names])
        for one in asked:
            for group in one.recall:
                row = [one.run.folder.name, one.run.parameters, one.step, one.epochs, group.repeats]
                writer.writerow([*row, group.repeats * one.epochs, *(getattr(group, name) for name in names)])
    temporary.replace(file)


def recitation_figure(path: Path, asked: Sequence[Asked], prompt_tokens: int, tokens: int) -> None:
    """Both shares against how often a document was seen, a line a model; "never" stands left of the least."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    times = {group.repeats * one.epochs for one in asked for group in one.recall}
    least = min((value for value in times if value > 0), default=1.0)
    ticks = {value or least / 2: _times(value) if value else "never" for value in sorted(times)}
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.5), layout="constrained")
    sizes = [one.run.parameters for one in asked]
    for number, one in enumerate(asked):
        xs = [group.repeats * one.epochs or least / 2 for group in one.recall]
        size = _size(one.run.parameters)
        label = size if sizes.count(one.run.parameters) == 1 else f"{size} ({one.run.folder.name})"
        look = {"marker": "o", "markersize": 4, "color": mpl.colormaps["viridis"](number / max(len(asked), 1))}
        shares = [group.exact for group in one.recall]
        below = [max(group.exact - group.low, 0.0) for group in one.recall]
        above = [max(group.high - group.exact, 0.0) for group in one.recall]
        spread = 1 + 0.02 * (number - (len(asked) - 1) / 2)  # bars that would hide each other
        left.errorbar([x * spread for x in xs], shares, [below, above], capsize=3, label=label, **look)
        right.plot(xs, [group.before_first_difference for group in one.recall], label=label, **look)
    left.set(ylabel=f"share recited exactly ({tokens} tokens after {prompt_tokens})", ylim=(-0.03, 1.03))
    right.set(ylabel=f"mean share of {tokens} tokens before the first difference", ylim=(-0.03, 1.03))
    for axes in (left, right):
        axes.set_xscale("log", base=2)
        if len(ticks) <= 10:
            axes.set_xticks(list(ticks), list(ticks.values()))
        axes.set_xlabel("times the document was seen")
        axes.grid(alpha=0.3)
    left.legend(title="parameters", loc="upper left")
    figure.savefig(path, dpi=120)
    plt.close(figure)


def _times(value: float) -> str:
    return f"{value:.0f}" if value >= 10 else f"{value:.2g}"


def _size(parameters: int) -> str:
    for unit, name in ((10**9, "B"), (10**6, "M"), (10**3, "k")):
        if parameters >= unit:
            return f"{parameters / unit:.3g}{name}"
    return str(parameters)


if __name__ == "__main__":
    define_flags()
    cli.run(main)
