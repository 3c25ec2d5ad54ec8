"""The models that write text for the data: a run of ours through the engine, or any behind an OpenAI-compatible address."""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from data_pipeline.conversation import said
from data_pipeline.errors import UserError
from data_pipeline.model_text import Writer

BATCH = 8  # prompts that are answered at once


def make_writer(named: str, temperature: float, max_tokens: int) -> tuple[Writer, str]:
    """The model that `named` names, a run's folder or ADDRESS#MODEL, and what to call it in what is stored.

    Raises `UserError` where there is none, or it cannot write: an address is asked a first question.
    """
    settings = f"temperature {temperature:g}, at most {max_tokens} tokens"
    if not named.startswith(("http://", "https://")):
        write, step = run_writer(Path(named).expanduser(), temperature, max_tokens)
        return write, f"{named} at step {step}, {settings}"
    address, _, model = named.partition("#")
    if not model:
        raise UserError(f"{named} names no model: write ADDRESS#MODEL, such as http://127.0.0.1:8000/v1#assistant")
    write = openai_writer(address, model, temperature=temperature, max_tokens=max_tokens)
    try:
        write(["Reply with one word: yes."])
    except UserError:
        raise
    except Exception as error:  # whatever stands at that address
        raise UserError(f"no answer from the model at {address}: {error}") from error
    return write, f"{model}, {settings}"


def run_writer(folder: Path, temperature: float, max_tokens: int) -> tuple[Writer, int]:
    """The model of a run, and its step. Raises `UserError` as `load_model` does, and for a base model of ours.

    The writer raises ValueError for a prompt that is longer than the context.
    """
    from launch.talking import load_talker
    from lm.assistant import replies, request
    from lm.inference.engine import Engine
    from lm.inference.sampling import Sampling, check_sampling

    sampling = Sampling(temperature=temperature)
    check_sampling(sampling)
    talker = load_talker(folder)
    if talker.style == "plain":
        raise UserError(f"{folder} holds a base model, which follows no instruction: name an assistant")
    engine = Engine(talker.model, slots=BATCH, symbols=talker.tokenizer.vocab_size)

    def write(prompts: list[str]) -> list[str]:
        asked = [
            request(talker.tokenizer, [said("user", text)], max_tokens, sampling, style="tokens") for text in prompts
        ]
        try:
            return [reply.text for (reply,) in replies(engine, talker.tokenizer, asked)]
        except UserError as error:
            raise ValueError(str(error)) from error

    return write, talker.step


def openai_writer(
    base_url: str, model: str, *, temperature: float = 0.7, max_tokens: int = 1024, seconds: float = 120.0
) -> Writer:
    """A model behind an OpenAI-compatible address, such as `launch.serve`'s "http://127.0.0.1:8000/v1".

    The key is that of the environment, OPENAI_API_KEY, if there is one. Raises `ConnectionError` where it does not answer in
    `seconds`, is busy or breaks; `UserError` where it knows no such key or model; ValueError for what else it refuses, and for
    what is no answer.
    """
    try:
        import openai
    except ImportError:
        raise UserError("asking a model over the network needs the openai package: pip install openai") from None
    key = os.environ.get("OPENAI_API_KEY") or "-"
    client = openai.OpenAI(base_url=base_url, api_key=key, timeout=seconds, max_retries=0)

    def one(prompt: str) -> str:
        try:
            answer = client.chat.completions.create(
                model=model,
                messages=[{"role": "user", "content": prompt}],
                temperature=temperature,
                max_tokens=max_tokens,
            )
            return answer.choices[0].message.content or ""
        except (openai.AuthenticationError, openai.PermissionDeniedError, openai.NotFoundError) as error:
            raise UserError(f"{base_url} refuses the model {model!r}: {error}") from None
        except (openai.APIConnectionError, openai.RateLimitError, openai.InternalServerError) as error:
            raise ConnectionError(f"{base_url}: {error}") from error
        except openai.OpenAIError as error:
            raise ValueError(str(error)) from error
        except (AttributeError, IndexError, TypeError) as error:
            raise ValueError("what came is no chat completion") from error

    def write(prompts: list[str]) -> list[str]:
        with ThreadPoolExecutor(BATCH) as threads:
            return list(threads.map(one, prompts))

    return write
