"""Both sides of the generation benchmark: the same requests, answered greedily to their full length.

Ours is the engine as evaluation and RL use it. The peer is `transformers.generate` with its KV cache and PyTorch's fused
attention, eager, as most people run it. It takes a batch at a time: prompts are padded on the left, all rows go on until the
longest answer is there, and of the others' tokens only those asked for count. Imports are late, so that each process loads
one framework only.
"""

import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from side_by_side import Work

from lm.model.config import ModelConfig

if TYPE_CHECKING:
    from lm.inference.engine import Engine

Answers = list[list[int]]


@dataclass(frozen=True)
class Load:
    """Requests: prompts, each with the number of tokens it wants; at most `rows` are answered at the same time."""

    prompts: tuple[tuple[int, ...], ...]
    wanted: tuple[int, ...]
    rows: int


def ours(config: ModelConfig, load: Load) -> Work:
    """A step is one call of `generate` with all requests."""
    import jax

    from lm.inference.engine import Engine
    from lm.model.transformer import Transformer

    engine = Engine(jax.jit(lambda key: Transformer(key, config))(jax.random.key(0)), slots=load.rows)
    for _ in range(3):  # how far a dispatch goes depends on the clock, and so does what is compiled
        answer(engine, load)

    def facts() -> dict[str, Any]:
        return {"read_bandwidth": read_bandwidth(), "device": jax.devices()[0].device_kind}

    return Work(lambda: _check(answer(engine, load), load), lambda: None, sum(load.wanted), facts)


def answer(engine: "Engine", load: Load) -> Answers:
    """What our engine writes."""
    from lm.inference.generate import generate
    from lm.inference.requests import Request
    from lm.inference.sampling import Sampling

    requests = [
        Request(prompt, wanted, Sampling(temperature=0.0))
        for prompt, wanted in zip(load.prompts, load.wanted, strict=True)
    ]
    return [completion.written.tokens for (completion,) in generate(engine, requests)]


def peer(config: ModelConfig, load: Load, device: str = "cpu") -> Work:
    """A step answers all requests on `device` ("cpu" or "cuda"), batch after batch in the order they have."""
    import torch
    from torch_peer import model_of

    torch.set_num_threads(os.cpu_count() or 1)
    torch.set_float32_matmul_precision("high")  # TF32 on a GPU, as JAX has it there; no effect on a CPU
    torch.manual_seed(0)
    model = for_generation(model_of(config)).to(device, getattr(torch, config.compute_dtype))
    return Work(lambda: _check(peer_answer(model, load), load), lambda: None, sum(load.wanted))


def for_generation(model: Any) -> Any:
    """The peer's model (see `torch_peer.model_of`) with a KV cache and attention that knows masks."""
    model.set_attn_implementation("sdpa")
    model.config.use_cache = model.generation_config.use_cache = True
    return model.eval()


def peer_answer(model: Any, load: Load) -> Answers:
    """What the peer writes, cut to what was asked for."""
    import torch

    answers = []
    for first in range(0, len(load.prompts), load.rows):
        prompts = load.prompts[first : first + load.rows]
        wanted = load.wanted[first : first + load.rows]
        width = max(map(len, prompts))
        tokens = torch.tensor([(0,) * (width - len(prompt)) + prompt for prompt in prompts], device=model.device)
        mask = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in prompts], device=model.device)
        with torch.inference_mode():
            written = model.generate(
                tokens, attention_mask=mask, max_new_tokens=max(wanted), do_sample=False, pad_token_id=0
            )
        rows = written[:, width:].tolist()
        answers += [row[:count] for row, count in zip(rows, wanted, strict=True)]
    return answers


def _check(answers: Answers, load: Load) -> None:
    """Nobody is faster by writing less."""
    if tuple(map(len, answers)) != load.wanted:
        raise ValueError("answers are not as long as they were asked to be")


def read_bandwidth() -> float:
    """Bytes a second at which this machine's default JAX device reads 1 GiB, the best of five.

    On a CPU every core sums the squares of its part by NumPy, on an accelerator XLA sums the array.
    """
    import jax
    import jax.numpy as jnp

    size = 2**28
    if jax.default_backend() == "cpu":
        cores = os.cpu_count() or 1
        parts = np.array_split(np.ones(size, np.float32), cores)
        with ThreadPoolExecutor(cores) as pool:
            return _fastest(lambda: list(pool.map(lambda x: np.dot(x, x), parts)), 4 * size)
    array, total = jnp.ones(size, jnp.float32), jax.jit(jnp.sum)
    return _fastest(lambda: total(array).block_until_ready(), 4 * size)


def _fastest(read: Callable[[], object], size: int) -> float:
    seconds = []
    for _ in range(5):
        start = time.perf_counter()
        read()
        seconds.append(time.perf_counter() - start)
    return size / min(seconds)
