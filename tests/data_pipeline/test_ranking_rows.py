"""Every form of a ranking by hand, every bad row by name, whatever is written read back, and real rows where there are some."""

import gzip
import itertools
import json
from pathlib import Path

import pytest
import tensorflow_datasets as tfds
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st
from test_tfds_source import write

from data_pipeline.chat_formats import BadRow
from data_pipeline.conversation import BrokenCall, Text, Thinking, ToolCall, ToolResult, Turn, said
from data_pipeline.errors import UserError
from data_pipeline.ranking import Ranking, pairs
from data_pipeline.ranking_rows import prompt_of, rankings_of, read_rankings, write_row
from data_pipeline.set_aside import SetAside
from data_pipeline.votes import ranks_of_votes

HH = Path(__file__).resolve().parents[3] / "shared" / "data" / "hh_rlhf" / "test.jsonl.gz"
ASKED = {"role": "user", "content": "A joke?"}
GOOD, BAD = "Why did the pelican pay? It had a big bill.", "Pelican."
GOOD_TURN, BAD_TURN = said("assistant", GOOD), said("assistant", BAD)


def answer(text):
    return {"role": "assistant", "content": text}


def one(row):
    (ranking,) = rankings_of("here:1", row)
    return ranking


def read(tmp_path, *rows, name="rows.jsonl"):
    """(rankings, reasons) of rows: objects, or lines as they are."""
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    (tmp_path / name).write_text("\n".join(lines) + "\n")
    set_aside = SetAside(tmp_path / "aside.jsonl")
    return list(read_rankings(str(tmp_path / name), set_aside)), dict(set_aside.counts)


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "A joke?", "responses": [GOOD, BAD], "ranks": [0, 1]},
        {"prompt": [ASKED], "responses": [answer(GOOD), {"text": BAD}], "ranks": [0, 1], "tokens": [[1], [2]]},
        {"prompt": [ASKED], "completions": [[answer(GOOD)], {"content": BAD}], "rankings": [1, 4]},
        {"prompt": "A joke?", "completions": [GOOD, BAD], "scores": [0.5, -3]},
        {"prompt": "A joke?", "responses": [GOOD, BAD], "votes": [[0, 1], [0, 1]]},
        {"prompt": "A joke?", "chosen": GOOD, "rejected": BAD, "score_chosen": 3},
        {"prompt": "A joke?", "chosen": [answer(GOOD)], "rejected": [answer(BAD)]},
        {"prompt": [ASKED], "chosen": answer(GOOD), "rejected": answer(BAD)},
        {"prompt": "said again below", "chosen": [ASKED, answer(GOOD)], "rejected": [ASKED, answer(BAD)]},
        {"chosen": [ASKED, answer(GOOD)], "rejected": [ASKED, answer(BAD)]},
        {"chosen": [{"from": "human", "value": "A joke?"}, {"from": "gpt", "value": GOOD}],
         "rejected": [{"from": "human", "value": "A joke?"}, {"from": "gpt", "value": BAD}]},
        {"chosen": f"\n\nHuman: A joke?\n\nAssistant: {GOOD}", "rejected": f"\n\nHuman: A joke?\n\nAssistant:{BAD} "},
        {"prompt": "\n\nHuman: A joke?\n\nAssistant:", "chosen": f" {GOOD}", "rejected": f" {BAD}"},
        {"prompt": "\n\nHuman: A joke?\n\nAssistant:",
         "chosen": f"\n\nHuman: A joke?\n\nAssistant: {GOOD}", "rejected": f"\n\nHuman: A joke?\n\nAssistant: {BAD}"},
    ],
)  # fmt: skip
def test_one_preference_in_every_form(row):
    ranking = one(row)
    assert (ranking.prompt, ranking.responses) == ((said("user", "A joke?"),), (GOOD_TURN, BAD_TURN))
    assert pairs(ranking) == [(0, 1)]
    assert (ranking.id, ranking.rater, ranking.time, ranking.held_out) == ("here:1", "", "", None)
    more = one(row | {"id": 7, "rater": "Ada", "time": "2024-05-01T10:00:00Z", "held_out": True})
    assert (more.id, more.rater, more.time, more.held_out) == ("7", "Ada", "2024-05-01T10:00:00Z", True)


def test_ranks_ties_and_what_was_not_judged():
    row = {"prompt": "x", "responses": list("abcd")}
    assert one(row | {"ranks": [0, 1, 1, None]}).ranks == (0, 1, 1, None)
    assert pairs(one(row | {"scores": [2, 5.5, None, 2]})) == [(1, 0), (1, 3)]
    assert one(row | {"scores": [2, 5.5, None, 2]}).ranks == (1, 0, None, 1)


def test_a_longer_prompt_with_a_system_message_is_shared():
    before = "\n\nHuman: Hi\n\nAssistant: Hello\n\nHuman: A joke?"
    ranking = one({"chosen": f"{before}\n\nAssistant: {GOOD}", "rejected": f"{before}\n\nAssistant: {BAD}"})
    assert [turn.role for turn in ranking.prompt] == ["user", "assistant", "user"]
    messages = [{"role": "system", "content": "Be funny."}, ASKED]
    ranking = one({"prompt": messages, "responses": [GOOD, BAD], "ranks": [1, 0]})
    assert ranking.prompt == (said("system", "Be funny."), said("user", "A joke?"))
    assert prompt_of({"prompt": messages}) == ranking.prompt


def test_a_response_with_a_call_in_openai_messages():
    call = {"role": "assistant", "tool_calls": [{"function": {"name": "add", "arguments": '{"a": 1}'}}]}
    ranking = one(
        {"prompt": "x", "chosen": [call, {"role": "tool", "content": "3"}, answer("It is 3")], "rejected": "4"}
    )
    assert ranking.responses[0].parts == (ToolCall("add", {"a": 1}), ToolResult("3"), Text("It is 3"))


KWISE = {"prompt": "x", "responses": ["a", "b", "c"]}


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"text": "a document"}, "unknown schema"),
        ({"prompt": "x", "chosen": "a"}, "unknown schema"),
        ({"prompt": "x", "responses": ["a", "b"]}, "unknown schema"),
        ({"prompt": "x", "ranks": [0, 1]}, "unknown schema"),
        ({"chosen": "a", "rejected": "b"}, "no prompt"),
        ({"chosen": [answer("a")], "rejected": [answer("b")]}, "no prompt"),
        ({"responses": ["a", "b"], "ranks": [0, 1]}, "no prompt"),
        (
            {"prompt": 3, "responses": ["a", "b"], "ranks": [0, 1]},
            "something else where the list of messages should be",
        ),
        ({"prompt": " ", "chosen": "a", "rejected": "b"}, "empty turn"),
        ({"prompt": "x", "chosen": "a", "rejected": ""}, "empty turn"),
        ({"prompt": "x", "chosen": "a", "rejected": "a"}, "one response stands at two ranks"),
        ({"prompt": "x", "chosen": [], "rejected": []}, "no response after the prompt"),
        ({"chosen": [ASKED], "rejected": [ASKED]}, "no response after the prompt"),
        ({"prompt": [], "chosen": "a", "rejected": "b"}, "assistant first"),
        ({"prompt": [ASKED, answer("a")], "chosen": "b", "rejected": "c"}, "two assistants in a row"),
        ({"prompt": [{"role": "dog", "content": "wuff"}], "chosen": "b", "rejected": "c"}, "unknown role"),
        ({"prompt": "x", "chosen": "a", "rejected": 3}, "something else where the list of messages should be"),
        ({"prompt": "x", "chosen": "a", "rejected": "\ud800"}, "text with half a surrogate pair"),
        (
            {"chosen": "\n\nHuman: a\n\nAssistant: b", "rejected": "\n\nHuman: c\n\nAssistant: b"},
            "the responses answer different prompts",
        ),
        (
            {"chosen": "\n\nHuman: a\n\nHuman: b", "rejected": "\n\nHuman: a\n\nHuman: c"},
            "no response after the prompt",
        ),
        ({"prompt": "x", "responses": ["a"], "ranks": [0]}, "fewer than two responses"),
        ({"prompt": "x", "responses": [], "ranks": []}, "fewer than two responses"),
        ({"prompt": "x", "responses": "ab", "ranks": [0, 1]}, "responses that are no list"),
        (KWISE | {"ranks": [0, 1]}, "2 ranks for 3 responses"),
        (KWISE | {"ranks": "012"}, "ranks that are no list"),
        (KWISE | {"ranks": [0, 1.5, 2]}, "a rank that is no whole number"),
        (KWISE | {"ranks": [True, False, 2]}, "a rank that is no whole number"),
        (KWISE | {"ranks": [1, 1, 1]}, "no two responses are told apart"),
        (KWISE | {"ranks": [None, 0, None]}, "fewer than two responses are ranked"),
        (KWISE | {"scores": [1, "2", 3]}, "a score that is no number"),
        (KWISE | {"scores": [1, float("nan"), 3]}, "a score that is no number"),
        (KWISE | {"votes": [[0, 1], [1, 2], [2, 0]]}, "votes go round in a circle"),
        (KWISE | {"votes": [[0, 0]]}, "votes go round in a circle"),
        (KWISE | {"votes": [[0, 3]]}, "a vote for a response that is not there"),
        (KWISE | {"votes": [[0, -1]]}, "a vote for a response that is not there"),
        (KWISE | {"votes": [[0]]}, "a vote that is not [winner, loser]"),
        (KWISE | {"votes": []}, "fewer than two responses are ranked"),
        (KWISE | {"ranks": [0, 1, 2], "rater": 3}, "a rater that is no text"),
        (KWISE | {"ranks": [0, 1, 2], "held_out": "no"}, "held_out that is neither true nor false"),
        (
            {"prompt": "x", "ranks": [0, 1], "responses": ["a", {"role": "assistant", "parts": [{"type": "smell"}]}]},
            "unknown part of a turn",
        ),
    ],
)
def test_bad_rows_are_set_aside_by_name(tmp_path, row, reason):
    with pytest.raises(BadRow) as raised:
        rankings_of("here:1", row)
    assert str(raised.value) == reason
    good = {"prompt": "x", "chosen": "a", "rejected": "b"}
    found, reasons = read(tmp_path, row, good)
    assert len(found) == 1
    assert reasons == {reason: 1}


def test_ids_that_come_twice(tmp_path):
    first = KWISE | {"id": "a", "ranks": [0, 1, 2], "rater": "Ada"}
    found, reasons = read(
        tmp_path, first, first | {"rater": "Ben"}, first, first | {"responses": ["a", "b", "d"], "rater": "Eve"}
    )
    assert [ranking.rater for ranking in found] == ["Ada", "Ben"]  # two people on the same texts
    assert reasons == {"ranked above by the same rater": 1, "an id that stands for other texts above": 1}


def test_undone_skipped_and_torn(tmp_path):
    first = KWISE | {"id": "a", "ranks": [0, 1, 2], "rater": "Ada"}
    again = first | {"ranks": [2, 1, 0]}
    rows = [first, {"undo": "a"}, again, {"skip": "t", "id": "b"}, {"undo": "b"}, first | {"id": "c"}, {"undo": ["?"]}]
    found, reasons = read(tmp_path, *rows, json.dumps(first)[:-9])
    assert [(ranking.id, ranking.ranks) for ranking in found] == [("a", (2, 1, 0)), ("c", (0, 1, 2))]
    assert reasons == {
        "undone by its rater": 1,
        "skipped by its rater": 1,
        "an undo of what is not there": 1,
        "JSON that does not parse": 1,
    }


def test_compressed_files_a_glob_and_tfds(tmp_path, monkeypatch):
    row = {"prompt": "x", "chosen": "a", "rejected": "b"}
    line = (json.dumps(row) + "\n").encode()
    (tmp_path / "1.jsonl.gz").write_bytes(gzip.compress(line))
    (tmp_path / "2.jsonl.zst").write_bytes(zstandard.compress(line))
    (tmp_path / "3.json").write_text(json.dumps([row, row]))
    aside = SetAside(tmp_path / "aside")
    assert len(list(read_rankings(str(tmp_path / "*.js*"), aside))) == 4
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    text = tfds.features.Text()
    features = {"chosen": text, "rejected": text}
    transcripts = {"chosen": "\n\nHuman: x\n\nAssistant: a", "rejected": "\n\nHuman: x\n\nAssistant: b"}
    write(tmp_path, "tiny_rankings", [transcripts], features)
    (ranking,) = read_rankings("tfds:tiny_rankings", aside)
    assert ranking.responses == (said("assistant", "a"), said("assistant", "b"))
    assert not aside.counts
    with pytest.raises(UserError, match="there is no file"):
        list(read_rankings(str(tmp_path / "no.jsonl"), aside))


# Not only white space: nobody says that. No half surrogate pairs: UTF-8 cannot hold them.
words = st.text(st.characters(codec="utf-8"), min_size=1, max_size=20).filter(lambda text: text.strip())
arguments = st.dictionaries(words, st.integers() | words | st.none() | st.lists(st.booleans()), max_size=2)
calls = st.builds(ToolCall, words, arguments) | st.builds(BrokenCall, words, words)
spoken = st.builds(Text, words) | st.builds(Thinking, words)
assistants = st.builds(
    lambda steps, last: Turn("assistant", (*itertools.chain(*steps), last)),
    st.lists(st.tuples(calls, st.builds(ToolResult, words)) | st.tuples(spoken), max_size=2),
    st.builds(Text, words),
)


@st.composite
def rankings(draw):
    turns = [said("system", draw(words))] if draw(st.booleans()) else []
    for _ in range(draw(st.integers(0, 2))):
        turns += [said("user", draw(words)), draw(assistants)]
    responses = draw(st.lists(assistants, min_size=2, max_size=5, unique_by=repr))
    ranks = draw(st.permutations([0, 1, *draw(st.lists(st.none() | st.integers(-2, 9), max_size=3))]))
    ranks = [*ranks, *[None] * len(responses)][: len(responses)]
    ranking = Ranking(
        draw(words),
        (*turns, said("user", draw(words))),
        tuple(responses),
        tuple(ranks),
        draw(words),
        draw(words),
        draw(st.none() | st.booleans()),
    )
    return ranking


@given(rankings())
@settings(max_examples=100, deadline=None)
def test_what_is_written_is_read_back(ranking):
    row = json.loads(json.dumps(write_row(ranking, tokens=[[1, 2]], seed=3)))
    assert (row["tokens"], row["seed"]) == ([[1, 2]], 3)
    if pairs(ranking):
        assert one(row) == ranking
    else:
        with pytest.raises(BadRow):
            one(row)


def slow_pairs(votes, count):
    """What the votes imply: i over j where a path of votes leads from i to j."""
    reach = [[(i, j) in votes for j in range(count)] for i in range(count)]
    for k, i, j in itertools.product(range(count), repeat=3):  # Warshall
        reach[i][j] |= reach[i][k] and reach[k][j]
    return {(i, j) for i, j in itertools.product(range(count), repeat=2) if reach[i][j]}


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=8))
@settings(max_examples=300, deadline=None)
def test_votes_imply_their_pairs_and_no_more(votes):
    implied = slow_pairs(set(votes), 5)
    if any(i == j for i, j in implied):
        with pytest.raises(ValueError, match="circle"):
            ranks_of_votes(votes, 5)
        return
    turns = tuple(said("assistant", str(i)) for i in range(5))
    found = [pairs(Ranking("", (), turns, ranks)) for ranks in ranks_of_votes(votes, 5)]
    told = set(itertools.chain(*found))
    assert set(votes) <= told <= implied
    if len(found) == 1:
        assert told == implied  # what follows from the votes too


def test_votes_by_hand():
    assert ranks_of_votes([(0, 1), (1, 2), (0, 3)], 5) != [(0, 1, 2, 1, None)]  # nobody compared 3 with 2
    assert ranks_of_votes([(2, 0), (0, 1), (2, 1)], 4) == [(1, 2, 0, None)]
    assert ranks_of_votes([(0, 1), (2, 3)], 4) == [(0, 1, None, None), (None, None, 0, 1)]
    (first, second) = rankings_of("w", {"prompt": "x", "responses": list("abcd"), "votes": [[0, 1], [2, 3]]})
    assert (first.id, second.id) == ("w/0", "w/1")


def test_real_hh_rows(tmp_path):
    if not HH.exists():
        pytest.skip(f"{HH} is not there: the reader is tested on transcripts written here alone")
    set_aside = SetAside(tmp_path / "aside.jsonl")
    found = list(read_rankings(str(HH), set_aside))
    with gzip.open(HH, "rt") as file:
        rows = [json.loads(line) for line in file]
    assert len(found) + set_aside.counts.total() == len(rows)
    assert len(found) > 0.95 * len(rows), set_aside.summary()
    by_line = {ranking.id: ranking for ranking in found}
    for number, row in enumerate(rows, 1):
        ranking = by_line.get(f"{HH}:{number}")
        if ranking is None:
            continue
        for side, response in zip(("chosen", "rejected"), ranking.responses, strict=True):
            # Nothing is lost or moved: without white space and speakers it is the transcript.
            said_there = row[side].replace("\n\nHuman:", "").replace("\n\nAssistant:", "").split()
            assert "".join(said_there) == "".join("".join(turn.text.split()) for turn in (*ranking.prompt, response))
            assert row[side].rstrip().endswith(response.text)
