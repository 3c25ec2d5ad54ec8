"""What a response is rewarded for, besides being right: its form, its length, its calls."""

from dataclasses import dataclass

from data_pipeline.errors import UserError
from data_pipeline.problem import Response


@dataclass
class RewardConfig:
    """How a reward is put together. The defaults reward what is right and nothing else."""

    broken: float = 0.0  # taken off where the turn did not end by itself, or something in it is broken
    call: float = 0.0  # taken off for each tool call
    overlong: int = 0  # the last so many tokens of the limit cost more and more, up to 1 (arXiv 2503.14476); 0: nothing


def check_rewards(config: RewardConfig) -> None:
    """Raise `UserError` for values that make no sense."""
    for name in ("broken", "call", "overlong"):
        if not getattr(config, name) >= 0:
            raise UserError(f"data.reward.{name}={getattr(config, name)}: must not be negative")


def reward(response: Response, value: float, config: RewardConfig, tokens: int) -> float:
    """The reward of a response that may have `tokens` tokens: `value` (its score), less what is taken off."""
    value -= config.call * response.calls
    if not response.well_formed:
        value -= config.broken
    if config.overlong:
        value -= min(max((response.tokens - (tokens - config.overlong)) / config.overlong, 0.0), 1.0)
    return value
