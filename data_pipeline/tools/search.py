"""Looking something up: the documents that share the most telling words with a query.

Ranked by BM25 (Robertson and Zaragoza 2009, "The Probabilistic Relevance Framework"), which bm25s computes in the variant that
Lucene uses (k1 = 1.5, b = 0.75). Another provider, such as a search engine on a network, is a function in its place.
"""

import logging
import re
from collections.abc import Callable, Iterable

import numpy as np

from data_pipeline.document import Document
from data_pipeline.tools.tool import Tool

Provider = Callable[[str], list[str]]
"""query -> texts, best first; empty where nothing fits."""

NOTHING = "nothing found"

WORD = re.compile(r"\w+")
SENTENCE_END = re.compile(r"[.!?][\"')\]]*(?=\s|$)")


def search_tool(documents: Iterable[Document], results: int = 1, characters: int = 400) -> Tool:
    """Answers {"query": ...} with the `results` best of `documents`, each cut at the end of a sentence.

    A document is shown from its start: cut long ones into passages first (`data_pipeline/paragraphs.py`).
    """
    return search_tool_with(bm25(documents, results), characters)


def search_tool_with(provider: Provider, characters: int = 400) -> Tool:
    """The same with another way to find texts."""

    def run(arguments: dict[str, str]) -> str:
        return "\n\n".join(cut_at_sentence(text, characters) for text in provider(arguments["query"])) or NOTHING

    parameters = {
        "type": "object",
        "properties": {"query": {"type": "string", "description": "a few words to look for"}},
        "required": ["query"],
        "additionalProperties": False,
    }
    return Tool("search", "Looks words up in a library and answers the text that fits them best.", parameters, run)


def bm25(documents: Iterable[Document], results: int = 1) -> Provider:
    """Finds the `results` best of `documents` that share a word with a query; of equally good ones the first.

    It holds all texts in memory.
    """
    import bm25s  # late: it starts JAX's devices when it is imported

    logging.getLogger("bm25s").setLevel(logging.WARNING)

    texts: list[str] = []
    numbered: list[list[int]] = []
    vocabulary: dict[str, int] = {}
    for document in documents:
        texts.append(document.text)
        numbered.append([vocabulary.setdefault(word, len(vocabulary)) for word in words(document.text)])
    index = bm25s.BM25(method="lucene", k1=1.5, b=0.75)
    if vocabulary:
        index.index((numbered, vocabulary), create_empty_token=False, show_progress=len(texts) > 100_000)

    def find(query: str) -> list[str]:
        asked = [vocabulary[word] for word in dict.fromkeys(words(query)) if word in vocabulary]
        if not asked:
            return []
        scores = index.get_scores_from_ids(asked)
        found = np.flatnonzero(scores)  # Lucene's weight of a word is never 0 or less
        best = found[np.argsort(-scores[found], kind="stable")[:results]]
        return [texts[number] for number in best]

    return find


def words(text: str) -> list[str]:
    """What is compared: words and numbers, whatever their case."""
    return WORD.findall(text.casefold())


def cut_at_sentence(text: str, characters: int) -> str:
    """The start of `text`, of at most `characters`: up to the end of a sentence, or of a word where no sentence ends."""
    text = text.strip()
    if len(text) <= characters:
        return text
    # One more letter shows whether a full stop at the limit ends a sentence.
    ends = [match.end() for match in SENTENCE_END.finditer(text, 0, characters + 1) if match.end() <= characters]
    if ends:
        return text[: ends[-1]]
    return text[: text.rfind(" ", 0, characters + 1)].rstrip() if " " in text[: characters + 1] else text[:characters]
