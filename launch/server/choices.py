"""What completions and chats read, and the choices they come to, piece by piece."""

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from data_pipeline import protocol
from data_pipeline.conversation import Text, ToolCall
from data_pipeline.errors import UserError
from data_pipeline.protocol import Prompt, document_ends
from launch.server.answers import TextOffsets, chat_logprobs, completion_logprobs, usage
from launch.server.asks import Chat, Completion
from launch.server.client_tools import ClientTool, function_call, with_tools
from launch.server.errors import ApiError
from launch.server.generation import Piece, Served, check_number, engine_requests, score, write
from launch.server.messages import Message, shown, turns_of
from lm.assistant import answering
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


def conversation_prompt(
    served: Served, messages: Sequence[Message], style: protocol.Style | None, tools: Sequence[ClientTool] = ()
) -> Prompt:
    """The messages in tokens, the client's tools told of. Raises `ApiError`."""
    style = style or served.style
    tokenizer = served.tokenizer
    if tools and (style == "plain" or protocol.call_end(tokenizer) is None):
        raise ApiError(
            400, "this model cannot call tools: it has no tokens for that, or never saw them in use", "tools"
        )
    try:
        return protocol.prompt(tokenizer, with_tools(turns_of(messages), tools), style)
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
    plain = bool(prompt.stop_strings)  # "Assistant:" is followed by a space, which is the dialogue's
    free = ask.tool_choice != "none"
    theirs = {tool.function.name for tool in ask.tools} if free else set()
    stop_tokens, interjection = answering(served.tokenizer, prompt, served.toolbox if free else None, theirs)
    prompt = replace(prompt, stop_tokens=stop_tokens)
    requests = engine_requests(
        served, ask, [prompt], default=served.context, top=ask.top_logprobs, interjection=interjection
    )
    answers = [Answer(theirs, ask.stream) for _ in range(ask.n)]
    async for piece in write(served, requests, marked=not plain, strip_start=plain):
        # What a tool put in was read, not written, and it was no part of the prompt: it is in neither count.
        drawn = sum(piece.new.drawn)
        counts.update(usage(counts["prompt_tokens"], counts["completion_tokens"] + drawn))
        if not (piece.parts or piece.finish_reason or ask.return_token_ids or ask.logprobs):
            continue
        delta, reason = answers[piece.choice].grow(piece)
        made: dict[str, Any] = {
            "index": piece.choice,
            "delta" if ask.stream else "message": delta,
            "logprobs": None,
            "finish_reason": reason,
        }
        if ask.logprobs:  # a piece is the model's or a tool's, never both
            made["logprobs"] = chat_logprobs(served.tokenizer, piece.new if drawn else Written())
        if ask.return_token_ids:
            made["token_ids"] = list(piece.new.tokens)
            made["token_drawn"] = list(piece.new.drawn)
        yield made


@dataclass
class Answer:
    """One choice of a chat, as far as it has been told."""

    theirs: set[str]  # the client's tools
    stream: bool
    started: bool = False
    length: int = 0  # characters of the content
    calls: int = 0
    others: int = 0  # parts that are neither text nor calls for the client

    def grow(self, piece: Piece) -> tuple[dict[str, Any], str | None]:
        """What the message grows by, and the reason to finish, if there is one.

        `content` is the text, `tool_calls` what the client is to run. `parts` (ours) is everything else: thinking, calls that
        were answered here or that nobody can read, and results; see `messages.ShownPart`.
        """
        delta: dict[str, Any] = {} if self.started else {"role": "assistant"}
        delta["content"] = piece.text
        self.started = True
        for part in piece.parts:
            if isinstance(part, Text):
                self.length += len(part.text)
            elif isinstance(part, ToolCall) and part.name in self.theirs:
                call = function_call(part, self.calls if self.stream else None)
                delta.setdefault("tool_calls", []).append(call)
                self.calls += 1
            else:
                numbered = {"index": self.others} if self.stream else {}  # OpenAI's client puts lists together by it
                delta.setdefault("parts", []).append({**numbered, **shown(part, self.length)})
                self.others += 1
        return delta, "tool_calls" if piece.finish_reason and self.calls else piece.finish_reason
