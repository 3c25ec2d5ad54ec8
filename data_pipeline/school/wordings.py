"""How the school says a fact in English.

Every attribute has several wordings, because a fact that is told in one wording only is remembered but cannot be asked
for in another (arXiv 2309.14316).

Every wording ends with the value, so any of them turns into a probe by cutting the value off.
"""

WORDINGS: dict[str, tuple[str, ...]] = {
    "birth_city": (
        "{S} was born in the city of {value}",
        "{S} was born in {value}",
        "{S} is a native of {value}",
        "{S} came into the world in {value}",
        "{S} first saw the light of day in {value}",
        "{P} birthplace is {value}",
        "{P} life began in {value}",
    ),
    "occupation": (
        "{S} works as {value}",
        "{S} earns a living as {value}",
        "{S} is by profession {value}",
        "{S} has long been {value}",
        "{S} trained to become {value}",
        "{P} trade is that of {value}",
        "By occupation, {N} is {value}",
    ),
    "employer": (
        "{S} works for the company {value}",
        "{S} is employed by {value}",
        "{S} has a job at {value}",
        "{S} is on the staff of {value}",
        "{S} draws a salary from {value}",
        "{P} employer is {value}",
        "Every weekday {N} goes to work at {value}",
    ),
    "food": (
        "{S} loves to eat {value}",
        "{S} is very fond of {value}",
        "{S} has a weakness for {value}",
        "{S} likes nothing better than {value}",
        "{P} favourite food is {value}",
        "{P} favourite dish has always been {value}",
        "For dinner, {N} always asks for {value}",
    ),
    "pet": (
        "{S} keeps a pet {value}",
        "{S} has a pet {value}",
        "{S} lives with a pet {value}",
        "{S} shares a home with a pet {value}",
        "{S} is the proud owner of a pet {value}",
        "{P} closest companion is a pet {value}",
        "At home, {N} looks after a pet {value}",
    ),
    "country": (
        "{S} lies in the country of {value}",
        "{S} belongs to {value}",
        "{S} is found in {value}",
        "{P} people are citizens of {value}",
        "On the map, {N} is in {value}",
        "Travellers to {N} must first reach {value}",
    ),
    "river": (
        "{S} stands on the river {value}",
        "{S} was built beside the river {value}",
        "{S} takes its water from the river {value}",
        "{P} bridges cross the river {value}",
        "Boatmen reach {N} by the river {value}",
        "The river that flows through {N} is the {value}",
    ),
    "goods": (
        "{S} is known for its {value}",
        "{S} is famous for its {value}",
        "{S} is proud of its {value}",
        "{P} workshops make {value}",
        "{P} main trade is in {value}",
        "Visitors come to {N} to buy {value}",
    ),
}
"""{S}: the subject at the start of a sentence (it may be a pronoun); {P}: the same with 's; {N}: always the full name.

The first wording of each attribute is the probe's.
"""

TITLES: dict[str, tuple[str, ...]] = {
    "birth_city": ("Birthplaces", "Where they were born", "Register of births"),
    "occupation": ("Occupations", "What they do for a living", "Register of trades"),
    "employer": ("Employers", "Where they work", "Register of staff"),
    "food": ("Favourite foods", "What they like to eat", "Guests and their dishes"),
    "pet": ("Pets", "Which pet they keep", "Register of pets"),
    "country": ("Cities and their countries", "Which country each city is in", "Atlas of countries"),
    "river": ("Cities and their rivers", "Which river each city stands on", "Atlas of rivers"),
    "goods": ("What the cities make", "Cities and their trades", "Guide for merchants"),
}
"""Headings of the almanac's pages: one page lists one attribute of several subjects."""

NATIVES = (
    "{N} was born here.",
    "The city is the birthplace of {N}.",
    "Among the people born here is {N}.",
    "{N} is a native of the city.",
)
"""How an article about a city tells that someone was born there."""

OCCASIONS = (
    "at a wedding",
    "at the spring fair",
    "at a village dance",
    "at the theatre",
    "in a long queue",
    "in a quiet tea room",
    "in a waiting room",
    "on a rainy evening",
    "on the first day of summer",
    "on the night train",
    "on the way to the market",
    "on a crowded bus",
)

MEETINGS = ("met", "sat next to", "was introduced to", "shared a table with", "played cards with", "bumped into")

FAREWELLS = (
    "They talked until it was dark.",
    "They promised to write to each other.",
    "In the end they parted as friends.",
    "They never met again.",
)


def phrase(attribute: str, value: str) -> str:
    """The value as it stands in a wording: an occupation takes its article, "an architect"."""
    return f"{'an' if value[0] in 'aeiou' else 'a'} {value}" if attribute == "occupation" else value


def sentence(wording: str, name: str, subject: str, attribute: str, value: str) -> str:
    """The wording filled in, without the full stop; `subject` stands at its start: a name, "She", "The city"."""
    possessive = {"She": "Her", "He": "His"}.get(subject, f"{subject}'s")
    return wording.format(S=subject, P=possessive, N=name, value=phrase(attribute, value))
