r"""A short formula as plain text, for where none can be set: `\mathbf{W}\mathbf{x}` is `Wx`."""

import re

_GREEK = (
    "alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta", "iota", "kappa",
    "lambda", "mu", "nu", "xi", "omicron", "pi", "rho", "varsigma", "sigma", "tau", "upsilon",
    "phi", "chi", "psi", "omega",
)  # fmt: skip
_NAMES = {name: chr(ord("α") + at) for at, name in enumerate(_GREEK)}
_NAMES |= {name.capitalize(): symbol.upper() for name, symbol in _NAMES.items()}
_NAMES |= {
    "varepsilon": "ε", "varphi": "φ", "vartheta": "θ", "ell": "ℓ", "partial": "∂", "nabla": "∇",
    "cdot": "·", "times": "×", "odot": "⊙", "otimes": "⊗", "circ": "∘", "pm": "±", "cdots": "…",
    "ldots": "…", "dots": "…", "le": "≤", "leq": "≤", "ge": "≥", "geq": "≥", "neq": "≠", "ne": "≠",
    "approx": "≈", "sim": "∼", "propto": "∝", "to": "→", "mapsto": "↦", "infty": "∞", "in": "∈",
    "sum": "Σ", "prod": "Π", "int": "∫", "sqrt": "√", "top": "ᵀ", "prime": "′", "mid": "|",
    "lVert": "‖", "rVert": "‖", "Vert": "‖", "|": "‖", "quad": " ", "qquad": " ", ",": " ",
    "log": "log ", "exp": "exp ", "max": "max ", "min": "min ", "tanh": "tanh ", "ll": "≪",
}  # fmt: skip
_FONT = re.compile(r"\\(?:math\w+|text\w*|operatorname\*?|boldsymbol|bm|hat|tilde|bar|vec)\b")
_FRACTION = re.compile(r"\\[dt]?frac\s*\{([^{}]*)\}\s*\{([^{}]*)\}")
_COMMAND = re.compile(r"\\([A-Za-z]+|[^A-Za-z])")


def as_text(formula: str) -> str:
    """Return the formula in one line of letters and signs."""
    formula = _FRACTION.sub(r"\1/\2", _FONT.sub("", formula))
    formula = _COMMAND.sub(lambda found: _NAMES.get(found[1], ""), formula)
    return re.sub(r"\s+", " ", re.sub(r"[{}$&~]", "", formula)).strip()
