"""The settings of RPG with a world model: the paper's, its code's, and those of its ablation."""

from dataclasses import dataclass
from typing import Annotated, Literal

from rpgjax.models.networks import Activation
from rpgjax.types import Count, Limits, NonNegative, Number, Share, Traced


@dataclass(frozen=True)
class RPGConfig:
    """The paper's settings."""

    num_envs: Count = 5
    steps_per_call: Count = 10  # of every environment, in one call
    updates_per_call: Count = 10  # of the model; every second one is followed by the policy's
    episode_length: Count = 1000
    replay_size: Count = 800_000  # environment steps
    warm_up: Number = 1000  # environment steps before the first update
    batch_size: Count = 512  # segments
    paid_share: Annotated[float, Limits(0.0, 1.0)] = (
        0.0  # of them, from paid episodes, while these are few
    )
    horizon: Count = 3  # H, of segments and of imagined rollouts
    discount: Share = 0.99
    head: Literal["gaussian", "flow"] = "gaussian"
    latent: Literal["continuous", "discrete"] = "continuous"
    latent_size: Number = 12
    latent_unused: NonNegative = (
        0.0  # of a continuous z's entries, the last ones: zero, and not counted
    )
    latent_entropy: NonNegative = 0.1  # alpha_z, where the latent is discrete
    survival: bool = False  # learn when episodes end; the paper and its code take them for endless
    model_size: Count = 100  # of the model's states
    hidden: tuple[Count, ...] = (256, 256)
    activation: Activation = "elu"
    learning_rate: NonNegative = 3e-4
    max_grad_norm: NonNegative = 1.0
    state_weight: NonNegative = 1000.0
    reward_weight: NonNegative = 0.5
    value_weight: NonNegative = 0.5
    target_keep: Share = 0.995  # of the target network, every second update
    reward_scale: Traced = 5.0
    novelty_scale: NonNegative = 0.1
    novelty_width: Count = 512
    novelty_after: Number = 100  # updates until errors count, and novelty pays
    information: NonNegative = 0.01  # beta
    action_entropy: NonNegative = 0.01  # alpha at first; it is learned
    log_std_init: Traced = -0.9163  # log 0.4
    flow_steps: Count = 4  # K, of a flow; alpha and log_std_init are a Gaussian's
    c_past: NonNegative = 0.2  # weight of a flow's stability term L_past
    c_uniform: NonNegative = 0.2  # weight of its exploration term L_uni
    bank_size: Count = 128


@dataclass(frozen=True)
class OfficialRPGConfig(RPGConfig):
    """The weights of the official code."""

    state_weight: NonNegative = 10_000.0
    reward_weight: NonNegative = 10.0
    value_weight: NonNegative = 1.0


@dataclass(frozen=True)
class MBSACConfig(RPGConfig):
    """RPG without a latent: the paper's ablation."""

    latent_size: Literal[0] = 0
