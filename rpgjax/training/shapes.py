"""The geometries of a Brax `System` as meshes: what the replay and its stills show."""

from typing import Any, NamedTuple

import numpy as np
from scipy.spatial.transform import Rotation

_PLANE, _SPHERE, _CAPSULE, _ELLIPSOID, _CYLINDER, _BOX, _MESH = 0, 2, 3, 4, 5, 6, 7  # mjtGeom
_PLAIN_GREY = (0.5, 0.5, 0.5)  # MuJoCo's colour for geoms that were given none
_BODY, _LIMB = (0.93, 0.45, 0.18), (0.16, 0.47, 0.71)


class Shape(NamedTuple):
    """One geometry."""

    link: int  # that it moves with; -1 is the world
    vertices: np.ndarray  # (V, 3) metres, in the link's frame
    faces: np.ndarray  # (F, 3) indices of vertices
    colour: tuple[float, float, float]


def shapes_of(sys: Any) -> list[Shape]:
    """Every geometry of a `brax.base.System` that has a finite shape."""
    found = []
    for index in range(len(sys.geom_type)):
        mesh = _mesh(int(sys.geom_type[index]), np.asarray(sys.geom_size[index], float), sys, index)
        if mesh is None:
            continue
        turn = Rotation.from_quat(np.asarray(sys.geom_quat[index], float), scalar_first=True)
        link = int(sys.geom_bodyid[index]) - 1
        colour = tuple(float(part) for part in sys.geom_rgba[index][:3])
        if np.allclose(colour, _PLAIN_GREY):
            colour = _BODY if link <= 0 else _LIMB
        vertices = turn.apply(mesh.vertices) + np.asarray(sys.geom_pos[index])
        found.append(Shape(link, vertices, np.asarray(mesh.faces), colour))
    return found


def ground_height(sys: Any) -> float | None:
    """Metres of the plane that bodies stand on; None without one."""
    planes = np.flatnonzero(np.asarray(sys.geom_type) == _PLANE)
    return float(sys.geom_pos[planes[0]][2]) if planes.size else None


def _mesh(kind: int, size: np.ndarray, sys: Any, index: int) -> Any:
    """A trimesh of a MuJoCo geometry, or None for planes and kinds that have no finite shape."""
    from trimesh import Trimesh, creation

    if kind == _SPHERE:
        return creation.icosphere(subdivisions=3, radius=size[0])
    if kind == _CAPSULE:
        mesh = creation.capsule(height=2 * size[1], radius=size[0], count=[24, 24])
        mesh.apply_translation(-mesh.bounds.mean(axis=0))
        return mesh
    if kind == _CYLINDER:
        return creation.cylinder(radius=size[0], height=2 * size[1], sections=32)
    if kind == _BOX:
        return creation.box(extents=2 * size)
    if kind == _ELLIPSOID:
        mesh = creation.icosphere(subdivisions=3)
        mesh.apply_scale(size)
        return mesh
    model = getattr(sys, "mj_model", None)
    if kind == _MESH and model is not None:
        number = int(sys.geom_dataid[index])
        first, count = model.mesh_vertadr[number], model.mesh_vertnum[number]
        start, faces = model.mesh_faceadr[number], model.mesh_facenum[number]
        return Trimesh(
            model.mesh_vert[first : first + count], model.mesh_face[start : start + faces]
        )
    return None
