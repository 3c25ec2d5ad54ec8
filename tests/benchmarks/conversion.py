"""How much memory launch.convert takes, in and out, against the size of the model.

    python tests/benchmarks/conversion.py --megabytes=1000

Makes a release of random numbers (a Llama of eight layers, float32), then takes it in and gives it out, each in a process of
its own, and reports the peak of that process's private memory above what it had before. (Mapped pages of files are not
counted: the kernel takes them back when it needs the memory.)
"""

import argparse
import json
import math
import sys
import tempfile
import threading
import time
from multiprocessing import get_context
from pathlib import Path

import numpy as np

LAYERS, V = 8, 512


def main() -> None:
    """Measure and print."""
    arguments = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    arguments.add_argument("--megabytes", type=int, default=1000)
    with tempfile.TemporaryDirectory() as folder:
        for name, value in measure(Path(folder), arguments.parse_args().megabytes).items():
            print(f"{name}: {value:,.1f}")


def measure(folder: Path, megabytes: int) -> dict[str, float]:
    """Megabytes of the model, of its largest tensor and stacked parameter, and of memory at the peak; seconds, both ways."""
    sizes = make_release(folder / "release", megabytes)
    arguments = {"in": ("take_in", folder / "release", None, folder / "run")}
    arguments["out"] = ("give_out", folder / "run", None, folder / "out")
    for direction, call in arguments.items():
        context = get_context("spawn")
        queue = context.Queue()
        process = context.Process(target=_watched, args=(queue, *call))
        process.start()
        sizes[f"peak of memory, {direction}"], sizes[f"seconds, {direction}"] = queue.get(timeout=500)
        process.join()
    return sizes


def make_release(folder: Path, megabytes: int) -> dict[str, float]:
    """Write the release, tensor by tensor."""
    from data_pipeline.foreign_tokenizers import BYTE_OF
    from data_pipeline.tokenizer_json import from_byte_level
    from lm.interop.huggingface_config import release_of
    from lm.interop.names import LLAMA
    from lm.interop.parameters import export_shapes
    from lm.interop.safetensors_files import create_safetensors
    from lm.model.config import ModelConfig

    width = 64 * round(math.sqrt(megabytes * 1e6 / 4 / LAYERS / 16) / 64)
    config = ModelConfig(
        vocab_size=V, layers=LAYERS, width=width, heads=width // 64, kv_heads=width // 64, mlp_width=4 * width
    )
    folder.mkdir()
    shapes = export_shapes(LLAMA, config)
    chance = np.random.default_rng(0)
    for tensor in create_safetensors(folder, shapes, "float32").values():
        tensor[...] = chance.standard_normal(tensor.shape, np.float32)
    (folder / "config.json").write_text(json.dumps(release_of(config, 256)))
    (folder / "tokenizer.json").write_text(from_byte_level([*BYTE_OF, "<|endoftext|>"], [], [256], "gpt-2"))
    bytes_of = {name: 4 * math.prod(shape) / 1e6 for name, shape in shapes.items()}
    largest = max(bytes_of.values())
    return {"the model": sum(bytes_of.values()), "largest tensor": largest, "largest parameter": LAYERS * largest}


def _watched(queue, function: str, *arguments) -> None:
    """Run a conversion; what comes out of the queue is its peak in megabytes, and its seconds."""
    import jax.numpy as jnp

    from launch import convert

    jnp.zeros(1).block_until_ready()
    before, peak, done = private_megabytes(), 0.0, threading.Event()

    def watch() -> None:
        nonlocal peak
        while not done.wait(0.005):
            peak = max(peak, private_megabytes())

    thread = threading.Thread(target=watch)
    thread.start()
    start = time.monotonic()
    getattr(convert, function)(*arguments)
    seconds = time.monotonic() - start
    done.set()
    thread.join()
    queue.put((peak - before, seconds))


def private_megabytes() -> float:
    """Memory of this process that no file backs."""
    if not sys.platform.startswith("linux"):
        raise SystemExit("private memory is read from /proc, which only Linux has")
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("RssAnon")]
    return int(line.split()[1]) / 1000


if __name__ == "__main__":
    main()
