import jax
import jax.numpy as jnp
import pytest

from rpgjax.objectives.entropy import normalised_entropy, target_entropy, temperature_loss


def test_normalised_entropy_is_zero_at_the_target_and_one_at_its_mirror():
    target = target_entropy(6)
    assert target == -3.0
    assert normalised_entropy(jnp.float32(-target), target) == 0.0
    assert normalised_entropy(jnp.float32(target), target) == 1.0


@pytest.mark.parametrize(("entropy", "direction"), [(-5.0, 1.0), (1.0, -1.0)])
def test_temperature_rises_where_entropy_is_under_its_target(entropy, direction):
    gradient = jax.grad(temperature_loss)(jnp.float32(0.3), jnp.full(4, -entropy), -3.0)
    assert -gradient * direction > 0.0


def test_temperature_loss_does_not_reach_the_policy():
    gradient = jax.grad(lambda lp: temperature_loss(jnp.float32(0.3), lp, -3.0))(jnp.ones(4))
    assert jnp.all(gradient == 0.0)
