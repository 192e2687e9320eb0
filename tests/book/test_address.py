"""The repository's address stands once, in pyproject.toml; every other mention repeats it."""

import re

import pytest

from pipeline import address as module
from pipeline.execute.dependencies import chapters

ADDRESS = module.address()
PLACES = ["_config.yml", "README.md", "nnlib/notebook.py"]
PLACES += [f"chapters/{chapter}{kind}" for chapter in chapters() for kind in (".md", ".ipynb")]


def test_no_mention_is_stale():
    others = {
        f"{file}:{line} has {url}"
        for file, line, url in module.mentions()
        if url != ADDRESS and file not in ("pipeline/address.py", "tests/book/test_address.py")
    }
    assert not others, f"the address is {ADDRESS}; `make address URL=…` writes it everywhere"


@pytest.mark.parametrize("place", PLACES)
def test_a_place_that_needs_the_address_has_it(place):
    assert ADDRESS in (module.ROOT / place).read_text("utf8")


@pytest.mark.parametrize("chapter", chapters())
def test_a_bare_kernel_installs_from_the_main_branch(chapter):
    text = (module.ROOT / "chapters" / f"{chapter}.md").read_text("utf8")
    assert re.findall(r"git\+[^\s\"']+", text) == [f"git+{ADDRESS}@main"]


@pytest.fixture
def project(tmp_path):
    """A project that mentions its address, its site, and somebody else's repository."""
    (tmp_path / "pyproject.toml").write_text(
        f'[project]\nname = "x"\n[project.urls]\nrepository = "{module.PLACEHOLDER}"\n'
    )
    (tmp_path / "README.md").write_text(
        f"{module.PLACEHOLDER}/issues\n{module.pages(module.PLACEHOLDER)}\n"
        f"git+{module.PLACEHOLDER}@main\nhttps://github.com/pytorch/pytorch\n"
    )
    return tmp_path


def test_a_new_address_is_written_everywhere_and_to_no_other_project(project):
    assert module.rewrite("https://github.com/who/what", project) == ["README.md", "pyproject.toml"]
    assert (project / "README.md").read_text() == (
        "https://github.com/who/what/issues\nhttps://who.github.io/what\n"
        "git+https://github.com/who/what@main\nhttps://github.com/pytorch/pytorch\n"
    )
    assert {url for _, _, url in module.mentions(project)} == {"https://github.com/who/what"}


def test_a_mention_left_behind_is_found(project):
    module.rewrite("https://github.com/who/what", project)
    (project / "late.md").write_text(
        f"see {module.PLACEHOLDER}.\npip install git+https://github.com/a/b\n"
    )
    late = [(line, url) for file, line, url in module.mentions(project) if file == "late.md"]
    assert late == [(1, module.PLACEHOLDER), (2, "https://github.com/a/b")]


@pytest.mark.parametrize(
    "url", ["", "who/what", "https://example.org/who/what", "https://github.com/who"]
)
def test_what_is_no_address_is_refused(project, url):
    with pytest.raises(ValueError, match="must look like https"):
        module.rewrite(url, project)
