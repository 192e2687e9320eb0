"""Prove one chapter alone: `make check CHAPTER=family/name`.

Its style, its run, its stored outputs against the run, its tests, its equations, its page, and what
a browser shows of the page: all that `make test` would say of it, in about the time of its run and
half a minute. The run is left out where the book holds one of the same content. Nothing is
published: `_build/html` stays.
"""

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from pipeline import ROOT
from pipeline.book import locked
from pipeline.checks import equations, pairing
from pipeline.execute import run_chapter
from pipeline.site import SiteError, vendor
from pipeline.site import build as site
from pipeline.site.browser import why_not


class Step(NamedTuple):
    """What one step found: nothing wrong where there are no problems."""

    name: str
    problems: list[str]
    words: str
    seconds: float


class Found(NamedTuple):
    problems: list[str]
    words: str = ""


class Chapter:
    """A chapter and the steps that prove it."""

    def __init__(self, name: str, root: Path = ROOT):
        self.name, self.root = name, root
        family, _, stem = name.partition("/")
        self.stem = stem
        self.module = f"nnlib/{name}.py"
        self.test = f"tests/{family}/test_{stem}.py"
        self.notebook = f"chapters/{name}.ipynb"

    def files(self, *names: str) -> list[str]:
        """Return those that there are: a chapter about kernels may have no module of its own."""
        return [name for name in names if (self.root / name).is_file()]

    def style(self) -> Found:
        code = self.files(self.module, self.test)
        text = self.files(f"chapters/{self.name}.md", *code)
        problems = [
            *self._said("ruff", "check", "--quiet", *code, self.notebook),
            *(self._said("ruff", "format", "--check", "--quiet", *code) if code else []),
            *self._said("codespell_lib", *text),
            *pairing.disagreements(self.root, self.name),
            *pairing.stored_output_problems(self.root, self.name),
        ]
        return Found(problems, f"{len(text) + 1} files")

    def run(self) -> Found:
        if run_chapter.is_fresh(self.name, self.root):
            return Found([], "the book holds it already")
        try:
            record = run_chapter.run(self.name, root=self.root)
        except run_chapter.ChapterError as error:
            return Found([str(error)])
        broken = [f"did not hold: {claim}" for claim in record["broken"]]
        return Found(broken, f"{record['cpu_seconds']:.1f} s of CPU")

    def outputs(self) -> Found:
        checked, problems = pairing.stored_against_run(self.root, self.name)
        return Found(problems, f"{checked} cells")

    def equations(self) -> Found:
        stated = [e.label for e in equations.equations(self.root) if e.chapter == self.name]
        path = self.root / equations.REPORT
        status = equations.run(path, self.root, set(stated), quiet=True)
        truth = equations.known(path)
        told = [p for p in equations.problems(self.root) if f"chapters/{self.name}.md:" in p]
        red = [label for label in stated if label and not equations.holds(truth.get(label))]
        told += [f"equation {label}: no test of it is green" for label in red]
        if status and not told:
            told = [f"pytest ended with status {status}"]
        return Found(told, f"{len(stated)} equations")

    def tests(self) -> Found:
        shared = ["tests/test_contract.py", "tests/test_catalog.py", "tests/test_layout.py"]
        shared += ["tests/test_charter.py", "tests/book/test_template.py"]
        chosen = [self.test, *shared, "tests/book/test_equations.py"]
        words = ["-k", self.stem, f"--truth-report={equations.REPORT}"]
        return self._pytest(*self.files(*chosen), *words)

    def page(self) -> Found:
        with locked(self.root / "_build" / ".lock"):
            try:
                vendor.vendor(self.root)
                if wrong := self._said("pipeline.site.generated_pages"):
                    return Found(wrong)
                site.render(self.root, self.root / "_build", others_as_stored=True)
            except (vendor.VendorError, SiteError) as error:
                return Found([str(error)])
        size = (self._html() / f"chapters/{self.name}.html").stat().st_size
        return Found([], f"{size / 1e6:.1f} MB")

    def browser(self) -> Found:
        if reason := why_not(self._html()):
            return Found([], f"not looked at: {reason}")
        page = f"chapters/{self.name}.html"
        looks = self.files("tests/book/test_site.py", "tests/book/test_reading.py")
        looks += self.files("tests/book/live/test_chapters.py")
        return self._pytest(*looks, "-k", page, SITE=str(self._html()))

    def _html(self) -> Path:
        return self.root / "_build" / "jb" / "_build" / "html"

    def _pytest(self, *arguments: str, **variables: str) -> Found:
        done = self._python("pytest", "-q", "--no-header", "--tb=short", *arguments, **variables)
        lines = done.stdout.strip().splitlines() or done.stderr.strip().splitlines()
        count = lines[-1].split(" in ")[0].strip("= ") if lines else "pytest said nothing"
        return Found([done.stdout.strip()] if done.returncode else [], count)

    def _said(self, module: str, *arguments: str) -> list[str]:
        done = self._python(module, *arguments)
        words = (done.stdout + done.stderr).strip()
        return [words or f"{module} ended with {done.returncode}"] if done.returncode else []

    def _python(self, module: str, *arguments: str, **variables: str):
        return subprocess.run(
            [sys.executable, "-m", module, *arguments],
            cwd=self.root,
            env=os.environ | variables,
            capture_output=True,
            text=True,
            check=False,
        )


def prove(chapter: Chapter, tell: Callable[[Step], None]) -> list[Step]:
    """Take the steps, two rows of them side by side; tell each as it ends."""

    def row(*steps: Callable[[], Found]) -> Iterator[Step]:
        for step in steps:
            begin = time.monotonic()
            found = step()
            done = Step(step.__name__, *found, seconds=time.monotonic() - begin)
            tell(done)
            yield done
            if found.problems and step.__name__ in ("run", "page"):
                return  # what comes after it has nothing to look at

    with ThreadPoolExecutor(2) as pool:
        rows = [
            pool.submit(lambda: list(row(chapter.style, chapter.equations, chapter.tests))),
            pool.submit(
                lambda: list(row(chapter.run, chapter.outputs, chapter.page, chapter.browser))
            ),
        ]
        return [step for each in rows for step in each.result()]


def _tell(step: Step) -> None:
    for problem in step.problems:
        print(problem)
    mark = "✗" if step.problems else "✓"
    print(f"{mark} {step.name:<10}{step.seconds:6.1f} s  {step.words}", flush=True)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Prove one chapter alone.")
    parser.add_argument("chapter", help="family/name")
    args = parser.parse_args(arguments)
    begin = time.monotonic()
    try:
        run_chapter.find(args.chapter, ROOT)
    except run_chapter.ChapterError as error:
        print(f"✗ {error}")
        return 1
    steps = prove(Chapter(args.chapter), _tell)
    failed = [step.name for step in steps if step.problems]
    seconds = f"{time.monotonic() - begin:.1f} s"
    if failed:
        print(f"{args.chapter} is not in order, {seconds}: see {', '.join(failed)} above.")
        return 1
    print(f"{args.chapter} is in order, {seconds}.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
