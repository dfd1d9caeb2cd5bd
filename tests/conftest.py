"""What every test runs under: checked shapes, no silent broadcasting, a shared compilation cache."""

import os

os.environ.setdefault("JAX_PLATFORMS", "cpu")
# Tests compile far more than they compute: four times less compilation, for slower programs.
FLAGS = "--xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false"
os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {FLAGS}".strip()

import jax  # noqa: E402
import pytest  # noqa: E402
from jaxtyping import install_import_hook  # noqa: E402

install_import_hook("rpgjax", "beartype.beartype")

from rpgjax.training.programs import enable_compilation_cache  # noqa: E402

jax.config.update("jax_numpy_rank_promotion", "raise")
enable_compilation_cache()


@pytest.fixture
def x64():
    """float64 inside a test: for gradients against finite differences."""
    with jax.enable_x64(True):
        yield


@pytest.fixture
def brax_physics():
    """Brax's own functions broadcast over ranks; ours do not."""
    with jax.numpy_rank_promotion("allow"):
        yield
