r"""Let a trained model write.

    python -m launch.generate --workdir=runs/a --prompt="Orson Kovats was born in" --temperature=0.7 --samples=3
    python -m launch.generate --workdir=runs/a --prompt="The assert statement" --top_k=50 --seed=1 --tokens=200
    python -m launch.generate --workdir=runs/a --prompt="1. assert" --stop=$'\n\n' --stop="3." --repetition_penalty=1.2
    python -m launch.generate --workdir=runs/a --prompt="Orson Kovats was born in" --top=5 --step=60

A base model is an autocomplete: it goes on from the prompt, whatever it says. The same seed writes the same text; another
one another. Text appears as it is written when there is one sample; it ends where the model ends a document, or before a
`--stop` string. `--top` shows what the model expects instead, before and after some training with `--step`.
"""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from absl import flags

from data_pipeline.errors import UserError
from data_pipeline.protocol import document_ends
from data_pipeline.tokenizer import Tokenizer
from launch import cli, inference_flags
from launch.server.deltas import TextDeltas

if TYPE_CHECKING:  # JAX is imported late
    from lm.inference.requests import Update
    from lm.model.transformer import Transformer


def define_flags() -> None:
    """The flags of this program."""
    flags.DEFINE_string("workdir", None, "The folder of the run whose model writes.")
    flags.DEFINE_integer("step", None, "Which checkpoint of the run; the newest unless given.")
    flags.DEFINE_string("prompt", "", "The beginning of the text; the start of a document unless given.")
    flags.DEFINE_integer("samples", 1, "How many texts.")
    flags.DEFINE_integer("tokens", 100, "How many tokens at most, of each text.")
    inference_flags.define_sampling()
    inference_flags.define_quantization()
    flags.DEFINE_multi_string("stop", [], "End before this text; may be given several times.")
    flags.DEFINE_integer(
        "top", 0, "Write nothing; show the so many likeliest next tokens at every place of the prompt."
    )
    flags.DEFINE_integer("seed", 0, "The same seed gives the same text.")


def main(_: list[str]) -> None:
    """Read the model and its tokenizer, then write to stdout."""
    options = flags.FLAGS
    if not options.workdir:
        raise UserError("--workdir is missing: name the folder of a run, such as --workdir=runs/course")
    for name, least in (("samples", 1), ("tokens", 1), ("seed", 0), ("top", 0)):
        if getattr(options, name) < least:
            raise UserError(f"--{name}={getattr(options, name)}: must be at least {least}")

    if options.seed >= 2**32:
        raise UserError(f"--seed={options.seed}: must be below 2^32")

    from launch.workdir import load_model
    from lm.inference.engine import Engine
    from lm.inference.generate import generate
    from lm.inference.requests import Request

    sampling = inference_flags.sampling()
    cli.remember_compilations(Path(cli.CACHE))
    model, tokenizer, step = load_model(Path(options.workdir).expanduser(), options.step)
    model = inference_flags.quantized(model)
    print(f"{options.workdir} at step {step}, seed {options.seed}", file=sys.stderr)
    prompt = [tokenizer.document_start, *tokenizer.encode(options.prompt)]
    if options.top:
        print(predictions(model, tokenizer, prompt, options.top))
        return
    engine = Engine(
        model,
        symbols=tokenizer.vocab_size,
        token_bytes=tokenizer.token_bytes,
        quantize_cache=options.quantize_cache,
    )
    request = Request(
        tuple(prompt),
        options.tokens,
        sampling,
        options.seed,
        options.samples,
        stop_tokens=document_ends(tokenizer),
        stop_strings=tuple(options.stop),
    )
    engine.check(request)
    deltas = [TextDeltas(tokenizer.token_bytes, request.stop_strings) for _ in range(request.samples)]
    texts = [options.prompt] * request.samples

    def show(_: int, update: "Update") -> None:
        by_string = isinstance(update.stopped_by, str)
        new = deltas[update.sample].feed(update.new.tokens, ended=bool(update.reason), by_string=by_string)
        texts[update.sample] += new
        if request.samples == 1:
            print(new, end="", flush=True)

    if request.samples == 1:
        print(options.prompt, end="", flush=True)
    generate(engine, [request], show)
    if request.samples == 1:
        print()
    else:
        for number, text in enumerate(texts, 1):
            print(f"--- {number}\n{text}")


def predictions(model: "Transformer", tokenizer: Tokenizer, prompt: list[int], top: int) -> str:
    """A line for each token of the prompt: the `top` likeliest tokens to follow it, with their probabilities."""
    import jax
    import jax.numpy as jnp

    logits = jax.jit(lambda model, tokens: model(tokens))(model, jnp.array([prompt]))
    probabilities, tokens = jax.lax.top_k(
        jax.nn.softmax(logits[0, :, : tokenizer.vocab_size]), min(top, tokenizer.vocab_size)
    )
    lines = []
    for at, token in enumerate(prompt):
        guesses = zip(tokens[at].tolist(), probabilities[at].tolist(), strict=True)
        shown = "  ".join(f"{tokenizer.piece(guess)!r} {probability:.1%}" for guess, probability in guesses)
        lines.append(f"{tokenizer.piece(token)!r:>20} -> {shown}")
    return "\n".join(lines)


if __name__ == "__main__":
    define_flags()
    cli.run(main)
