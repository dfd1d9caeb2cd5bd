"""Actuators: from actions to forces on the degrees of freedom."""

import jax
import jax.numpy as jnp
import numpy as np
from brax.base import System

from rpgjax.physics.ground import UnsupportedSystemError
from rpgjax.physics.rows import accumulate

Actuators = tuple[np.ndarray, ...]
"""Dof index, control low and high, force low and high, gain, gear: (actuators,) each; () for none."""


def actuators(sys: System) -> Actuators:
    """Of a concrete system.

    Raises:
        UnsupportedSystemError: position or velocity actuators.
    """
    if not sys.act_size():
        return ()
    acts = sys.actuator
    if np.any([np.asarray(acts.bias_q), np.asarray(acts.bias_qd)]):
        raise UnsupportedSystemError("position or velocity actuators")
    ranges = (*np.asarray(acts.ctrl_range).T, *np.asarray(acts.force_range).T)
    return (np.asarray(acts.qd_id), *ranges, np.asarray(acts.gain), np.asarray(acts.gear))


def joint_forces(known: Actuators, dofs: int, action: jax.Array) -> jax.Array:
    """Forces (dofs, batch) of clipped actions (actuators, batch)."""
    if not known:
        return jnp.zeros((dofs, action.shape[-1]), action.dtype)
    index, *columns = known
    low, high, weakest, strongest, gain, gear = (
        np.asarray(c)[:, None].astype(action.dtype) for c in columns
    )
    force = jnp.clip(gain * jnp.clip(action, low, high), weakest, strongest) * gear
    return accumulate(force, index.tolist(), dofs)
