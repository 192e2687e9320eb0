"""Ways through the book: whom each is for, and its chapters in order. The data stand here, once."""

from dataclasses import dataclass
from html import escape

from nnlib import catalog
from nnlib.markup import prose


@dataclass(frozen=True)
class Stage:
    """A stretch of a way: chapters that belong together, and what to do with them."""

    title: str
    names: tuple[str, ...]
    note: str = ""


@dataclass(frozen=True)
class Way:
    """A way through the book.

    Args:
        name: for its anchor and its colour.
        title: whose way it is.
        promise: for whom it is, and what is known at its end.
        stages: in the order of reading.
    """

    name: str
    title: str
    promise: str
    stages: tuple[Stage, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """The chapters in order."""
        return tuple(name for stage in self.stages for name in stage.names)


WAYS = (
    Way(
        "newcomer",
        "A newcomer's path",
        "You can read a little Python and remember what a slope is. At the end you know how a "
        "language model works, from its smallest part up.",
        (
            Stage("One neuron", ("perceptron",)),
            Stage("Many of them", ("mlp", "activations")),
            Stage("How they learn", ("backpropagation", "optimizers", "regularization")),
            Stage("Pictures", ("cnn",)),
            Stage("One step after the other", ("rnn", "lstm")),
            Stage("Looking things up", ("attention", "transformer", "gpt")),
        ),
    ),
    Way(
        "engineer",
        "An engineer's path to language models",
        "You train or serve models and want to know what is under the hood, and where the time "
        "goes.",
        (
            Stage("What you build on", ("backpropagation", "optimizers", "regularization")),
            Stage("From attention to GPT", ("attention", "transformer", "bert", "gpt")),
            Stage(
                "The models of today",
                ("tokenization", "llm", "mixture_of_experts", "long_context", "scaling_laws"),
            ),
            Stage("Make it fast", ("roofline", "flash_attention", "decoding", "inference")),
            Stage("Make it small", ("compression", "quantized_matmul")),
            Stage("Make it yours", ("adapters", "policy_gradient", "alignment", "retrieval")),
        ),
    ),
    Way(
        "physicist",
        "A physicist's path",
        "Energies, dynamics, noise and symmetry: the ideas that networks share with physics.",
        (
            Stage("Downhill", ("perceptron", "mlp", "backpropagation", "optimizers")),
            Stage("Systems in time", ("rnn", "echo_state", "spiking")),
            Stage("Energy", ("hopfield", "boltzmann", "rbm", "energy_based")),
            Stage("Space and symmetry", ("cnn", "resnet", "message_passing")),
            Stage("Flows", ("autoencoder", "normalizing_flow", "neural_ode", "liquid")),
            Stage("Noise", ("vae", "diffusion", "bayesian")),
        ),
    ),
    Way(
        "teacher",
        "A teacher's path",
        "Six units of a course. Each has something to move in class, a proof or a sum for the "
        "blackboard, and exercises whose solutions run.",
        (
            Stage(
                "A machine that learns from mistakes",
                ("perceptron", "mlp"),
                "Start with the slider of the turning line, and end with XOR.",
            ),
            Stage(
                "Gradients",
                ("activations", "backpropagation"),
                "Do the pencil example on the board, then let the slider repeat it.",
            ),
            Stage(
                "Training in practice",
                ("optimizers", "regularization"),
                "Six marbles on a real mountain, and a network that learns mistakes by heart.",
            ),
            Stage(
                "Memory",
                ("rnn", "lstm", "gru"),
                "Why the gradient fades, and what a gate does about it.",
            ),
            Stage(
                "Attention",
                ("seq2seq", "attention", "transformer"),
                "Watch a translator of dates look at what it reads.",
            ),
            Stage(
                "Language models and their cost",
                ("gpt", "roofline", "flash_attention"),
                "What the next token is drawn from, and why it takes the time it takes.",
            ),
        ),
    ),
)


def page() -> str:
    """Return the page in MyST."""
    text = [
        "# Ways through the book",
        "**You need not read from front to back: here are four ways, each with its chapters in "
        "order.**",
        "Filled stations are written and lead to their chapters; open ones are still to come.\n"
        "Every chapter also says at its top what to read before it.",
    ]
    for way in WAYS:
        text += [f"({way.name})=\n## {way.title}", way.promise, _raw(_line(way))]
    return "\n\n".join(text) + "\n"


def short(up: str = "") -> str:
    """Return the ways in a few lines each, as HTML for the landing page.

    Args:
        up: the way from the page to the root of the site, such as `"../"`.
    """
    return f'<ul class="nn-ways">{"".join(_short(way, up) for way in WAYS)}</ul>'


def _short(way: Way, up: str) -> str:
    rows = [catalog.get(name) for name in way.names]
    written = [row for row in rows if row.module]
    first = " → ".join(_linked(row, up, row.label) for row in written[:3])
    return (
        f'<li class="nn-way-{way.name}"><a class="nn-way-title" href="{up}ways.html#{way.name}">'
        f"{_typeset(way.title)}</a><span>{prose(way.promise)}</span>"
        f'<span class="nn-way-first">{first} → …</span>'
        f'<span class="nn-way-count">{len(written)} of {len(rows)} chapters written</span></li>'
    )


def _line(way: Way) -> str:
    return f'<ol class="nn-way nn-way-{way.name}">{"".join(map(_stage, way.stages))}</ol>'


def _stage(stage: Stage) -> str:
    note = f'<p class="nn-way-note">{prose(stage.note)}</p>' if stage.note else ""
    stops = "".join(_stop(catalog.get(name)) for name in stage.names)
    return f'<li><p class="nn-way-stage">{_typeset(stage.title)}</p>{note}<ol>{stops}</ol></li>'


def _stop(row: catalog.Architecture) -> str:
    kind = "written" if row.module else "planned"
    title = _linked(row, "", row.title)
    told = "" if row.module else '<span class="nn-way-later">to come</span>'
    return (
        f'<li class="nn-{kind}">{title}{told}<span class="nn-way-idea">{prose(row.idea)}</span>'
        "</li>"
    )


def _linked(row: catalog.Architecture, up: str, words: str) -> str:
    if not row.module:
        return f"<span>{escape(words)}</span>"
    return f'<a href="{up}chapters/{row.family}/{row.name}.html">{escape(words)}</a>'


def _typeset(words: str) -> str:
    """Escape words for HTML, with the apostrophe that a page has."""
    return escape(words, quote=False).replace("'", "&rsquo;")


def _raw(markup: str) -> str:
    return f"```{{raw}} html\n{markup}\n```"
