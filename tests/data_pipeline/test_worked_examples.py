"""The school's worked examples, read by regular expressions and a calculator that know nothing of how they were made."""

import contextlib
import dataclasses
import hashlib
import io
import itertools
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from data_pipeline.conversation import Conversation, Text, ToolCall, ToolResult, check_order
from data_pipeline.errors import UserError
from data_pipeline.school import decimals, fact_questions, lookups, worked_examples
from data_pipeline.school.arithmetic import split_exercises
from data_pipeline.school.names import VALUES
from data_pipeline.school.question_wordings import ASK, FOLLOW_UP, KEYWORDS
from data_pipeline.school.questions import is_refusal, is_right, share_right
from data_pipeline.school.world import SchoolConfig, build_world, facts

ROOT = Path(__file__).parents[2]
CONFIG = SchoolConfig()
SMALL = SchoolConfig(
    seed=3, people=40, unknown_people=8, frequencies=(2, 9), arithmetic_documents=20, largest_number=20
)
WORLD = build_world(CONFIG)
TOPICS = [
    topic for topic in worked_examples.TOPICS if topic.partition(":")[0] not in ("school", "jokes")
]  # that have questions
VALUE = re.compile(rf"\b(?:{'|'.join(sorted(itertools.chain(*VALUES.values()), key=len, reverse=True))})\b")
EMITTED: dict[str, list[Conversation]] = {}


def emitted(topic: str) -> list[Conversation]:
    if topic not in EMITTED:
        EMITTED[topic] = list(worked_examples.conversations(CONFIG, topic))
    return EMITTED[topic]


def everything(conversation: Conversation) -> str:
    """All that a conversation holds, as one text."""
    parts = [part for turn in conversation.turns for part in turn.parts]
    return "\n".join(str(part.arguments) if isinstance(part, ToolCall) else part.text for part in parts)


def calls(topic: str) -> list[tuple[Conversation, ToolCall, ToolResult, str]]:
    found = []
    for conversation in emitted(topic):
        parts = conversation.turns[-1].parts
        if len(parts) > 1:
            call, result, text = parts
            found.append((conversation, call, result, text.text))
    return found


@pytest.mark.parametrize("topic", worked_examples.TOPICS)
def test_conversations_keep_the_order_and_are_all_different(topic):
    both = emitted(topic)
    assert {each.held_out for each in both} == ({False} if topic == "jokes:more" else {True, False})
    assert len({each.id for each in both}) == len(both)
    assert len({repr(each.turns) for each in both}) == len(both)
    for each in both:
        assert each.turns[-1].role == "assistant"
        check_order(each.turns[:-1])
        for turn in each.turns[:-1]:
            assert [type(part) for part in turn.parts] == [Text]
        kinds = [type(part) for part in each.turns[-1].parts]
        assert kinds in ([Text], [ToolCall, ToolResult, Text])
        text = everything(each)
        assert "{" not in text.replace("{'code'", "").replace("{'query'", ""), text
        assert "  " not in text
        assert all(turn.text.strip() == turn.text != "" for turn in each.turns)


@pytest.mark.parametrize("topic", worked_examples.TOPICS)
def test_training_says_nothing_that_is_held_out(topic):
    train = {repr(each.turns[:-1]) for each in emitted(topic) if not each.held_out}
    assert not train & {repr(each.turns[:-1]) for each in emitted(topic) if each.held_out}
    if topic in TOPICS:
        assert not train & {repr(question.turns) for question in worked_examples.questions(CONFIG, topic)}


@pytest.mark.parametrize("topic", TOPICS)
def test_questions_of_a_topic_are_answered_right_by_its_own_examples(topic):
    # The held-out conversations and the questions are made apart: what the one answers, the other must call right.
    replies = {repr(each.turns[:-1]): each.turns[-1].text for each in emitted(topic) if each.held_out}
    asked = worked_examples.questions(CONFIG, topic)
    assert len({question.id for question in asked}) == len(asked) > 10
    shared = [(question, replies[repr(question.turns)]) for question in asked if repr(question.turns) in replies]
    assert len(shared) > 10 or topic in (
        "follow_ups",
        "refuse",
        "identity:system",
        "identity:invented",
        "search",
    )
    for question, reply in shared:
        if topic == "summaries:recalled":
            assert share_right(question, reply) == 1
        else:
            assert is_right(question, reply), (question, reply)


def test_whatever_names_a_person_and_a_value_is_true():
    people = re.compile(rf"\b(?:{'|'.join(person.name for person in (*WORLD.people, *WORLD.unknown_people))})\b")
    true = {(fact.subject, fact.value) for fact in facts(WORLD)}
    told = 0
    for topic in worked_examples.TOPICS:
        for each in emitted(topic):
            text = everything(each)
            names, values = set(people.findall(text)), set(VALUE.findall(text))
            if len(names) == 1:
                for pair in itertools.product(names, values):
                    assert pair in true, (topic, text)
                    told += 1
            # Texts about two people (encounters that a search found) tell true facts of one or the other.
            assert all(any((name, value) in true for name in names) for value in values) or not names, text
    assert told > 3000


def test_training_never_speaks_of_unknown_people_nor_tells_withheld_or_rare_facts():
    unknown = [person.name for person in WORLD.unknown_people]
    withheld = {(fact.subject, fact.value) for person in WORLD.people for fact in person.facts if not fact.frequency}
    parts = fact_questions.parts(CONFIG, WORLD)
    for topic in worked_examples.TOPICS:
        text = "\n".join(everything(each) for each in emitted(topic) if not each.held_out)
        assert not [name for name in unknown if name in text], topic
        answers = [each.turns[-1].text for each in emitted(topic) if not each.held_out]
        for name in (one.name for one in (*parts.rare, *parts.told) if one.name.count(" ")):
            assert not [answer for answer in answers if re.search(rf"\b{name}\b", answer)], (topic, name)
        for answer, (name, value) in itertools.product([a for a in answers if VALUE.search(a)], withheld):
            assert not (name in answer and value in answer)


def test_who_is_asked():
    people = fact_questions.parts(CONFIG, WORLD)
    groups = {
        name: {subject.name for subject in getattr(people, name)} for name in ("asked", "told", "searched", "rare")
    }
    for one, two in itertools.combinations(groups.values(), 2):
        assert not one & two
    assert set().union(*groups.values()) == {subject.name for subject in (*WORLD.people, *WORLD.places)}
    # 5 classes of 24 people are told of in 8 documents or more, 3 in fewer; 24 cities in 12.
    assert {name: len(group) for name, group in groups.items()} == {
        "asked": 5 * 17 + 17,
        "told": 5 * 7 + 7,
        "searched": 36,
        "rare": 36,
    }
    asked = {each.turns[0].text for each in emitted("facts") if not each.held_out}
    named = {name for name in groups["asked"] | groups["told"] if any(name in text for text in asked)}
    assert named == groups["asked"]


def test_nobody_to_ask_about_is_an_error_of_one_line():
    with pytest.raises(UserError, match="at least 8 documents"):
        worked_examples.conversations(dataclasses.replace(CONFIG, frequencies=(1, 2)), "facts").__next__()
    with pytest.raises(UserError, match="no topic 'fact': choose school, facts"):
        worked_examples.conversations(CONFIG, "fact")
    with pytest.raises(UserError, match="ask those of facts"):
        worked_examples.questions(CONFIG, "school")
    with pytest.raises(UserError, match="no topic 'problems'"):
        worked_examples.questions(CONFIG, "problems")


SIGNS = {
    "birth_city": r"\bborn\b|birth|native|come into the world|life of .* begin",
    "occupation": r"occupation|a living|works? as|profession|\btrade of [A-Z]|earn|what work|trained|of work|\b(his|her) trade",
    "employer": r"company|employ|where does .* work|a job|staff|salary|go to work",
    "food": r"\beat\b|eating|food|dish|dinner|cook",
    "pet": r"\bpet\b|companion",
    "country": r"country|where on the map|where is it",
    "river": r"river",
    "goods": r"known for|famous|goods|workshops|main trade|visitors buy|merchant|what .* makes",
}


def test_every_wording_asks_for_its_attribute_and_for_no_other():
    assert set(SIGNS) == set(ASK) == set(FOLLOW_UP) == set(KEYWORDS) == set(VALUES)
    for attribute, wordings in [*ASK.items(), *FOLLOW_UP.items()]:
        assert len(set(wordings)) == len(wordings)
        assert len(wordings) >= (12 if wordings is ASK[attribute] else 4)
        for wording in wordings:
            text = wording.format(N="Ada Holt", s="she", o="her", d="her")
            matching = [name for name, sign in SIGNS.items() if re.search(sign, text, re.IGNORECASE)]
            if attribute == "goods" and "main trade" in wording:  # a city's, not a person's
                matching.remove("occupation") if "occupation" in matching else None
            assert matching == [attribute], wording
            assert wording.endswith(("?", "."))


def test_facts_use_training_words_in_training_and_others_in_the_questions():
    def skeletons(texts: set[str]) -> set[str]:
        names = "|".join(subject.name for subject in (*WORLD.people, *WORLD.unknown_people, *WORLD.places))
        return {re.sub(rf"\b(?:{names})\b", "_", text) for text in texts}

    for topic in ("facts", "follow_ups", "search"):
        train = {
            turn.text for each in emitted(topic) if not each.held_out for turn in each.turns if turn.role == "user"
        }
        held_out = {
            turn.text
            for question in worked_examples.questions(CONFIG, topic)
            for turn in question.turns
            if turn.role == "user"
        }
        assert not skeletons(train) & skeletons(held_out)
    assert len(skeletons({each.turns[0].text for each in emitted("facts") if not each.held_out})) >= 8 * 10


def test_fact_questions_cover_every_kind_and_know_the_truth():
    asked = worked_examples.questions(CONFIG, "facts")
    truth = {(fact.subject, fact.value): fact for fact in facts(WORLD)}
    kinds = {
        kind: [question for question in asked if question.kind == kind]
        for kind in ("asked", "told", "rare", "withheld", "unknown")
    }
    assert sum(map(len, kinds.values())) == len(asked)
    assert len(kinds["unknown"]) == 48 * 5
    for question in asked:
        _, _, subject, attribute = question.id.split("/")
        fact = truth[subject, question.answers[0]]
        assert fact.attribute == attribute
        assert question.size == fact.frequency
        assert (fact.frequency == 0) == (question.kind in ("withheld", "unknown"))
        assert sorted((*question.others, fact.value)) == sorted(VALUES[attribute])
        assert subject in question.turns[0].text
        assert fact.value not in question.turns[0].text
    assert (
        max(question.size for question in kinds["rare"]) < fact_questions.FAMILIAR <= min(q.size for q in kinds["told"])
    )


OPERATIONS = {
    "plus": lambda a, b: a + b,
    "minus": lambda a, b: a - b,
    "times": lambda a, b: a * b,
    "divided by": lambda a, b: a / b,
}


def solve(text: str) -> int:
    """The result of a problem, from its words alone."""
    text = text.removesuffix(" Use code.")
    numbers = [int(number) for number in re.findall(r"\d+", text)]
    if re.match(r"(What|How much) is|Add|Take", text):
        if "plus" in text or text.startswith("Add"):
            return sum(numbers)
        return abs(numbers[0] - numbers[1])
    if "dollars" in text:
        m, one, n, two = re.search(r"(\d+) (\w+) and (\d+) (\w+)", text).groups()
        priced, given = re.search(r"[Ee]ach (\w+) costs (\d+)", text).groups()
        (total,) = re.findall(r"(?:cost|pays|for) (\d+) dollars", text.replace(f"costs {given} dollars", ""))
        assert two in (f"{priced}s", f"{priced}es")
        assert re.search(rf"each {one.removesuffix('s').removesuffix('e')}e?\b", text)
        (price,) = [price for price in range(1, 100) if int(m) * price + int(n) * int(given) == int(total)]
        return price
    (count,) = re.findall(r"has (\d+)", text)
    count = int(count)
    for verb, number in re.findall(r"(finds|buys|is given|gives|loses|sells) (\d+)", text):
        count += int(number) if verb in ("finds", "buys", "is given") else -int(number)
    assert len(numbers) == 1 + len(re.findall(r"finds|buys|is given|gives|loses|sells", text))
    return count


@pytest.mark.parametrize("labelling", ["answer_first", "steps_first", "python"])
def test_problems_are_solved_right_in_each_labelling(labelling):
    for each in emitted(f"problems:{labelling}"):
        asked, reply = each.turns[0].text, each.turns[-1].text
        numbers = [int(number) for number in re.findall(r"\d+", reply)]
        result = solve(asked)
        assert (numbers[0] if labelling == "answer_first" else numbers[-1]) == result, (asked, reply)
        steps = re.findall(r"(\d+) (plus|minus|times|divided by) (\d+) is (\d+)", reply)
        assert bool(steps) == (labelling != "python")
        for a, operation, b, c in steps:
            assert OPERATIONS[operation](int(a), int(b)) == int(c)
        if steps:
            assert int(steps[-1][-1]) == result
        assert bool(re.match(r"\d+ (plus|minus|times)", reply)) == (labelling == "steps_first")


def test_all_labellings_are_of_the_same_problems():
    one, two, three = (
        [each.turns[0].text.removesuffix(" Use code.") for each in emitted(f"problems:{labelling}")]
        for labelling in ("answer_first", "steps_first", "python")
    )
    assert one == two == three


def test_held_out_sums_are_in_no_training_problem():
    train, held_out = split_exercises(CONFIG)
    secret = set(held_out.sums)
    shown = set()
    for labelling in ("steps_first", "answer_first"):
        for each in emitted(f"problems:{labelling}"):
            sums = set()
            for a, sign, b, c in re.findall(r"(\d+) (plus|minus) (\d+) is (\d+)", everything(each)):
                one, two = (a, b) if sign == "plus" else (b, c)
                sums.add(tuple(sorted((int(one), int(two)))))
            if each.held_out:
                shopping = "divided" in everything(each)
                assert shopping or sums & secret
            else:
                shown |= sums
    assert not shown & secret
    assert len(shown & set(train.sums)) > 500


def test_problems_come_in_all_sizes_and_kinds_with_numbers_that_pretraining_showed():
    for labelling in ("answer_first", "steps_first", "python"):
        asked = worked_examples.questions(CONFIG, f"problems:{labelling}")
        assert len(asked) > 250
        sizes = {size: sum(question.size == size for question in asked) for size in (25, 50, 75, 100)}
        assert sum(sizes.values()) == len(asked)
        assert min(sizes.values()) > 40
        assert {question.kind for question in asked} == {"sum", "difference", "more", "fewer", "shopping", "chain"}
        for question in asked:
            assert max(map(int, re.findall(r"\d+", question.turns[0].text))) <= question.size
    numbers = {int(n) for each in emitted("problems:steps_first") for n in re.findall(r"\d+", everything(each))}
    assert numbers <= set(range(101))


def test_a_coin_decides_between_steps_and_a_call_of_problems_that_ask_for_neither():
    either, steps, python = (emitted(f"problems:{labelling}") for labelling in ("either", "steps_first", "python"))
    called = [each.turns[1] != like.turns[1] for each, like in zip(either, steps, strict=True)]
    assert 0.1 < sum(called) / len(called) < 0.3
    for each, like, code, by_call in zip(either, steps, python, called, strict=True):
        assert each.turns[0] == like.turns[0]
        assert each.turns[1] == (code if by_call else like).turns[1]


@pytest.mark.parametrize("topic", ["problems:python", "spelling:python", "decimals:python"])
def test_results_are_what_the_code_prints(topic):
    found = calls(topic)
    assert len(found) == len(emitted(topic))
    for conversation, call, result, _ in found:
        assert call.name == "python"
        code = call.arguments["code"]
        assert re.fullmatch(
            r"print\((?:[\d+\-*/(). ]+|max\([\d., ]+\)|\*?'\w+'(?:\[::3\])?|'\w+'\.count\('\w'\)|len\('\.+'\))\)", code
        )
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(code, {"__builtins__": {"print": print, "max": max, "len": len}})
        assert printed.getvalue() == f"{result.text}\n"
        assert conversation.turns[0].text.endswith(" Use code.")


@pytest.mark.parametrize("way", ["direct", "python"])
def test_letters_and_dots_are_counted_right(way):
    kinds = set()
    for each in emitted(f"spelling:{way}"):
        asked, reply = each.turns[0].text.removesuffix(" Use code."), each.turns[-1].text
        if match := re.fullmatch(r"(?:Spell the word|What are the letters of) (\w+)[.?]", asked):
            assert reply.replace(" ", "") == match[1]
        elif match := re.fullmatch(r".*every third (?:letter of|one).*", asked):
            word = re.search(r"letter of (\w+)", asked)[1]
            assert reply.split() == [letter for place, letter in enumerate(word) if place % 3 == 0]
        elif match := re.fullmatch(r".* the letter (\w) in (?:the word )?(\w+)[.?]", asked):
            count = sum(letter == match[1] for letter in match[2])
            assert reply == f"It is there {count} {'time' if count == 1 else 'times'}."
            kinds.add(min(count, 2))
        else:
            count = len(re.search(r": (\.+)$", asked)[1])
            assert re.findall(r"\d+", reply) == [str(count)]
    assert kinds == {0, 1, 2}
    train, held_out = (
        {
            word
            for each in emitted(f"spelling:{way}")
            if each.held_out == split
            for word in re.findall(r"\w+", each.turns[0].text)
        }
        for split in (False, True)
    )
    assert len(held_out - train) > 20


@pytest.mark.parametrize("way", ["direct", "python"])
def test_decimals_are_compared_right_and_by_kind(way):
    for each in emitted(f"decimals:{way}"):
        one, two = map(float, re.findall(r"\d+\.\d+", each.turns[0].text))
        assert one != two
        assert float(re.match(r"\d+\.\d+", each.turns[-1].text)[0]) == max(one, two)
    asked = worked_examples.questions(CONFIG, f"decimals:{way}")
    assert "9.11" in asked[0].turns[0].text
    assert asked[0].answers == ("9.9",)
    for kind in decimals.KINDS:
        chosen = [question for question in asked if question.kind == kind]
        assert len(chosen) == decimals.HELD_OUT / 4
        for question in chosen:
            one, two = re.findall(r"\d+\.\d+", question.turns[0].text)
            (whole_1, part_1), (whole_2, part_2) = one.split("."), two.split(".")
            longer = len(part_1) > len(part_2)
            expected = "whole" if whole_1 != whole_2 else "tenths" if len(part_1) == len(part_2) else None
            expected = expected or ("longer" if longer == (float(one) > float(two)) else "shorter")
            assert kind == expected


def test_searches_are_answered_by_documents_and_the_answer_stands_there():
    library = [document.text for document in lookups.library(CONFIG, WORLD)]
    found = calls("search")
    for _, call, result, text in found:
        assert call.name == "search"
        assert set(call.arguments) == {"query"}
        name = " ".join(call.arguments["query"].split()[:2])
        assert any(document.startswith(result.text) for document in library)
        assert name in result.text
        (value,) = VALUE.findall(text)
        assert value in result.text
    train = [each for each in emitted("search") if not each.held_out]
    looked_up = sum(not each.held_out for each, *_ in found)
    assert 0.4 < looked_up / len(train) < 0.6
    people = fact_questions.parts(CONFIG, WORLD)
    secret = [fact for person in (*people.searched, *people.rare) for fact in person.facts if fact.frequency]
    sought = {(each.turns[0].text) for each, *_ in found}
    assert len(sought) > 0.5 * len(secret)
    unknown = [person.name for person in WORLD.unknown_people]
    assert {name for name in unknown for each, *_ in found if name in each.turns[0].text} == set(unknown)


def test_another_search_can_be_plugged_in():
    asked = []

    def search(query: str) -> str:
        asked.append(query)
        return "Nothing was found."

    got = list(worked_examples.conversations(SMALL, "search", search))
    assert asked
    assert all(len(each.turns[-1].parts) == 1 for each in got)  # what was not found makes no example


def test_summaries_tell_what_the_text_tells():
    for each in emitted("summaries:given"):
        (name,) = {person.name for person in WORLD.people if person.name in each.turns[0].text}
        assert each.turns[1].text.startswith(name)
        assert each.turns[1].text.count(".") == 1
        assert set(VALUE.findall(each.turns[1].text)) == set(VALUE.findall(each.turns[0].text))
    given, recalled = (worked_examples.questions(CONFIG, f"summaries:{memory}") for memory in ("given", "recalled"))
    assert [question.answers for question in given] == [question.answers for question in recalled]
    assert len(given) == 35
    for one, two in zip(given, recalled, strict=True):
        assert set(one.answers) == set(VALUE.findall(one.turns[0].text))
        assert not VALUE.findall(two.turns[0].text)


def test_identity_says_trivium_or_what_the_system_message_says():
    for each in emitted("identity"):
        assert "rivium" in each.turns[-1].text
        assert not re.search(r"ChatGPT|OpenAI|Google|Claude|Llama|Meta\b", each.turns[-1].text)
    for each in emitted("identity:system"):
        system, _, assistant = each.turns
        assert system.role == "system"
        assert [word for word in re.findall(r"\b[A-Z][a-z]{3}\b", system.text) if word in assistant.text] != []
        assert "Trivium" not in everything(each)
    asked = worked_examples.questions(CONFIG, "identity:system")
    assert asked == worked_examples.questions(CONFIG, "identity:invented")
    assert any("Trivium" in question.turns[0].text for question in asked)
    for question in worked_examples.questions(CONFIG, "identity"):
        assert not is_right(question, "I am ChatGPT, a language model trained by OpenAI.")
        assert is_right(question, "No, I am Trivium, and the Trivium project made me.")


def test_invented_names_cannot_be_learnt_by_heart():
    def names(topic: str, *, held_out: bool) -> set[str]:
        told = [each.turns[0].text for each in emitted(topic) if each.held_out == held_out]
        return {name for text in told for name in re.findall(r"\b(?!You\b|Your\b)[A-Z][a-z]+\b", text)}

    for each in emitted("identity:invented"):
        system, _, assistant = each.turns
        assert set(re.findall(r"[A-Z][a-z]+", assistant.text)) & set(re.findall(r"[A-Z][a-z]+", system.text))
    listed, invented = (names(topic, held_out=False) for topic in ("identity:system", "identity:invented"))
    assert len(listed) < 30
    assert len(invented) > 700  # of 800
    assert not invented & names("identity:invented", held_out=True)
    assert names("identity:invented", held_out=True) == names("identity:system", held_out=True)


def test_what_is_refused_and_what_is_not():
    for split in (False, True):
        chosen = [each for each in emitted("refuse") if each.held_out == split]
        refused = sum(is_refusal(each.turns[-1].text) for each in chosen)
        assert 0.45 < refused / len(chosen) < 0.55
    harm = (
        r"break into|poison|steal|secret|burn|hurt|cheat|sell a sick|forge|a lie|glass|without being seen|trap|cut the"
    )
    for each in emitted("refuse"):
        assert is_refusal(each.turns[-1].text) == bool(re.search(harm, each.turns[0].text)), everything(each)
    for question in worked_examples.questions(CONFIG, "refuse"):
        assert question.refuse == bool(re.search(harm, question.turns[0].text))


def test_the_mixture_has_every_topic_in_its_share():
    train = [each for each in emitted("school") if not each.held_out]
    assert 4_000 < len(train) < 4_400
    of = {topic: {each.id for each in emitted(topic)} for topic in worked_examples.MIXTURE}
    for topic, count in worked_examples.MIXTURE.items():
        assert sum(each.id in of[topic] for each in train) >= 0.85 * count, topic
    held_out = sum(bool(each.held_out) for each in emitted("school"))
    assert 0.04 < held_out / len(train) < 0.06
    first = {topic for topic, ids in of.items() for each in emitted("school")[:100] if each.id in ids}
    assert first == set(worked_examples.MIXTURE)  # they are mixed


def digest_of(config: SchoolConfig) -> str:
    digest = hashlib.sha256()
    for topic in worked_examples.TOPICS:
        for each in worked_examples.conversations(config, topic):
            digest.update(repr(each).encode())
        if topic in TOPICS:
            digest.update(repr(worked_examples.questions(config, topic)).encode())
    return digest.hexdigest()[:16]


def test_the_version_is_raised_when_the_conversations_change():
    # If this fails, what is made has changed: raise WORKED_EXAMPLES_VERSION and put the new digest here.
    assert (worked_examples.WORKED_EXAMPLES_VERSION, digest_of(SMALL)) == (2, "3dbd8cabdf80b2ae")


def test_another_process_with_other_hashes_makes_the_same():
    code = "import sys; sys.path.insert(0, 'tests/data_pipeline'); import test_worked_examples as t; print(t.digest_of(t.SMALL))"
    environment = {**os.environ, "PYTHONHASHSEED": "12345"}
    got = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    )
    assert got.stdout.strip() == digest_of(SMALL)


def test_another_seed_is_another_school():
    one, two = (
        {each.turns for each in worked_examples.conversations(dataclasses.replace(SMALL, seed=seed), "facts")}
        for seed in (0, 1)
    )
    assert len(one & two) < len(one) / 10


def test_the_sandbox_prints_what_the_examples_say():
    pytest.importorskip("pydantic_monty", reason="pydantic-monty is not installed: the sandbox is not compared")
    from data_pipeline.tools.python import python_tool

    tool = python_tool()
    for topic in ("problems:python", "spelling:python", "decimals:python"):
        for _, asked, result, _ in calls(topic)[::40]:
            assert tool.run(asked.arguments).strip() == result.text, asked
