from dataclasses import dataclass
@dataclass
class RewardConfig:
    format: float = 0.0
def check_rewards(c): pass
def reward(response, checked, config, tokens): return checked.score
