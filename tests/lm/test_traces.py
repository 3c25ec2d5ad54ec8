"""Which tries of a policy become conversations to finetune on, and what is told of the others."""

from dataclasses import replace

import pytest
from rl_world import problems
from scripted import a_tokenizer

from data_pipeline.chat_formats import conversation_of
from data_pipeline.conversation import BrokenCall, Text, ToolCall, ToolResult, Turn, said
from data_pipeline.protocol import prompt, render
from lm.rl.rollout import Rollout
from lm.rl.traces import hinted, traces_of

CALL = ToolCall("python", {"code": "1 + 1"})


@pytest.fixture(scope="module")
def ours(tmp_path_factory):
    return a_tokenizer(tmp_path_factory.mktemp("tokenizer"))


def a_try(ours, problem, *parts, score=1.0, well_formed=True, cut_off=False, failed=False) -> Rollout:
    """A rollout that says `parts`, as the engine would have written them."""
    start = list(prompt(ours, problem.turns, "tokens").tokens)
    tokens = render(ours, [*problem.turns, Turn("assistant", parts)]).tokens[len(start) :]
    rest = {"drawn": [True] * len(tokens), "sampler_log_probs": [0.0] * len(tokens), "reason": "", "calls": 0}
    about = {"doubt": 0.0, "failed": failed, "cut_off": cut_off, "well_formed": well_formed, "text": ""}
    return Rollout(problem.id, start, tokens, score=score, reward=score, **rest, **about)


class Scripted:
    """Tries that are written down, and what was asked for them."""

    def __init__(self, *answers):
        self.answers, self.asked = list(answers), []

    def __call__(self, some, draw):
        self.asked.append((draw, [each.turns for each in some]))
        return self.answers.pop(0)


def test_right_and_whole_tries_are_kept_with_their_calls(ours):
    first, second = problems(2)
    called = (CALL, ToolResult("2"), Text("It is 2."))
    attempt = Scripted(
        [
            a_try(ours, first, *called),
            a_try(ours, first, *called),
            a_try(ours, first, Text("2, surely.")),
            a_try(ours, first, Text("3"), score=0.0),
            a_try(ours, first, Text("2 and so"), well_formed=False, cut_off=True),
            a_try(ours, first, BrokenCall("python", "no arguments"), ToolResult("error"), Text("2"), well_formed=False),
            a_try(ours, first, CALL, Text("It is 2.")),
            a_try(ours, first, Text("?"), score=0.0, failed=True),
        ]
        + [a_try(ours, second, Text("0.5"), score=0.5)] * 8
    )
    rows = traces_of([first, second], attempt, ours, hint=False)
    assert [row["id"] for row in rows] == [first.id, second.id]
    assert rows[0]["tries"] == {
        "right": 2,
        "right again in the same words": 1,
        "wrong": 1,
        "right, but cut off": 1,
        "right, but broken": 1,
        "right, but parts in an order that messages do not have": 1,
        "the verifier failed": 1,
    }
    read = [conversation_of("", {"messages": messages}).turns for messages in rows[0]["conversations"]]
    assert read == [(*first.turns, Turn("assistant", called)), (*first.turns, said("assistant", "2, surely."))]
    assert rows[1] == {"id": second.id, "hinted": False, "tries": {"wrong": 8}, "conversations": []}
    # The tool's words are not learnt, whoever wrote the rest.
    rendered = render(ours, read[0])
    untrained = [token for token, trained in zip(rendered.tokens, rendered.trained, strict=True) if not trained]
    assert ours.decode(untrained) == first.turns[0].text + "2"


def test_a_hint_is_given_where_nothing_was_right_and_taken_away_again(ours):
    golds = ("0", "It is 2.", None)
    solved, unsolved, without = (replace(each, gold=gold) for each, gold in zip(problems(3), golds, strict=True))
    attempt = Scripted(
        [
            a_try(ours, solved, Text("0")),
            a_try(ours, unsolved, Text("9"), score=0.0),
            a_try(ours, without, Text("9"), score=0.0),
        ],
        [a_try(ours, hinted(unsolved), Text("1 plus 1 is 2."))],
    )
    rows = traces_of([solved, unsolved, without], attempt, ours, hint=True)
    (draw, asked) = attempt.asked[1]
    assert (draw, [turns[-1].text for turns in asked]) == ("hinted", ["What is 1 plus 1?\nHint: It is 2."])
    assert [row["hinted"] for row in rows] == [False, True, False]
    assert rows[1]["conversations"] == [
        [{"role": "user", "content": "What is 1 plus 1?"}, {"role": "assistant", "content": "1 plus 1 is 2."}]
    ]
    assert rows[2]["conversations"] == []


def test_no_second_chance_where_all_is_solved(ours):
    (problem,) = problems(1)
    attempt = Scripted([a_try(ours, problem, Text("0"))])
    assert len(traces_of([problem], attempt, ours, hint=True)[0]["conversations"]) == 1
    assert len(attempt.asked) == 1
