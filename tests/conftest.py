"""What every test runs under: checked shapes, no silent broadcasting, a shared compilation cache."""

import os

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax
import pytest
from jaxtyping import install_import_hook

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
