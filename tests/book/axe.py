"""axe-core, which tells what keeps people from using a page; fetched for the tests, not published.

Its package is pinned in `axe.json` and kept in `.cache/vendor`, beside those of the site.
"""

import functools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipeline import ROOT
from pipeline.site import vendor

GRAVE = ("critical", "serious")
MILD = ("hidden-content", "region")  # never grave what they find, and half of the time
_RUN = """([within, without]) => axe.run(within, {
  resultTypes: ["violations"], iframes: false, preload: false,
  rules: Object.fromEntries(without.map((rule) => [rule, { enabled: false }])),
})"""


@functools.cache
def source() -> str:
    """Return the script."""
    package = json.loads(Path(__file__).with_suffix(".json").read_text("utf8"))
    cache = ROOT / ".cache" / "vendor"
    cache.mkdir(parents=True, exist_ok=True)
    return vendor.unpacked(package, vendor.tarball(package, cache))["axe.min.js"].decode()


def grave(tab: Any, without: Sequence[str] = (), within: str = "html") -> list[str]:
    """Return what is critical or serious on an open page: its rule and its element.

    Args:
        tab: the page.
        without: rules that are not asked.
        within: a selector of what is looked at.
    """
    if not tab.evaluate("'axe' in window"):
        tab.evaluate(source())
    found = tab.evaluate(_RUN, [within, [*without, *MILD]])["violations"]
    return [
        f"{rule['id']} ({rule['impact']}): {node['html'][:160]}"
        for rule in found
        if rule["impact"] in GRAVE
        for node in rule["nodes"]
    ]
