"""EleutherAI's harness asks our model and its own `hf` model, of the same weights, and gets the same answers."""

import json
from dataclasses import replace

import numpy as np
import pytest

lm_eval = pytest.importorskip(
    "lm_eval",
    reason="agreement with the harness is NOT checked: lm-eval is not installed (make parity, see tests/parity/install.py)",
    exc_type=ImportError,
)
from copying import build  # noqa: E402
from peers import PEERS, random_weights, transformers, weights_as_ours  # noqa: E402

from data_pipeline.errors import UserError  # noqa: E402
from data_pipeline.tokenizer import load_tokenizer  # noqa: E402
from launch.lm_eval_adapter import HarnessModel, run_harness  # noqa: E402

WORDS = [
    "the",
    "a",
    "cat",
    "dog",
    "bird",
    "sees",
    "hears",
    "likes",
    "green",
    "small",
    "old",
    "tree",
    "house",
    "and",
    ".",
    "?",
]
TASKS = {
    "local_choice": """
output_type: multiple_choice
doc_to_text: "{{question}}"
doc_to_choice: "{{choices}}"
doc_to_target: "{{answer}}"
metric_list:
  - metric: acc
  - metric: acc_norm
""",
    "local_generate": """
output_type: generate_until
doc_to_text: "{{question}}"
doc_to_target: "x"
generation_kwargs:
  until: ["."]
  max_gen_toks: 12
metric_list:
  - metric: exact_match
""",
    "local_rolling": """
output_type: loglikelihood_rolling
doc_to_text: ""
doc_to_target: "{{text}}"
metric_list:
  - metric: bits_per_byte
""",
}


def sentences(count: int, most: int, seed: int) -> list[str]:
    chance = np.random.default_rng(seed)
    return [" ".join(chance.choice(WORDS, chance.integers(1, most))) for _ in range(count)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory, monkeypatch_module):
    """Task files, their rows, and a tokenizer that writes <s> before a text."""
    import tokenizers
    from tokenizers import decoders, pre_tokenizers, processors, trainers

    monkeypatch_module.setenv("HF_HOME", str(tmp_path_factory.mktemp("hf")))
    monkeypatch_module.setenv("HF_HUB_OFFLINE", "1")
    folder = tmp_path_factory.mktemp("tasks")
    rows = [
        {
            "question": question,
            "choices": sentences(3, 5, seed=100 + number),
            "answer": number % 3,
            "text": text,
        }
        for number, (question, text) in enumerate(zip(sentences(12, 30, 1), sentences(12, 90, 2), strict=True))
    ]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for name, lines in TASKS.items():
        data = (
            f"dataset_path: json\ndataset_kwargs:\n  data_files:\n    test: {folder / 'rows.jsonl'}\ntest_split: test\n"
        )
        (folder / f"{name}.yaml").write_text(f"task: {name}\n{data}{lines.strip()}\n")
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=290, special_tokens=["<s>"], initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(sentences(200, 20, 3), trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        "<s> $A", special_tokens=[("<s>", tokenizer.token_to_id("<s>"))]
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


@pytest.fixture(scope="module")
def monkeypatch_module():
    with pytest.MonkeyPatch.context() as patch:
        yield patch


@pytest.fixture(scope="module", params=["gpt2", "llama3.2 1b"])
def both(request, folder):
    """Our model as the harness sees it, and its `hf` model with and without a start token in its texts."""
    from lm_eval.models.huggingface import HFLM

    peer = PEERS[request.param]
    peer = replace(peer, config=replace(peer.config, vocab_size=290, context_length=48))
    theirs = random_weights(peer)
    ours = build(peer.config, weights_as_ours(peer, theirs))
    text_tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_file=str(folder / "tokenizer.json"), bos_token="<s>", eos_token="<s>", pad_token="<s>"
    )
    hf = [
        HFLM(
            pretrained=theirs, tokenizer=text_tokenizer, add_bos_token=start, max_length=48, batch_size=4, device="cpu"
        )
        for start in (True, False)
    ]
    return HarnessModel(ours, load_tokenizer(folder / "tokenizer.json")), *hf


def ask(model, folder, task: str) -> list[dict]:
    manager = lm_eval.tasks.TaskManager(include_path=str(folder), include_defaults=False)
    return lm_eval.simple_evaluate(model=model, tasks=[task], task_manager=manager, bootstrap_iters=0)["samples"][task]


def responses(samples: list[dict]) -> list:
    return [response for sample in sorted(samples, key=lambda one: one["doc_id"]) for response in sample["resps"]]


def test_log_likelihoods_agree_example_by_example(both, folder):
    ours, theirs, _ = both
    found, expected = (responses(ask(model, folder, "local_choice")) for model in (ours, theirs))
    assert len(found) == 36
    np.testing.assert_allclose([one[0][0] for one in found], [one[0][0] for one in expected], atol=1e-3)
    assert [one[0][1] for one in found] == [one[0][1] for one in expected]
    assert ours.shortened["loglikelihood"] > 0  # some prompts do not fit, and both cut the same


def test_rolling_log_likelihoods_agree(both, folder):
    ours, _, theirs = both  # with add_bos_token theirs would read two start tokens and be asked for the second
    found, expected = (responses(ask(model, folder, "local_rolling")) for model in (ours, theirs))
    values = [np.ravel(one)[0] for one in found]
    np.testing.assert_allclose(values, [np.ravel(one)[0] for one in expected], atol=1e-3)
    assert min(values) < -200  # several windows


def test_greedy_texts_are_the_same(both, folder):
    ours, theirs, _ = both
    found, expected = (responses(ask(model, folder, "local_generate")) for model in (ours, theirs))
    assert found == expected
    assert len({one[0] for one in found}) > 3


def test_the_harness_runs_and_its_results_are_kept(both, folder, tmp_path, capsys):
    ours = both[0]
    run_harness(ours.model, ours.text_tokenizer, 7, tmp_path, ["local_choice", "local_generate"], str(folder), 11)
    told = capsys.readouterr()
    assert "local_choice" in told.out
    assert "that lost their beginning" in told.err
    assert json.loads((tmp_path / "lm_eval.json").read_text())["step"] == 7
    assert len((tmp_path / "lm_eval-local_choice.jsonl").read_text().splitlines()) == 11
    with pytest.raises(UserError, match="the harness knows no task nothing"):
        run_harness(ours.model, ours.text_tokenizer, 7, tmp_path, ["nothing"], str(folder), 5)
    with pytest.raises(UserError, match="is no folder"):
        run_harness(ours.model, ours.text_tokenizer, 7, tmp_path, ["local_choice"], str(folder / "none"), 5)
