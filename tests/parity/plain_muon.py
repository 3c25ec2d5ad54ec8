"""Muon and NorMuon as they are described, in numpy and float64, one matrix at a time.

Shares nothing with `lm.optimizer` or optax, and where possible uses another form: the Newton-Schulz iteration is an odd
polynomial in a matrix, so it acts on the singular values alone, and here it is applied to those.

Muon: https://kellerjordan.github.io/posts/muon, scaled and decayed as in arXiv 2502.16982. Momentum is an average of
gradients that is corrected for its short start, as in Adam, with one more step of it ahead (NAdam). NorMuon: arXiv 2510.05491
in the form of its authors' code, where evening out the neurons keeps the norm of the update. (The paper's formula sets the
root mean square to 0.2 instead, which differs by a factor near 1 for each matrix.)
"""

import math
from dataclasses import dataclass, field

import numpy as np

Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class PlainRecipe:
    """Everything that one of the two optimizers is told."""

    name: str  # muon | normuon
    steps: int
    learning_rate: float = 0.01
    warmup_steps: int = 4
    final_fraction: float = 0.1
    beta1: float = 0.9
    beta2: float = 0.95
    epsilon: float = 1e-8
    weight_decay: float = 0.3
    clip_norm: float = 1.0
    momentum: float = 0.95
    neuron_decay: float = 0.95
    nesterov: bool = True
    coefficients: tuple[float, float, float] = (3.4445, -4.7750, 2.0315)
    iterations: int = 5
    rms: float = 0.2
    never_decayed: tuple[str, ...] = ("scale", "bias")  # by the end of the name
    orthogonal: tuple[str, ...] = ("kernel",)  # the blocks' matrices; embeddings, head, norms and biases are Adam's

    def rate(self, step: int) -> float:
        """Linear up to the peak, then half a cosine down to `final_fraction` of it."""
        if step < self.warmup_steps:
            return self.learning_rate * (step + 1) / (self.warmup_steps + 1)
        done = (step - self.warmup_steps) / (self.steps - self.warmup_steps)
        final = self.final_fraction
        return self.learning_rate * (final + (1 - final) * (1 + math.cos(math.pi * done)) / 2)


@dataclass
class Adam:
    """The update of one array (arXiv 1412.6980), before the learning rate."""

    recipe: PlainRecipe
    mean: np.ndarray | float = 0.0
    square: np.ndarray | float = 0.0
    time: int = 0

    def __call__(self, gradient: np.ndarray) -> np.ndarray:
        r = self.recipe
        self.time += 1
        self.mean += (1 - r.beta1) * (gradient - self.mean)
        self.square += (1 - r.beta2) * (gradient**2 - self.square)
        spread = np.sqrt(self.square / (1 - r.beta2**self.time)) + r.epsilon
        return self.mean / (1 - r.beta1**self.time) / spread


@dataclass
class Muon:
    """The update of one matrix (inputs, outputs), before the learning rate."""

    recipe: PlainRecipe
    gradients: list[np.ndarray] = field(default_factory=list)  # all so far: the average is written out as a sum
    neurons: np.ndarray | float = 0.0  # NorMuon: mean square of each output's updates

    def __call__(self, gradient: np.ndarray) -> np.ndarray:
        r = self.recipe
        self.gradients.append(gradient)
        update = orthogonalised(self.momentum(), r)
        if r.name == "normuon":
            self.neurons = r.neuron_decay * self.neurons + (1 - r.neuron_decay) * np.mean(update**2, axis=0)
            even = update / np.sqrt(self.neurons)
            update = even * math.sqrt(np.sum(update**2) / np.sum(even**2))
        # An orthogonal matrix has a root mean square of 1 / sqrt(its longer side).
        return r.rms * math.sqrt(max(update.shape)) * update

    def momentum(self) -> np.ndarray:
        beta, time = self.recipe.momentum, len(self.gradients)

        def average(of: list[np.ndarray], weights: list[float]) -> np.ndarray:
            return sum(w * g for w, g in zip(weights, of, strict=True))

        past = [(1 - beta) * beta ** (time - 1 - i) for i in range(time)]  # they add up to 1 - beta^time
        if not self.recipe.nesterov:
            return average(self.gradients, past) / (1 - beta**time)
        ahead = average(self.gradients, past) * beta / (1 - beta ** (time + 1))
        return ahead + self.gradients[-1] * (1 - beta) / (1 - beta**time)


def orthogonalised(x: np.ndarray, recipe: PlainRecipe) -> np.ndarray:
    """The matrix with the same singular vectors, and singular values brought near 1 (0.7 to 1.2) by the quintic."""
    u, values, v = np.linalg.svd(x, full_matrices=False)
    values = values / math.sqrt(np.sum(values**2))
    a, b, c = recipe.coefficients
    for _ in range(recipe.iterations):
        values = a * values + b * values**3 + c * values**5
    return u * values @ v


class Plain:
    """Parameters by name, and how they change with each gradient."""

    def __init__(self, recipe: PlainRecipe, params: Arrays) -> None:
        self.recipe, self.step = recipe, 0
        self.params = {name: x.astype(np.float64) for name, x in params.items()}
        self.rules = {
            name: [Muon(recipe) for _ in x] if name.endswith(recipe.orthogonal) else Adam(recipe)  # a Muon each layer
            for name, x in params.items()
        }

    def update(self, gradients: Arrays) -> None:
        r = self.recipe
        norm = math.sqrt(sum(np.sum(g.astype(np.float64) ** 2) for g in gradients.values()))
        for name, gradient in gradients.items():
            gradient = gradient.astype(np.float64) * min(1.0, r.clip_norm / norm)
            rule = self.rules[name]
            if isinstance(rule, Adam):
                change = rule(gradient)
            else:
                change = np.stack([layer(g) for layer, g in zip(rule, gradient, strict=True)])
            if not name.endswith(r.never_decayed):
                change = change + r.weight_decay * self.params[name]
            self.params[name] = self.params[name] - r.rate(self.step) * change
        self.step += 1
