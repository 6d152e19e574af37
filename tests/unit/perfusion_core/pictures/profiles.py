"""Small ICC profiles of known meaning: Display P3, linear greys, and a CMYK whose inks are grey."""

import itertools
import struct
from collections.abc import Iterable

import numpy as np

_D50 = (0.9642, 1.0, 0.8249)
# The primaries of Display P3, as XYZ under D50.
_P3 = ((0.51512, 0.24120, -0.00105), (0.29198, 0.69225, 0.04189), (0.15710, 0.06657, 0.78407))
# The same of sRGB.
_SRGB = ((0.43607, 0.22249, 0.01392), (0.38515, 0.71687, 0.09708), (0.14307, 0.06061, 0.71410))


def _fixed(values: Iterable[float]) -> bytes:
    return b"".join(struct.pack(">i", round(value * 65536)) for value in values)


def _xyz(values: Iterable[float]) -> bytes:
    return b"XYZ " + bytes(4) + _fixed(values)


def _profile(kind: bytes, space: bytes, pcs: bytes, tags: dict[bytes, bytes]) -> bytes:
    name = b"test"
    described = b"desc" + bytes(4) + struct.pack(">I", len(name) + 1) + name + bytes(80)
    tags = {b"desc": described, b"wtpt": _xyz(_D50), **tags}
    table, data = struct.pack(">I", len(tags)), b""
    start = 128 + 4 + 12 * len(tags)
    for tag, content in tags.items():
        table += tag + struct.pack(">II", start + len(data), len(content))
        data += content + bytes(-len(content) % 4)
    size = struct.pack(">I", start + len(data))
    head = size + bytes(4) + b"\x02\x40\0\0" + kind + space + pcs + bytes(12) + b"acsp"
    head += bytes(28) + _fixed(_D50)
    return head + bytes(128 - len(head)) + table + data


def display_p3() -> bytes:
    """Return a profile of Display P3, as phones write it into their photos."""
    curve = b"para" + bytes(4) + struct.pack(">HH", 3, 0)
    curve += _fixed((2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045))
    tags = {
        letter + b"XYZ": _xyz(values)
        for letter, values in zip((b"r", b"g", b"b"), _P3, strict=True)
    }
    return _profile(
        b"mntr", b"RGB ", b"XYZ ", tags | {b"rTRC": curve, b"gTRC": curve, b"bTRC": curve}
    )


def linear_grey() -> bytes:
    """Return a profile whose grey levels are proportional to light."""
    return _profile(b"mntr", b"GRAY", b"XYZ ", {b"kTRC": b"curv" + bytes(8)})


def grey_inks() -> bytes:
    """Return a CMYK profile by which each of the four inks takes a quarter of the lightness."""
    lightness = [round(255 * (1 - sum(inks) / 4)) for inks in itertools.product((0, 1), repeat=4)]
    table = b"mft1" + bytes(4) + bytes((4, 3, 2, 0)) + _fixed((1, 0, 0, 0, 1, 0, 0, 0, 1))
    table += bytes(range(256)) * 4  # the inks as they are
    table += b"".join(bytes((level, 128, 128)) for level in lightness)  # L, a, b
    table += bytes(range(256)) * 3
    return _profile(b"prtr", b"CMYK", b"Lab ", {b"A2B0": table})


def p3_in_srgb(colour: tuple[int, int, int]) -> tuple[int, ...]:
    """Return a Display P3 colour in sRGB by the definitions, without a colour library."""
    levels = np.asarray(colour) / 255
    light = np.where(levels <= 0.04045, levels / 12.92, ((levels + 0.055) / 1.055) ** 2.4)
    mixed = np.clip(np.linalg.solve(np.asarray(_SRGB).T, np.asarray(_P3).T @ light), 0, 1)
    encoded = np.where(mixed <= 0.0031308, mixed * 12.92, 1.055 * mixed ** (1 / 2.4) - 0.055)
    return tuple(int(level) for level in np.round(255 * encoded))
