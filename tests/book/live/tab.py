"""A tab with live models: what it has asked for, what its forms say, what its models answer."""

import json

import torch

from pipeline.site.browser import Visit

FIRST_TOUCH = {"_static/live/live.js", "vendor/live/ort.js", "vendor/live/engine.js"}


class Tab:
    """A visit, what it has asked for, and its forms."""

    def __init__(self, browser, address, **options):
        self.asked = []
        self.visit = Visit(
            browser, address, width=options.pop("width", 1280), height=900, **options
        )
        self.page = self.visit.page
        self.page.on("request", lambda request: self.asked.append(self._name(request.url)))

    def _name(self, url):
        return url.removeprefix(self.visit.address).split("?")[0]

    def open(self, name="index.html"):
        self.page.goto(self.visit.address + name)
        self.visit.settle()
        self.asked.clear()
        return self

    def form(self, name, prefix="live-"):
        return self.page.locator(f"#{prefix}{name}")

    def told(self, name, words):
        """Wait until a form says something."""
        self.page.wait_for_function(
            "([id, words]) => document.querySelector(id + ' .nn-live-told').textContent"
            ".includes(words)",
            arg=[f"#live-{name}", words],
        )

    def says(self, name):
        return self.form(name).locator(".nn-live-told").inner_text()


ASKED = """async ([id, feeds]) => {
  const form = document.querySelector(id).nnForm;
  const typed = ({type, dims, data}) => ({type, dims, data: type === "int64"
    ? BigInt64Array.from(data, BigInt) : Float32Array.from(data)});
  const answers = [];
  for (const feed of feeds)
    answers.push((await form.ask(feed.map(typed))).map((out) => Array.from(out.data, Number)));
  return answers;
}"""


def compared(tab, figure, file):
    """Return the largest difference between the page's answers and torch's, on ten inputs."""
    records = json.loads(file.read_text("utf8"))
    assert len(records) >= 10
    tab.page.wait_for_function("id => document.querySelector(id).nnForm", arg=figure)
    answers = tab.page.evaluate(ASKED, [figure, [record["feed"] for record in records]])
    worst = 0.0
    for got, record in zip(answers, records, strict=True):
        for out, wanted in zip(got, record["wanted"], strict=True):
            difference = torch.tensor(out) - torch.tensor(wanted["data"])
            worst = max(worst, float(difference.abs().max()))
    return worst
