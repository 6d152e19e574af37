"""Marks by which a file says that a model made its image, in XMP.

The properties are those of IPTC's Photo Metadata Standard 2025.1: the digital source type, and the
AI system with its version and prompt. The values of the source type are IPTC's, and C2PA shares
them. Text in XMP depends on the request alone, so that equal images have equal bytes.
"""

import re
from importlib.metadata import PackageNotFoundError, version
from typing import Final
from xml.sax.saxutils import escape

_SOURCE_TYPES = "http://cv.iptc.org/newscodes/digitalsourcetype"
MADE_BY_A_MODEL: Final = f"{_SOURCE_TYPES}/trainedAlgorithmicMedia"
EDITED_BY_A_MODEL: Final = f"{_SOURCE_TYPES}/compositeWithTrainedAlgorithmicMedia"

PNG_KEYWORD: Final = "XML:com.adobe.xmp"
"""The keyword of the iTXt chunk that holds XMP in a PNG file (XMP specification, part 3)."""

_NO_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_PACKET = """<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/">
 <rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
  <rdf:Description rdf:about=""
    xmlns:xmp="http://ns.adobe.com/xap/1.0/"
    xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/">
{properties}
  </rdf:Description>
 </rdf:RDF>
</x:xmpmeta>
<?xpacket end="r"?>"""


def source_type(*, edited: bool) -> str:
    """Return IPTC's digital source type of an image; `edited` means made from another picture."""
    return EDITED_BY_A_MODEL if edited else MADE_BY_A_MODEL


def product_version() -> str:
    """Return this product's version; "0" in a checkout that is not installed."""
    try:
        return version("perfusion")
    except PackageNotFoundError:
        return "0"


def xmp(*, edited: bool, base_model: str, prompt: str | None) -> str:
    """Return the XMP packet of an image; with no `prompt`, the packet does not mention a prompt."""
    properties = {
        "xmp:CreatorTool": f"Perfusion {product_version()}",
        "Iptc4xmpExt:DigitalSourceType": source_type(edited=edited),
        "Iptc4xmpExt:AISystemUsed": f"Perfusion with the base model {base_model}",
        "Iptc4xmpExt:AISystemVersionUsed": product_version(),
    }
    if prompt is not None:
        properties["Iptc4xmpExt:AIPromptInformation"] = prompt
    lines = (
        f"   <{name}>{escape(_NO_XML.sub('', value))}</{name}>"
        for name, value in properties.items()
    )
    return _PACKET.format(properties="\n".join(lines))
