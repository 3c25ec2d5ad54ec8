"""Probing finds exactly what a model with a known memory knows, asks nothing twice, and refuses only what is unknown."""

import json
import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from data_pipeline import resumable
from data_pipeline.chat_formats import read_conversations
from data_pipeline.document import Document
from data_pipeline.errors import UserError
from data_pipeline.judges import Claim, each, exact, normalised
from data_pipeline.probing import ProbingConfig, check, probe, verdict
from data_pipeline.questions import Question, questions_from_documents, questions_from_pairs
from data_pipeline.refusals import REFUSALS
from data_pipeline.resumable import read_rows
from data_pipeline.school.world import SchoolConfig, build_world, facts
from data_pipeline.set_aside import SetAside

CONFIG = ProbingConfig(samples=4, known_at_least=3, unknown_at_most=1)


class Model:
    """Answers question number n (from its text) right in n of k samples, and counts what it is asked."""

    def __init__(self, *, stop_after: int | None = None, hang_ups: int = 0) -> None:
        self.asked: Counter[str] = Counter()
        self.stop_after = stop_after
        self.hang_ups = hang_ups

    def __call__(self, questions: list[str], k: int) -> list[list[str]]:
        if self.hang_ups:
            self.hang_ups -= 1
            raise ConnectionError("hung up")
        if self.stop_after is not None and len(self.asked) >= self.stop_after:
            raise KeyboardInterrupt
        self.asked.update(questions)
        rights = [int(question.split()[-1]) % (k + 1) for question in questions]
        return [["It is gold."] * right + ["Lead"] * (k - right) for right in rights]


def questions(count: int = 10) -> list[Question]:
    return questions_from_pairs((f"What is number {n}", "Gold") for n in range(count))


def probed(folder: Path, ask: Any, asked: list[Question] | None = None, **changes: Any) -> dict[str, Any]:
    settings: dict[str, Any] = {"config": CONFIG, "model": "m", "judged_by": "normalised", "batch": 3} | changes
    return probe(folder, asked or questions(), ask, each(normalised), **settings)


def files(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.iterdir() if path.is_file()}


def test_finds_what_is_known(tmp_path: Path) -> None:
    summary = probed(tmp_path, Model())
    # n right of 4 for n = 0 ... 4, twice
    assert summary == {
        "questions": 10, "known": 4, "unsure": 2, "unknown": 4, "answers": 40, "right": 20, "unjudged": 0,
    }  # fmt: skip
    assert json.loads((tmp_path / "summary.json").read_text()) == summary
    verdicts = {row["id"]: row["verdict"] for row in read_rows(tmp_path / "verdicts.jsonl")}
    assert [verdicts[each.id] for each in questions()] == ["unknown", "unknown", "unsure", "known", "known"] * 2
    assert [row["answers"].count("It is gold.") for row in read_rows(tmp_path / "answers.jsonl")] == [0, 1, 2, 3, 4] * 2


def test_refuses_the_unknown_and_as_many_at_random(tmp_path: Path) -> None:
    many = questions(400)
    probed(tmp_path, Model(), many, batch=50)
    refusals = read_rows(tmp_path / "refusals.jsonl")
    control = read_rows(tmp_path / "random_refusals.jsonl")
    unknown = {each.question for each in many if int(each.question.split()[-1]) % 5 <= 1}
    assert {row["messages"][0]["content"] for row in refusals} == unknown
    assert len(refusals) == len(control) == len(unknown) == 160
    drawn = {row["messages"][0]["content"] for row in control}
    assert len(drawn) == 160
    assert 0.2 < len(drawn & unknown) / 160 < 0.6  # 0.4 of all are unknown
    for row in refusals + control:
        assert [message["role"] for message in row["messages"]] == ["user", "assistant"]
        assert row["messages"][1]["content"] in REFUSALS
    assert len({row["messages"][1]["content"] for row in refusals}) == len(REFUSALS)


def test_refusals_are_a_finetuning_source(tmp_path: Path) -> None:
    probed(tmp_path, Model())
    set_aside = SetAside(tmp_path / "aside.jsonl")
    read = list(read_conversations(str(tmp_path / "refusals.jsonl"), set_aside))
    assert [each.turns[0].text for each in read] == [f"What is number {n}" for n in (0, 1, 5, 6)]
    assert all([turn.role for turn in each.turns] == ["user", "assistant"] for each in read)
    assert all(each.turns[1].text in REFUSALS for each in read)
    assert not set_aside.counts


def test_a_killed_run_goes_on_and_asks_nothing_twice(tmp_path: Path) -> None:
    probed(tmp_path / "whole", Model())
    killed = Model(stop_after=5)
    with pytest.raises(KeyboardInterrupt):
        probed(tmp_path / "killed", killed)
    with (tmp_path / "killed" / "answers.jsonl").open("a") as file:
        file.write('{"id": "torn", "answ')
    after = Model()
    probed(tmp_path / "killed", after)
    assert max((killed.asked + after.asked).values()) == 1
    assert files(tmp_path / "killed") == files(tmp_path / "whole")
    done = Model()
    probed(tmp_path / "killed", done)
    assert not done.asked


def test_a_killed_judge_goes_on(tmp_path: Path) -> None:
    judged: Counter[str] = Counter()

    def judge(claims: list[Claim]) -> list[bool | None]:
        if len(judged) >= 6 and not again:
            raise KeyboardInterrupt
        judged.update({claim.question for claim in claims})
        return [None if claim.answer == "Lead" else True for claim in claims]

    again = False
    arguments: dict[str, Any] = {"config": CONFIG, "model": "m", "judged_by": "j", "batch": 3}
    with pytest.raises(KeyboardInterrupt):
        probe(tmp_path, questions(), Model(), judge, **arguments)
    again = True
    summary = probe(tmp_path, questions(), Model(stop_after=0), judge, **arguments)
    assert set(judged.values()) == {1}
    assert summary["unjudged"] == 20
    assert summary["known"] == 4


@pytest.mark.parametrize(
    ("change", "difference"),
    [
        ({"config": ProbingConfig(samples=5, known_at_least=3, unknown_at_most=1)}, "samples (4, now 5)"),
        ({"model": "other"}, 'model ("m", now "other")'),
        ({"judged_by": "exact"}, 'judged_by ("normalised", now "exact")'),
        ({"asked": questions(9)}, "questions ("),
    ],
)
def test_other_settings_in_the_same_folder_are_refused(tmp_path: Path, change: dict[str, Any], difference: str) -> None:
    probed(tmp_path, Model())
    before = files(tmp_path)
    with pytest.raises(UserError) as error:
        probed(tmp_path, Model(), **change)
    assert difference in str(error.value)
    assert "\n" not in str(error.value)
    assert files(tmp_path) == before


def test_the_size_of_a_batch_is_no_setting(tmp_path: Path) -> None:
    probed(tmp_path / "a", Model(), batch=1)
    probed(tmp_path / "b", Model(), batch=100)
    assert files(tmp_path / "a") == files(tmp_path / "b")


def test_a_model_out_of_reach_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resumable, "WAITS", (0.0, 0.0))
    assert probed(tmp_path / "a", Model(hang_ups=2))["questions"] == 10
    with pytest.raises(UserError, match="hung up: nothing that was answered is lost"):
        probed(tmp_path / "b", Model(hang_ups=3))


def test_a_model_with_too_few_answers_is_told(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="3 questions were asked 4 times"):
        probed(tmp_path, lambda asked, k: [["x"] * (k - 1) for _ in asked])


def test_garbage_is_unknown(tmp_path: Path) -> None:
    rng = random.Random(0)

    def garbage(asked: list[str], k: int) -> list[list[str]]:
        return [["".join(chr(rng.randrange(1, 0xE000)) for _ in range(30)) for _ in range(k)] for _ in asked]

    assert probed(tmp_path, garbage)["unknown"] == 10


@pytest.mark.parametrize(("low", "high", "k"), [(2, 2, 4), (-1, 2, 4), (0, 5, 4), (3, 2, 4), (0, 0, 0)])
def test_thresholds_that_make_no_sense_are_refused(low: int, high: int, k: int) -> None:
    with pytest.raises(UserError, match="must rise"):
        check(ProbingConfig(samples=k, known_at_least=high, unknown_at_most=low))


def test_every_count_has_one_verdict() -> None:
    assert [verdict(n, CONFIG) for n in range(5)] == ["unknown", "unknown", "unsure", "known", "known"]


def test_questions_that_come_twice_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="two questions have the id"):
        questions_from_pairs([("Who?", "Ada"), ("who", "Bruno")])
    with pytest.raises(UserError, match="no questions"):
        probe(tmp_path, [], Model(), each(exact), CONFIG, model="m", judged_by="exact")


def test_the_school_is_probed(tmp_path: Path) -> None:
    """A model that read the school knows what was told often, and nothing of people whom nobody told of."""
    world = build_world(SchoolConfig(people=24, unknown_people=6, frequencies=(1, 8)))
    told = {f"{fact.subject}: {fact.attribute}?": fact for fact in facts(world)}
    asked = questions_from_pairs((question, fact.value) for question, fact in told.items())

    def model(wanted: list[str], k: int) -> list[list[str]]:
        return [[told[text].value if told[text].frequency >= 8 else "guess"] * k for text in wanted]

    summary = probed(tmp_path, model, asked)
    assert summary["known"] == sum(fact.frequency >= 8 for fact in told.values())
    refused = {row["messages"][0]["content"] for row in read_rows(tmp_path / "refusals.jsonl")}
    assert refused == {question for question, fact in told.items() if fact.frequency < 8}


# Questions that a model writes.

DOCUMENTS = [
    Document("ada", "Ada Holt works as a baker. She was born in Port Elm in 1901."),
    Document("bruno", "Bruno Lockwood keeps a pet heron."),
    Document("cy", "Cy Vane loves waffles."),
]


def written_by(texts: dict[str, str]) -> Any:
    return lambda prompts: [next(text for key, text in texts.items() if key in prompt) for prompt in prompts]


def test_questions_are_read_out_of_what_a_model_wrote(tmp_path: Path) -> None:
    write = written_by({
        "Ada Holt": 'Sure!\n```json\n[{"question": "What is Ada Holt\'s trade?", "answer": "Baker"},\n'
        '{"question": "When was Ada Holt born?", "answer": 1901},\n'
        '{"question": "Where does Ada Holt live?", "answer": "Rome"},\n'
        '{"question": "x", "answer": "baker"}, {"question": "Is Ada Holt a baker?", "ans',
        "Bruno Lockwood": '{"questions": [{"question": "Which pet has Bruno Lockwood?", "answer": "a heron"},'
        ' {"question": "which pet has bruno lockwood", "answer": "heron"}, {"question": 5, "answer": null}]}',
        "Cy Vane": "I cannot do that. {}{{{ \\ud800",
    })  # fmt: skip
    summary = questions_from_documents(DOCUMENTS, write, tmp_path, model="w")
    found = [Question(**row) for row in read_rows(tmp_path / "questions.jsonl")]
    assert [(each.question, each.gold, each.document) for each in found] == [
        ("What is Ada Holt's trade?", "Baker", "ada"),
        ("When was Ada Holt born?", "1901", "ada"),
        ("Which pet has Bruno Lockwood?", "a heron", "bruno"),
    ]
    reasons = Counter(row["reason"] for row in read_rows(tmp_path / "set_aside.jsonl"))
    assert reasons == {
        "an answer that the document does not hold": 1,
        "a question shorter than 8 or longer than 300 characters": 1,
        "a question that came before": 1,
        "no question with an answer": 2,
        "nothing usable written": 1,
    }
    assert summary == {"documents": 3, "questions": 3, "set_aside": reasons}
    assert questions_from_documents(DOCUMENTS, written_by({}), tmp_path, model="w") == summary
    with pytest.raises(UserError, match=r"settings: documents \("):
        questions_from_documents(DOCUMENTS[:2], write, tmp_path, model="w")
    with pytest.raises(UserError, match=r'settings: count \(3, now 1\), model \("w", now "v"\);'):
        questions_from_documents(DOCUMENTS, write, tmp_path, model="v", count=1)


def test_no_more_questions_than_wanted(tmp_path: Path) -> None:
    five = json.dumps([{"question": f"Question number {n}?", "answer": "waffles"} for n in range(5)])
    questions_from_documents(DOCUMENTS[2:], written_by({"Cy": five}), tmp_path, model="w", count=2)
    assert [row["question"] for row in read_rows(tmp_path / "questions.jsonl")] == [
        "Question number 0?",
        "Question number 1?",
    ]


def test_documents_with_one_id_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="two documents have the id 'ada'"):
        questions_from_documents([DOCUMENTS[0]] * 2, written_by({}), tmp_path, model="w")
