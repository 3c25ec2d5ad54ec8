r"""Does it come to think longer? Rewarded for right answers and nothing else, with room to think (map row 21).

    python -m launch.train --config=experiments/rl/thinking.py --workdir=runs/thinking --config.start_from=runs/qwen \
        --config.data.problems.sources='("gsm8k/train.jsonl.gz",)' \
        --config.data.problems.held_out_sources='("gsm8k/test.jsonl.gz",)'
    python -m launch.report --workdir=runs/thinking

As DeepSeek-R1-Zero (arXiv 2501.12948): a base model (of Qwen, say, through launch.convert), no worked examples, no reward for a
form, 2,048 tokens. Lengths must be free to grow, so no normaliser divides by them (Dr. GRPO, arXiv 2503.20783), what is cut
off is left out of the update rather than punished, and the clip is wider above (DAPO, arXiv 2503.14476). Look at

- the length in the report, beside accuracy: does it climb, and on what was not practised too (evaluations.jsonl)?
- words of checking in what the best and the longest rollouts say, by step:

      grep -c -i -E 'wait|let me check|re-?evaluate|alternatively' runs/thinking/rollouts.jsonl

  (each line has its "step"; base models know such words already, so compare with the first steps)
- the share cut off, in metrics.jsonl: where it grows too, length is only rambling.

Not measured: it needs a GPU. The same effect in two minutes on a CPU is experiments/rl/parity.py.
"""

from dataclasses import replace

from experiments.rl import gsm8k
from lm.experiment import Experiment
from lm.objectives.policy_gradient import preset
from lm.practice import PracticeConfig


def get_config() -> Experiment:
    """The experiment."""
    config = gsm8k.get_config()
    config.steps = 1000
    config.model.context_length = 4096
    config.data = PracticeConfig(
        problems=gsm8k.problems(), prompts=32, samples=8, tokens=2048, slots=128, cut_off="masked", refill=3
    )
    config.objective = replace(preset("dr_grpo"), clip_high=0.28)
    config.evaluate.every = config.checkpoint.every = 50
    return config
