"""What makes one stage of school differ from another: where batches come from, and what is minimised.

The loop in `lm/train.py` knows nothing else. Finetuning, reward models and RL each bring another `Stage`.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import jax
import numpy as np

from lm.lora import LoraConfig
from lm.model.config import ModelConfig
from lm.model.transformer import Transformer

HostBatch = dict[str, np.ndarray]
Metrics = dict[str, jax.Array]
# A pure function (model, batch) -> (mean loss, metrics); metrics["weight"] is what the means were taken over.
Objective = Callable[[Transformer, dict[str, jax.Array]], tuple[jax.Array, Metrics]]


class Source(Protocol):
    """An iterator of batches whose position can be saved and restored."""

    def next(self, model: Callable[[], Transformer]) -> HostBatch:
        """This process's rows of the next global batch: `batch_size` of all processes together, or a multiple of that.

        `model` gives the current one to sources that let it write. It may be used until the next call, and no longer: its
        arrays are given away with the step that follows.
        """
        ...

    def get_state(self) -> dict[str, Any]:
        """The position, as JSON."""
        ...

    def set_state(self, state: dict[str, Any]) -> None:
        """Go to a position that `get_state` gave."""
        ...

    def describe(self, batch: HostBatch) -> list[str]:
        """Names of what the batch was made of, to trace a bad step to its text."""
        ...


@dataclass(frozen=True)
class Start:
    """A model to start from, in place of random parameters."""

    checkpoints: Path
    model: ModelConfig  # its; the experiment's may have more symbols
    new_tokens: tuple[int, ...] = ()  # that it has never learnt
    lora: LoraConfig = field(default_factory=LoraConfig)  # its, where it was trained by adapters itself


@dataclass(frozen=True)
class Stage:
    """A source and an objective, and how progress is looked at."""

    source: Source
    objective: Objective
    # Arrays of a batch that only the host needs: they never travel to the devices.
    host_only: frozenset[str]
    # model -> validation metrics; "loss" decides which checkpoint is the best. None: nothing is held out.
    evaluate: Callable[[Transformer], dict[str, float]] | None = None
    # model -> one {"prompt": ..., "text": ...} for each prompt, with more keys where there is more to say.
    sample: Callable[[Transformer], list[dict[str, Any]]] | None = None
    start: Start | None = None
    looks_first: bool = False  # evaluate and sample before the first step too
    # Told once, before anything else, the model that the run began with (after restarts too); None: nobody asks.
    remember_start: Callable[[Transformer], None] | None = None
    # What the source counted while it made the last batch.
    numbers: Callable[[], dict[str, float]] | None = None
    # Why the run must end before its last step, or "": asked after every step.
    enough: Callable[[], str] | None = None
    close: Callable[[], None] | None = None  # release what the source holds
