"""What fewer bits cost and save, for the model of a run: weights in int8 and int4, the KV cache in int8.

    python -m launch.train --config=experiments/pretrain/tiny.py --workdir=runs/school
    python tests/benchmarks/quantization.py --workdir=runs/school

    python -m launch.convert --from=SmolLM2-135M-Instruct.Q4_1.gguf --workdir=runs/smollm2
    python tests/benchmarks/quantization.py --workdir=runs/smollm2 --source=pydoc --documents=8

Loss: nats per token of documents that the run held out (with `--source`: of the first documents of it, whatever was trained
on), and how much more than in float. KL: nats per token, from the model in fewer bits to the float model, estimated on what the
first one wrote (temperature 1): the mean of the difference in log p, with the engine's own log p for the first; it sees the
cache too. Told facts preferred: as in `lm/recall.py`, for runs on the school. Memory: of the weights as the engine holds them,
and of a cache of 32 rows that fill the context. Speed: new tokens a second of whole calls, greedy, 32 + 128 tokens (as far as
the context goes), best of `--rounds`. Wait until nothing else runs.
"""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from absl import flags
from side_by_side import markdown

from launch import cli

HEADER = (
    "weights, cache",
    "bits per weight",
    "loss",
    "more than float",
    "KL to float",
    "told facts preferred",
    "weights, MB",
    "cache, MB",
    "tokens/s, batch 1",
    "batch 32",
)
VARIANTS = ((None, False), ("int8", False), ("int4", False), (None, True), ("int8", True), ("int4", True))
ROWS, PROMPT, ANSWER = 32, 32, 128


@dataclass
class Asked:
    """What a model is measured on."""

    run: Any  # the config of the run, as nested dicts
    texts: list[list[int]]  # tokens of held-out documents
    start: int  # what stands before each
    tokenizer: Any
    rounds: int


def define_flags() -> None:
    """The flags of this benchmark."""
    flags.DEFINE_string("workdir", None, "The folder of the run.", required=True)
    flags.DEFINE_string("source", None, "What the loss is measured on; else what the run held out.")
    flags.DEFINE_integer("documents", 400, "So many documents at most.", lower_bound=1)
    flags.DEFINE_integer("rounds", 3, "Calls that are timed; the best counts.", lower_bound=1)


def main(_: list[str]) -> None:
    """Measure every variant, and print the table."""
    from launch.workdir import load_model, read_config

    options = flags.FLAGS
    workdir = Path(options.workdir).expanduser()
    model, tokenizer, step = load_model(workdir)
    run = read_config(workdir)
    texts = held_out(run, options.source, options.documents, workdir, tokenizer)
    asked = Asked(run, texts, tokenizer.document_start, tokenizer, options.rounds)
    count = sum(map(len, texts))
    print(f"{workdir} at step {step}; the loss is of {count:,} tokens in {len(texts):,} documents", flush=True)
    rows: list[tuple[str, ...]] = []
    base: dict[str, float] = {}
    for kind, quantize_cache in VARIANTS:
        found = measure(model, kind, asked, quantize_cache=quantize_cache)
        base = base or found
        rows.append(
            (
                f"{kind or model.config.compute_dtype}, {'int8' if quantize_cache else model.config.compute_dtype}",
                f"{found['bits']:.2f}",
                f"{found['loss']:.4f}",
                f"{found['loss'] - base['loss']:+.4f}",
                f"{found['kl']:.5f}",
                f"{found['told']:.1%}" if "told" in found else "",
                f"{found['weights'] / 1e6:.2f}",
                f"{found['cache'] / 1e6:.2f}",
                f"{found['speed 1']:,.0f}",
                f"{found['speed 32']:,.0f}",
            )
        )
        print(" | ".join(rows[-1]), flush=True)
    print()
    print(markdown(HEADER, rows))


def held_out(run: dict[str, Any], source: str | None, most: int, workdir: Path, tokenizer: Any) -> list[list[int]]:
    """The tokens of the documents that the loss is measured on."""
    from data_pipeline.errors import UserError
    from data_pipeline.set_aside import SetAside
    from data_pipeline.shards import is_held_out
    from data_pipeline.sources import read_documents

    set_aside = SetAside(workdir / "benchmark_set_aside.jsonl")
    sources = [source] if source else run["data"]["sources"]
    texts = []
    for one in sources:
        for document in read_documents(one, school=school(run), set_aside=set_aside):
            if source or is_held_out(document, run["data"]["held_out"]):
                texts.append(tokenizer.encode(document.text))
            if len(texts) == most:
                return texts
    if not texts:
        raise UserError(f"{workdir} holds nothing out of its sources: give --source=pydoc, or files")
    return texts


def school(run: dict[str, Any]) -> Any:
    """The school of a run."""
    from data_pipeline.school.world import SchoolConfig

    values = run["data"]["school"]
    return SchoolConfig(**{**values, "frequencies": tuple(values["frequencies"])})


def measure(model: Any, kind: str | None, asked: Asked, *, quantize_cache: bool) -> dict[str, float]:
    """The numbers of one variant."""
    import jax

    from lm.inference.engine import Engine
    from lm.inference.generate import generate
    from lm.inference.quantization import quantized
    from lm.inference.requests import Request
    from lm.inference.sampling import Sampling
    from lm.inference.score import rolling_log_probs, score_continuations
    from lm.model.cache import empty_cache
    from lm.recall import school_recall

    held = quantized(model, kind) if kind else model
    context = model.config.context_length
    engine = Engine(held, slots=ROWS, symbols=asked.tokenizer.vocab_size, quantize_cache=quantize_cache)
    weights = stored_bytes(engine._model)
    found = {
        "weights": weights,
        "bits": 8 * weights / sum(x.size for x in jax.tree.leaves(model)),
        "cache": stored_bytes(
            jax.eval_shape(lambda: empty_cache(model.config, ROWS, context, quantized=quantize_cache))
        ),
    }
    nats = -rolling_log_probs(held, asked.texts, asked.start, overlap=max(context // 2, 1))
    found["loss"] = float(nats.sum()) / sum(map(len, asked.texts))
    if "school" in asked.run["data"]["sources"]:
        told = [one for one in school_recall(held, asked.tokenizer, school(asked.run)) if one.frequency]
        found["told"] = sum(one.facts * one.preferred for one in told) / sum(one.facts for one in told)

    answer = min(ANSWER, context - PROMPT)
    prompts = [(asked.start, *text)[:PROMPT] for text in asked.texts if len(text) >= PROMPT][:ROWS]
    prompts = [prompts[i % len(prompts)] for i in range(ROWS)]
    wrote = generate(engine, [Request(prompt, answer, seed=i) for i, prompt in enumerate(prompts)])
    pairs = [(prompt, one.written.tokens) for prompt, (one,) in zip(prompts, wrote, strict=True)]
    # The engine writes the tokenizer's symbols only; a model's score for the padding beyond counts in both.
    mine = np.array([sum(one.written.log_probs) for (one,) in wrote])
    found["kl"] = float(np.sum(mine - score_continuations(model, pairs).log_probs)) / (ROWS * answer)
    for batch in (1, ROWS):
        requests = [Request(prompt, answer, Sampling(temperature=0.0)) for prompt in prompts[:batch]]
        generate(engine, requests)
        seconds = []
        for _ in range(asked.rounds):
            start = time.perf_counter()
            generate(engine, requests)
            seconds.append(time.perf_counter() - start)
        found[f"speed {batch}"] = batch * answer / min(seconds)
    return found


def stored_bytes(tree: Any) -> int:
    """Of all arrays of a pytree."""
    import jax

    return sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(tree))


if __name__ == "__main__":
    define_flags()
    cli.run(main)
