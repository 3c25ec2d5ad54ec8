"""Several different answers of a run's model to each of some prompts, by our engine."""

from collections.abc import Sequence

from data_pipeline.conversation import Turn, describe_parts
from data_pipeline.errors import UserError
from data_pipeline.set_aside import SetAside
from launch.ranking.rollouts import Prompt, Rollout, Sampler
from launch.server.turn_deltas import TurnDeltas, joined
from launch.talking import Talker
from lm.assistant import read_reply, request
from lm.inference.engine import Engine
from lm.inference.generate import generate
from lm.inference.requests import Completion, Request
from lm.inference.sampling import Sampling

TRIES = 3  # times as many are drawn at most, where some say the same


def make_sampler(talker: Talker, samples: int, max_tokens: int, temperature: float) -> Sampler:
    """A sampler that gives `samples` rollouts of different texts, or fewer where the model has no more to say."""
    symbols, token_bytes = talker.tokenizer.vocab_size, talker.tokenizer.token_bytes
    engine = Engine(talker.model, symbols=symbols, token_bytes=token_bytes)

    def sample(asked: Sequence[tuple[Prompt, int]]) -> list[list[Rollout]]:
        found: list[dict[str, Rollout]] = [{} for _ in asked]  # by what they say
        for attempt in range(TRIES):
            short = [place for place, rollouts in enumerate(found) if len(rollouts) < samples]
            requests = []
            for place in short:
                prompt, seed = asked[place]
                seed = (seed + attempt) % 2**32
                requests.append(_request(talker, prompt, max_tokens, temperature, seed, samples))
            for place, each, completions in zip(short, requests, generate(engine, requests), strict=True):
                for number, completion in enumerate(completions):
                    turn = Turn("assistant", _parts(talker, each, completion))
                    rollout = Rollout(turn, tuple(completion.written.tokens), each.seed, number)
                    words = describe_parts(turn.parts).strip()
                    if words and len(found[place]) < samples:
                        found[place].setdefault(words, rollout)
        return [list(rollouts.values()) for rollouts in found]

    return sample


def fitting(talker: Talker, prompts: Sequence[Prompt], max_tokens: int, set_aside: SetAside) -> list[Prompt]:
    """The prompts that the model can answer in `max_tokens`; the others are set aside."""
    context = talker.model.config.context_length
    fit = []
    for number, prompt in enumerate(prompts):
        reason = ""
        try:
            length = len(_request(talker, prompt, max_tokens, 1.0, 0, 1).prompt)
        except UserError as error:
            reason = str(error)
        else:
            if length + max_tokens > context + 1:  # the last token need not be read
                reason = f"no room for {max_tokens} tokens more in a context of {context}"
        if reason:
            set_aside.add(f"prompt {number}", reason, prompt[-1].text.encode())
        else:
            fit.append(prompt)
    return fit


def _request(talker: Talker, prompt: Prompt, max_tokens: int, temperature: float, seed: int, samples: int) -> Request:
    sampling = Sampling(temperature=temperature)
    return request(talker.tokenizer, prompt, max_tokens, sampling, seed=seed, samples=samples, style=talker.style)


def _parts(talker: Talker, asked: Request, completion: Completion) -> tuple:
    if talker.style == "tokens":
        return read_reply(talker.tokenizer, completion).parts
    deltas = TurnDeltas(talker.tokenizer, asked.stop_strings, strip_start=True)
    by_string = isinstance(completion.stopped_by, str)
    return joined(deltas.feed(completion.written, ended=True, by_string=by_string))
