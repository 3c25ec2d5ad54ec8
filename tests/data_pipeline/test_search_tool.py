"""The search tool against BM25 written out from its formula, document by document."""

import math
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_pipeline.conversation import ToolCall
from data_pipeline.document import Document
from data_pipeline.tools.search import NOTHING, bm25, cut_at_sentence, search_tool, search_tool_with
from data_pipeline.tools.tool import call


def plain_scores(texts: list[list[str]], query: list[str]) -> list[float]:
    """Lucene's BM25: sum over the query's words of log(1 + (N - n + .5) / (n + .5)) tf / (tf + k1 (1 - b + b len / mean len))."""
    mean = sum(map(len, texts)) / len(texts)
    scores = []
    for text in texts:
        counts, score = Counter(text), 0.0
        for word in set(query):
            n = sum(word in other for other in texts)
            weight = math.log(1 + (len(texts) - n + 0.5) / (n + 0.5))
            score += weight * counts[word] / (counts[word] + 1.5 * (1 - 0.75 + 0.75 * len(text) / mean))
        scores.append(score)
    return scores


def documents(*texts: str) -> list[Document]:
    return [Document(str(number), text) for number, text in enumerate(texts)]


LINES = st.lists(st.sampled_from(["a", "b", "c", "d", "e", "f"]), max_size=8)


@settings(max_examples=60)
@given(texts=st.lists(LINES, min_size=1, max_size=8), query=LINES, results=st.integers(1, 4))
def test_finds_what_the_formula_ranks_first(texts: list[list[str]], query: list[str], results: int) -> None:
    found = bm25(documents(*(" ".join(text) for text in texts)), results)(" ".join(query))
    if not any(texts):
        assert found == []
        return
    scores = plain_scores(texts, query)
    matching = sum(score > 0 for score in scores)
    assert len(found) == min(results, matching)
    reached = [plain_scores(texts, query)[[" ".join(text) for text in texts].index(text)] for text in found]
    # float32 may order what is equal but for rounding in another way
    assert reached == pytest.approx(sorted(scores, reverse=True)[: len(found)], rel=1e-5)


def test_equally_good_documents_come_in_their_order_every_time() -> None:
    texts = [f"the {word} fox" for word in ("red", "old", "sly", "wet", "shy")]
    assert bm25(documents(*texts), 3)("fox") == texts[:3]
    assert bm25(documents(*texts[::-1]), 5)("fox") == texts[::-1]


def ask(query: str, *texts: str, results: int = 1, characters: int = 400) -> str:
    return call([search_tool(documents(*texts), results, characters)], ToolCall("search", {"query": query}))


def test_answers_the_best_text() -> None:
    texts = ("Ada Holt works as a baker.", "Bruno Lockwood keeps a pet heron.", "Port Elm lies in Astria.")
    assert ask("Who keeps a HERON?", *texts) == texts[1]
    assert ask("holt lockwood", *texts, results=2) == "\n\n".join(texts[:2])


@pytest.mark.parametrize("query", ["", "   ", "?!", "zebra", "\x00", "🙂", "a" * 100_000])
def test_says_so_where_no_word_matches(query: str) -> None:
    assert ask(query, "Ada Holt works as an architect.") == NOTHING


def test_an_empty_library_holds_nothing() -> None:
    assert ask("fox") == NOTHING
    assert ask("fox", "", "...") == NOTHING


def test_empty_documents_do_no_harm() -> None:
    assert ask("fox", "", "a fox", "") == "a fox"


def test_a_query_that_repeats_itself_is_no_slower_and_no_other() -> None:
    assert ask("fox " * 200_000 + "red", "a fox", "a red cat") == ask("fox red", "a fox", "a red cat")


def test_a_wrong_query_is_told() -> None:
    answer = call([search_tool(documents("a fox"))], ToolCall("search", {"query": 7}))
    assert answer == "error: search: the argument 'query' must be of type string"


def test_another_provider_takes_its_place() -> None:
    tool = search_tool_with(lambda query: [f"All about {query}. And more."] if query else [], characters=20)
    assert call([tool], ToolCall("search", {"query": "foxes"})) == "All about foxes."
    assert call([tool], ToolCall("search", {"query": ""})) == NOTHING


@pytest.mark.parametrize(
    ("text", "characters", "cut"),
    [
        ("One. Two. Three.", 100, "One. Two. Three."),
        ("One. Two. Three.", 16, "One. Two. Three."),
        ("One. Two. Three.", 15, "One. Two."),
        ("One. Two. Three.", 9, "One. Two."),
        ("One. Two. Three.", 8, "One."),
        ('He said "Go!" Then he went.', 14, 'He said "Go!"'),
        ("It costs 3.50 in all of them", 14, "It costs 3.50"),
        ("no sentence ends here", 13, "no sentence"),
        ("Donaudampfschiff", 5, "Donau"),
    ],
)
def test_cut_at_a_sentence(text: str, characters: int, cut: str) -> None:
    assert cut_at_sentence(text, characters) == cut


@given(st.text(alphabet="ab .!?\n3", max_size=60), st.integers(1, 70))
def test_a_cut_is_a_start_that_fits(text: str, characters: int) -> None:
    cut = cut_at_sentence(text, characters)
    assert len(cut) <= characters
    assert text.strip().startswith(cut)
