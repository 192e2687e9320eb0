"""What a drawing consists of, as it is asked afterwards."""

import numpy as np
from matplotlib.patches import Circle
from matplotlib.transforms import IdentityTransform

from nnlib.plot import inks
from nnlib.plot.record import Area, Record

RED, BLUE = ("#ff0000", "#ff0000"), ("#0000ff", "#0000ff")


def square(side, modes, alpha=1.0, **options):
    return Area(None, np.array([0, 0, side, side]), modes, alpha, 0, **options)


def test_an_area_covers_its_shape_and_not_the_corners_of_its_box():
    shape = Circle((5, 5), 5)
    disc = Area(shape.get_patch_transform().transform_path(shape.get_path()),
                np.array([0, 0, 10, 10]), RED, 1.0, 0)  # fmt: skip
    record = Record(areas=[disc])
    seen = [record.grounds(*place) for place in ((5, 5), (0.5, 0.5), (11, 5))]
    assert seen == [RED, inks.GROUND, inks.GROUND]


def test_the_ground_of_a_point_is_what_was_drawn_last_over_what_lies_below():
    record = Record(areas=[square(10, RED), square(5, BLUE)])
    assert record.grounds(2, 2) == BLUE and record.grounds(7, 7) == RED
    assert record.grounds(20, 20) == inks.GROUND
    record.areas.append(square(10, BLUE, alpha=0.5))
    assert record.grounds(7, 7) == (inks.over("#0000ff", 0.5, "#ff0000"),) * 2


def test_an_image_has_the_colour_of_the_pixel_that_is_asked_for():
    pixels = np.array([[[255, 0, 0, 255], [0, 0, 255, 127]]], dtype=np.uint8)
    image = square(2, RED, image=(pixels, IdentityTransform()))
    assert image.at(0.5, 0.5) == (RED, 1.0)
    colour, alpha = image.at(1.5, 0.5)
    assert colour == BLUE and abs(alpha - 0.5) < 0.01


def test_things_are_counted_in_the_order_of_drawing():
    record = Record()
    assert [record.next(), record.next()] == [1, 2]


def test_what_lies_beside_a_line_is_seen_on_either_side_and_within_its_window():
    record = Record(areas=[square(10, RED)])
    along_the_edge = [np.array([[10.0, 0.0], [10.0, 10.0]])]
    sides = record.beside(along_the_edge, 1.0, None)
    assert len(sides) == 9 and all(set(pair) == {RED, inks.GROUND} for pair in sides)
    out_of_it = [np.array([[5.0, 5.0], [14.0, 5.0]])]  # five of nine places on the square
    seen = [first == second == RED for first, second in record.beside(out_of_it, 1.0, None)]
    assert seen == [True] * 5 + [False] * 4
    assert len(record.beside(out_of_it, 1.0, np.array([0.0, 0.0, 8.0, 9.0]))) == 3
    assert record.beside([np.array([[20.0, 20.0], [30.0, 20.0]])], 1.0, None) == []
