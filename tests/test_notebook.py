"""What a chapter promises: checks, bands, figures, sliders, cards."""

import base64
import io
import math
import re

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from nnlib import notebook
from nnlib.notebook import BrokenPromise, band, check, verdict
from nnlib.plot.style import subplots
from tests.support import refuses


@pytest.fixture(autouse=True)
def fresh_run():
    notebook.setup()


@pytest.fixture
def shown(monkeypatch):
    outputs = []
    monkeypatch.setattr(notebook, "display", outputs.append)
    return outputs


def plain():
    fig, ax = subplots(width=3, height=2)
    ax.plot([0, 1], [1, 0])
    return fig


def test_setup_seeds_everything_and_returns_the_device():
    assert notebook.setup(seed=5) == torch.device("cpu")
    first = torch.rand(2), np.random.rand(2)
    notebook.setup(seed=5)
    assert torch.equal(first[0], torch.rand(2)) and np.array_equal(first[1], np.random.rand(2))


def test_check_prints_its_tolerance_and_holds(capsys):
    check("two tensors are equal", torch.ones(3), np.ones(3) + 1e-7, atol=1e-6)
    check("five is five", 5, 5)
    check("it holds", True)
    assert capsys.readouterr().out == (
        "✓ two tensors are equal (atol 1e-06)\n✓ five is five\n✓ it holds\n"
    )


@pytest.mark.parametrize(
    ("got", "wanted", "reason"),
    [
        (1.0, 1.1, "largest difference 0.1"),
        (torch.ones(2), torch.ones(3), "shapes (2,) and (3,)"),
        (math.nan, math.nan, "largest difference nan"),
        (False, True, "largest difference 1"),
        (["a"], ["b"], "they differ"),
    ],
)
def test_check_breaks_where_things_differ(got, wanted, reason):
    with pytest.raises(BrokenPromise, match="✗ same: ") as broken:
        check("same", got, wanted)
    assert reason in str(broken.value)


@given(error=st.floats(1e-12, 1e-3), atol=st.floats(1e-12, 1e-3))
def test_check_holds_exactly_within_its_tolerance(error, atol):
    notebook.setup(strict=False)
    check("x", error, 0.0, atol=atol)
    assert bool(notebook._run.broken) == (error > atol)


def test_band_prints_its_ends_and_baseline_but_not_the_value(capsys):
    band("accuracy", torch.tensor(0.9812), at_least=0.97, baseline=0.9648)
    band("ratio", 3.0, at_least=2, at_most=4)
    assert capsys.readouterr().out == (
        "✓ accuracy at least 0.97 (baseline 0.96)\n✓ ratio at least 2 and at most 4\n"
    )


@pytest.mark.parametrize("value", [0.9, math.nan, -math.inf])
def test_band_breaks_outside(value):
    with pytest.raises(BrokenPromise, match=r"accuracy at least 0\.97"):
        band("accuracy", value, at_least=0.97)


def test_band_without_an_end_is_refused():
    with refuses(ValueError, "band 'x' needs at_least=…, at_most=… or both"):
        band("x", 1.0)


def test_lenient_run_goes_on_and_names_what_did_not_hold(capsys):
    notebook.setup(strict=False)
    band("accuracy", 0.5, at_least=0.97)
    check("equal", 1, 2)
    check("fine", 1, 1)
    verdict()
    out = capsys.readouterr().out
    assert "✗ did not hold: accuracy at least 0.97: got 0.5" in out
    assert "✗ did not hold: equal: largest difference 1" in out
    assert out.endswith("✗ 1 checks and 0 bands held, 2 did not\n")


def test_setup_forgets_the_run_before(capsys):
    check("one", 1, 1)
    notebook.setup()
    verdict()
    assert capsys.readouterr().out.endswith("✓ 0 checks and 0 bands held, 0 did not\n")


def test_figure_is_shown_with_words_and_written_when_asked(tmp_path, shown):
    notebook.setup(figures_dir=str(tmp_path / "new"))
    notebook.figure(plain(), "loss", caption="The *loss* $\\eta < 1$ falls", alt="A falling line")
    markup = shown[0].data
    assert 'id="figure-loss"' in markup and 'aria-label="A falling line"' in markup
    assert (
        r'<em>loss</em> <span class="math notranslate nohighlight">\(\eta &lt; 1\)</span>' in markup
    )
    assert {p.name for p in (tmp_path / "new").iterdir()} == {"loss.svg", "loss.png"}


def test_figure_files_are_equal_from_run_to_run(tmp_path, shown):
    contents = []
    for run in ("a", "b"):
        notebook.setup(figures_dir=str(tmp_path / run))
        notebook.figure(plain(), "loss", caption="c", alt="a")
        contents.append([p.read_bytes() for p in sorted((tmp_path / run).iterdir())])
    assert contents[0] == contents[1]


def test_name_of_a_figure_is_used_once(shown):
    notebook.figure(plain(), "loss", caption="c", alt="a")
    with refuses(ValueError, "name='loss' already names a figure"):
        notebook.figure(plain(), "loss", caption="c", alt="a")


def test_the_hero_carries_a_card_for_previews(monkeypatch):
    outputs = []
    monkeypatch.setattr(notebook, "display", lambda bundle, **told: outputs.append(bundle))
    notebook.figure(plain(), "loss", caption="c", alt="a", hero=True)
    notebook.scrub([plain(), plain()], "walk", label="l", caption="c", alt="a", hero=True)
    assert 'id="figure-loss"' in outputs[0]["text/html"]
    assert "application/vnd.jupyter.widget-view+json" in outputs[1]
    for bundle in outputs:
        card = base64.b64decode(bundle["image/png"])
        picture = Image.open(io.BytesIO(card))
        assert picture.size == (1200, 630) and len(card) <= 60_000
        assert picture.convert("RGB").getpixel((3, 3)) == (255, 255, 255)


def test_a_picture_that_is_no_hero_carries_no_card(shown):
    notebook.figure(plain(), "loss", caption="c", alt="a")
    assert not isinstance(shown[0], dict)


def test_slider_and_play_button_move_the_stack_without_a_kernel(shown):
    notebook.scrub([plain() for _ in range(3)], "walk", label="step", caption="c", alt="a")
    box = shown[0]
    (play, slider), stack = box.children[0].children, box.children[1]
    assert "nn-slider" in box._dom_classes
    assert len(stack.children) == 3 and all("<svg" in child.value for child in stack.children)
    assert slider.options == (("1", 0), ("2", 1), ("3", 2)) and play.max == 2


def test_slider_frames_share_no_id(shown):
    notebook.scrub([plain(), plain()], "walk", label="step", caption="c", alt="a")
    frames = [re.findall(r" id='([^']+)'", child.value) for child in shown[0].children[1].children]
    assert frames[0] and not set(frames[0]) & set(frames[1])


@pytest.mark.parametrize(
    ("frames", "values", "message"),
    [(1, None, "needs two frames or more"), (3, [1, 2], "got 3 frames and 2 values")],
)
def test_slider_needs_frames_and_a_value_for_each(shown, frames, values, message):
    with refuses(ValueError, message):
        notebook.scrub(
            [plain() for _ in range(frames)], "w", label="l", caption="c", alt="a", values=values
        )


def test_slider_that_is_too_heavy_is_refused(shown, monkeypatch):
    monkeypatch.setattr(notebook, "SLIDER_BYTES", 1000)
    with refuses(ValueError, "at most 1000: draw less"):
        notebook.scrub([plain(), plain()], "w", label="l", caption="c", alt="a")


def sample(x):
    """Double it.

    More words.
    """
    return 2 * x


def test_source_is_shown_without_its_docstring_unless_asked(shown):
    notebook.show_source(sample)
    assert shown[1].data == "```python\ndef sample(x):\n    return 2 * x\n```"
    notebook.show_source(sample, docstrings=True)
    assert "More words." in shown[3].data


def test_card_links_module_test_and_relatives(shown):
    notebook.card("perceptron")
    markup = shown[0].data
    assert "nnlib/foundations/perceptron.py" in markup
    assert "tests/foundations/test_perceptron.py" in markup
    assert 'href="mlp.html"' in markup and "1958" in markup
    with refuses(ValueError, "perceptrn"):
        notebook.card("perceptrn")


@pytest.mark.parametrize(
    ("wrong", "error", "message"),
    [
        ({"seed": -1}, ValueError, "seed=-1"),
        ({"seed": "0"}, TypeError, "seed='0'"),
        ({"strict": "no"}, TypeError, "strict='no'"),
        ({"device": "cpus"}, ValueError, "device='cpus'"),
    ],
)
def test_bad_parameters_are_named(wrong, error, message):
    with refuses(error, message):
        notebook.setup(**wrong)
