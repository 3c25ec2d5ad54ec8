"""Take in a model that others released, or give one of ours to others.

    python -m launch.convert --from=SmolLM2-135M-Instruct --workdir=runs/smollm2
    python -m launch.convert --from=SmolLM2-135M-Instruct.Q4_1.gguf --workdir=runs/smollm2
    python -m launch.convert --from=stories260K.bin --tokenizer=tok512.bin --workdir=runs/stories
    python -m launch.convert --workdir=runs/a --to=releases/a --step=300

Read: folders in Hugging Face's format (config.json, safetensors, tokenizer.json) of GPT-2, Llama, Mistral, Qwen 2 and Qwen 3;
GGUF files of the Llama architecture, quantized or not; checkpoints of llama2.c. Written: Hugging Face's format, of the family
that computes what the model does. What cannot be the same model on the other side is refused, with its name.

The workdir is a run's folder without steps: `launch.generate` writes with it, and a new run learns on from it with
--config.start_from. Memory holds one tensor at a time, or one parameter of all layers, and not the model.
"""

import dataclasses
import json
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from absl import flags

from data_pipeline.errors import UserError
from launch import cli


def define_flags() -> None:
    """The flags of this program."""
    flags.DEFINE_string("from", None, "The release to take in: a folder, a .gguf file or a llama2.c .bin file.")
    flags.DEFINE_string("to", None, "The folder to write the model of --workdir to, for Hugging Face's transformers.")
    flags.DEFINE_string("workdir", None, "The folder of the run: made with --from, read with --to.")
    flags.DEFINE_string(
        "tokenizer", None, "With --from: a tokenizer file, where the release has none or another is wanted."
    )
    flags.DEFINE_integer("step", None, "With --to: which checkpoint of the run; the newest unless given.")


def main(_: list[str]) -> None:
    """Convert in the direction that the flags say."""
    options = flags.FLAGS
    source, target = options["from"].value, options.to
    if not options.workdir or bool(source) == bool(target):
        raise UserError(
            "give --workdir and either --from (a release to take in) or --to (a folder to write a release to)"
        )
    if (source and options.step is not None) or (target and options.tokenizer):
        raise UserError("--step goes with --to and --tokenizer with --from: leave the other out")

    import jax

    jax.config.update("jax_platforms", "cpu")  # nothing is computed, and an accelerator's memory is not needed
    workdir = Path(options.workdir).expanduser()
    if source:
        take_in(Path(source).expanduser(), options.tokenizer and Path(options.tokenizer).expanduser(), workdir)
    else:
        give_out(workdir, options.step, Path(target).expanduser())


def take_in(source: Path, tokenizer: Path | None, workdir: Path) -> None:
    """Make a run's folder of a release."""
    from data_pipeline.prepare import DocumentsConfig
    from launch.start_from import CONVERTED
    from lm.experiment import Experiment, check_experiment
    from lm.interop.parameters import import_parameters
    from lm.interop.releases import import_tokenizer, open_release
    from lm.model.summary import summary

    with whole_or_not_at_all(workdir) as folder:
        release = open_release(source)
        print(f"{release.format}: {summary(release.config)}", flush=True)
        import_tokenizer(source, release, tokenizer, folder / "tokenizer")
        import_parameters(release.tensors, release.modules, release.config, folder / "checkpoints")
        data = DocumentsConfig(tokenizer=str(workdir / "tokenizer"))
        experiment = Experiment(model=release.config, data=data)
        check_experiment(experiment)
        write_json(folder / "config.json", dataclasses.asdict(experiment))
        write_json(folder / CONVERTED, {"from": str(source.absolute()), "format": release.format})
    print(f"wrote {workdir}")
    print(f"let it write: python -m launch.generate --workdir={workdir}")
    print(f"train on: python -m launch.train --config=... --config.start_from={workdir}")


def give_out(workdir: Path, step: int | None, target: Path) -> None:
    """Write the model of a run, with its tokenizer, as a release."""
    import jax
    import numpy as np

    from launch.workdir import load_model, lora_config, model_config, read_config
    from lm.checkpoint import save_parameters
    from lm.interop.releases import export_release

    values = read_config(workdir)
    config = model_config(values["model"])
    with whole_or_not_at_all(target) as folder:
        if lora_config(values).rank:  # merged, in memory
            model, _, step = load_model(workdir, step)
            save_parameters(folder / "merged", jax.tree.map(np.asarray, model))
            export_release(config, folder / "merged", None, workdir / "tokenizer", folder)
            shutil.rmtree(folder / "merged")
        else:
            step = export_release(config, workdir / "checkpoints", step, workdir / "tokenizer", folder)
        if not (folder / "tokenizer.json").exists():
            print("transformers cannot read this tokenizer's file; it is there as it is", file=sys.stderr)
    print(f"wrote {target}: {workdir} at step {step}")


@contextmanager
def whole_or_not_at_all(path: Path) -> Iterator[Path]:
    """A folder to work in that becomes `path` when all went well, and is removed when not.

    Raises `UserError` when there is something at `path` already. A killed process leaves PATH.partial-PID.
    """
    if path.is_file() or (path.is_dir() and any(path.iterdir())):
        raise UserError(f"{path} is there already: name a folder that is not, or is empty; nothing is ever overwritten")
    partial = path.absolute().with_name(f"{path.absolute().name}.partial-{os.getpid()}")
    partial.mkdir(parents=True)
    try:
        yield partial
        partial.rename(path)
    except BaseException:
        shutil.rmtree(partial)
        raise


def write_json(file: Path, values: object) -> None:
    """One JSON file."""
    file.write_text(json.dumps(values, indent=2) + "\n")


if __name__ == "__main__":
    define_flags()
    cli.run(main)
