"""Whether a superclass is a word that the base model knows.

A concept keeps its superclass's Key, and its word embedding begins as that of the superclass's last
token. So the last word matters: a toy bear is a bear.

A base model that was made for few things lists them (`known_superclasses` of its perfusion.json).
Of any other only the vocabulary is known: a word that is rare in it is cut into pieces.
"""

import difflib
from collections.abc import Sequence
from typing import Any

from perfusion_core.errors import SuperclassError
from perfusion_core.text.tokenization import superclass_ids

_NEAREST = 3
_ALIKE = 0.5
_MOST_LISTED = 100


def superclass_sentence(
    superclass: str, *, known: Sequence[str], tokenizer: Any | None = None
) -> str | None:
    """Return the warning about a word that the base model may not know, or None.

    Without `known` words the tokenizer decides; without a tokenizer, too, there is no warning.
    """
    last = superclass.lower().split()[-1]
    if known:
        is_known = {superclass.lower(), last} & {word.lower() for word in known}
        return None if is_known else _unknown(superclass, last, known)
    if tokenizer is None:
        return None
    try:
        pieces = len(superclass_ids(tokenizer, last))
    except SuperclassError as error:
        return str(error)
    if pieces == 1:
        return None
    return (
        f"'{last}' is made of {pieces} pieces in this base model's vocabulary, and a concept "
        "begins with the last piece alone. A plainer word, such as animal or toy, often teaches "
        "better."
    )


def nearest(word: str, known: Sequence[str]) -> list[str]:
    """Return up to three of the `known` words, those that are spelled most like `word` first."""
    return difflib.get_close_matches(word, known, n=_NEAREST, cutoff=_ALIKE)


def _unknown(superclass: str, last: str, known: Sequence[str]) -> str:
    near = ", ".join(nearest(last, known))
    spelled = f" Nearest in spelling: {near}." if near else ""
    listed = ", ".join(known[:_MOST_LISTED])
    more = len(known) - _MOST_LISTED
    others = f" and {more} more" if more > 0 else ""
    return (
        f"This base model was not trained to draw '{superclass}'. A word that it knows, for a "
        f"thing of a similar shape, often teaches better.{spelled} It knows: {listed}{others}."
    )
