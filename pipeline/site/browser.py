"""A headless Chromium over the built site, on loopback, with every other host blocked."""

import functools
import http.server
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
    """Serve a folder on loopback; yield its address, with a slash at the end."""

    class Handler(http.server.SimpleHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        extensions_map = http.server.SimpleHTTPRequestHandler.extensions_map | {
            ".woff2": "font/woff2",
            ".woff": "font/woff",
        }

        def log_message(self, *args: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(Handler, directory=str(site.resolve()))
    )
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()
        server.server_close()


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
    """One tab, and what it asked for and complained about since it opened a page."""

    def __init__(self, browser: Any, address: str, *, width: int, height: int, **options: Any):
        self.address = address
        self.foreign: list[str] = []
        self.failed: list[str] = []
        self.complaints: list[str] = []
        size = {"width": width, "height": height}
        self.context = browser.new_context(viewport=size, **options)
        self.context.route("**/*", self._gate)
        self.page = self.context.new_page()
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
        """Open a page of the site and wait until maths and widgets stand; return the response."""
        self.foreign.clear(), self.failed.clear(), self.complaints.clear()
        if theme:
            self.page.add_init_script(
                f"localStorage.setItem('mode', '{theme}'); localStorage.setItem('theme', '{theme}')"
            )
        response = self.page.goto(self.address + name, wait_until="load")
        self.settle()
        return response

    def settle(self) -> None:
        """Wait for fonts, for MathJax, and for every widget's place to be filled."""
        self.page.evaluate(
            """async () => {
              await document.fonts.ready;
              if (window.MathJax?.startup?.promise) await window.MathJax.startup.promise;
            }"""
        )
        self.page.wait_for_function(
            """() => [...document.querySelectorAll(
                 'script[type="application/vnd.jupyter.widget-view+json"]')]
               .every((view) => view.parentElement.querySelector('.jupyter-widgets, .lm-Widget'))"""
        )

    def set_theme(self, theme: str) -> None:
        """Switch light or dark in place, as the page's own button does."""
        self.page.evaluate(
            "theme => Object.assign(document.documentElement.dataset, {theme, mode: theme})", theme
        )

    def close(self) -> None:
        self.context.close()
