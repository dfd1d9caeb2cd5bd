"""The settings of RPG with a world model: the paper's, its code's, and those of its ablation."""

from dataclasses import dataclass
from typing import Literal

from rpgjax.models.networks import Activation
from rpgjax.types import Traced


@dataclass(frozen=True)
class RPGConfig:
    """The paper's settings."""

    num_envs: int = 5
    steps_per_call: int = 10  # of every environment, in one call
    updates_per_call: int = 10  # of the model; every second one is followed by the policy's
    episode_length: int = 1000
    replay_size: int = 800_000  # environment steps
    warm_up: int = 1000  # environment steps before the first update
    batch_size: int = 512  # segments
    paid_share: float = 0.0  # of them, from paid episodes, while these are few
    horizon: int = 3  # H, of segments and of imagined rollouts
    discount: Traced = 0.99
    head: Literal["gaussian", "flow"] = "gaussian"
    latent: Literal["continuous", "discrete"] = "continuous"
    latent_size: int = 12
    latent_unused: Traced = 0.0  # of a continuous z's entries, the last ones: zero, and not counted
    latent_entropy: Traced = 0.1  # alpha_z, where the latent is discrete
    survival: bool = False  # learn when episodes end; the paper and its code take them for endless
    model_size: int = 100  # of the model's states
    hidden: tuple[int, ...] = (256, 256)
    activation: Activation = "elu"
    learning_rate: Traced = 3e-4
    max_grad_norm: Traced = 1.0
    state_weight: Traced = 1000.0
    reward_weight: Traced = 0.5
    value_weight: Traced = 0.5
    target_keep: Traced = 0.995  # of the target network, every second update
    reward_scale: Traced = 5.0
    novelty_scale: Traced = 0.1
    novelty_width: int = 512
    novelty_after: int = 100  # updates until errors count, and novelty pays
    information: Traced = 0.01  # beta
    action_entropy: Traced = 0.01  # alpha at first; it is learned
    log_std_init: Traced = -0.9163  # log 0.4
    flow_steps: int = 4  # K, of a flow; alpha and log_std_init are a Gaussian's
    c_past: Traced = 0.2  # weight of a flow's stability term L_past
    c_uniform: Traced = 0.2  # weight of its exploration term L_uni
    bank_size: int = 128


@dataclass(frozen=True)
class OfficialRPGConfig(RPGConfig):
    """The weights of the official code."""

    state_weight: Traced = 10_000.0
    reward_weight: Traced = 10.0
    value_weight: Traced = 1.0


@dataclass(frozen=True)
class MBSACConfig(RPGConfig):
    """RPG without a latent: the paper's ablation."""

    latent_size: int = 0
