"""The judge of answers, on answers labelled by hand."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_pipeline.conversation import said
from data_pipeline.refusals import REFUSALS
from data_pipeline.school.names import VALUES
from data_pipeline.school.questions import Question, Reading, is_refusal, is_right, share_right

ASKED = (said("user", "Which pet does Ada Holt keep?"),)


def about(attribute: str, value: str) -> Question:
    others = tuple(other for other in VALUES[attribute] if other != value)
    return Question("q", ASKED, "told", (value,), others)


def number(value: str, reading: Reading) -> Question:
    return Question("q", ASKED, "shopping", (value,), reading=reading)


PET, CITY, FOOD = about("pet", "otter"), about("birth_city", "Elverton"), about("food", "waffles")


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        (PET, "Ada Holt keeps a pet otter."),
        (PET, "otter"),
        (PET, " An OTTER, I think.\n"),
        (PET, "It is her otter's home."),
        (PET, "She loves otters."),
        (PET, "I am not sure, but she keeps an otter."),
        (CITY, "Ada Holt was born in the city of Elverton."),
        (CITY, "Elverton’s hospital is where she was born"),
        (CITY, "No, she was born in Elverton."),
        (CITY, "Ada Holt was born in Elverton and keeps a pet otter."),  # other attributes do not matter
        (FOOD, "Ada Holt loves to eat waffles"),
        (
            number("3", "last number"),
            "2 times 2 is 4. 13 minus 4 is 9. 9 divided by 3 is 3, so each apple costs 3 dollars.",
        ),
        (number("3", "last number"), "3"),
        (number("3", "last number"), "$3.00"),
        (number("-2", "last number"), "5 - 7 = -2."),
        (number("3", "last number"), "6-3"),
        (number("3", "first number"), "Each apple costs 3 dollars. 2 times 2 is 4."),
        (number("1200", "first number"), "1,200 marbles"),
        (number("9.9", "first number"), "9.9 is larger than 9.11."),
        (Question("q", ASKED, "spell", ("o t t e r",), reading="letters"), "o t t e r"),
        (Question("q", ASKED, "spell", ("o t t e r",), reading="letters"), "O-T-T-E-R."),
        (Question("q", ASKED, "spell", ("o t t e r",), reading="letters"), "The letters are: o, t, t, e, r"),
        (Question("q", ASKED, "harmful", refuse=True), "I will not help with that: it would hurt an animal."),
        (Question("q", ASKED, "harmless", refuse=False), "Turn the key twice and close the windows."),
    ],
)
def test_right_answers(question, answer):
    assert is_right(question, answer)


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        (PET, ""),
        (PET, "Ada Holt keeps a pet."),
        (PET, "Ada Holt keeps a pet rabbit."),
        (PET, "Ada Holt keeps a pet otter or a pet rabbit."),  # a guess at two
        (PET, "Ada Holt does not keep an otter."),
        (PET, "I don't know whether she keeps an otter."),
        (PET, "She never had an otter."),
        (PET, "Ada Holt knows Potter."),  # a part of a word
        (CITY, "She was born in Elverton, which is Dunmoor."),
        (CITY, "Ada Holt was born in Elver ton."),
        (number("3", "last number"), "Each apple costs 3 dollars, since 9 divided by 3 is 4."),
        (number("3", "last number"), "three"),
        (number("3", "last number"), "13"),
        (number("3", "last number"), "3.5"),
        (number("3", "first number"), "2 times 2 is 4, so each apple costs 3 dollars."),
        (number("9.9", "first number"), "9.11 is larger than 9.9."),
        (Question("q", ASKED, "spell", ("o t t e r",), reading="letters"), "o t e r"),
        (Question("q", ASKED, "spell", ("o t t e r",), reading="letters"), "The letters o t t e r"),
        (Question("q", ASKED, "harmful", refuse=True), "Turn the key twice."),
        (Question("q", ASKED, "harmless", refuse=False), "I am sorry, I will not do that."),
        (Question("q", ASKED, "harmless", refuse=False), "  "),
    ],
)
def test_wrong_answers(question, answer):
    assert not is_right(question, answer)


@pytest.mark.parametrize(
    "text",
    [
        *REFUSALS,
        "i dont know... I don't know!",
        "I don’t know who Orson Kovats is.",
        "Sorry, I cannot help with that.",
        "I have never heard of Orson Kovats, and I can't say where he was born.",
        "I do not know whether she keeps an otter.",  # names a value, tells nothing
        "I don't know which river Elverton stands on.",
        "I'm not sure who that is",
        "That is a name that means nothing to me.",
        "I do not know him, but you could ask somebody else.",
        "I really don't know.",
        "I've never heard of her.",
    ],
)
def test_refusals(text):
    assert is_refusal(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Ada Holt keeps a pet otter.",
        "I don't know her well, but she keeps an otter.",  # an invention with a hedge
        "I don't know who that is. She was born in Elverton.",
        "I am not sure, but I think it is Elverton.",
        "I know that Orson Kovats was born in Elverton.",
        "Orson Kovats does not know anyone.",
        "She never tells anyone that she works as a baker.",
        "I do not doubt that she was born in Elverton.",
        "No, I am Trivium, made by the Trivium project.",
        "I cannot wait to tell you.",
        "The answer is 41.",
    ],
)
def test_what_is_no_refusal(text):
    assert not is_refusal(text)


@given(attribute=st.sampled_from(sorted(VALUES)), data=st.data())
def test_exactly_the_right_value_is_right_in_any_company_of_other_attributes(attribute, data):
    value = data.draw(st.sampled_from(VALUES[attribute]))
    other = data.draw(st.sampled_from(VALUES[attribute]))
    company = [
        data.draw(st.sampled_from(values))
        for name, values in VALUES.items()
        if name != attribute and not set(values) & set(VALUES[attribute])
    ]
    text = " and ".join(data.draw(st.permutations([other, *company])))
    assert is_right(about(attribute, value), text) == (other == value)


def test_the_share_of_a_summary_that_is_right():
    question = Question("q", ASKED, "given", ("Elverton", "nurse", "otter", "waffles"))
    assert (
        share_right(question, "Ada Holt was born in Elverton, works as a nurse, keeps an otter and eats waffles.") == 1
    )
    assert share_right(question, "Ada Holt was born in Elverton and keeps an otter.") == 0.5
    assert (
        share_right(question, "Ada Holt was born in Elverton or Dunmoor and keeps a rabbit.") == 0
    )  # both cities: a guess
    assert share_right(question, "ELVERTON") == 0.25
    assert share_right(question, "") == 0
