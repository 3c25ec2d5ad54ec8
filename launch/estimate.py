"""What a run would take, told instead of run: `launch.train --estimate`.

    python -m launch.train --config=experiments/pretrain/gpt2.py:1558m --estimate --hardware=h100:8 --mfu=0.5

Needs no data, no accelerator and no --workdir. The arithmetic is in `lm/estimate.py`.
"""

import statistics
from pathlib import Path
from typing import TYPE_CHECKING

from absl import flags

from data_pipeline.errors import UserError
from lm.experiment import Experiment
from lm.practice import PracticeConfig

if TYPE_CHECKING:
    from lm.estimate import Estimate, Hardware, Memory


def define_flags() -> None:
    """The flags of an estimate."""
    flags.DEFINE_bool("estimate", False, "Say what the run would take on --hardware, and do not run it.")
    flags.DEFINE_string("hardware", "h100:8", "With --estimate: a chip and how many of it, such as a100:8 or v5p:64.")
    flags.DEFINE_float("mfu", None, "With --estimate: the share of the chips' peak that is reached, such as 0.5.")
    flags.DEFINE_string("mfu_from", None, "With --estimate: the folder of a run whose median MFU is taken instead.")
    flags.DEFINE_float("price", None, "With --estimate: dollars for an hour of one chip; each chip has a default.")


def show(experiment: Experiment) -> None:
    """Print the estimate that the flags ask for. Raises `UserError` for flags that make no sense."""
    from lm.estimate import enough_chips, estimate, parse_hardware, remedies

    if isinstance(experiment.data, PracticeConfig):
        raise UserError("--estimate: how long rollouts will be nobody knows before; estimate the finetuning instead")
    hardware = parse_hardware(flags.FLAGS.hardware)
    mfu, origin = chosen_mfu()
    price = hardware.chip.dollars if flags.FLAGS.price is None else flags.FLAGS.price
    if not price >= 0:
        raise UserError(f"--price={price}: dollars for an hour of one chip must not be negative")
    result = estimate(experiment, hardware, mfu, price)
    print(table(experiment, hardware, result, mfu, origin, price), flush=True)
    print(verdict(hardware, result.memory), flush=True)
    if not result.memory.fits(hardware.chip):
        print(advice(list(remedies(experiment, hardware)), hardware, enough_chips(experiment, hardware)), flush=True)


def chosen_mfu() -> tuple[float, str]:
    """The MFU to reckon with, and in words where it is from. Raises `UserError` when it cannot be one."""
    from lm.estimate import MFU

    given, folder = flags.FLAGS.mfu, flags.FLAGS.mfu_from
    if given is not None and folder:
        raise UserError("--mfu and --mfu_from are both given: choose one")
    if folder:
        return measured_mfu(Path(folder).expanduser()), f"the median of {folder}"
    if given is None:
        return MFU, "assumed; see --mfu and --mfu_from"
    if not 0 < given <= 1:
        raise UserError(f"--mfu={given}: a share, above 0 and at most 1 (50% is 0.5)")
    return given, "given"


def measured_mfu(workdir: Path) -> float:
    """The median MFU of a run's steps. Raises `UserError` when it has none, or less or more than is possible."""
    from lm.metrics import read_json_lines

    path = workdir / "metrics.jsonl"
    # The first steps compile and fill the loader; a median does not mind the rest of what happens now and then.
    values = [record["mfu"] for record in read_json_lines(path) if record["step"] > 2 and "mfu" in record]
    if not values:
        raise UserError(f"--mfu_from={workdir}: {path} has no steps beyond the second: name a run that has made some")
    mfu = statistics.median(values)
    if not 0 < mfu <= 1:
        raise UserError(f"--mfu_from={workdir}: its median MFU is {mfu:.3g}, which no hardware can reach; give --mfu")
    return mfu


def table(
    experiment: Experiment, hardware: "Hardware", result: "Estimate", mfu: float, origin: str, price: float
) -> str:
    """The estimate as lines, each with what it was multiplied from."""
    from lm.metrics import duration

    model, memory, mesh = experiment.model, result.memory, result.mesh
    devices = ", ".join(f"{axis}={size}" for axis, size in mesh.items())
    peak = hardware.peak / hardware.count
    split = mesh["fsdp"] * mesh["tensor"]
    over = f" / {split}" if split > 1 else ""
    copies = memory.gradients // memory.parameters
    why = ", added up by accumulate" if copies > 1 else ""
    unit, name_of_unit = (2**30, "GiB") if memory.total >= 2**30 else (2**20, "MiB")
    sizes = [
        ("parameters", memory.parameters, f"{result.parameters:,} in {model.param_dtype}{over}"),
        ("optimizer state", memory.optimizer, f"{experiment.optimizer.name}{over}"),
        ("gradients", memory.gradients, f"{copies} x parameters{why}"),
        ("weight copies", memory.weight_copies, "for the backward pass"),
        ("kept for backward", memory.kept, f"{result.rows} rows of {model.context_length:,}, remat={model.remat}"),
        ("working space", memory.working, "one block again, or a chunk of logits"),
        ("in all", memory.total, f"of {hardware.chip.memory:g} GiB"),
    ]
    slow = model.compute_dtype != "bfloat16"
    lines = [
        f"estimate for {hardware.count} x {hardware.chip.kind} (mesh {devices})",
        f"  parameters   {result.parameters:>16,}",
        f"  tokens       {result.tokens:>16,} = {experiment.steps:,} steps x {experiment.batch_size:,} rows x "
        f"{model.context_length:,}",
        f"  FLOPs        {result.flops:>16.3g} = tokens x {result.flops_per_token / 1e9:,.3g} G",
        f"  time         {duration(result.seconds):>16} = FLOPs / ({hardware.count} x {peak / 1e12:,.0f} T/s x "
        f"MFU {100 * mfu:.3g}% ({origin}))",
        f"  tokens/s     {result.tokens / result.seconds:>16,.0f}",
        f"  dollars      {result.dollars:>16,.2f} = {result.seconds / 3600:,.2f} h x {hardware.count} x ${price:,.2f} "
        f"({'given' if flags.FLAGS.price is not None else 'assumed; see --price'})",
        "  (training steps alone: validation, samples and restarts come on top)",
        *(["  (the peak is that of bfloat16, and this model computes in float32: its MFU will be far lower)"] * slow),
        f"memory on each device, about ({name_of_unit})",
        *(f"  {name:<18}{size / unit:>8.2f}  {note}" for name, size, note in sizes),
    ]
    return "\n".join(lines)


def verdict(hardware: "Hardware", memory: "Memory") -> str:
    """Whether it fits, in a line."""
    from lm.estimate import GIB, GPU_SHARE, USABLE

    chip = hardware.chip
    share = memory.total / GIB / chip.memory
    if share > USABLE:
        return (
            f"WARNING: it does not fit: {memory.total / GIB:.1f} GiB of the {USABLE * chip.memory:.1f} that can be used"
        )
    if chip.is_gpu and share > GPU_SHARE:
        return (
            f"it fits, with XLA_CLIENT_MEM_FRACTION={USABLE} in the environment (JAX takes {GPU_SHARE:.0%} of a GPU "
            "unless told)"
        )
    return "it fits"


def advice(found: list[tuple[dict, "Memory"]], hardware: "Hardware", enough: int | None) -> str:
    """What would make it fit, in lines."""
    if found:
        lines = ["any one of these would make it fit:"] if len(found) > 1 else ["this would make it fit:"]
        for changes, memory in found:
            settings = " ".join(f"--config.{key}={value}" for key, value in changes.items())
            lines.append(f"  {settings} ({memory.total / 2**30:.1f} GiB)")
        return "\n".join(lines)
    if enough:
        return f"no setting makes it fit {hardware.count}: {enough} would hold it, a row each, split by mesh.fsdp"
    return f"no setting makes it fit, on any number of {hardware.name}: choose a larger chip or mesh.tensor"
