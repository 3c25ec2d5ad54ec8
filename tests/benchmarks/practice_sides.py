"""Both sides of the practice benchmark: a step samples a round of rollouts, rewards them, and makes one update on them.

Ours is what the loop does in a step: `RolloutSource.next`, then `train_step`, jitted as the loop jits it. The peer is TRL's
`GRPOTrainer` itself, which is held after each of its steps. Imports are late, so that each process loads one framework only.

Every answer has the same length, since what would end one lies past the symbols that a model can write. Rewards are the
parity of a character, so that they differ and cost nothing.
"""

import os
import statistics
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from side_by_side import Work

from data_pipeline.conversation import said
from data_pipeline.problem import Problem, Response, Verdict
from data_pipeline.special_tokens import DOCUMENT_START, SPECIAL_TOKENS
from data_pipeline.tokenizer import Vocabulary
from lm.experiment import Experiment
from lm.model.config import ModelConfig
from lm.objectives.policy_gradient import PolicyGradientConfig
from lm.optimizer import OptimizerConfig
from lm.practice import PracticeConfig

PROBLEMS = 256  # to choose from
MARKS = 4  # special tokens in a prompt of ours


@dataclass(frozen=True)
class Round:
    """Prompts and rollouts of a step, and their lengths in tokens."""

    prompts: int = 8
    samples: int = 8  # of each prompt
    prompt: int = 48
    answer: int = 64

    @property
    def tokens(self) -> int:
        """That are written."""
        return self.prompts * self.samples * self.answer


def experiment(model: ModelConfig, round: Round, rows: int) -> Experiment:
    """What both sides do: centred advantages, the mean over tokens, no KL, AdamW; `rows` of ours at a time."""
    practice = PracticeConfig(
        prompts=round.prompts, samples=round.samples, tokens=round.answer, cut_off="scored", reference=False
    )
    optimizer = OptimizerConfig(learning_rate=1e-4, schedule="constant", warmup_steps=0, weight_decay=0.0)
    return Experiment(
        batch_size=rows, model=model, data=practice, objective=PolicyGradientConfig(), optimizer=optimizer
    )


def words(count: int, size: int, symbols: int) -> list[str]:
    """`count` texts of `size` random words, each of which is a token."""
    chance = np.random.default_rng(0)
    return [" ".join(f"w{word}" for word in row) for row in chance.integers(0, symbols, (count, size))]


def parity(text: str) -> float:
    """0 or 1, by the last character."""
    return float(ord(text[-1]) % 2)


class Words:
    """What a source needs of a `Tokenizer`: words, "w0" and so on.

    Special tokens come after them, past `vocab_size`: they are only ever read.
    """

    def __init__(self, vocab_size: int):
        self.vocab_size = vocab_size - len(SPECIAL_TOKENS)
        self.special_tokens = {name: self.vocab_size + i for i, name in enumerate(SPECIAL_TOKENS)}
        pieces = [f"w{i} ".encode() for i in range(self.vocab_size)]
        names = {token: name for name, token in self.special_tokens.items()}
        self.vocabulary = Vocabulary([*pieces, *[b""] * len(names)], names)
        self.document_start = self.special_tokens[DOCUMENT_START]
        self.fingerprint = ""

    def encode(self, text: str) -> list[int]:
        """The number of each word."""
        return [int(word[1:]) for word in text.split()]

    def encode_many(self, texts: Iterable[str]) -> list[list[int]]:
        """The same of each text."""
        return [self.encode(text) for text in texts]

    def decode(self, ids: Iterable[int]) -> str:
        """The words, a space between them."""
        return self.vocabulary.decode(ids).rstrip()

    def token_bytes(self, token: int) -> bytes:
        """A word and a space."""
        return self.vocabulary.token_bytes(token)

    def piece(self, token: int) -> str:
        """A word and a space, or a special token's name."""
        return self.vocabulary.piece(token)


@dataclass(frozen=True)
class Parity:
    """A verifier that costs nothing."""

    inline: ClassVar[bool] = True

    def __call__(self, response: Response) -> Verdict:
        """What `parity` says."""
        return Verdict(parity(response.text), "parity")


class Clock:
    """Seconds of each step: until its rollouts were there as a batch, with their rewards; and for the update."""

    def __init__(self) -> None:
        self.rollouts: list[float] = []
        self.updates: list[float] = []

    def facts(self) -> dict[str, Any]:
        """Medians over the steps since this was last asked."""
        told = {"rollouts": statistics.median(self.rollouts), "update": statistics.median(self.updates)}
        self.rollouts.clear()
        self.updates.clear()
        return told


def check(written: int, round: Round) -> None:
    """Nobody is faster by writing less."""
    if written != round.tokens:
        raise ValueError(f"{written} tokens were written, not {round.tokens}")


def ours(model: ModelConfig, round: Round, folder: str, rows: int) -> Work:
    """Steps of the loop, without what surrounds them (lines, checkpoints, evaluation)."""
    import jax

    from data_pipeline.verifying import Verifiers
    from lm import sharding
    from lm.objectives.policy_gradient import policy_gradient
    from lm.optimizer import make_optimizer
    from lm.rl.source import RolloutSource
    from lm.rl.stage import HOST_ONLY
    from lm.train import abstract_state, init_state, train_step

    config, clock, tokenizer = experiment(model, round, rows), Clock(), Words(model.vocab_size)
    mesh = sharding.make_mesh(config.mesh, jax.devices()[:1])
    jax.set_mesh(mesh)
    optimizer = make_optimizer(config.optimizer, config.steps)
    shardings = jax.tree.map(lambda x: x.sharding, abstract_state(config, optimizer, mesh))
    init = partial(init_state, config=config, optimizer=optimizer)
    state = jax.jit(init, out_shardings=shardings)(jax.random.key(config.seed))
    objective = partial(policy_gradient, config=config.objective)
    update = jax.jit(
        partial(train_step, objective=objective, optimizer=optimizer),
        static_argnames="accumulate",
        donate_argnums=0,
        out_shardings=(shardings, None),
    )
    asked = words(PROBLEMS, round.prompt - MARKS, tokenizer.vocab_size)
    source = RolloutSource(
        config.data,
        config.objective,
        [Problem(str(i), (said("user", text),), Parity(), "words") for i, text in enumerate(asked)],
        tokenizer,
        Verifiers(1, 1.0),
        None,
        mesh,
        seed=config.seed,
        row_length=model.context_length,
        batch_size=rows,
        log=Path(folder) / "rollouts.jsonl",
    )

    def step() -> None:
        nonlocal state
        start = time.perf_counter()
        batch = source.next(lambda: state.model)
        clock.rollouts.append(time.perf_counter() - start)
        check(int(batch["loss_mask"].sum()), round)
        start, count = time.perf_counter(), len(batch["tokens"])
        on_mesh = sharding.put_batch(mesh, {name: x for name, x in batch.items() if name not in HOST_ONLY}, count)
        state, metrics = update(state, on_mesh, accumulate=count // rows)
        if not np.isfinite(jax.device_get(metrics["loss"])):
            raise FloatingPointError(f"not finite: {metrics}")
        jax.block_until_ready(state)
        clock.updates.append(time.perf_counter() - start)

    for _ in range(3):  # how far a dispatch goes depends on the clock, and so does what is compiled
        step()
    return Work(step, lambda: None, round.tokens, clock.facts)


def peer(model: ModelConfig, round: Round, folder: str, compiled: bool) -> Work:
    """Steps of TRL's trainer, its update eager or compiled, in a thread that waits while it is not this side's turn."""
    os.environ["TORCHINDUCTOR_COMPILE_THREADS"] = "1"  # in this process: no helpers that outlive it
    import datasets
    import torch
    import transformers
    from generation_sides import for_generation
    from torch_peer import model_of
    from trl import GRPOConfig, GRPOTrainer

    settings, clock = experiment(model, round, 1).optimizer, Clock()
    rollouts = round.prompts * round.samples
    config = GRPOConfig(
        output_dir=folder,
        num_generations=round.samples,
        per_device_train_batch_size=rollouts,
        gradient_accumulation_steps=1,
        num_iterations=1,
        max_completion_length=round.answer,
        temperature=1.0,
        beta=0.0,
        scale_rewards="none",
        loss_type="dapo",  # the mean over all tokens
        learning_rate=settings.learning_rate,
        lr_scheduler_type="constant",
        weight_decay=settings.weight_decay,
        adam_beta1=settings.beta1,
        adam_beta2=settings.beta2,
        adam_epsilon=settings.epsilon,
        max_grad_norm=settings.clip_norm,
        optim="adamw_torch_fused",
        max_steps=10**9,
        use_cpu=True,
        torch_compile=compiled,
        bf16=False,
        gradient_checkpointing=False,
        disable_dropout=True,
        dataloader_pin_memory=False,
        save_strategy="no",
        logging_strategy="no",
        report_to=[],
        disable_tqdm=True,
    )
    go, done, failed = threading.Semaphore(0), threading.Semaphore(0), []

    class Held(transformers.TrainerCallback):
        def on_step_end(self, *_: Any, **__: Any) -> None:
            done.release()
            go.acquire()

    class Timed(GRPOTrainer):
        def _prepare_inputs(self, generation_batch: Any) -> Any:
            start = time.perf_counter()
            inputs = super()._prepare_inputs(generation_batch)
            clock.rollouts.append(time.perf_counter() - start)
            check(int(inputs["completion_mask"].sum()), round)
            return inputs

    trainer = Timed(
        model=for_generation(model_of(model)),
        reward_funcs=lambda completions, **_: [parity(text) for text in completions],
        args=config,
        train_dataset=datasets.Dataset.from_dict({"prompt": words(PROBLEMS, round.prompt, model.vocab_size)}),
        processing_class=words_of_peer(model.vocab_size),
        callbacks=[Held()],
    )

    def train() -> None:
        torch.set_num_threads(os.cpu_count() or 1)
        try:
            go.acquire()
            trainer.train()
        except BaseException as error:  # told by the step that waits for it
            failed.append(error)
            done.release()

    threading.Thread(target=train, daemon=True).start()

    def step() -> None:
        start = time.perf_counter()
        go.release()
        done.acquire()
        if failed:
            raise failed[0]
        clock.updates.append(time.perf_counter() - start - clock.rollouts[-1])

    return Work(step, lambda: None, round.tokens, clock.facts)


def words_of_peer(vocab_size: int) -> Any:
    """The peer's tokenizer: all its words are the model's symbols, and what ends an answer comes after them."""
    import tokenizers
    import transformers

    end = "<end>"
    numbered = {**{f"w{i}": i for i in range(vocab_size)}, end: vocab_size}
    backend = tokenizers.Tokenizer(tokenizers.models.WordLevel(numbered, unk_token=end))
    backend.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    return transformers.PreTrainedTokenizerFast(tokenizer_object=backend, eos_token=end, pad_token=end)
