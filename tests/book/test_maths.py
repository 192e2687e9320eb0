"""TeX becomes MathML when the book is built, and what cannot be set stops the build."""

import re
from pathlib import Path

import pytest
from fontTools.ttLib import TTFont
from sphinx.application import Sphinx
from sphinx.util.console import strip_colors

from pipeline import ROOT
from pipeline.site import maths
from pipeline.site.maths import MathsError, mathml, set_maths

FONTS = ROOT / "_extra" / "vendor" / "fonts"
PAGE = r"""
A page
======

Inline :math:`\mathbf{h}_t`, and in a sentence of its own:

.. math:: a &= b \\ c &= d
   :label: two

After :eq:`two`, what Python wrote:

.. raw:: html

   <p>with <span class="math notranslate nohighlight">\(x &lt; 1\)</span> in it</p>
"""
# What later chapters may write: each of TeX's alphabets and kinds of signs.
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
GREEK = (
    "alpha beta gamma delta epsilon varepsilon zeta eta theta vartheta iota kappa lambda mu nu xi "
    "pi varpi rho varrho sigma varsigma tau upsilon phi varphi chi psi omega "
    "Gamma Delta Theta Lambda Xi Pi Sigma Upsilon Phi Psi Omega"
)
SIGNS = (
    "sum prod int bigcup bigcap bigoplus bigotimes odot oplus otimes ominus times cdot circ "
    "bullet star ast pm mp div le ge ll gg ne equiv sim simeq approx cong propto prec succ in "
    "ni subset supset subseteq supseteq cup cap setminus emptyset forall exists neg land lor "
    "top bot perp parallel mid vdash models to leftarrow Rightarrow Leftarrow leftrightarrow "
    "Leftrightarrow mapsto hookrightarrow longrightarrow Longrightarrow uparrow downarrow nearrow "
    "partial nabla infty ell hbar Re Im aleph angle triangle square diamond dots cdots vdots ddots "
    "dagger langle rangle lceil rceil lfloor rfloor lVert rVert lvert rvert prime"
)
ALPHABETS = "mathrm mathit mathbf mathcal mathscr mathfrak mathbb mathsf mathtt boldsymbol"
ACCENTS = "hat tilde bar vec dot ddot check acute grave breve widehat widetilde overline underline"


@pytest.mark.parametrize(
    ("tex", "parts"),
    [
        (r"\mathbf{W}\mathbf{x}", ["<mi>𝐖</mi><mi>𝐱</mi>"]),
        (r"\frac{1}{2}", ["<mfrac><mn>1</mn><mn>2</mn></mfrac>"]),
        (r"a &= b \\ c &= d", ["<mtable", "<mtr>"]),
        (r"a &= b \\ & + c", ['<mo form="infix">+</mo>']),
        ("a = b\n\nc = d", ["<mtable", "<mtr>"]),
        (r"\begin{split} a &= b \\ c &= d \end{split}", ["<mtable"]),
        (r"\begin{align} a &= b \end{align}", ["<mtable"]),
        (r"\operatorname{softmax}(z)", ["<mi>softmax</mi>", "\u2061"]),
        (r"\text{if } x > 0", ["<mtext>", "&gt;"]),
    ],
)
def test_tex_becomes_mathml(tex, parts):
    found = mathml(tex, display=True)
    assert found.startswith('<math display="block">') and found.endswith("</math>")
    assert [part for part in parts if part not in found] == []
    assert "(1)" not in found, "equations are numbered by Sphinx"


def test_what_a_script_hangs_on_stretches():
    assert "<msub><mrow><mo " in mathml(r"\Big\|x\Big\|_2")


@pytest.mark.parametrize(
    "tex", [r"\unheard{x}", r"\frac{1", r"x^", r"\left( x", r"\begin{cases} x"]
)
def test_malformed_formula_is_named(tex):
    with pytest.raises(MathsError, match=re.escape(tex)):
        mathml(tex)


def test_html_is_set_where_it_is_marked():
    marked = r'<span class="math notranslate nohighlight">\(a &lt; b\)</span>'
    text = (
        rf"<p>{marked} and <code>\(a\)</code></p><div class='x'><div class=\"math\">y</div></div>"
    )
    found = set_maths(text)
    assert "<mi>a</mi><mo>&lt;</mo><mi>b</mi></math></span>" in found
    assert found.count("<math") == 1 and r"<code>\(a\)</code>" in found
    assert set_maths(found) == found, "what is set stays as it is"
    shown = set_maths(r'<div class="math">\[\sum_i x\]</div>')
    assert '<div class="nn-formula"><math display="block">' in shown
    with pytest.raises(MathsError, match=r"one: .*\\unheard"):
        set_maths(r'<span class="math">\(\unheard\)</span>', "one")


@pytest.fixture
def built(tmp_path):
    """Build a page with Sphinx; return its HTML, and what was said."""

    def build(text: str) -> tuple[str, str]:
        said = tmp_path / "said.txt"
        (tmp_path / "index.rst").write_text(text)
        with said.open("w") as warnings:
            Sphinx(
                tmp_path,
                None,
                tmp_path / "html",
                tmp_path / "trees",
                "html",
                {"extensions": [maths.__name__], "html_theme": "basic"},
                status=None,
                warning=warnings,
                freshenv=True,
            ).build()
        return (tmp_path / "html" / "index.html").read_text("utf8"), strip_colors(said.read_text())

    return build


def test_page_needs_no_script_for_its_maths(built):
    page, said = built(PAGE)
    assert said == ""
    assert page.count("<math") == 3 and "mathjax" not in page.lower()
    assert '<div class="math notranslate nohighlight" id="equation-two">' in page
    assert '<span class="eqno">(1)<a class="headerlink" href="#equation-two"' in page
    assert not re.search(r"\\\(|\\\[|tabindex=.0.[^>]*><math", page)
    assert re.search(rf'<link rel="preload" href="{maths.FONT}" as="font"[^>]* crossorigin', page)


@pytest.mark.parametrize("place", [r"\mathbf{h}_t", r"a &= b \\ c &= d", r"x &lt; 1"])
def test_malformed_formula_of_a_page_is_a_warning_with_its_place(place, built):
    _, said = built(PAGE.replace(place, r"\unheard{y}"))
    assert "index.rst" in said and "WARNING" in said and r"\unheard{y}" in said


def test_page_without_maths_asks_for_no_font(built):
    page, _ = built("A page\n======\n\nWords.\n")
    assert "preload" not in page


@pytest.fixture(scope="module")
def fonts():
    files = [FONTS / Path(maths.FONT).name, FONTS / "stix-two-math-sans.woff2"]
    if not all(file.exists() for file in files):
        pytest.skip("the fonts are not here: run `make book` first")
    return [TTFont(file) for file in files]


def test_font_has_what_tex_can_ask_for(fonts):
    formulas = [rf"\{name}" for name in f"{GREEK} {SIGNS}".split()]
    formulas += [rf"\{name}{{{LETTERS}}}" for name in ALPHABETS.split()]
    formulas += [rf"\boldsymbol{{\{name}}}" for name in GREEK.split()]
    formulas += [rf"\{name}{{x}}" for name in ACCENTS.split()]
    formulas += [rf"\mathbf{{{digit}}}\mathbb{{{digit}}}" for digit in "0123456789"]
    formulas += [r"\overbrace{x}^n\underbrace{x}_n\overrightarrow{x}\overleftarrow{x}", "f'f''f'''"]
    text = "".join(re.sub(r"<[^>]*>", "", mathml(formula)) for formula in formulas)
    known = {code for font in fonts for code in font.getBestCmap()} | {0xFE00, 0xFE01}
    italic = {chr(0x1D434 + i) for i in range(52)} - {"\U0001d455"}  # what <mi> makes of letters
    lost = {char for char in {*text, *italic} if ord(char) not in known}
    assert lost == set()


def test_font_stretches_and_is_light(fonts):
    font = fonts[0]
    variants = font["MATH"].table.MathVariants
    names = font.getBestCmap()
    stretched = variants.VertGlyphCoverage.glyphs
    assert [sign for sign in "()[]{}|‖⌈⌉⌊⌋⟨⟩√∑" if names[ord(sign)] not in stretched] == []
    wide = variants.HorizGlyphCoverage.glyphs
    assert [sign for sign in "⏞⏟→←" if names[ord(sign)] not in wide] == []
    assert (FONTS / Path(maths.FONT).name).stat().st_size < 120_000
