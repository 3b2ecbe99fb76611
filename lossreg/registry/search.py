"""Find components by words: their names, tasks, summaries and what else their specs say; imports no torch."""

from __future__ import annotations

import difflib
import functools
import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any, Generic, TypeVar

from lossreg.registry.components import Entry
from lossreg.registry.specs import LossSpec

E = TypeVar("E", bound=Entry[Any])

_STOP = {
    "a", "an", "and", "any", "are", "as", "at", "be", "best", "between", "both", "by", "can", "criterion", "data",
    "do", "does", "for", "from", "function", "good", "has", "have", "how", "i", "in", "into", "is", "it", "its",
    "like", "loss", "model", "my", "need", "network", "of", "on", "or", "should", "some", "task", "than", "that",
    "the", "their", "them", "these", "this", "to", "train", "training", "use", "used", "using", "want", "what",
    "when", "where", "which", "who", "whose", "with",
}  # fmt: skip
"""Words that say nothing of a component."""
_RUN = re.compile(r"[^\W_]+")
_IS_CAMEL = re.compile(r"[a-z][A-Z]|[A-Z]{2}[a-z]|\d[A-Z][a-z]")
_CAMEL = re.compile(r"[A-Z]?IoU|\d+[A-Z]+(?![a-z])|(?<![A-Z])[A-Z]\d+|[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
_ENDINGS = tuple(
    (re.compile(ending), shorter)
    for ending, shorter in (
        ("isation", "ization"),
        ("is(e|ed|ing)$", "ize"),
        ("ies$", "y"),
        ("(ss|sh|ch|x)es$", r"\1"),
        (r"(?<=\w[^uis])s$", ""),
        ("(?<=.{4})(ation|ness|ative|ive)$", ""),
        ("(?<=.{4})(ing|ed|ion)$", ""),
        (r"([bdgmnpt])\1$", r"\1"),
        ("(?<=.{4})e$", ""),
    )
)
_NAME, _LABEL, _TEXT = 3.0, 2.0, 1.0
_LATER = 0.1  # what a task counts less for each task before it


def search(entries: Iterable[E], query: str) -> list[E]:
    """Return the components that the words of a query describe, the best match first.

    A component whose name or alias is the query comes first, and alone if the query is a full name or a dotted path.
    The others are ordered by how many of the words they have; then by how rare these words are, whether they stand
    together as in the query, and whether in the name, in an alias, a word or a task, or in the summary and the other
    texts. Equal matches keep their order. A component with less than half as many of the words as the best one is left
    out.
    """
    wanted = list(dict.fromkeys(words_of(query)))
    found = [_Match(entry, query, wanted) for entry in entries]
    having = Counter(word for match in found for word in match.weights)
    rarity = {word: math.log(1 + len(found) / count) for word, count in having.items()}
    most = max((match.count for match in found), default=0)
    called = [match for match in found if match.is_called]
    if called and ("/" in query or "." in query):
        return [match.entry for match in called]
    found = [match for match in found if match.is_called or 0 < most <= 2 * match.count]
    found.sort(key=lambda match: match.order(rarity))
    return [match.entry for match in found]


def near(entries: Iterable[Entry[Any]], query: str) -> list[str]:
    """Return the words of names, tasks and search words that are spelt almost like a word of the query."""
    known = {
        word.lower()
        for entry in entries
        for text in (entry.spec.name, *_labels(entry))
        for word in (*_RUN.findall(text), *_parts(text))
        if word.lower() not in _STOP
    }
    asked = [word for word in (query.lower(), *map(str.lower, _parts(query))) if word not in _STOP]
    matches = (difflib.get_close_matches(word, sorted(known), n=2, cutoff=0.75) for word in asked)
    return list(dict.fromkeys(match for some in matches for match in some))[:3]


def words_of(text: str) -> list[str]:
    """Return the words of a text without case, plural and common endings, and without those that say nothing.

    >>> words_of("Losses for imbalanced class labels"), words_of("SmoothL1Loss"), words_of("BoxGIoULoss")
    (['imbalanc', 'class', 'label'], ['smooth', 'l1'], ['box', 'giou'])
    """
    stems = ((part.lower(), _stem(part.lower())) for part in _parts(text))
    return [stem for word, stem in stems if word not in _STOP and stem not in _STOP]


def _parts(text: str) -> Iterator[str]:
    """Yield the words of a text; a name in camel case is several."""
    for run in _RUN.findall(text):
        yield from _CAMEL.findall(run) if _IS_CAMEL.search(run) else (run,)


@functools.lru_cache(10_000)
def _stem(word: str) -> str:
    for ending, shorter in _ENDINGS:
        word = ending.sub(shorter, word)
    return word


def _labels(entry: Entry[Any]) -> tuple[str, ...]:
    tasks = entry.spec.tasks if isinstance(entry.spec, LossSpec) else ()
    return (*entry.spec.aliases, *entry.spec.words, *tasks)


class _Match(Generic[E]):
    """What a component has of a query.

    Attributes:
        entry: the component.
        weights: the words of the query that it has, and the pairs of them that stand together, with what each counts.
        count: how many of the words it has.
        is_called: whether the query is its name or an alias, as it is written or by its words.
    """

    def __init__(self, entry: E, query: str, wanted: Sequence[str]) -> None:
        spec = entry.spec
        self.entry = entry
        self._in_name = words_of(spec.name)
        self._squashed = "".join(_RUN.findall(spec.name)).lower()
        self._known: dict[str, float] = {}
        self._index()
        pairs = {left + right: (left, right) for left, right in pairwise(wanted)}
        self.weights = {word: weight for word in (*wanted, *pairs) if (weight := self._weight(word))}
        together = {word for pair, words in pairs.items() if pair in self.weights for word in words}
        self.count = sum(word in self.weights or word in together for word in wanted)
        self.is_called = query.lower() in map(str.lower, entry.names) or (
            bool(wanted) and any(words_of(name) == wanted for name in (spec.name, *spec.aliases))
        )

    def _index(self) -> None:
        """Weigh the words of the component by where they stand."""
        spec = self.entry.spec
        weighed = [(text, _TEXT) for text in (spec.summary, spec.source)]
        if isinstance(spec, LossSpec):
            weighed += [(text, _TEXT) for text in (spec.prediction, spec.ground_truth)]
            weighed += [(task, max(_LABEL - _LATER * i, _TEXT)) for i, task in enumerate(spec.tasks)]
        weighed += [(text, _LABEL) for text in (*spec.aliases, *spec.words, self.entry.plugin.name)]
        for text, weight in (*weighed, (spec.name, _NAME)):
            words = words_of(text)
            for word in (*words, *map("".join, pairwise(words))):
                self._known[word] = max(weight, self._known.get(word, 0.0))

    def _weight(self, word: str) -> float:
        """Return what a word counts; 0 if the component does not have it."""
        in_name = len(word) > 4 and word in self._squashed
        in_name = in_name or any(word in part and len(part) - len(word) <= 2 < len(word) for part in self._in_name)
        return max(self._known.get(word, 0.0), _NAME if in_name else 0.0)

    def order(self, rarity: Mapping[str, float]) -> tuple[bool, int, float, int]:
        """Return the key by which matches are sorted."""
        score = sum(weight * rarity[word] for word, weight in self.weights.items())
        return not self.is_called, -self.count, -score, len(self._in_name)
