"""The spring physics, as what `rpgjax.physics.batched_step` steps."""

from functools import partial

from rpgjax.physics.batched_step import Physics
from rpgjax.physics.components import Quaternion
from rpgjax.physics.spring import Links, drive, substep
from rpgjax.physics.spring_state import outputs, pack, unpack
from rpgjax.physics.spring_system import SpringSystem


def spring_physics(system: SpringSystem) -> Physics:
    """Of a system: from Brax's state (`Packed`) to all of its fields (`Outputs`)."""
    return Physics(
        unpack=partial(unpack, system),
        pack=partial(pack, system),
        drive=partial(drive, system),
        substep=partial(substep, system),
        keep=_rotations,
        outputs=partial(outputs, system),
    )


def _rotations(links: Links) -> list[Quaternion]:
    return [group.rotation for group in links]
