"""A headless Chromium over the built site, on loopback, with every other host blocked."""

import functools
import gzip
import http.server
import io
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
FLAGS = [
    "--no-sandbox",  # CI runs as root, where Chromium's sandbox does not start
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--force-color-profile=srgb",
]


PATIENCE = 300_000  # ms: a busy machine turns nothing red
PACKED = (".html", ".css", ".js", ".mjs", ".json", ".svg", ".xml", ".txt", ".map", ".wasm")
# Tells, from the page's first moment, how far its parts jump and how long its thread is busy.
WATCH = """
window.nnWatched = { shift: 0, blocked: 0, shifts: [] };
new PerformanceObserver((list) => {
  for (const entry of list.getEntries()) {
    if (entry.hadRecentInput) continue;
    nnWatched.shift += entry.value;
    for (const { node } of entry.sources)
      nnWatched.shifts.push(`${entry.value.toFixed(3)} ${node?.className || node?.nodeName}`);
  }
}).observe({ type: "layout-shift", buffered: true });
new PerformanceObserver((list) => {
  for (const entry of list.getEntries()) nnWatched.blocked += Math.max(0, entry.duration - 50);
}).observe({ type: "longtask", buffered: true });
"""


def why_not(site: Path) -> str | None:
    """Return why the site cannot be looked at here, or None when it can."""
    if not (site / "index.html").is_file():
        return f"{site.name} is not built: run `make book` first"
    try:
        import playwright  # noqa: F401  (only whether it is there)
    except ImportError:
        return "playwright is not installed"
    if chromium() is None:
        return f"no Chromium on this machine (looked for {', '.join(NAMES)})"
    return None


def chromium() -> str | None:
    """Return the path of the system's Chromium."""
    return next(filter(None, map(shutil.which, NAMES)), None)


@contextmanager
def served(site: Path) -> Iterator[str]:
    """Serve a folder on loopback as hosts do, packed by gzip; yield its address with a slash."""
    packed = functools.lru_cache(maxsize=None)(_packed)

    class Handler(http.server.SimpleHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        extensions_map = http.server.SimpleHTTPRequestHandler.extensions_map | {
            ".woff2": "font/woff2",
            ".woff": "font/woff",
        }

        def send_head(self) -> Any:
            file = Path(self.translate_path(self.path))
            file = file / "index.html" if self.path.endswith("/") else file
            taken = "gzip" in self.headers.get("Accept-Encoding", "")
            if not (taken and file.suffix in PACKED and file.is_file()):
                return super().send_head()
            body = packed(file, file.stat().st_mtime_ns)
            self.send_response(200)
            self.send_header("Content-Type", self.guess_type(str(file)))
            self.send_header("Content-Encoding", "gzip")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            return io.BytesIO(body)

        def log_message(self, *args: Any) -> None:
            pass

    server = _Server(("127.0.0.1", 0), functools.partial(Handler, directory=str(site.resolve())))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()
        server.server_close()


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: a tab that is closed hangs up in the middle of an answer."""


def _packed(file: Path, changed: int) -> bytes:
    return gzip.compress(file.read_bytes(), compresslevel=6, mtime=0)


@contextmanager
def browsing() -> Iterator[Any]:
    """Start the system's Chromium; yield playwright's browser."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=chromium(), args=FLAGS)
        try:
            yield browser
        finally:
            browser.close()


class Visit:
    """One tab: what it asked for, what failed, and what it complained about."""

    def __init__(
        self,
        browser: Any,
        address: str,
        *,
        width: int,
        height: int,
        gated: bool = True,
        **options: Any,
    ):
        """Open a tab; one that is not gated asks as a reader's does, and nobody looks on."""
        self.address = address
        self.foreign: list[str] = []
        self.failed: list[str] = []
        self.complaints: list[str] = []
        self.asked: list[str] = []  # addresses, of all pages since the tab was opened
        size = {"width": width, "height": height}
        self.context = browser.new_context(viewport=size, **options)
        if gated:
            self.context.route("**/*", self._gate)
        self.context.add_init_script(WATCH)
        self.context.set_default_timeout(PATIENCE)
        self.page = self.context.new_page()
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.on("console", self._heard)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("response", self._answered)

    def _gate(self, route: Any) -> None:
        url = route.request.url
        if urlsplit(url).scheme in ("data", "blob") or url.startswith(self.address):
            route.continue_()
        else:
            self.foreign.append(url)
            route.abort()

    def _heard(self, message: Any) -> None:
        if message.type == "error":
            self.complaints.append(message.text)

    def _answered(self, response: Any) -> None:
        if response.status >= 400:
            self.failed.append(f"{response.status} {response.url.removeprefix(self.address)}")

    def open(self, name: str, theme: str | None = None) -> Any:
        """Open a page of the site and wait until its fonts stand; return the response."""
        self.foreign.clear(), self.failed.clear(), self.complaints.clear()
        if theme:
            self.page.add_init_script(
                f"localStorage.setItem('mode', '{theme}'); localStorage.setItem('theme', '{theme}')"
            )
        response = self.page.goto(self.address + name, wait_until="load")
        self.settle()
        return response

    def settle(self) -> None:
        """Wait for the fonts."""
        self.page.evaluate(
            """async () => {
              await document.fonts.ready;
            }"""
        )

    def throttle(self, kilobytes: float, latency: float) -> None:
        """Let the line carry so many kilobytes a second, with so many ms to every answer."""
        line = self.context.new_cdp_session(self.page)
        line.send("Network.enable")
        rate = kilobytes * 1000
        line.send(
            "Network.emulateNetworkConditions",
            {
                "offline": False,
                "latency": latency,
                "downloadThroughput": rate,
                "uploadThroughput": rate / 2,
            },
        )

    def watched(self) -> dict[str, Any]:
        """Return what the page did since it was opened: its shifts, and how long it was busy."""
        self.page.evaluate(
            "() => new Promise((done) => requestAnimationFrame(() => setTimeout(done)))"
        )
        return self.page.evaluate("nnWatched")

    def set_theme(self, theme: str) -> None:
        """Switch light or dark in place, as the page's own button does."""
        self.page.evaluate(
            "theme => Object.assign(document.documentElement.dataset, {theme, mode: theme})", theme
        )

    def close(self) -> None:
        self.context.close()
