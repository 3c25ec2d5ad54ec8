"""What a quiz says of replies, counted by hand; and asked of a real engine."""

from types import SimpleNamespace

import pytest
from scripted import a_tokenizer, scripted

from data_pipeline.conversation import BrokenCall, Text, ToolCall, ToolResult, Turn, said
from data_pipeline.protocol import prompt, render
from data_pipeline.school.questions import Question
from data_pipeline.school.world import SchoolConfig
from data_pipeline.tools.tool import Tool
from lm import quiz
from lm.assistant import Reply, Toolbox
from lm.experiment import QuestionsConfig
from lm.inference.requests import LENGTH, STOP, Completion, Written
from lm.quiz import chosen, make_quiz, shares

SCHOOL = SchoolConfig(people=20, arithmetic_documents=50)
REFUSES = "I do not know."


def ask(kind: str = "told", **more) -> Question:
    return Question("q", (said("user", "What is 2 plus 3?"),), kind, **more)


def reply(*parts, reason: str = STOP) -> Reply:
    """A reply of texts and other parts."""
    return Reply(tuple(Text(p) if isinstance(p, str) else p for p in parts), Completion(Written(), reason))


CALL = (ToolCall("python", {"code": "2 + 3"}), ToolResult("5"))
SUM = {"answers": ("5",), "reading": "last number"}


def test_shares_by_hand():
    """Five replies: 5, a call and 5, 6, a refusal, nothing."""
    question = ask(**SUM)
    replies = [reply("It is 5."), reply(*CALL, "It is 5."), reply("It is 6."), reply(REFUSES), reply()]
    assert shares([(question, each) for each in replies]) == {"right": 2 / 5, "refused": 1 / 5, "called": 1 / 5}


def test_only_words_to_the_user_count():
    """A right number in a tool's result, or in a call, is no answer."""
    assert shares([(ask(**SUM), reply(*CALL))]) == {"right": 0, "refused": 0, "called": 1}
    assert shares([(ask(**SUM), reply(BrokenCall("5", "the call was not finished")))])["called"] == 0


def test_where_a_refusal_is_right():
    assert shares([(ask(refuse=True), reply(REFUSES)), (ask(refuse=True), reply("It is 5."))])["right"] == 1 / 2
    assert shares([(ask(refuse=False), reply(REFUSES)), (ask(refuse=False), reply("It is 5."))])["right"] == 1 / 2


def test_a_summary_counts_in_part():
    question = next(q for q in chosen(QuestionsConfig(("summaries:given",)), SCHOOL)["summaries:given.given"])
    assert len(question.answers) > 1
    half = shares([(question, reply(question.answers[0] + "."))])["right"]
    assert half == pytest.approx(1 / len(question.answers))
    assert shares([(question, reply(" and ".join(question.answers) + "."))])["right"] == 1


def test_the_same_questions_every_time_and_not_more_than_asked_for():
    config = QuestionsConfig(("facts", "problems:python"), count=3)
    groups = chosen(config, SCHOOL)
    assert groups == chosen(config, SCHOOL)
    assert {name.partition(".")[0] for name in groups} == {"facts", "problems:python"}
    assert all(1 <= len(group) <= 3 for group in groups.values())
    for name, group in groups.items():
        assert {q.kind for q in group} == {name.partition(".")[2]}
        assert len({q.id for q in group}) == len(group)
    more = chosen(QuestionsConfig(config.topics, count=10**6), SCHOOL)
    assert all({q.id for q in group} <= {q.id for q in more[name]} for name, group in groups.items())


def test_well_formed_is_over_all_groups(monkeypatch):
    """Three questions of one group and one of another: of the four, two ended by themselves, whole and with words."""
    sums = [ask("sum", size=size, **SUM) for size in (9, 9, 20)]
    monkeypatch.setattr(quiz, "chosen", lambda *_: {"problems.sum": sums, "refuse.harmful": [ask(refuse=True)]})
    monkeypatch.setattr(quiz, "Engine", lambda *_, **__: None)
    monkeypatch.setattr(quiz, "request", lambda *_, **__: None)
    script = [reply("It is 5."), reply("It is 5", reason=LENGTH), reply(BrokenCall("", "")), reply(REFUSES)]
    monkeypatch.setattr(quiz, "replies", lambda *_: [[each] for each in script])
    found = make_quiz(QuestionsConfig(("problems:python",)), SCHOOL, SimpleNamespace(vocab_size=9), None)(None)
    assert found == {
        "well_formed": 2 / 4,
        "problems.sum.right": pytest.approx(2 / 3),
        "problems.sum.refused": 0,
        "problems.sum.called": 0,
        "problems.up_to_9.right": 1,
        "problems.up_to_20.right": 0,
        "refuse.harmful.right": 1,
        "refuse.harmful.refused": 1,
        "refuse.harmful.called": 0,
    }


def test_a_model_that_calls_and_answers(tmp_path, monkeypatch):
    """Through the engine: the answer is right only because the tool's result was put in."""
    ours = a_tokenizer(tmp_path)
    question = ask("sum", **SUM)
    monkeypatch.setattr(quiz, "chosen", lambda *_: {"lookup.sum": [question] * 2})
    turn = reply(*CALL, "It is 5.")
    script = render(ours, [*question.turns, Turn("assistant", turn.parts)]).tokens
    assert script[: len(prompt(ours, question.turns, "tokens").tokens)] == list(
        prompt(ours, question.turns, "tokens").tokens
    )
    tool = Tool("python", "", {"properties": {"code": {"type": "string"}}}, lambda _: "5")
    model = scripted(script, ours.vocab_size)
    found = make_quiz(QuestionsConfig(("problems:python",), tokens=200), SCHOOL, ours, Toolbox((tool,)))(model)
    assert found == {"well_formed": 1, "lookup.sum.right": 1, "lookup.sum.refused": 0, "lookup.sum.called": 1}
    short = make_quiz(QuestionsConfig(("problems:python",), tokens=3), SCHOOL, ours, None)(model)
    assert short == {"well_formed": 0, "lookup.sum.right": 0, "lookup.sum.refused": 0, "lookup.sum.called": 0}
