from dataclasses import dataclass, replace
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rpgjax.types import (
    Count,
    NonNegative,
    Number,
    Share,
    Traced,
    check_fields,
    known_to_be,
    may_be_traced,
)


@dataclass(frozen=True)
class Settings:
    kind: Literal["mean", "min"] = "mean"
    count: Count = 3
    rest: Number = 0
    share: Share = 0.5
    rate: NonNegative = 0.0
    offset: Traced = -1.0
    flag: bool = False
    name: str | None = None
    hidden: tuple[Count, ...] = (4, 4)
    anything: Any = None


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"kind": "Mean"}, "kind is 'Mean'; choose from mean, min"),
        ({"count": 0}, "count must be at least 1, not 0"),
        ({"count": 2.0}, "count is 2.0; it has to be of type int"),
        ({"count": True}, "count is True; it has to be of type int"),
        ({"rest": -1}, "rest must be at least 0, not -1"),
        ({"share": 2}, r"share \(2\) must be between 0 and 1"),
        ({"share": np.float32(1.5)}, r"share \(1.5\) must be between 0 and 1"),
        ({"share": float("nan")}, r"share \(nan\) must be between 0 and 1"),
        ({"rate": -1e-3}, "rate must be at least 0, not -0.001"),
        ({"rate": float("nan")}, "rate must be at least 0, not nan"),
        ({"offset": "much"}, "offset is 'much'; it has to be of type float"),
        ({"flag": 1}, "flag is 1; it has to be of type bool"),
        ({"name": 7}, "name is 7; it has to be of type str or NoneType"),
        ({"hidden": 32}, "hidden is 32; it has to be a tuple"),
        ({"hidden": (4, 0)}, "hidden must be at least 1, not 0"),
    ],
)
def test_what_a_field_cannot_be_is_one_line(changes, says):
    with pytest.raises(ValueError, match=f"^{says}$"):
        check_fields(replace(Settings(), **changes))


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"count": np.int64(1), "share": 1, "rate": np.float32(2.0), "hidden": ()},
        {"share": jnp.array([0.5, 7.0]), "offset": np.array([1.0])},
        {"kind": "min", "name": "x", "anything": Settings},
    ],
)
def test_what_a_field_can_be_passes(changes):
    check_fields(replace(Settings(), **changes))


def test_a_sweeps_values_are_not_looked_at():
    def run(share):
        check_fields(replace(Settings(), share=share))
        return share

    assert jax.vmap(run)(jnp.array([0.1, 0.2])).shape == (2,)


def test_limits_do_not_keep_a_field_from_being_traced():
    assert all(may_be_traced(kind) for kind in (Traced, Share, NonNegative))
    assert not any(may_be_traced(kind) for kind in (Count, Number, int, str | None))


def test_zero_is_known_however_it_is_written():
    assert all(known_to_be(zero, 0.0) for zero in (0, 0.0, np.float32(0.0)))
    assert not any(known_to_be(other, 0.0) for other in (1, 0.5, jnp.zeros(()), jnp.zeros(2)))
