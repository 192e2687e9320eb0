"""Style sheets taken apart: what is dropped, what stays, and what holds without script."""

from pathlib import Path

import pytest

from pipeline.site import assets, stylesheet


def gone(name):
    return name.startswith(("fa", "btn-", "Font"))


@pytest.mark.parametrize(
    ("css", "kept"),
    [
        (".fa-home{a:b}.bd-main{c:d}", ".bd-main{c:d}"),
        (".btn-dark,.note{a:b}", ".note{a:b}"),
        (".note:not(.btn-dark){a:b}", ".note:not(.btn-dark){a:b}"),
        (":is(.note,.tip) .btn-dark{a:b}", ""),
        ("@media print{.fa-x{a:b}p{c:d}}", "@media print{p{c:d}}"),
        ("@media print{.fa-x{a:b}}", ""),
        ('@font-face{font-family:"Font Awesome 6";src:url(x)}', ""),
        ("@font-face{font-family:Serif;src:url(x)}", "@font-face{font-family:Serif;src:url(x)}"),
        ("@keyframes fa-spin{to{a:b}}@keyframes in{to{a:b}}", "@keyframes in{to{a:b}}"),
        ('@charset "UTF-8";p{a:b}', '@charset "UTF-8";\np{a:b}'),
        ('p::after{content:"}{"}/* .x{ */', 'p::after{content:"}{"}'),
        ("q{a:url(data:a;b{c)}.fa-x{a:b}", "q{a:url(data:a;b{c)}"),
    ],
)  # fmt: skip
def test_only_rules_of_unused_classes_are_dropped(css, kept):
    assert stylesheet.trimmed(css, gone) == kept


def test_a_brace_that_is_not_closed_is_an_error():
    with pytest.raises(ValueError, match="not closed"):
        list(stylesheet.rules("p{a:b"))


def test_without_script_the_system_chooses_the_theme():
    css = 'html[data-theme="light"], html:not([data-theme]){a:b}html[data-theme=dark] p{c:d}'
    assert stylesheet.by_system(css).splitlines() == [
        'html[data-theme="light"], html:not([data-theme]){a:b}',
        '@media (prefers-color-scheme: light){html[data-theme="auto"]{a:b}}',
        "html[data-theme=dark] p{c:d}",
        '@media (prefers-color-scheme: dark){html[data-theme="auto"] p{c:d}}',
    ]


def test_a_theme_within_a_query_stays_within_it():
    got = stylesheet.by_system("@media print{html[data-theme=dark]{a:b}}")
    assert got.startswith("@media print{") and got.count("data-theme") == 2


def test_own_files_come_in_an_order_that_lets_later_ones_win(tmp_path):
    for name in ("print.css", "code.css", "book.css", "abc.css", "fonts.css", "frame.js"):
        (tmp_path / name).write_text("")
    names = [file.name for file in assets.ordered([tmp_path], "css")]
    assert names == ["fonts.css", "book.css", "abc.css", "code.css", "print.css"]


def test_scripts_are_joined_without_seeing_each_other():
    joined = assets.script([("one.js", "const a = 1;"), ("two.js", "const a = 2;\n")])
    assert joined.index("// one.js") < joined.index("// two.js")
    assert joined.count("const a") == 2 and joined.count("reportError") == 2


def test_what_is_left_out_of_the_theme_is_on_no_page_of_the_template():
    """The classes that the frame's own templates use are kept."""
    templates = Path(assets.__file__).with_name("templates").rglob("*.html")
    lost = {
        name
        for file in templates
        for name in stylesheet.classes(file.read_text("utf8"))
        if assets.unused(name)
    }
    assert lost == set()
