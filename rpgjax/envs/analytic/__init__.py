"""Tasks in pure JAX, known in closed form or nearly so, that compile in a second.

Each is a `brax.envs.Env`, its `pipeline_state` one array. They are what the library is tested on,
and small enough to learn from.
"""

from rpgjax.envs.analytic.bandit import Bandit, bandit, bandit_reward
from rpgjax.envs.analytic.double_integrator import DoubleIntegrator, double_integrator
from rpgjax.envs.analytic.lqr import LQR, Riccati, linear_cost, lqr, riccati
from rpgjax.envs.analytic.pendulum import Pendulum, pendulum
from rpgjax.envs.analytic.task import AnalyticTask
from rpgjax.envs.analytic.two_routes import TwoRoutes, two_routes

__all__ = [
    "LQR",
    "AnalyticTask",
    "Bandit",
    "DoubleIntegrator",
    "Pendulum",
    "Riccati",
    "TwoRoutes",
    "bandit",
    "bandit_reward",
    "double_integrator",
    "linear_cost",
    "lqr",
    "pendulum",
    "riccati",
    "two_routes",
]
