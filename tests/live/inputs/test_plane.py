from nnlib.live.inputs import plane


def test_the_line_of_a_plane_lies_where_the_score_is_zero():
    path = plane._line([0.0, 2.0, -1.0])  # y = 1/2
    ends = [float(n) for n in path.replace("M", "").replace("L", " ").split()]
    assert ends[1] == ends[3] == -50
    assert plane._line([0.0, 0.0, 1.0]) == ""
