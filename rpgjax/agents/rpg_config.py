"""The settings of RPG with a world model: the paper's, its code's, and those of its ablation."""

from dataclasses import dataclass
from typing import Literal

from rpgjax.models.networks import Activation
from rpgjax.types import Count, Fraction, NonNegative, Number, Positive, Share, Traced


@dataclass(frozen=True)
class RPGConfig:
    """The paper's settings."""

    num_envs: Count = 5  # in parallel
    steps_per_call: Count = 10  # of every environment, in one call
    updates_per_call: Count = 10  # of the model; every second one is followed by the policy's
    episode_length: Count = 1000  # environment steps until an episode is truncated
    replay_size: Count = 800_000  # environment steps
    warm_up: Number = 1000  # environment steps before the first update
    batch_size: Count = 512  # segments
    paid_share: Fraction = 0.0  # of a batch, from episodes with a reward, while these are few
    horizon: Count = 3  # H, of segments and of imagined rollouts
    discount: Share = 0.99  # gamma
    head: Literal["gaussian", "flow"] = "gaussian"  # the policy on [s, z]
    latent: Literal["continuous", "discrete"] = "continuous"  # z: N(0, I), or one of latent_size
    latent_size: Number = 12  # of z; 0: none
    latent_unused: NonNegative = 0.0  # entries of a continuous z, the last ones, that are zero
    latent_entropy: NonNegative = 0.1  # alpha_z, where the latent is discrete
    survival: bool = False  # learn when episodes end; the paper and its code take them for endless
    model_size: Count = 100  # of the model's states
    hidden: tuple[Count, ...] = (256, 256)  # of every network but novelty's
    activation: Activation = "elu"
    learning_rate: NonNegative = 3e-4  # of every network, by Adam
    max_grad_norm: Positive = 1.0  # of every network
    state_weight: NonNegative = 1000.0  # of s_{t+1}, in the model's loss
    reward_weight: NonNegative = 0.5  # of r, in it
    value_weight: NonNegative = 0.5  # of V, in it
    target_keep: Share = 0.995  # of the target network, every second update
    reward_scale: Traced = 5.0  # multiplies the task's reward
    novelty_scale: NonNegative = 0.1  # of the reward for what is new; 0: none
    novelty_width: Count = 512  # of its two networks
    novelty_after: Number = 100  # updates until errors count, and novelty pays
    information: NonNegative = 0.01  # beta
    action_entropy: NonNegative = 0.01  # alpha at first; it is learned
    log_std_init: Traced = -0.9163  # of a Gaussian, log 0.4
    flow_steps: Count = 4  # K, of a flow; alpha and log_std_init are a Gaussian's
    c_past: NonNegative = 0.2  # weight of a flow's stability term L_past
    c_uniform: NonNegative = 0.2  # weight of its exploration term L_uni
    bank_size: Count = 128  # pre-sampled reset states


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
