from types import SimpleNamespace

import numpy as np

from rpgjax.training.shapes import ground_height, shapes_of


def two_boxes_on_a_plane():
    quarter_turn_about_y = [np.sqrt(0.5), 0.0, np.sqrt(0.5), 0.0]
    return SimpleNamespace(
        geom_type=np.array([0, 6, 6]),
        geom_size=np.array([[40.0, 40, 40], [0.1, 0.2, 0.3], [0.1, 0.2, 0.3]]),
        geom_pos=np.array([[0.0, 0, -0.5], [0, 0, 0], [1.0, 2, 3]]),
        geom_quat=np.array([[1.0, 0, 0, 0], [1, 0, 0, 0], quarter_turn_about_y]),
        geom_bodyid=np.array([0, 1, 2]),
        geom_rgba=np.array([[0.5] * 4, [0.5] * 4, [0.1, 0.2, 0.3, 1.0]]),
    )


def test_vertices_are_in_the_link_s_frame():
    body, limb = shapes_of(two_boxes_on_a_plane())
    assert (body.link, limb.link) == (0, 1)
    np.testing.assert_allclose(np.ptp(body.vertices, axis=0), [0.2, 0.4, 0.6])
    np.testing.assert_allclose(limb.vertices.mean(axis=0), [1, 2, 3], atol=1e-12)
    np.testing.assert_allclose(np.ptp(limb.vertices, axis=0), [0.6, 0.4, 0.2])  # a quarter about y


def test_colours_are_the_model_s_where_it_has_any():
    body, limb = shapes_of(two_boxes_on_a_plane())
    assert limb.colour == (0.1, 0.2, 0.3)
    assert body.colour != (0.5, 0.5, 0.5)


def test_the_ground_is_the_plane():
    sys = two_boxes_on_a_plane()
    assert ground_height(sys) == -0.5
    sys.geom_type = np.array([6, 6, 6])
    assert ground_height(sys) is None
