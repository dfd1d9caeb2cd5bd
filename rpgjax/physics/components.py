"""Vectors and quaternions as tuples of components, with constants folded while tracing.

A vector is ``(x, y, z)``, a quaternion ``(w, x, y, z)``, a matrix three rows of three. Each component is
a traced array ``(rows, batch)``, or a constant: a float, or a numpy array ``(rows, 1)``. Small inner
dimensions never reach XLA, so every operation runs along the batch, and a constant zero or one removes
its product before XLA sees it.
"""

from collections.abc import Sequence
from typing import TypeAlias, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

Component: TypeAlias = jax.Array | np.ndarray | float
Vector: TypeAlias = tuple[Component, Component, Component]
Quaternion: TypeAlias = tuple[Component, Component, Component, Component]
Matrix: TypeAlias = tuple[Vector, Vector, Vector]
Tree = TypeVar("Tree")

ZERO: Vector = (0.0, 0.0, 0.0)
IDENTITY: Matrix = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))


def constant(values: np.ndarray) -> Component:
    """Folds a column of constants ``(rows, 1)`` to a float where all rows agree."""
    if values.size and np.all(values == values.flat[0]):
        return float(values.flat[0])
    return values


def constant_vector(values: np.ndarray) -> Vector:
    """Turns constants ``(rows, 3)`` into a vector of columns ``(rows, 1)``."""
    x, y, z = (constant(np.asarray(values, np.float64)[:, i : i + 1]) for i in range(3))
    return x, y, z


def _is(value: Component, number: float) -> bool:
    return isinstance(value, float | np.ndarray) and bool(np.all(np.asarray(value) == number))


def _matched(a: Component, b: Component) -> tuple[Component, Component]:
    # A float64 column must not promote a float32 computation where x64 is on.
    if isinstance(a, np.ndarray) and isinstance(b, jax.Array):
        return a.astype(b.dtype), b
    if isinstance(b, np.ndarray) and isinstance(a, jax.Array):
        return a, b.astype(a.dtype)
    return a, b


def mul(a: Component, b: Component) -> Component:
    """Product; a constant 0, 1 or -1 costs nothing."""
    for x, y in ((a, b), (b, a)):
        if _is(x, 0.0):
            return 0.0
        if _is(x, 1.0):
            return y
        if _is(x, -1.0):
            return neg(y)
    a, b = _matched(a, b)
    return a * b


def add(a: Component, b: Component) -> Component:
    """Sum; a constant 0 costs nothing."""
    if _is(a, 0.0):
        return b
    if _is(b, 0.0):
        return a
    a, b = _matched(a, b)
    return a + b


def sub(a: Component, b: Component) -> Component:
    """Difference; a constant 0 costs nothing."""
    if _is(b, 0.0):
        return a
    if _is(a, 0.0):
        return neg(b)
    a, b = _matched(a, b)
    return a - b


def neg(a: Component) -> Component:
    """Negation."""
    return 0.0 if _is(a, 0.0) else -a


def total(terms: Sequence[Component]) -> Component:
    """Sum of components."""
    result: Component = 0.0
    for term in terms:
        result = add(result, term)
    return result


def plus(a: Vector, b: Vector) -> Vector:
    """Vector sum."""
    return add(a[0], b[0]), add(a[1], b[1]), add(a[2], b[2])


def minus(a: Vector, b: Vector) -> Vector:
    """Vector difference."""
    return sub(a[0], b[0]), sub(a[1], b[1]), sub(a[2], b[2])


def scale(a: Component, v: Vector) -> Vector:
    """Vector times scalar."""
    return mul(a, v[0]), mul(a, v[1]), mul(a, v[2])


def dot(a: Sequence[Component], b: Sequence[Component]) -> Component:
    """Inner product."""
    return total([mul(x, y) for x, y in zip(a, b, strict=True)])


def cross(a: Vector, b: Vector) -> Vector:
    """Cross product."""
    return (
        sub(mul(a[1], b[2]), mul(a[2], b[1])),
        sub(mul(a[2], b[0]), mul(a[0], b[2])),
        sub(mul(a[0], b[1]), mul(a[1], b[0])),
    )


def rotation(q: Quaternion) -> Matrix:
    """Rotation matrix of a unit quaternion, as the quadratic form Brax's ``math.rotate`` evaluates."""
    w, x, y, z = q
    ww, xx, yy, zz = mul(w, w), mul(x, x), mul(y, y), mul(z, z)
    xy, xz, yz = mul(x, y), mul(x, z), mul(y, z)
    wx, wy, wz = mul(w, x), mul(w, y), mul(w, z)
    a, b = sub(ww, xx), sub(yy, zz)
    return (
        (sub(add(ww, xx), add(yy, zz)), mul(2.0, sub(xy, wz)), mul(2.0, add(xz, wy))),
        (mul(2.0, add(xy, wz)), add(a, b), mul(2.0, sub(yz, wx))),
        (mul(2.0, sub(xz, wy)), mul(2.0, add(yz, wx)), sub(a, b)),
    )


def apply(m: Matrix, v: Vector) -> Vector:
    """Matrix times vector."""
    return dot(m[0], v), dot(m[1], v), dot(m[2], v)


def apply_transposed(m: Matrix, v: Vector) -> Vector:
    """Transposed matrix times vector: the inverse of a rotation."""
    x, y, z = (total([mul(m[i][j], v[i]) for i in range(3)]) for j in range(3))
    return x, y, z


def quaternion_product(a: Quaternion, b: Quaternion) -> Quaternion:
    """Hamilton product."""
    aw, av, bw, bv = a[0], a[1:], b[0], b[1:]
    x, y, z = plus(plus(scale(aw, bv), scale(bw, av)), cross(av, bv))
    return sub(mul(aw, bw), dot(av, bv)), x, y, z


def conjugate(q: Quaternion) -> Quaternion:
    """Inverse of a unit quaternion."""
    return q[0], neg(q[1]), neg(q[2]), neg(q[3])


def arrays(*components: Component) -> list[jax.Array]:
    """Components as arrays, for what only arrays can do."""
    return [jnp.asarray(c) for c in components]


def stack(components: Sequence[Component], like: Component) -> jax.Array:
    """Stacks components to ``(component, rows, batch)``, the shape of ``like`` behind the first axis."""
    like = jnp.asarray(like)
    return jnp.stack([jnp.broadcast_to(jnp.asarray(c, like.dtype), like.shape) for c in components])


def opaque_one(x: jax.Array) -> jax.Array:
    """The scalar 1, computed from any element of ``x`` in a way that the compiler cannot see through."""
    if not x.size:
        return jnp.ones((), x.dtype)
    bits = jax.lax.bitcast_convert_type(x.ravel()[0].astype(jnp.float32), jnp.uint32)
    return jax.lax.stop_gradient(((bits >> 31) | 1).astype(x.dtype))


def fence(tree: Tree, one: Component) -> Tree:
    """Asks XLA to compute these components once, by dividing them by an opaque one.

    On CPU, XLA fuses a cheap producer into every consumer and so recomputes a chain of products and
    sums for each of its uses, twenty-fold in the backward pass of a physics substep. A division it holds
    too expensive to repeat (``optimization_barrier`` is gone before fusion). Exact: x / 1 = x.

    Args:
        tree: components; constants are left alone.
        one: from :func:`opaque_one`, or the constant 1.0 for no fence.
    """
    if isinstance(one, float):
        return tree
    return jax.tree.map(lambda c: c / one if isinstance(c, jax.Array) else c, tree)


def safe_length(v: Vector) -> Component:
    """Length, 0 with gradient 0 below 1e-8 (the threshold of Brax's ``math.safe_norm``)."""
    squared = jnp.asarray(dot(v, v))
    tiny = squared <= 1e-16
    return jnp.where(tiny, 0.0, jnp.sqrt(jnp.where(tiny, 1.0, squared)))
