r"""How often a reward model prefers what it should, on a file of rankings, by kind (map row 24).

    python -m launch.reward_accuracy --reward=runs/reward --rankings=rewardbench.jsonl --by=subset
    python -m launch.reward_accuracy --reward=runs/reward --rankings=hh-rlhf/test.jsonl.gz
    python -m launch.reward_accuracy --reward=runs/reward --rankings=runs/reward/rankings.jsonl --held_out --noise=0.45

Files as in data_pipeline/ranking_rows.py; RewardBench (arXiv 2403.13787) has prompt, chosen, rejected and subset.
Of each ranking counts the share of its pairs that are ordered rightly; equal rewards are half right. Of several reward models,
--reward=A,B, the mean counts. Rows that are no ranking, and what is longer than the model's context, are set aside in a file, and
counted. --noise is for the rankings of data_pipeline/taste.py, whose rows tell what the rater really feels (gold): it then counts
how often an order would be right over all moods of the rater, beside the ceiling, how often the rater's own taste would be.
"""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from absl import flags

from data_pipeline.chat_formats import BadRow
from data_pipeline.errors import UserError
from data_pipeline.ranking import Ranking
from data_pipeline.ranking_rows import rankings_of
from data_pipeline.rankings import tokenize
from data_pipeline.set_aside import SetAside
from data_pipeline.sources import read_rows
from data_pipeline.tokenizer import Tokenizer, find_tokenizer, load_tokenizer
from launch import cli
from lm.preference_metrics import measured

ROWS = 16  # that the model reads at once


def define_flags() -> None:
    """The flags of this program."""
    flags.DEFINE_list("reward", [], "The folders of the reward models' runs.")
    flags.DEFINE_string("rankings", None, "A file, a glob or tfds:NAME.")
    flags.DEFINE_string("by", "", "A key of the rows that tells their kind, such as subset.")
    flags.DEFINE_bool("held_out", False, "Only rows that say that they are held out.")
    flags.DEFINE_float("noise", 0.0, "Of the rater, whose gold the rows tell; 0: it is not known.", lower_bound=0.0)
    flags.DEFINE_string("set_aside", "set_aside.jsonl", "The file for rows that cannot be used.")


def main(_: list[str]) -> None:
    """Read, score, tell."""
    options = flags.FLAGS
    for name in ("reward", "rankings"):
        if not getattr(options, name):
            raise UserError(f"--{name} is missing: python -m launch.reward_accuracy --reward=RUN --rankings=FILE")

    import jax

    from launch.reward_models import load_reward_model
    from lm import sharding
    from lm.rl.rewarding import rewards_of

    folders = [Path(name).expanduser() for name in options.reward]
    mesh = sharding.make_mesh(sharding.MeshConfig())
    models = [load_reward_model(folder, mesh) for folder in folders]
    tokenizer, *others = [load_tokenizer(find_tokenizer(folder / "tokenizer")) for folder in folders]
    if any(other.fingerprint != tokenizer.fingerprint for other in others):
        raise UserError(f"--reward={','.join(options.reward)}: they do not read the same tokens")
    set_aside = SetAside(Path(options.set_aside).expanduser())
    longest = min(model.model.config.context_length for model in models)
    found, sequences = usable(options, tokenizer, longest, set_aside)
    if not found:
        raise UserError(f"{options.rankings} holds no ranking that can be read: {set_aside.summary() or 'none at all'}")
    with jax.set_mesh(mesh):
        rewards = np.mean([rewards_of(model, sequences, mesh, ROWS * mesh.size) for model in models], axis=0).tolist()
    shares: dict[str, list[float]] = {}
    ceiling = []
    at = 0
    for kind, ranking, gold in found:
        mine, at = rewards[at : at + len(ranking.responses)], at + len(ranking.responses)
        if options.noise:
            ceiling.append(right_on_average(gold, gold, options.noise))
        share = right_on_average(mine, gold, options.noise) if options.noise else right(ranking, mine)
        shares.setdefault(kind, []).append(share)
    print(told(shares))
    if ceiling:
        print(f"{'':8} {np.mean(ceiling):6.1%} {'':16}  the rater's own taste")
    if set_aside.counts:
        print(set_aside.summary())


def usable(
    options: flags.FlagValues, tokenizer: Tokenizer, longest: int, set_aside: SetAside
) -> tuple[list[tuple[str, Ranking, list[float]]], list[list[int]]]:
    """(kind, ranking, gold) of each row that can be scored, and the tokens of their responses one after another."""
    found: list[tuple[str, Ranking, list[float]]] = []
    sequences: list[list[int]] = []
    for where, row in read_rows(options.rankings, set_aside):
        if options.held_out and not row.get("held_out"):
            continue
        try:
            for ranking in rankings_of(where, row):
                tokens = [each.tolist() for each in tokenize(ranking, tokenizer).tokens]
                gold = row.get("gold", [])
                if max(map(len, tokens)) > longest:
                    raise BadRow(f"longer than the context of {longest} tokens")
                if options.noise and len(gold) != len(tokens):
                    raise BadRow("no gold for each response, which --noise needs")
                found.append((str(row.get(options.by, "")) if options.by else "", ranking, gold))
                sequences += tokens
        except (BadRow, UserError) as error:
            set_aside.add(where, str(error), json.dumps(row, default=str).encode())
    return found, sequences


def right(ranking: Ranking, rewards: Sequence[float]) -> float:
    """The share of its pairs that rewards order as it does."""
    ranks = np.array([-1 if rank is None else rank for rank in ranking.ranks])
    return measured([np.array(rewards)], [ranks], [np.zeros(len(ranks))])["pair_accuracy"]


def right_on_average(rewards: Sequence[float], gold: Sequence[float], noise: float) -> float:
    """The mean chance, over all pairs, that a rater in a mood (`taste.rank`) orders them as rewards do."""
    chances = [
        1 / (1 + np.exp(-np.sign(rewards[i] - rewards[j]) * (gold[i] - gold[j]) / noise))
        for i in range(len(gold))
        for j in range(i)
    ]
    return float(np.mean(chances))


def told(shares: dict[str, list[float]]) -> str:
    """A line for each kind, and one for all: how many, the mean, its 95% interval by the normal approximation."""
    lines = [f"{'rankings':>8} {'right':>6} {'95% interval':>16}  kind"]
    kinds = dict(sorted(shares.items())) if len(shares) > 1 else {}
    for kind, values in {**kinds, "all": [value for each in shares.values() for value in each]}.items():
        mean, half = np.mean(values), 1.96 * np.std(values) / len(values) ** 0.5
        low, high = max(mean - half, 0.0), min(mean + half, 1.0)
        lines.append(f"{len(values):8,} {mean:6.1%} {f'[{low:.1%}, {high:.1%}]':>16}  {kind or 'not said'}")
    if kinds:
        lines.append(
            f"{'':8} {np.mean([np.mean(values) for values in kinds.values()]):6.1%} {'':16}  mean of the kinds"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    define_flags()
    cli.run(main)
