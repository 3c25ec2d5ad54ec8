"""The server's parts without a network: text in deltas, and the thread that drives an engine."""

import itertools
import queue
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from serving import PlayedEngine, played_token, wait_for

from data_pipeline.errors import UserError
from launch.server.answers import merge
from launch.server.deltas import TextDeltas
from launch.server.engine_thread import Busy, EngineFailed, EngineThread
from lm.inference.requests import Request

# A token is some bytes of a text, cut anywhere: inside characters and inside stop strings.
cut_texts = st.lists(st.sampled_from(["ab", "a", "b", "é", "漢", "👩", "\n", "User:", " ", "\xff"]), max_size=12).map(
    "".join
)


def pieces(text, cuts):
    contents = text.encode()
    places = sorted({0, len(contents), *(cut % (len(contents) + 1) for cut in cuts)})
    return [contents[a:b] for a, b in itertools.pairwise(places)]


@given(
    text=cut_texts, cuts=st.lists(st.integers(0, 100), max_size=8), stops=st.lists(cut_texts.filter(bool), max_size=4)
)
@settings(max_examples=300, deadline=None)
def test_deltas_never_take_anything_back(text, cuts, stops):
    tokens = pieces(text, cuts)
    expected = text
    deltas = TextDeltas(lambda i: tokens[i], stops)
    told = ""
    for i in range(len(tokens)):
        # An engine ends at the token that completes a stop string.
        read = b"".join(tokens[: i + 1]).decode(errors="ignore")
        stopped = any(stop in read for stop in stops)
        new = deltas.feed([i], ended=stopped or i == len(tokens) - 1, by_string=stopped)
        assert "\ufffd" not in new
        told += new
        assert text.startswith(told)
        if stopped:
            expected = text[: min(read.find(stop) for stop in stops if stop in read)]
            break
    assert told == expected


def test_what_is_no_stop_string_after_all_is_told():
    deltas = TextDeltas(lambda token: bytes([token]), ["stop"])
    assert deltas.feed(b"a st") == "a "
    assert deltas.feed(b"o") == ""
    assert deltas.feed(b"mp s") == "stomp "
    assert deltas.feed(b"", ended=True) == "s"


def test_bytes_that_are_no_characters_become_replacements_and_the_start_may_be_stripped():
    whole = b" \n \xe2\x82a\xff b \xe2"
    for size in range(1, len(whole)):
        deltas = TextDeltas(lambda token: bytes([token]), strip_start=True)
        told = [deltas.feed(whole[at : at + size]) for at in range(0, len(whole), size)]
        assert "".join(told) + deltas.feed([], ended=True) == whole.decode(errors="replace").lstrip()


def test_pieces_of_a_choice_are_put_together():
    whole = {"index": 0, "delta": {"content": "a"}, "logprobs": {"content": [1]}, "finish_reason": None}
    merge(whole, {"index": 0, "delta": {"content": "b"}, "logprobs": {"content": [2]}, "finish_reason": "stop"})
    merge(whole, {"index": 0, "delta": {"content": ""}, "logprobs": None, "finish_reason": None})
    assert whole == {"index": 0, "delta": {"content": "ab"}, "logprobs": {"content": [1, 2]}, "finish_reason": "stop"}


class Listener:
    """Hears what requests come to."""

    def __init__(self):
        self.heard = queue.Queue()

    def __call__(self, number, news):
        self.heard.put((number, news))

    def tokens(self, samples):
        """Until so many samples have ended: the tokens of each."""
        found, reasons = {}, {}
        while len(reasons) < samples:
            number, news = self.heard.get(timeout=10)
            found.setdefault((number, news.sample), []).extend(news.new.tokens)
            if news.reason:
                reasons[number, news.sample] = news.reason
        return found, reasons


@pytest.fixture
def start():
    threads = []

    def make(engine, queue=100):
        threads.append(EngineThread(engine, engine.slots + queue))
        return threads[-1]

    yield make
    for thread in threads:
        thread.close()


def test_requests_of_many_threads_are_batched_and_each_gets_its_own(start):
    engine = PlayedEngine(slots=4, seconds=0.001)
    thread = start(engine)
    requests = [Request((1, 5 + i), 10, seed=i, samples=1 + i % 2) for i in range(12)]
    listeners = [Listener() for _ in requests]
    for request, listener in zip(requests, listeners, strict=True):
        threading.Thread(target=thread.submit, args=([request], listener)).start()
    for request, listener in zip(requests, listeners, strict=True):
        found, reasons = listener.tokens(request.samples)
        assert set(reasons.values()) == {"length"}
        for (_, sample), tokens in found.items():
            assert tokens == [played_token(request, sample, place) for place in range(10)]
    assert engine.most_running == 4
    assert thread.outstanding == 0


def test_a_full_queue_takes_all_or_nothing(start):
    thread = start(PlayedEngine(slots=2, seconds=0.01), queue=2)
    listener = Listener()
    jobs = thread.submit([Request((1,), 1000, samples=3)], listener)
    with pytest.raises(Busy):
        thread.submit([Request((1,), 1), Request((1,), 1)], listener)
    assert thread.outstanding == 3
    thread.cancel(jobs[0])
    wait_for(lambda: thread.outstanding == 0)
    thread.submit([Request((1,), 1), Request((1,), 1)], after := Listener())
    after.tokens(2)


def test_cancelled_at_once_while_waiting_while_running_and_twice(start):
    engine = PlayedEngine(slots=1, seconds=0.005)
    thread = start(engine)
    listener = Listener()
    running, waiting = thread.submit([Request((1,), 10_000), Request((2,), 10_000)], listener)
    wait_for(lambda: engine.rows)
    thread.cancel(waiting)
    thread.cancel(running)
    thread.cancel(running)
    thread.cancel(*thread.submit([Request((3,), 10_000)], listener))
    wait_for(lambda: thread.outstanding == 0 and engine.idle)
    assert sorted(engine.cancelled) == [1, 2, 3]
    ended = thread.submit([Request((4,), 2)], after := Listener())
    after.tokens(1)
    thread.cancel(*ended)
    assert not thread._jobs
    assert not thread._waiting


def test_what_the_engine_refuses_reaches_who_asked_and_nobody_else(start):
    thread = start(PlayedEngine())
    thread.submit([Request((), 1), Request((1,), 3)], listener := Listener())
    (number, error) = listener.heard.get(timeout=10)
    assert number == 0
    assert isinstance(error, UserError)
    assert listener.tokens(1)[1] == {(1, 0): "length"}
    assert thread.outstanding == 0


def test_a_failing_engine_tells_all_who_wait_and_all_who_come(start):
    engine = PlayedEngine(seconds=0.01)
    thread = start(engine)
    stopped = threading.Event()
    thread.on_failure = stopped.set
    thread.submit([Request((1,), 10_000, samples=8)], running := Listener())
    wait_for(lambda: engine.rows)
    engine.failing = True
    wait_for(stopped.is_set)
    while not isinstance(news := running.heard.get(timeout=10)[1], EngineFailed):
        assert not news.reason
    assert str(thread.failure) == "the played engine breaks"
    with pytest.raises(EngineFailed):
        thread.submit([Request((1,), 1)], running)
    with pytest.raises(EngineFailed):
        thread.call(lambda: 1, print)


def test_a_call_between_steps(start):
    thread = start(PlayedEngine())
    heard = queue.Queue()
    thread.call(lambda: threading.current_thread().name, heard.put)
    assert heard.get(timeout=10) == "engine"
    assert not thread._waiting
