"""What a round of practice is: which problems, how many tries at each, and what becomes of them."""

from dataclasses import dataclass, field

from data_pipeline.errors import UserError
from data_pipeline.problems import ProblemsConfig, check_problems
from data_pipeline.rewards import RewardConfig, check_rewards
from lm.sharding import MeshConfig

CUT_OFF = ("zero", "masked", "scored")
SAMPLERS = ("", "bfloat16", "int8", "int4")


@dataclass
class CurriculumConfig:
    """How problems are chosen. The defaults draw from all of them."""

    raise_at: float = 0.0  # the next level opens when this share of tries at the hardest open one succeeds; 0: all open
    groups: int = 32  # groups of tries over which that share is taken
    replay: float = 0.0  # share of a round's problems drawn from those last solved in some tries and not in others


def check_curriculum(config: CurriculumConfig) -> None:
    """Raise `UserError` for values that make no sense."""
    for name in ("raise_at", "replay"):
        if not 0 <= getattr(config, name) <= 1:
            raise UserError(f"data.curriculum.{name}={getattr(config, name)}: must be between 0 and 1")
    if config.groups < 1:
        raise UserError(f"data.curriculum.groups={config.groups}: must be at least 1")


@dataclass
class RewardModelConfig:
    """Reward models, for what no verifier can score: a response's reward is then what they say of it."""

    models: tuple[str, ...] = ()  # folders of runs, or experiment files, which are trained before (once, in the cache)
    doubt: float = 0.0  # what is taken off for each standard deviation among several models
    clip: float = 0.0  # rewards are counted up to so many standard deviations of ordinary responses; 0: all of them


@dataclass
class PracticeConfig:
    """Where the batches of reinforcement learning come from: the model writes them itself."""

    problems: ProblemsConfig = field(default_factory=ProblemsConfig)
    prompts: int = 16  # problems a round
    samples: int = 8  # rollouts of each
    tokens: int = 96  # of an answer, at most
    temperature: float = 1.0  # 1 samples the policy itself; anything else is corrected for by importance weights
    updates: int = 1  # on the rollouts of a round, each over all of them
    behind: bool = False  # the next round is sampled while this one is trained: one step behind
    refill: int = 0  # more rounds of sampling, at most, to replace groups that are all right or all wrong
    cut_off: str = "zero"  # a rollout that did not end: zero (reward 0) | masked (not trained) | scored (as any other)
    reward: RewardConfig = field(default_factory=RewardConfig)
    taste: RewardModelConfig = field(default_factory=RewardModelConfig)
    kl_target: float = 0.0  # nats a response: objective.kl is raised while KL is above it, else lowered; 0: it is fixed
    kl_budget: float = 0.0  # nats a response: the run ends when KL to the reference reaches it; 0: never
    curriculum: CurriculumConfig = field(default_factory=CurriculumConfig)
    calls: int = 0  # tool calls allowed in an answer; 0: no tools
    chances: int = 1  # answers to a problem: the user tells who is wrong, who may answer again; the last one counts
    teacher: str = ""  # a run or an experiment file: whose probabilities are learnt (objective.advantage=teacher)
    reference: bool = True  # keep the model the run began with, to tell how far the policy has gone
    sampler: str = ""  # what the engine computes with, if not the policy as it is: bfloat16 | int8 | int4
    slots: int = 64  # rollouts written at the same time
    passes: int = 4  # samples of each held-out problem at an evaluation, for pass@k
    constant: int = 20  # steps with one and the same reward after which to warn
    verify_seconds: float = 5.0  # for one verdict
    mesh: MeshConfig = field(default_factory=lambda: MeshConfig(data=0))  # of sampling; data=0: the mesh of training


def check_practice(config: PracticeConfig) -> None:
    """Raise `UserError` for values that make no sense."""
    check_problems(config.problems)
    check_rewards(config.reward)
    check_curriculum(config.curriculum)
    for name in ("prompts", "samples", "tokens", "updates", "slots", "passes", "constant", "chances"):
        if getattr(config, name) < 1:
            raise UserError(f"data.{name}={getattr(config, name)}: must be at least 1")
    for name in ("clip", "doubt"):
        if not getattr(config.taste, name) >= 0:
            raise UserError(f"data.taste.{name}={getattr(config.taste, name)}: must not be negative")
    if config.taste.models and config.cut_off == "zero":
        raise UserError(
            "data.cut_off=zero: 0 is no bad reward beside a reward model's; set data.cut_off=scored, and data.reward.broken for "
            "what a rollout that did not end shall cost"
        )
    if config.taste.models and config.chances > 1:
        raise UserError("data.chances: no answer is wrong where reward models judge; set data.chances=1")
    if config.taste.models and (config.curriculum.raise_at or config.curriculum.replay):
        raise UserError(
            "data.curriculum: it goes by what is right, which reward models cannot say; leave it at its defaults"
        )
    for name in ("kl_target", "kl_budget"):
        if not getattr(config, name) >= 0:
            raise UserError(f"data.{name}={getattr(config, name)}: must not be negative")
        if getattr(config, name) and not config.reference:
            raise UserError(f"data.{name}: KL is measured against the reference: set data.reference=true")
    for name in ("refill", "calls"):
        if getattr(config, name) < 0:
            raise UserError(f"data.{name}={getattr(config, name)}: must not be negative")
    for name, choices in (("cut_off", CUT_OFF), ("sampler", SAMPLERS)):
        if getattr(config, name) not in choices:
            shown = ", ".join(choice or "''" for choice in choices)
            raise UserError(f"data.{name}={getattr(config, name)!r}: choose one of {shown}")
    for name in ("temperature", "verify_seconds"):
        if not getattr(config, name) > 0:
            raise UserError(f"data.{name}={getattr(config, name)}: must be above 0")
