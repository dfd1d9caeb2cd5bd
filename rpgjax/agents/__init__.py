"""Agents: algorithms as pairs of pure functions, `init` and `update`."""

from collections.abc import Callable
from typing import Any

from rpgjax.envs.quiet import quiet_brax

with quiet_brax():  # whose import prints: it is first imported by whatever comes first of these
    from brax.envs import Env

    from rpgjax.agents.agent import Agent, Policy
    from rpgjax.agents.apg import APGConfig, apg
    from rpgjax.agents.rfo import RFOConfig, rfo
    from rpgjax.agents.rpg import rpg
    from rpgjax.agents.rpg_config import MBSACConfig, OfficialRPGConfig, RPGConfig
    from rpgjax.agents.rpg_physics import RPGPhysicsConfig, rpg_physics
    from rpgjax.agents.sapo import SAPOConfig, sapo
    from rpgjax.agents.shac import SHACConfig, shac

AGENTS: dict[str, tuple[type, Callable[[Env, Any], Agent]]] = {
    "apg": (APGConfig, apg),
    "shac": (SHACConfig, shac),
    "sapo": (SAPOConfig, sapo),
    "rfo": (RFOConfig, rfo),
    "rpg": (RPGConfig, rpg),
    "rpg_official": (OfficialRPGConfig, rpg),
    "mbsac": (MBSACConfig, rpg),
    "rpg_physics": (RPGPhysicsConfig, rpg_physics),
}

__all__ = [
    "AGENTS",
    "APGConfig",
    "Agent",
    "MBSACConfig",
    "OfficialRPGConfig",
    "Policy",
    "RFOConfig",
    "RPGConfig",
    "RPGPhysicsConfig",
    "SAPOConfig",
    "SHACConfig",
    "apg",
    "rfo",
    "rpg",
    "rpg_physics",
    "sapo",
    "shac",
]
