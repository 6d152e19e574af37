"""What sibling base models share: text encoders, and the widths of their cross-attention layers.

Siblings are the fine-tunes of one base model that left its text encoders as they were. Between
siblings a concept's vectors keep their meaning, see siblings.py. A concept file contains both
values as optional metadata, which readers of earlier releases ignore:

| in the file | type |
| --- | --- |
| `perfusion.text_encoders_fingerprint` | text |
| `perfusion.layer_widths` | JSON list of the d_l, in the U-Net's order |

This module does not import torch.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

_TEXT_ENCODERS, _WIDTHS = "perfusion.text_encoders_fingerprint", "perfusion.layer_widths"
_MAX_TEXT_LENGTH = 128


@dataclass(frozen=True)
class SharedParts:
    """The parts of a base model by which its siblings are known."""

    text_encoders_fingerprint: str
    layer_widths: tuple[int, ...]  # d_l of each layer

    def to_json(self) -> dict[str, Any]:
        """Return the parts as plain JSON, for `from_json`."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: Any) -> "SharedParts | None":
        """Read the JSON of `to_json`; return None for any other value, such as none at all."""
        try:
            return cls(_text(value["text_encoders_fingerprint"]), _widths(value["layer_widths"]))
        except (KeyError, TypeError, ValueError):
            return None


def write(parts: SharedParts) -> dict[str, str]:
    """Return the metadata that represents the parts in a concept file."""
    widths = json.dumps(parts.layer_widths, separators=(",", ":"))
    return {_TEXT_ENCODERS: parts.text_encoders_fingerprint, _WIDTHS: widths}


def read(metadata: Mapping[str, str], *, value_width: int) -> SharedParts | None:
    """Return the parts in a file; None in a file of an earlier release.

    Raises ValueError or RecursionError if they are damaged, or if the widths do not sum up to
    `value_width`, Σ d_l.
    """
    if _TEXT_ENCODERS not in metadata and _WIDTHS not in metadata:
        return None
    widths = _widths(json.loads(metadata.get(_WIDTHS, "")))
    if sum(widths) != value_width:
        raise ValueError(f"layers of these widths have {sum(widths)} values, not {value_width}")
    return SharedParts(_text(metadata.get(_TEXT_ENCODERS)), widths)


def _text(value: Any) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= _MAX_TEXT_LENGTH:
        raise ValueError("this is no fingerprint")
    return value


def _widths(value: Any) -> tuple[int, ...]:
    if not isinstance(value, (list, tuple)) or not all(type(w) is int and w > 0 for w in value):
        raise ValueError("widths are positive whole numbers")
    return tuple(value)
