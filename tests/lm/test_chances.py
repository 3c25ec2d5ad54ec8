"""Who is wrong may answer again: against the conversation rendered as a whole, with a policy that says what is written down."""

from dataclasses import dataclass, replace
from typing import ClassVar

import pytest
from scripted import LENGTH, a_tokenizer, scripted

from data_pipeline.conversation import said
from data_pipeline.problem import Problem, Response, Verdict
from data_pipeline.protocol import end_of_turn, prompt, render
from data_pipeline.rewards import RewardConfig
from data_pipeline.verifying import Verifiers
from lm.inference.engine import Engine
from lm.practice import PracticeConfig, check_practice
from lm.rl.batch import pack
from lm.rl.rollout import WRONG, collect, numbers_of

ANSWERS = ("It is 7.", "No: 8.", "Then 9.")


@dataclass(frozen=True)
class Ends:
    """1 where the answer ends as asked."""

    end: str
    inline: ClassVar[bool] = True

    def __call__(self, response: Response) -> Verdict:
        return Verdict(float(response.text.endswith(self.end)), response.text)


@pytest.fixture(scope="module")
def ours(tmp_path_factory):
    return a_tokenizer(tmp_path_factory.mktemp("tokenizer"))


def conversation(question, count):
    """The question and `count` answers, the user's word between them."""
    turns = [said("user", question)]
    for number, answer in enumerate(ANSWERS[:count]):
        turns += [said("user", WRONG)] * bool(number) + [said("assistant", answer)]
    return turns


def tried(ours, right: str, chances: int, tokens: int = 20, length: int = LENGTH):
    """Two rollouts of a policy that gives the answers in this order."""
    asked = Problem("p", (said("user", "How many?"),), Ends(right), "sum")
    script = render(ours, conversation("How many?", len(ANSWERS))).tokens
    model = scripted(script, ours.vocab_size)
    engine = Engine(model, slots=4, symbols=ours.vocab_size, steady=True)
    engine.config = replace(engine.config, context_length=length)
    verifiers = Verifiers(1, 5.0)
    found = collect(
        engine,
        ours,
        [asked],
        verifiers,
        RewardConfig(),
        samples=2,
        tokens=tokens,
        temperature=1.0,
        toolbox=None,
        seed=0,
        draw="d",
        chances=chances,
    )
    verifiers.close()
    return found.rollouts


@pytest.mark.parametrize(
    ("right", "chances", "answered", "score"),
    [("7.", 3, 1, 1.0), ("8.", 3, 2, 1.0), ("9.", 3, 3, 1.0), ("9.", 2, 2, 0.0), ("8.", 1, 1, 0.0), ("5.", 3, 3, 0.0)],
)
def test_it_answers_until_it_is_right_or_has_no_chance_left(ours, right, chances, answered, score):
    asked = prompt(ours, [said("user", "How many?")], "tokens").tokens
    rendered = render(ours, conversation("How many?", answered))
    for each in tried(ours, right, chances):
        assert (each.score, each.reward, each.chance) == (score, score, answered)
        assert each.prompt == list(asked)
        assert each.tokens == list(rendered.tokens[len(asked) :])
        # What the assistant wrote is drawn, its ends of turn too; the user's word, and the marks around it, are not.
        assert each.drawn == list(rendered.trained[len(asked) :])
        assert (
            sum(token == end_of_turn(ours) for token, drawn in zip(each.tokens, each.drawn, strict=True) if drawn)
            == answered
        )
        assert [p for p, drawn in zip(each.sampler_log_probs, each.drawn, strict=True) if not drawn] == [
            0.0
        ] * each.drawn.count(False)
        assert each.text == f"\n[{WRONG}]\n".join(ANSWERS[:answered])
        assert each.well_formed


def test_a_batch_trains_the_answers_alone(ours):
    rollouts = tried(ours, "8.", 3)
    batch, _ = pack(rollouts, 128, 1)
    said_so = [ours.decode(batch["labels"][row][batch["loss_mask"][row]]) for row in range(len(batch["labels"]))]
    assert "".join(said_so) == "".join(ANSWERS[:2]) * 2
    assert numbers_of(rollouts, 2)["chance"] == 2.0
    assert "chance" not in numbers_of(tried(ours, "7.", 3), 2)


def test_who_was_cut_off_or_has_no_room_gets_no_other_chance(ours):
    """The last of the room is one answer of `tokens` after the user's word."""
    (cut, _) = tried(ours, "8.", 3, tokens=2)
    assert (cut.chance, cut.cut_off, cut.score) == (1, True, 0.0)
    needed = len(prompt(ours, [*conversation("How many?", 1), said("user", WRONG)], "tokens").tokens) + 20
    assert [each.chance for each in tried(ours, "9.", 3, length=needed)] == [2, 2]
    assert [each.chance for each in tried(ours, "9.", 3, length=needed - 1)] == [1, 1]


def test_it_is_refused_beside_reward_models():
    config = PracticeConfig(chances=2, cut_off="scored")
    config.taste.models = ("runs/reward",)
    with pytest.raises(Exception, match=r"data.chances: no answer is wrong where reward models judge"):
        check_practice(config)
    with pytest.raises(Exception, match=r"data.chances=0: must be at least 1"):
        check_practice(PracticeConfig(chances=0))
