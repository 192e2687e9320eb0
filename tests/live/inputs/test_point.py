import pytest

from nnlib.live.inputs.point import Point


def test_a_point_holds_to_its_plane():
    point = Point(label="p", reach=3.0)
    assert point.read((1.0, -3.0))[0][0].tolist() == [[1.0, -3.0]]
    with pytest.raises(ValueError, match=r"value\[1\]=-3.5"):
        point.read((1.0, -3.5))
    with pytest.raises(ValueError, match="reach=0"):
        Point(label="p", reach=0)


def test_the_cloud_and_the_point_stand_where_they_are():
    point = Point(label="A code", reach=2.0, cloud=[(1.0, 0.5, "7"), (2.5, 0.0, "8")])
    drawn = point.body((-1.0, 2.0))
    assert '<text x="50.0" y="-25.0">7</text>' in drawn
    assert ">8<" not in drawn  # outside of the plane
    assert 'transform="translate(-50.0 -100.0)"' in drawn
    assert 'aria-label="A code, at -1.00, 2.00"' in drawn


def test_the_widget_has_a_slider_each_way():
    _, read, put = Point(label="p", reach=3.0).widget((0.0, 1.5))
    assert read() == [0.0, 1.5]
    put((-3.0, 3.0))
    assert read() == [-3.0, 3.0]
