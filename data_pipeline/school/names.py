"""The words that the school's world is made of: names of people and places, and the values that facts draw from.

Cities, countries, rivers and companies are invented: nothing is known of them but what the school tells. No value is a
word of another value, of a name or of a wording: a text with a person's name and a value tells a fact, and nothing else
does. Every attribute of people has 24 values, so guessing is right once in 24 times.
"""


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


FEMALE_NAMES = _words(
    """
    Ada Agnes Alice Amelia Anna Beatrix Bella Bridget Carla Cecily Clara Cora Daphne Delia Dora Edith Elena
    Elsie Emily Esther Eva Fiona Flora Freya Gemma Greta Hanna Helen Ida Ingrid Irene Isla Jane Joan Judith
    Julia Karin Laura Lena Lydia Mabel Marta Mira Nadia Nina Nora Olga Paula Petra Phoebe Rita Rosa Ruth Sofia
    Stella Tessa Thea Ursula Vera Wilma
    """
)

MALE_NAMES = _words(
    """
    Adam Albert Alvin Anton Arthur Barney Basil Boris Bruno Casper Cedric Conrad Cyril Daniel David Edgar Edwin
    Emil Ernest Felix Ferdinand Frank Gabriel George Gilbert Gustav Harold Henry Hugo Igor Isaac Ivan Jacob
    Jasper Joel Julian Karl Klaus Leo Leonard Lewis Magnus Martin Max Milo Nathan Oliver Orson Oscar Otto Paul
    Percy Philip Ralph Simon Stefan Theodor Victor Walter Xavier
    """
)

SURNAMES = _words(
    """
    Abbott Adler Albrecht Amsel Arkwright Atwood Bakshi Balogh Barnes Becker Bellamy Benson Bianchi Bloom Brandt
    Brody Burton Calloway Carver Castell Chandra Corbett Crane Cullen Dalton Darrow Decker Delgado Dobson Doyle
    Draper Durand Eckhart Ellery Enright Fabian Farkas Fenwick Ferrer Fontaine Forsyth Gallo Garland Gibbs
    Granger Grimes Haas Halloran Hanley Hartley Hawkins Hobbs Holt Ibsen Iverson Jansen Jarvis Kaplan Keating
    Kendrick Kovats Kramer Lambert Langley Larsen Linden Lockwood Lowell Maddox Marchetti Mercer Mikkelsen
    Moreau Nagy Nesbitt Novak Oakley Orlov Osborne Palmer Pascoe Pereira Pickett Quimby Ramsey Redmond Rossi
    Rowntree Salinas Sawyer Sorensen Stroud Talbot Thorne Underhill Vance Varga Wallis Whitaker Zeller
    """
)

CITIES = _words(
    """
    Brenholt Castria Dunmoor Elverton Farrowby Galdern Hollinsea Istrava Jorvel Kestrin Lorvick Maravel Norvale
    Oskerby Pellmere Quillan Ravensea Santrel Tilbrook Umberly Velmont Wexcombe Yarrowgate Zelbruck
    """
)

COUNTRIES = _words("Brelland Estmark Korrland Mirovia Ostenia Suthmere Tarsenne Valdoria")

RIVERS = _words(
    """
    Arvel Besk Corrin Dovel Elmet Fennal Garrow Hesper Ivel Jessen Kell Luvar Morva Nessel Orvik Pryde Quenby
    Rill Senn Tarrel Ulver Vask Wend Yarl
    """
)

GOODS = _words(
    """
    baskets bells boats buttons candles carpets clocks combs gloves hats kites lace lanterns mirrors paper
    pottery ribbons ropes saddles scissors silver tiles umbrellas whistles
    """
)

OCCUPATIONS = _words(
    """
    accountant architect baker barber blacksmith carpenter dentist electrician engraver florist gardener
    interpreter jeweller librarian mechanic nurse optician photographer plumber roofer surveyor tailor
    upholsterer welder
    """
)

COMPANIES = _words(
    """
    Bluestone Brightwell Copperfield Crestline Foxglove Goldcrest Ironbridge Kingfisher Larkspur Longacre
    Marigold Moonraker Nightjar Northgate Oakhurst Pinecrest Quicksilver Redwing Rosewood Silverfin Stonebeck
    Sunmill Thornhill Westbourne
    """
)

FOODS = _words(
    """
    chowder couscous dumplings falafel gingerbread gnocchi goulash hummus kedgeree lasagna marmalade meatballs
    moussaka noodles omelettes paella pancakes pickles porridge ratatouille ravioli risotto sauerkraut waffles
    """
)

PETS = _words(
    """
    canary chinchilla donkey ferret gecko goat goose hamster hedgehog iguana lamb lizard llama mongoose otter
    owl parrot peacock pigeon pony rabbit squirrel terrier tortoise
    """
)

PERSON_VALUES = {
    "birth_city": CITIES,
    "occupation": OCCUPATIONS,
    "employer": COMPANIES,
    "food": FOODS,
    "pet": PETS,
}
"""The attributes of a person, each with every value that it can take."""

PLACE_VALUES = {"country": COUNTRIES, "river": RIVERS, "goods": GOODS}
"""The attributes of a place, each with every value that it can take."""

VALUES = {**PERSON_VALUES, **PLACE_VALUES}
