"""Plain words for the docstrings of libraries, which are written in reST with formulas in LaTeX."""

from __future__ import annotations

import re

_LITERAL = r"""(?:`[^`]*`|'[^']*'|"[^"]*"|[-+]?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?|True|False|None|\(\))"""
_MARKUP = (
    (r"\.\. math:: ?(.*)$", lambda found: _formula(found[1])),
    (r":math:`([^`]*)`", lambda found: _formula(found[1])),
    (r"\.\. (\w+):: ?", lambda found: f"{found[1].capitalize()}: "),
    (r":[a-z][\w:-]*:`([^`<]+?) ?<[^`]*>`", r"\1"),  # a role with a title
    (r":[a-z][\w:-]*:`~(?:\w+\.)*(\w+)`", r"`\1`"),
    (r":[a-z][\w:-]*:(`[^`]*`)", r"\1"),
    (r"``([\"'][^`]*[\"'])``", r"\1"),
    (r"``(.+?)``", r"`\1`"),
    (r"`([^`<]+?) ?<([^`>]+)>`__?", r"\1 (\2)"),
    (r"`([^`]+)`__?(?!\w)", r"\1"),
    (r"\*\*(\S[^*]*)\*\*", r"\1"),
)
_TELLS_DEFAULT = r"(?:Default|Defaults to|Default value|Has a default value of):?"
_DEFAULT = (
    (rf" ?\(default: {_LITERAL}\)", ""),
    (rf"[,;] (?:defaults to|by default) {_LITERAL}(?=\.?$|\. )", ""),
    (rf"(?:^|(?<=[.!?] )){_TELLS_DEFAULT} {_LITERAL}(?:\. ?|$| (?=[A-Z]))", ""),
)
_COMMANDS = {
    "ge": ">=", "geq": ">=", "le": "<=", "leq": "<=", "neq": "!=", "approx": "~", "cdot": "*", "times": "x",
    "dots": "...", "ldots": "...", "infty": "infinity", "left": "", "right": "", "quad": " ",
}  # fmt: skip
_FONTS = r"\\(?:text|mathrm|mathbf|mathit|mathcal|operatorname|hat|bar|tilde|vec)\{([^{}]*)\}"


def plain_words(text: str) -> str:
    r"""Return a description in plain words: without roles, LaTeX, links, double backticks and line breaks.

    A sentence that only tells the default is left out, since the default stands beside the description.

    >>> plain_words(r":attr:`margin` of ``anchor``, :math:`\alpha \geq 0`. Default: :math:`1.0`")
    '`margin` of `anchor`, alpha >= 0.'
    """
    text = " ".join(text.split())
    for pattern, words in (*_MARKUP, *_DEFAULT):
        text = re.sub(pattern, words, text)
    return " ".join(text.split())


def _formula(latex: str) -> str:
    """Return a formula as a person types it."""
    text = re.sub(_FONTS, r"\1", latex.replace(r"\_", "_"))
    text = re.sub(r"\\frac\{([^{}]*)\}\{([^{}]*)\}", r"(\1) / (\2)", text)
    text = re.sub(
        r"\\([A-Za-z]+) ?", lambda found: _COMMANDS.get(found[1], found[1]) + found[0][len(found[1]) + 1 :], text
    )
    return re.sub(r"\\[,;! ]?|[{}]", "", text)
