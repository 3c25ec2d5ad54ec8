"""What completions and chats read, and the choices they come to, piece by piece."""

from collections.abc import AsyncGenerator, Sequence
from typing import Any

from data_pipeline import protocol
from data_pipeline.errors import UserError
from data_pipeline.protocol import Prompt, document_ends
from launch.server.answers import TextOffsets, chat_logprobs, completion_logprobs, usage
from launch.server.asks import Chat, Completion, Message
from launch.server.errors import ApiError
from launch.server.generation import Served, check_number, engine_requests, score, write
from lm.inference.requests import Written

Choices = AsyncGenerator[dict[str, Any], None]


def completion_prompts(served: Served, ask: Completion) -> list[Prompt]:
    """The prompts in tokens: a text begins a document, token ids are taken as they are. Raises `ApiError`."""
    tokenizer = served.tokenizer
    prompts = []
    for prompt in ask.prompt:
        try:
            tokens = [tokenizer.document_start, *tokenizer.encode(prompt)] if isinstance(prompt, str) else prompt
        except UserError as error:
            raise ApiError(400, str(error), "prompt") from None
        for token in tokens:
            if not 0 <= token < tokenizer.vocab_size:
                told = f"prompt: token {token} is outside the vocabulary of {tokenizer.vocab_size:,}"
                raise ApiError(400, told, "prompt")
        prompts.append(Prompt(tuple(tokens), document_ends(tokenizer), ()))
    return prompts


def conversation_prompt(served: Served, messages: Sequence[Message], style: protocol.Style | None) -> Prompt:
    """The messages in tokens. Raises `ApiError`."""
    try:
        return protocol.prompt(served.tokenizer, [message.turn() for message in messages], style)
    except UserError as error:
        raise ApiError(400, str(error), "messages") from None


async def completion_choices(
    served: Served, ask: Completion, prompts: Sequence[Prompt], counts: dict[str, int]
) -> Choices:
    """The pieces of a completion's choices; what is written is added to the counts."""
    check_number(served, len(prompts) * ask.n)
    tokenizer, top = served.tokenizer, ask.logprobs or 0
    offsets = [TextOffsets(tokenizer) for _ in range(len(prompts) * ask.n)]
    started: set[int] = set()

    def choice(number: int, text: str, new: Written, reason: str | None, written: Sequence[int]) -> dict[str, Any]:
        made: dict[str, Any] = {"index": number, "text": text, "logprobs": None, "finish_reason": reason}
        if ask.logprobs is not None:
            made["logprobs"] = completion_logprobs(tokenizer, new, offsets[number])
        if ask.return_token_ids:
            made["token_ids"] = list(written)
            if number not in started:
                made["prompt_token_ids"] = prompts[number // ask.n].tokens
        started.add(number)
        return made

    requests = []
    if ask.max_tokens != 0:
        requests = engine_requests(served, ask, prompts, default=16, top=top)
    elif longest := max(0, *(len(prompt.tokens) - served.context for prompt in prompts)):
        raise ApiError(400, f"the prompt is {longest} tokens longer than the context of {served.context}", "prompt")
    if ask.echo:
        for number, prompt in enumerate(prompts):
            # The document start that we put before a text is no part of it.
            skip = isinstance(ask.prompt[number], str)
            echoed = Written(list(prompt.tokens))
            if ask.logprobs is not None:
                echoed = await score(served, prompt.tokens, top)
            echoed = Written(echoed.tokens[skip:], echoed.log_probs[skip:], alternatives=echoed.alternatives[skip:])
            text = ask.prompt[number] if skip else tokenizer.decode(prompt.tokens)
            for sample in range(number * ask.n, number * ask.n + ask.n):
                yield choice(sample, text, echoed, None if requests else "length", [])
    async for piece in write(served, requests):
        counts.update(usage(counts["prompt_tokens"], counts["completion_tokens"] + len(piece.new.tokens)))
        if piece.text or piece.finish_reason or ask.return_token_ids or ask.logprobs is not None:
            yield choice(piece.choice, piece.text, piece.new, piece.finish_reason, piece.new.tokens)


async def chat_choices(served: Served, ask: Chat, prompt: Prompt, counts: dict[str, int]) -> Choices:
    """The pieces of a chat's choices; what is written is added to the counts."""
    check_number(served, ask.n)
    started: set[int] = set()
    whole = "delta" if ask.stream else "message"
    requests = engine_requests(served, ask, [prompt], default=served.context, top=ask.top_logprobs)
    plain = bool(prompt.stop_strings)  # "Assistant:" is followed by a space, which is the dialogue's
    async for piece in write(served, requests, strip_start=plain):
        counts.update(usage(counts["prompt_tokens"], counts["completion_tokens"] + len(piece.new.tokens)))
        if not (piece.text or piece.finish_reason or ask.return_token_ids or ask.logprobs):
            continue
        delta = {"content": piece.text} if piece.choice in started else {"role": "assistant", "content": piece.text}
        started.add(piece.choice)
        made = {"index": piece.choice, whole: delta, "logprobs": None, "finish_reason": piece.finish_reason}
        if ask.logprobs:
            made["logprobs"] = chat_logprobs(served.tokenizer, piece.new)
        if ask.return_token_ids:
            made["token_ids"] = list(piece.new.tokens)
        yield made
