"""What an experiment file returns: one typed config, made of small ones that each stand beside what they configure."""

from dataclasses import dataclass, field

from data_pipeline.conversations import ConversationsConfig, check_conversations
from data_pipeline.errors import UserError
from data_pipeline.prepare import DocumentsConfig, check_documents
from data_pipeline.rankings import RankingsConfig, check_rankings
from data_pipeline.school.worked_examples import TOPICS
from lm.lora import LoraConfig, check_lora
from lm.model.config import ModelConfig, check_model
from lm.objectives.next_token import NextTokenConfig, check_next_token
from lm.objectives.policy_gradient import PolicyGradientConfig, check_policy_gradient
from lm.objectives.preference import PreferenceConfig, check_preference
from lm.optimizer import OptimizerConfig, check_optimizer
from lm.practice import PracticeConfig, check_practice
from lm.sharding import MeshConfig


@dataclass
class EvaluateConfig:
    """When and on how much held-out data the validation loss is measured."""

    every: int = 200  # steps; it is also measured at the end; 0: only then
    batches: int = 0  # of batch_size rows; 0: all that is held out
    patience: int = 0  # the run ends when so many in a row were no better than the best one; 0: it goes on


@dataclass
class SampleConfig:
    """Texts that the model writes now and then, always with the same random numbers."""

    every: int = 200  # steps; the first and the last step have samples too; 0: only those
    prompts: tuple[str, ...] = ("",)  # none: no samples; of an assistant, what the user says
    tokens: int = 48  # at most, of each
    temperature: float = 0.8


@dataclass
class QuestionsConfig:
    """Questions of the school that the assistant answers at each validation, greedily, with its tools."""

    topics: tuple[str, ...] = ()  # see data_pipeline/school/worked_examples.py
    count: int = 100  # of each kind of a topic, at most
    tokens: int = 96  # of an answer, at most


@dataclass
class CheckpointConfig:
    """When checkpoints are saved (also before each validation, and at the end) and how many are kept."""

    every: int = 200  # steps; 0: only before validation and at the end
    keep_last: int = 2  # the one with the lowest validation loss is kept besides


@dataclass
class Experiment:
    """A run, but for the hardware it is run on. `mesh` may change between restarts; nothing else may."""

    steps: int = 1000
    seed: int = 0
    batch_size: int = 16
    """Rows of model.context_length tokens in an update, over all devices; rollouts fill a multiple of it."""
    accumulate: int = 1  # parts that the batch is taken in, to save memory
    start_from: str = ""
    """Whose parameters are the first: a run's folder, a converted release's, or an experiment file, which is then trained
    before (once, in the cache). "": random ones."""
    model: ModelConfig = field(default_factory=ModelConfig)
    data: DocumentsConfig | ConversationsConfig | PracticeConfig | RankingsConfig = field(
        default_factory=DocumentsConfig
    )
    """What is read, and so which stage this is: documents (pretraining), conversations (finetuning), what the model itself
    writes when it practises problems (reinforcement learning), or rankings (reward models, and policies by DPO)."""
    objective: NextTokenConfig | PolicyGradientConfig | PreferenceConfig = field(default_factory=NextTokenConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    lora: LoraConfig = field(default_factory=LoraConfig)  # adapters alone are trained, on the model of start_from
    evaluate: EvaluateConfig = field(default_factory=EvaluateConfig)
    sample: SampleConfig = field(default_factory=SampleConfig)
    questions: QuestionsConfig = field(default_factory=QuestionsConfig)
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)
    mesh: MeshConfig = field(default_factory=MeshConfig)


def check_experiment(config: Experiment) -> None:
    """Raise `UserError` for the first value that makes no sense. Called once, after flags have had their say."""
    for name in ("steps", "batch_size", "accumulate"):
        if getattr(config, name) < 1:
            raise UserError(f"{name}={getattr(config, name)}: must be at least 1")
    if not 0 <= config.seed < 2**32:
        raise UserError(f"seed={config.seed}: must be at least 0 and below 2^32")
    if config.batch_size % config.accumulate:
        raise UserError(f"batch_size={config.batch_size} does not divide by accumulate={config.accumulate}")
    for name in (
        "evaluate.every",
        "evaluate.batches",
        "evaluate.patience",
        "sample.every",
        "sample.tokens",
        "checkpoint.every",
    ):
        group, key = name.split(".")
        if getattr(getattr(config, group), key) < 0:
            raise UserError(f"{name}={getattr(getattr(config, group), key)}: must not be negative")
    if config.checkpoint.keep_last < 1:
        raise UserError(f"checkpoint.keep_last={config.checkpoint.keep_last}: must be at least 1")
    if not config.sample.temperature >= 0:
        raise UserError(f"sample.temperature={config.sample.temperature}: must not be negative")
    check_model(config.model)
    check_lora(config.lora)
    if config.lora.rank and not config.start_from:
        raise UserError("lora.rank: adapters need a model to adapt; name it with start_from")
    if isinstance(config.data, ConversationsConfig):
        check_conversations(config.data)
        _check_questions(config.questions)
    elif config.questions.topics:
        raise UserError("questions.topics: they are asked in finetuning alone")
    elif isinstance(config.data, DocumentsConfig):
        check_documents(config.data)
    elif isinstance(config.data, RankingsConfig):
        check_rankings(config.data)
        if not config.start_from:
            raise UserError(
                "start_from is missing: only a model that answers can learn to judge answers; name a finetuned run"
            )
    else:
        check_practice(config.data)
        if not config.start_from:
            raise UserError("start_from is missing: only a model that answers can practise; name a finetuned run")
    _check_objective(config)
    check_optimizer(config.optimizer, config.steps)


def _check_objective(config: Experiment) -> None:
    """That it belongs to the data, and has the head that it needs."""
    expected = {PracticeConfig: PolicyGradientConfig, RankingsConfig: PreferenceConfig}.get(
        type(config.data), NextTokenConfig
    )
    if not isinstance(config.objective, expected):
        raise UserError(
            "objective: problems are practised with a PolicyGradientConfig, rankings learnt with a PreferenceConfig, and all "
            "else with a NextTokenConfig"
        )
    if isinstance(config.objective, NextTokenConfig):
        check_next_token(config.objective)
    elif isinstance(config.objective, PreferenceConfig):
        check_preference(config.objective)
        if (config.objective.scores == "head") != config.model.scalar_head:
            raise UserError("objective.scores=head and model.scalar_head=true need each other: set both or neither")
    else:
        check_policy_gradient(config.objective)
        assert isinstance(config.data, PracticeConfig)
        if config.objective.kl and not config.data.reference:
            raise UserError("objective.kl: it is measured against the reference: set data.reference=true")
        if config.data.kl_target and not (config.objective.kl and config.objective.kl_form == "reward_k1"):
            raise UserError(
                "data.kl_target: it moves objective.kl, which must be above 0, with objective.kl_form=reward_k1"
            )
        if (config.objective.advantage == "gae") != config.model.scalar_head:
            raise UserError("objective.advantage=gae and model.scalar_head=true need each other: set both or neither")
        if (config.objective.advantage == "teacher") != bool(config.data.teacher):
            raise UserError("objective.advantage=teacher and data.teacher need each other: set both or neither")


def _check_questions(config: QuestionsConfig) -> None:
    if unknown := [topic for topic in config.topics if topic not in TOPICS]:
        raise UserError(f"questions.topics: the school has no topic {unknown[0]!r}: choose {', '.join(TOPICS)}")
    for name in ("count", "tokens"):
        if getattr(config, name) < 1:
            raise UserError(f"questions.{name}={getattr(config, name)}: must be at least 1")
