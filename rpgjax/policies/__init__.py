"""Policy heads: policies as pure functions that compose by calling."""

from rpgjax.policies.chunked import chunked
from rpgjax.policies.flow import VelocityField, flow, velocity_field
from rpgjax.policies.gaussian import gaussian
from rpgjax.policies.head import PolicyHead, PolicySample

__all__ = [
    "PolicyHead",
    "PolicySample",
    "VelocityField",
    "chunked",
    "flow",
    "gaussian",
    "velocity_field",
]
