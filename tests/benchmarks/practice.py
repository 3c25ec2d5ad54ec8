"""Speed of a step of reinforcement learning against TRL's GRPO with `transformers` generation, the same shape, in the same run.

    python tests/benchmarks/practice.py
    python tests/benchmarks/practice.py --rounds=1 --seconds=0

A Llama of a million parameters in float32 with random weights answers prompts of 48 tokens, eight times each, with exactly 64
tokens at temperature 1; then comes one update by AdamW, with centred advantages and no KL. `rollouts` is the time until the
batch is there: prompts as tokens, sampling, text, rewards (which cost nothing), advantages. `update` is the rest of the step.
All rates are of the tokens written. Targets are for the median over rounds of the ratio in the same round, to the peer that has
the best median in that column.

TRL runs in float32 without gradient checkpointing, all rows in one batch, with the fused AdamW; its update eager and by
`torch.compile`. Its threads run both as PyTorch has them, which spin while they wait for each other, and asleep while they
wait: on a machine that does other things as well, spinning makes a step many times slower. Needs TRL and PyTorch. It says how
long it takes; wait until nothing else runs.
"""

import statistics
import tempfile
from dataclasses import replace

from absl import flags
from practice_sides import Round
from side_by_side import Contestant, best_and_median, compare, interleave, markdown

from data_pipeline.errors import UserError
from launch import cli, huge_pages
from lm.model.config import ModelConfig
from lm.model.presets import preset

OURS = "Trivium"
ASLEEP = {"OMP_WAIT_POLICY": "PASSIVE"}
PEERS = {  # whether its update is compiled, and its environment
    "TRL eager": (False, {}),
    "TRL compiled": (True, {}),
    "TRL eager, asleep": (False, ASLEEP),
    "TRL compiled, asleep": (True, ASLEEP),
}
ROWS = 16  # of ours in a part of an update, as in experiments/rl/tiny.py
TARGETS = {"rollouts": 2.0, "whole step": 2.0}  # times the best peer
Rates = dict[str, list[float]]


def llama() -> ModelConfig:
    """The shape of the `tiny` preset, and as many parameters; a Llama, since `transformers` has no squared ReLU in one."""
    return replace(preset("tiny"), activation="swiglu", mlp_width=344, qk_norm=False)


def define_flags() -> None:
    """The flags of this benchmark."""
    flags.DEFINE_integer("rounds", 3, "Turns that each side has.", lower_bound=1)
    flags.DEFINE_float("seconds", 10.0, "Seconds of a turn, at least; whole steps.", lower_bound=0.0)


def main(_: list[str]) -> None:
    """Measure all sides in turns, then print the table."""
    rounds, seconds, round = flags.FLAGS.rounds, flags.FLAGS.seconds, Round()
    minutes = (150 + (1 + len(PEERS)) * rounds * (seconds + 2)) / 60  # 150 s: all start and compile
    print(f"{rounds} rounds of {seconds:g} s a side, about {minutes:.0f} minutes; keep the machine quiet", flush=True)
    huge_pages.ask_for_children()
    with tempfile.TemporaryDirectory() as folder:
        contestants = [
            Contestant(name, "practice_sides", "peer", llama(), round, folder, compiled, environment=environment)
            for name, (compiled, environment) in PEERS.items()
        ]
        contestants.append(Contestant(OURS, "practice_sides", "ours", llama(), round, folder, ROWS))
        try:
            for contestant in contestants:
                if problem := contestant.ready():
                    raise UserError(f"{contestant.name} cannot run ({problem}): pip install trl torch")
            rates = measure(contestants, round, rounds, seconds)
        finally:
            for contestant in contestants:
                contestant.close()
    print()
    print(table(rates, round))


def measure(contestants: list[Contestant], round: Round, rounds: int, seconds: float) -> dict[str, Rates]:
    """Tokens written a second, of each part of a step, by each side, in each round."""
    rates: dict[str, Rates] = {
        part: {contestant.name: [] for contestant in contestants} for part in ("rollouts", "update", "whole step")
    }
    for contestant in contestants:
        contestant.facts()  # of the steps in which things were compiled
    for number in range(rounds):
        print(f"round {number + 1} of {rounds}:", flush=True)
        first = number % len(contestants)
        whole = interleave([*contestants[first:], *contestants[:first]], 1, seconds)
        for contestant in contestants:
            rates["whole step"][contestant.name] += whole[contestant.name]
            for part, taken in contestant.facts().items():
                rates[part][contestant.name].append(round.tokens / taken)
    return rates


def table(rates: dict[str, Rates], round: Round) -> str:
    """A row for each side, then how they compare."""
    rows = []
    for side in (OURS, *PEERS):
        seconds = round.tokens / statistics.median(rates["whole step"][side])
        parts = [best_and_median(found[side]) for found in rates.values()]
        rows.append((side, *parts, f"{1000 * seconds:,.0f}", f"{round.prompts * round.samples / seconds:.1f}"))
    compared = {part: compare(found, OURS) for part, found in rates.items()}
    ratios, reached = [], []
    for part, found in compared.items():
        assert found is not None  # there are peers
        ratios.append(f"{found.best:.2f} ({found.median:.2f})")
        target = TARGETS.get(part)
        reached.append(f"{target:g}: {'reached' if found.median >= target else 'MISSED'}" if target else "")
    rows += [(f"{OURS} x the best peer", *ratios, "", ""), ("target", *reached, "", "")]
    return markdown(("tokens/s, best (median)", *rates, "ms a step", "rollouts/s"), rows)


if __name__ == "__main__":
    define_flags()
    cli.run(main)
