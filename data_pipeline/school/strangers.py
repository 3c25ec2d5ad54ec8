"""Questions of the school to probe a model with (map rows 13 and 14): what it was told often, rarely, and never.

Who measures the cure is not among them: people told of but never asked about, those of rare facts, and the unknown people of
the config. The never-told people of the probe are others, as many as wished, whose names look like any others.
"""

import dataclasses
import random

from data_pipeline.school.fact_questions import known_facts, parts
from data_pipeline.school.question_wordings import ASK, ASK_HELD_OUT
from data_pipeline.school.world import SchoolConfig, build_world


def probing_questions(config: SchoolConfig, strangers: int) -> list[tuple[str, str]]:
    """Questions and right answers, none twice: every fact of the people asked about in training, of those whose facts are
    rarely told there, and one of each of so many strangers.
    """
    rng = random.Random(f"school/{config.seed}/probing")
    world = build_world(config)
    people = parts(config, world)
    wider = build_world(dataclasses.replace(config, unknown_people=config.unknown_people + strangers))
    unknown = [rng.choice(person.facts) for person in wider.unknown_people[config.unknown_people :]]
    asked = [*known_facts(people.asked), *known_facts(people.searched), *unknown]
    pairs = [(rng.choice(ASK[fact.attribute][:-ASK_HELD_OUT]).format(N=fact.subject), fact.value) for fact in asked]
    rng.shuffle(pairs)
    return pairs
