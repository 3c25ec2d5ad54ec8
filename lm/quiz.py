"""Questions of the school, asked at each validation: does the assistant answer, stop by itself, and use its tools?"""

import random
from collections.abc import Callable

from data_pipeline.school.questions import Question, is_refusal, is_right, share_right
from data_pipeline.school.worked_examples import questions as questions_of
from data_pipeline.school.world import SchoolConfig
from data_pipeline.tokenizer import Tokenizer
from lm.assistant import Reply, Toolbox, replies, request
from lm.experiment import QuestionsConfig
from lm.inference.engine import Engine
from lm.inference.sampling import Sampling
from lm.model.transformer import Transformer

ROWS = 32  # answered at a time


def chosen(config: QuestionsConfig, school: SchoolConfig) -> dict[str, list[Question]]:
    """Questions by `topic.kind`, at most `count` of each, always the same ones."""
    groups: dict[str, list[Question]] = {}
    for topic in config.topics:
        for question in questions_of(school, topic):
            groups.setdefault(f"{topic}.{question.kind}", []).append(question)
    return {
        name: random.Random(f"quiz/{school.seed}/{name}").sample(group, min(config.count, len(group)))
        for name, group in groups.items()
    }


def make_quiz(
    config: QuestionsConfig, school: SchoolConfig, tokenizer: Tokenizer, toolbox: Toolbox | None
) -> Callable[[Transformer], dict[str, float]]:
    """A function model -> shares of each group of questions: `NAME.right`, `NAME.refused`, `NAME.called`, and, over all of
    them, `well_formed`: ended by itself with nothing broken.
    """
    groups = chosen(config, school)

    def quiz(model: Transformer) -> dict[str, float]:
        engine = Engine(model, slots=ROWS, symbols=tokenizer.vocab_size, steady=True)
        asked = [
            request(
                tokenizer, question.turns, config.tokens, Sampling(temperature=0.0), toolbox=toolbox, style="tokens"
            )
            for group in groups.values()
            for question in group
        ]
        answers = iter([reply for (reply,) in replies(engine, tokenizer, asked)])
        metrics: dict[str, float] = {}
        by_size: dict[str, list[float]] = {}  # of problems, over all kinds
        well_formed = 0
        for name, group in groups.items():
            pairs = [(question, next(answers)) for question in group]
            well_formed += sum(reply.well_formed for _, reply in pairs)
            metrics |= {f"{name}.{key}": value for key, value in shares(pairs).items()}
            topic = name.rpartition(".")[0]
            for question, reply in pairs if topic.startswith("problems") else ():
                by_size.setdefault(f"{topic}.up_to_{question.size}.right", []).append(score(question, reply))
        metrics |= {name: sum(scores) / len(scores) for name, scores in sorted(by_size.items())}
        return {"well_formed": well_formed / len(asked), **metrics}

    return quiz


def shares(pairs: list[tuple[Question, Reply]]) -> dict[str, float]:
    """What became of questions of one kind, as shares of them."""

    def mean(values: list[float]) -> float:
        return sum(values) / len(values)

    return {
        "right": mean([score(question, reply) for question, reply in pairs]),
        "refused": mean([is_refusal(reply.text) for _, reply in pairs]),
        "called": mean([bool(reply.calls) for _, reply in pairs]),
    }


def score(question: Question, reply: Reply) -> float:
    """1 or 0; of a summary, the share of it that is right."""
    if question.reading == "summary":
        return share_right(question, reply.text)
    return float(is_right(question, reply.text))
