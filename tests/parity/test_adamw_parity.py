"""20 steps of real training, by our `train_step` and by PyTorch's AdamW, clipping and scheduler, on the same batches.

Each side trains its own copy of the model on the gradients of its own loss: whatever differs adds up.
"""

import math
from dataclasses import dataclass, replace
from functools import cache

import copying
import numpy as np
import pytest
from peers import PEERS, cross_entropy, random_weights, torch, weights_as_ours
from twenty_steps import STEPS, TOLERANCE, batches, errors, loss_error, train_ours

from lm.optimizer import OptimizerConfig

# A bias on keys changes nothing (the softmax takes it away), so its gradient is rounding, which Adam makes full steps of.
ARBITRARY = "blocks.attention.key.bias"


@dataclass(frozen=True)
class Recipe:
    """What PyTorch is told; `ours` says the same as an `OptimizerConfig`."""

    schedule: str
    clip_norm: float
    learning_rate: float = 3e-3
    warmup_steps: int = 5
    decay_fraction: float = 0.4
    final_fraction: float = 0.1
    betas: tuple[float, float] = (0.9, 0.95)
    epsilon: float = 1e-8
    weight_decay: float = 0.3
    decay_vectors: bool = False

    def ours(self) -> OptimizerConfig:
        return OptimizerConfig(
            name="adamw",
            learning_rate=self.learning_rate,
            schedule=self.schedule,
            warmup_steps=self.warmup_steps,
            decay_fraction=self.decay_fraction,
            final_fraction=self.final_fraction,
            beta1=self.betas[0],
            beta2=self.betas[1],
            epsilon=self.epsilon,
            weight_decay=self.weight_decay,
            clip_norm=self.clip_norm,
        )

    def rate(self, step: int) -> float:
        """The learning rate over its peak at a step, 0 being the first."""
        if step < self.warmup_steps:
            return (step + 1) / (self.warmup_steps + 1)
        final, left = self.final_fraction, STEPS - step
        if self.schedule == "wsd":
            return final + (1 - final) * min(1.0, left / round(self.decay_fraction * STEPS))
        left /= STEPS - self.warmup_steps
        return final + (1 - final) * (left if self.schedule == "linear" else (1 - math.cos(math.pi * left)) / 2)


# Between them every schedule that falls; gradients are above and below each norm to clip to (asserted below).
RECIPES = {"gpt2": Recipe("cosine", 1.15), "llama3.1 8b untied": Recipe("wsd", 6.5), "qwen3": Recipe("linear", 2.5)}


def train_theirs(name: str, recipe: Recipe) -> tuple[dict[str, np.ndarray], list[float], list[float]]:
    """Parameters after the last step under our names, losses, and gradient norms before clipping."""
    peer = PEERS[name]
    model = random_weights(peer)
    groups = [
        {"params": [p for p in model.parameters() if p.ndim > 1], "weight_decay": recipe.weight_decay},
        {
            "params": [p for p in model.parameters() if p.ndim == 1],
            "weight_decay": recipe.weight_decay if recipe.decay_vectors else 0.0,
        },
    ]
    optimizer = torch.optim.AdamW(groups, lr=recipe.learning_rate, betas=recipe.betas, eps=recipe.epsilon)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, recipe.rate)
    losses, norms = [], []
    for batch in batches(peer.config.vocab_size):
        optimizer.zero_grad()
        loss = cross_entropy(
            model(torch.from_numpy(batch["tokens"]).long()).logits, batch["labels"], batch["loss_mask"]
        )
        loss.backward()
        norms.append(torch.nn.utils.clip_grad_norm_(model.parameters(), recipe.clip_norm).item())
        optimizer.step()
        scheduler.step()
        losses.append(loss.item())
    return weights_as_ours(peer, model), losses, norms


@cache
def ours(name: str) -> tuple[dict[str, np.ndarray], list[float]]:
    """Parameters after the last step, and losses."""
    peer = PEERS[name]
    weights = weights_as_ours(peer, random_weights(peer))
    return train_ours(copying.build(replace(peer.config, layer_loop="scan"), weights), RECIPES[name].ours())


def parameter_errors(name: str, wanted: dict[str, np.ndarray]) -> dict[str, float]:
    return {parameter: error for parameter, error in errors(ours(name)[0], wanted).items() if parameter != ARBITRARY}


@pytest.mark.parametrize("name", RECIPES)
def test_twenty_steps_of_adamw(name):
    recipe = RECIPES[name]
    wanted, losses, norms = train_theirs(name, recipe)
    assert 0 < sum(norm > recipe.clip_norm for norm in norms) < STEPS, norms  # clipped at times
    assert losses[-1] < losses[0] - 0.2, losses  # it learns

    found, off = parameter_errors(name, wanted), loss_error(ours(name)[1], losses)
    worst = max(found, key=found.get)
    print(f"{name}: {worst} {found[worst]:.1e}, losses {off:.1e}; norms {min(norms):.2f} to {max(norms):.2f}")
    assert found[worst] <= TOLERANCE, found
    assert off <= TOLERANCE


@pytest.mark.parametrize(
    "change",
    [
        {"decay_vectors": True},
        {"weight_decay": 0.29},
        {"clip_norm": 1e9},
        {"betas": (0.9, 0.955)},
        {"betas": (0.91, 0.95)},
        {"epsilon": 1e-5},
        {"warmup_steps": 4},
        {"final_fraction": 0.11},
        {"schedule": "linear"},
    ],
    ids=str,
)
def test_another_recipe_is_told_apart(change):
    wanted, _, _ = train_theirs("gpt2", replace(RECIPES["gpt2"], **change))
    found = parameter_errors("gpt2", wanted)
    print(f"{change}: {max(found.values()):.1e}")
    assert max(found.values()) > 2 * TOLERANCE
