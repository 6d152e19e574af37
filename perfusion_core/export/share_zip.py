"""The zip to share: concept, LoRA, embedding, card and sheet. Does not import torch.

Nothing in it is compressed and no entry has a time, so equal concepts give equal bytes. Only the
concept file of a zip is ever read, and only its own size at most, whatever the zip's entries claim.
"""

import io
import lzma
import zipfile
import zlib

from perfusion_core.concept import MAX_CONCEPT_BYTES, Concept
from perfusion_core.errors import ConceptFileError
from perfusion_core.evaluation.verdict import Verdict
from perfusion_core.export.card import DEFAULT_LICENSE, write_card
from perfusion_core.export.embedding import export_embedding
from perfusion_core.export.metadata import Precision
from perfusion_core.export.names import FileNames
from perfusion_core.export.sheet import draw_sheet

_BEGIN = b"PK\x03\x04"
_MOST_ENTRIES = 64
_EPOCH = (1980, 1, 1, 0, 0, 0)
# Of zipfile, for entries that are damaged, encrypted or compressed in an unknown way.
_READING_ERRORS = (
    zipfile.BadZipFile, NotImplementedError, RuntimeError, ValueError, OSError, EOFError,
    zlib.error, lzma.LZMAError,
)  # fmt: skip
_EXPORTED = (".lora.safetensors", ".embedding.safetensors")


def share_files(
    concept: Concept,
    *,
    concept_file: bytes,
    lora: bytes,
    dtype: Precision,
    judged: Verdict | None = None,
    license: str = DEFAULT_LICENSE,
) -> dict[str, bytes]:
    """Return all files to share by name; `concept_file` is the concept as it is stored."""
    names, sheet = FileNames(concept.name), draw_sheet(concept)
    card = write_card(concept, judged=judged, license=license, has_sheet=sheet is not None)
    files = {
        names.card: card.encode(),
        names.concept: concept_file,
        names.lora: lora,
        names.embedding: export_embedding(concept, dtype=dtype),
    }
    return files if sheet is None else files | {names.sheet: sheet}


def pack(files: dict[str, bytes]) -> bytes:
    """Return a zip of files; equal files give equal bytes on every machine."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_STORED) as archive:
        for name, data in files.items():
            entry = zipfile.ZipInfo(name, _EPOCH)
            entry.create_system, entry.external_attr = 3, 0o644 << 16
            archive.writestr(entry, data)
    return packed.getvalue()


def is_zip(data: bytes) -> bool:
    """Return whether `data` begins like a zip."""
    return data[:4] == _BEGIN


def concept_of_zip(data: bytes) -> bytes:
    """Return the concept file in a zip to share; nothing is written and nothing else is unpacked.

    Raises ConceptFileError for a damaged zip, one without a concept file or with several, and a
    concept file that unpacks to more than MAX_CONCEPT_BYTES.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            entries = archive.infolist()
            if len(entries) > _MOST_ENTRIES:
                raise ConceptFileError(
                    f"This zip has more than {_MOST_ENTRIES} entries, so it is no concept that was "
                    "shared: upload the concept file in it alone."
                )
            found = [entry for entry in entries if _is_concept(entry.filename)]
            if len(found) != 1:
                held = "no concept file" if not found else f"{len(found)} concept files"
                raise ConceptFileError(
                    f"This zip holds {held}, where one NAME.safetensors belongs: upload the "
                    "concept file alone."
                )
            with archive.open(found[0]) as file:
                concept_file = file.read(MAX_CONCEPT_BYTES + 1)
    except _READING_ERRORS as error:
        raise ConceptFileError(
            "This zip is damaged, or locked by a password: download it again."
        ) from error
    if len(concept_file) > MAX_CONCEPT_BYTES:
        raise ConceptFileError(
            f"The concept file in this zip has more than {MAX_CONCEPT_BYTES} bytes; it is "
            "something else."
        )
    return concept_file


def _is_concept(name: str) -> bool:
    return "/" not in name and name.endswith(".safetensors") and not name.endswith(_EXPORTED)
