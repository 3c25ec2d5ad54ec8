"""How far the policy has gone from a reference: estimates of a KL divergence from one sampled token, and their gradients.

With d = log pi(token) - log reference(token) of a token drawn from pi, each of these has a mean that tells of
KL(pi || reference): k1 = d (unbiased), k2 = d^2 / 2 (biased), k3 = exp(-d) - 1 + d (unbiased, never negative; Schulman,
"Approximating KL Divergence", 2020). Their gradients are another matter:

| form          | what is done                                                          | mean gradient, drawn from pi        |
|---------------|-----------------------------------------------------------------------|-------------------------------------|
| (none)        | k1 is differentiated in the loss                                      | 0: it does nothing                  |
| reward_k1     | k1, a mere number, is taken off the reward, summed over the sequence  | of KL(pi, reference)                |
| loss_k2       | k2 is differentiated in the loss                                      | of KL(pi, reference)                |
| loss_k3       | k3 is differentiated in the loss, as GRPO was published               | of KL(reference, pi): the other one |
| weighted_k1   | ratio x k1 in the loss, with ratio = pi / old pi, differentiated too  | of KL(pi, reference)                |
| weighted_k3   | ratio x k3 in the loss, likewise                                      | of KL(pi, reference)                |

In the loss each token sees the divergence at itself only; in the reward, also what its choice leads to.
"""

import jax
import jax.numpy as jnp

FORMS = ("reward_k1", "loss_k2", "loss_k3", "weighted_k1", "weighted_k3")
LARGEST = 20.0  # of the logs that are exponentiated: beyond it there is nothing but overflow


def ratio_of(log_ratio: jax.Array) -> jax.Array:
    """exp(log_ratio), which stays finite, and so does its gradient."""
    return jnp.exp(jnp.clip(log_ratio, -LARGEST, LARGEST))


def estimates(log_probs: jax.Array, reference: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """k1, k2 and k3 at each token, float32, of log-probabilities in nats."""
    d = log_probs - reference
    return d, jnp.square(d) / 2, ratio_of(-d) - 1 + d


def kl_in_loss(form: str, log_probs: jax.Array, reference: jax.Array, ratio: jax.Array) -> jax.Array:
    """What each token adds to the loss, before the coefficient. `ratio` is pi / old pi; `reward_k1` adds nothing."""
    k1, k2, k3 = estimates(log_probs, reference)
    match form:
        case "loss_k2":
            return k2
        case "loss_k3":
            return k3
        case "weighted_k1":
            return ratio * k1
        case "weighted_k3":
            return ratio * k3
        case _:
            return jnp.zeros_like(k1)
