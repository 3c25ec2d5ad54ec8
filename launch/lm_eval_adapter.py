"""EleutherAI's evaluation harness (`pip install lm-eval`, tried with 0.4.13) asks a model of ours.

`launch.evaluate --lm_eval_tasks=... [--lm_eval_include=DIR]` runs it. The harness makes the prompts and the metrics, as it does
for every model; here are the three things that it wants of one. Its `hf` model gives the same log-probabilities and greedy
texts for the same weights where its tokenizer writes a start token (`add_bos_token=True`; False for rolling, where it would
write two): see tests/parity/test_lm_eval.py.

A text that is longer than the context loses its beginning, as in the harness's own models. How many did is told at the end.
"""

import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from data_pipeline.errors import UserError

try:
    from lm_eval import simple_evaluate
    from lm_eval.api.instance import Instance
    from lm_eval.api.model import TemplateLM
    from lm_eval.models.utils import normalize_gen_kwargs
    from lm_eval.tasks import TaskManager
    from lm_eval.utils import make_table
except ModuleNotFoundError as missing:
    raise UserError(f'the evaluation harness needs {missing.name}: pip install "lm-eval==0.4.13"') from None

from data_pipeline.tokenizer import Tokenizer
from lm.evaluation.evaluate import completion_text
from lm.inference.engine import Engine
from lm.inference.generate import generate
from lm.inference.requests import Request
from lm.inference.sampling import Sampling
from lm.inference.score import rolling_log_probs, score_continuations
from lm.model.transformer import Transformer

SAMPLING = ("temperature", "top_k", "top_p", "min_p", "repetition_penalty")


class HarnessModel(TemplateLM):
    """A model of ours as the harness sees one: texts in, log-probabilities (nats) or texts out."""

    def __init__(self, model: Transformer, text_tokenizer: Tokenizer, *, quantize_cache: bool = False) -> None:
        super().__init__()
        self.model = model
        self.quantize_cache = quantize_cache
        self.text_tokenizer = text_tokenizer  # `tokenizer` is the harness's name for one of transformers'
        self.shortened: Counter[str] = Counter()  # texts that lost their beginning, by what was asked

    @property
    def eot_token_id(self) -> int:
        """What ends a document, and begins the next."""
        return self.text_tokenizer.document_start

    @property
    def max_length(self) -> int:
        """T, the context."""
        return self.model.config.context_length

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **kwargs: Any) -> list[int]:  # noqa: ARG002
        """The tokens of a text after a document start, or without one: what the text says never becomes a special token."""
        start = [] if add_special_tokens is False else [self.eot_token_id]
        return start + self.text_tokenizer.encode(string)

    def _loglikelihood_tokens(
        self,
        requests: list[tuple[tuple[str, str], list[int], list[int]]],
        **kwargs: Any,  # noqa: ARG002
    ) -> list[tuple[float, bool]]:
        pairs = []
        for (_, continuation), prompt, tokens in requests:
            if not tokens:
                raise UserError(f"the harness asks for a continuation without tokens ({continuation!r}): mend the task")
            keep = self.max_length + 1 - len(tokens)
            if keep < 1:
                raise UserError(f"a continuation of {len(tokens)} tokens exceeds the context of {self.max_length}")
            self.shortened["loglikelihood"] += len(prompt) > keep
            pairs.append((prompt[-keep:], tokens))
        scores = score_continuations(self.model, pairs, symbols=self.text_tokenizer.vocab_size)
        return list(zip(scores.log_probs.tolist(), scores.greedy.tolist(), strict=True))

    def loglikelihood_rolling(self, requests: list[Instance], disable_tqdm: bool = False) -> list[float]:  # noqa: ARG002
        """log p of whole texts, in windows that share one token, as the harness cuts them."""
        texts = [self.text_tokenizer.encode(request.args[0]) for request in requests]
        return rolling_log_probs(self.model, texts, self.eot_token_id, overlap=1).tolist()

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:  # noqa: ARG002
        """Texts up to the first of the stop strings, the end of the document, or `max_gen_toks`."""
        asked = [self._request(request.args[0], request.args[1], number) for number, request in enumerate(requests)]
        engine = Engine(
            self.model,
            symbols=self.text_tokenizer.vocab_size,
            token_bytes=self.text_tokenizer.token_bytes,
            quantize_cache=self.quantize_cache,
        )
        return [
            completion_text(completions[0], self.text_tokenizer, request.stop_strings)
            for request, completions in zip(asked, generate(engine, asked), strict=True)
        ]

    def _request(self, context: str, gen_kwargs: dict[str, Any], number: int) -> Request:
        wanted: dict[str, Any] = dict(normalize_gen_kwargs(gen_kwargs))
        max_tokens, until, do_sample = (wanted.pop(name) for name in ("max_gen_toks", "until", "do_sample"))
        sampling = {name: wanted.pop(name) for name in SAMPLING if name in wanted}
        if wanted:
            raise UserError(f"the task asks for {', '.join(sorted(wanted))} in generation, which is not known here")
        prompt = self.tok_encode(context)
        max_tokens = min(max_tokens, self.max_length - 1)
        self.shortened["generate_until"] += len(prompt) > self.max_length - max_tokens
        return Request(
            tuple(prompt[max_tokens - self.max_length :]),
            max_tokens,
            Sampling(**sampling) if do_sample else Sampling(temperature=0.0),
            seed=number,
            stop_tokens=(self.eot_token_id,),
            stop_strings=tuple(text for text in until if text),
        )


def run_harness(
    model: Transformer,
    tokenizer: Tokenizer,
    step: int,
    folder: Path,
    tasks: list[str],
    include: str | None,
    limit: int | None,
    *,
    quantize_cache: bool = False,
) -> None:
    """Let the harness ask, print its table, and write what it logged to FOLDER/lm_eval.json and lm_eval-TASK.jsonl.

    Raises `UserError` for a task that it does not know.
    """
    if include and not Path(include).is_dir():
        raise UserError(f"--lm_eval_include={include} is no folder: name the one that holds the tasks' YAML files")
    manager = TaskManager(include_path=include)
    if unknown := [name for name in tasks if not manager.match_tasks([name])]:
        raise UserError(f"the harness knows no task {', '.join(unknown)}: check --lm_eval_tasks and --lm_eval_include")
    ours = HarnessModel(model, tokenizer, quantize_cache=quantize_cache)
    results = simple_evaluate(model=ours, tasks=tasks, task_manager=manager, limit=limit)
    assert results is not None  # only other processes than the first get None
    print(f"\nstep {step}\n{make_table(results)}")
    for task, samples in results.pop("samples").items():
        (folder / f"lm_eval-{task}.jsonl").write_text("".join(json.dumps(row, default=str) + "\n" for row in samples))
    (folder / "lm_eval.json").write_text(json.dumps({"step": step, **results}, default=str, indent=2) + "\n")
    if ours.shortened.total():
        told = ", ".join(f"{count:,} for {what}" for what, count in ours.shortened.items() if count)
        print(f"texts longer than the context of {ours.max_length} that lost their beginning: {told}", file=sys.stderr)
    print(f"wrote {folder}/lm_eval.json and a file of samples for each task")
