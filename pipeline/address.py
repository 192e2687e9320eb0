"""The repository's address stands in pyproject.toml; everything else must repeat it.

`python -m pipeline.address https://github.com/who/what` writes a new one everywhere.
"""

import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

from pipeline import ROOT

PLACEHOLDER = "https://github.com/your-organisation/executable-encyclopedia"
_FORM = re.compile(r"https://github\.com/[\w.-]+/[\w.-]*[\w-]")


def address(root: Path = ROOT) -> str:
    """Return the address that pyproject.toml states."""
    project = tomllib.loads((root / "pyproject.toml").read_text("utf8"))["project"]
    return project["urls"]["repository"]


def pages(repository: str) -> str:
    """Return the address of the published site."""
    owner, name = repository.split("/")[-2:]
    return f"https://{owner}.github.io/{name}"


def mentions(root: Path = ROOT) -> Iterator[tuple[str, int, str]]:
    """Yield (file, line number, address) of each mention of this repository, right or stale.

    A mention is recognised by the owner or the name of the current address or of the
    placeholder, or by standing after `git+`.
    """
    known = {part for url in (address(root), PLACEHOLDER) for part in url.split("/")[-2:]}
    for file in text_files(root):
        for number, line in enumerate((root / file).read_text("utf8").splitlines(), 1):
            for found in re.finditer(rf"(git\+)?({_FORM.pattern})", line):
                url = found[2].removesuffix(".git")
                if found[1] or known & set(url.split("/")[-2:]):
                    yield file, number, url


def text_files(root: Path = ROOT) -> list[str]:
    """Return the tracked text files; without git, those of the folders that a clone has."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True)
    files = done.stdout.split("\0")[:-1] if done.returncode == 0 else _walk(root)
    return sorted(f for f in files if (root / f).is_file() and _is_text(root / f))


def _walk(root: Path) -> list[str]:
    skip = {"_build", "_extra", ".git", ".venv", ".cache", "node_modules", ".snakemake"}
    files = (file.relative_to(root) for file in root.rglob("*"))
    return [f.as_posix() for f in files if not skip & set(f.parts)]


def _is_text(file: Path) -> bool:
    try:
        file.read_text("utf8")
    except UnicodeDecodeError:
        return False
    return True


def rewrite(new: str, root: Path = ROOT) -> list[str]:
    """Replace the address, and that of the published site, everywhere; return the files.

    Raises:
        ValueError: `new` is no address of a GitHub repository.
    """
    if not _FORM.fullmatch(new):
        raise ValueError(f"URL={new!r} must look like https://github.com/owner/name")
    old = address(root)
    changed = []
    for file in text_files(root):
        if file == "pipeline/address.py":
            continue  # the placeholder stays known
        text = (root / file).read_text("utf8")
        fresh = text.replace(old, new).replace(pages(old), pages(new))
        if fresh != text:
            (root / file).write_text(fresh, "utf8")
            changed.append(file)
    return changed


def main() -> int:
    if len(sys.argv) != 2:
        print(f"the address is {address()}; give the new one: make address URL=https://…")
        return 1
    try:
        changed = rewrite(sys.argv[1].rstrip("/").removesuffix(".git"))
    except ValueError as error:
        print(f"✗ {error}")
        return 1
    print("\n".join(changed) or "nothing to change")
    return 0


if __name__ == "__main__":
    sys.exit(main())
