"""Decode an opened picture: upright, in sRGB, and no larger than needed.

Imports nothing but Pillow and pi-heif, because the isolated process that decodes uploads runs this
module outside its package.
"""

import io
from contextlib import suppress
from typing import Any

from PIL import ExifTags, Image, ImageCms, ImageOps

LONGEST_SIDE_PIXELS = 2048
"""The longest side that is kept of a picture: twice the side that SDXL learns from."""
WHITE_FROM = 128
"""The least grey that counts as white in the mask of an edit."""
FORMATS = ("JPEG", "PNG", "WEBP")
HEIF = "HEIF"
PROFILE_MARK: dict[str | tuple[int, int], Any] = {"colour-profile": "unreadable"}
"""In a decoded picture's `info`: its colour profile was unreadable and is ignored."""

_HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
_SIDEWAYS = (5, 6, 7, 8)  # EXIF orientations that exchange width and height
_OPAQUE = 255
_SRGB = ImageCms.createProfile("sRGB")


def register_heif() -> bool:
    """Let Pillow open HEIC files; return False if pi-heif is not installed."""
    try:
        import pi_heif
    except ImportError:
        return False
    pi_heif.options.DECODE_THREADS = 1
    pi_heif.register_heif_opener(thumbnails=False, depth_images=False, aux_images=False)
    return True


def is_heif(head: bytes) -> bool:
    """Return whether a file that begins with `head` (12 bytes or more) is a HEIC picture."""
    return head[4:8] == b"ftyp" and head[8:12] in _HEIF_BRANDS


def is_sideways(image: Image.Image) -> bool:
    """Return whether the EXIF orientation of a decoded file exchanges width and height."""
    return _orientation(image) in _SIDEWAYS


def decode(image: Image.Image, *, longest_side: int = LONGEST_SIDE_PIXELS) -> Image.Image:
    """Return an opened picture as RGB, or as RGBA if some pixel is transparent.

    The picture is upright, in sRGB, without metadata, and its sides have at most `longest_side`
    pixels. A JPEG is shrunk while it is decoded, so its full size never lies in memory. Raises what
    Pillow raises for a damaged file.
    """
    picture = prepare(_shrunk(image, longest_side=longest_side))
    alpha = picture.getchannel("A") if picture.has_transparency_data else None
    cut_out = alpha is not None and alpha.getextrema()[0] != _OPAQUE
    flat = picture.convert("RGBA" if cut_out else "RGB")
    flat.info = dict(PROFILE_MARK) if is_profile_ignored(picture) else {}
    return flat


def decode_mask(image: Image.Image, *, longest_side: int = LONGEST_SIDE_PIXELS) -> Image.Image:
    """Return an opened mask in grey, shrunk and turned like its picture.

    White pixels are the object, and transparent pixels count as black. A mask's numbers are no
    colours, so its colour profile is ignored.
    """
    mask = upright(_shrunk(image, longest_side=longest_side))
    if mask.has_transparency_data:
        mask = mask.convert("RGBA")
        mask = Image.alpha_composite(Image.new("RGBA", mask.size, "black"), mask)
    grey = mask.convert("L")
    grey.info = {}
    return grey


def decode_whole(image: Image.Image) -> Image.Image:
    """Return an opened picture as RGB at its full size, upright and in sRGB, as an edit needs it.

    Transparent pixels are laid on white. Raises what Pillow raises for a damaged file.
    """
    picture = decode(image, longest_side=max(image.size))
    if picture.mode == "RGB":
        return picture
    flat = Image.new("RGB", picture.size, "white")
    flat.paste(picture, mask=picture.getchannel("A"))
    return flat


def decode_transparency(image: Image.Image) -> Image.Image:
    """Return a grey mask at full size: the more transparent an opened picture, the whiter."""
    picture = decode(image, longest_side=max(image.size))
    return ImageOps.invert(picture.convert("RGBA").getchannel("A"))


def prepare(picture: Image.Image) -> Image.Image:
    """Return an opened picture upright and in sRGB; the same object if it is so already."""
    return upright(to_srgb(picture))


def upright(picture: Image.Image) -> Image.Image:
    """Return the picture with its EXIF orientation applied; the same object if there is none."""
    return ImageOps.exif_transpose(picture) if _orientation(picture) != 1 else picture


def to_srgb(picture: Image.Image) -> Image.Image:
    """Return the picture in sRGB, without a profile; the same object if it has no profile.

    The profile may be of colours, of greys or of CMYK. A profile that is broken, or that does not
    belong to the picture's pixels, is ignored; `is_profile_ignored` then returns True.
    """
    profile = picture.info.get("icc_profile")
    if not profile:
        return picture
    plain = _plain(picture)
    alpha = plain.getchannel("A") if plain.mode in ("LA", "RGBA") else None
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        mode = _mode_of(source, plain)
        converted = ImageCms.profileToProfile(
            plain.convert(mode),
            source,
            _SRGB,
            renderingIntent=ImageCms.Intent.PERCEPTUAL,
            outputMode="RGB",
        )
        assert converted is not None  # only a conversion in place returns nothing
        mark: dict[str | tuple[int, int], Any] = {}
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        converted, mark = plain.convert("RGB"), PROFILE_MARK
    if alpha is not None:
        converted.putalpha(alpha)
    kept = {key: value for key, value in picture.info.items() if key != "icc_profile"}
    converted.info = {**kept, **mark}
    return converted


def is_profile_ignored(picture: Image.Image) -> bool:
    """Return whether the picture had a colour profile that could not be used."""
    return PROFILE_MARK.items() <= picture.info.items()


def _shrunk(image: Image.Image, *, longest_side: int) -> Image.Image:
    size = _fitted(image.size, longest_side=longest_side)
    image.draft(None, size)  # only a JPEG that is not loaded yet reacts
    image.load()
    picture = _plain(image)
    if picture.size == size:
        return picture
    return picture.resize(size, Image.Resampling.LANCZOS, reducing_gap=2.0)


def _fitted(size: tuple[int, int], *, longest_side: int) -> tuple[int, int]:
    longest = max(size)
    if longest <= longest_side:
        return size
    width, height = (max(1, round(side * longest_side / longest)) for side in size)
    return width, height


def _orientation(image: Image.Image) -> int:
    image.load()  # a PNG's EXIF data may follow its pixels, and damaged pixels have to be noticed
    with suppress(Exception):  # Pillow lets many errors of damaged EXIF data through
        return int(image.getexif().get(ExifTags.Base.Orientation, 1))
    return 1


def _plain(image: Image.Image) -> Image.Image:
    """Return the picture in a mode that can be resized: L, LA, RGB, RGBA or CMYK."""
    if image.mode.startswith("I") or image.mode == "F":
        # The high byte of PNG's 16-bit grey; convert() alone would clip everything above 255.
        sixteen = image.convert("I").point(lambda value: value * (1 / 256))
        grey = sixteen.convert("L")
        grey.info = dict(image.info)
        return grey
    if image.has_transparency_data:
        return image.convert("LA" if image.mode in ("L", "LA") else "RGBA")
    return image if image.mode in ("L", "RGB", "CMYK") else image.convert("RGB")


def _mode_of(profile: ImageCms.ImageCmsProfile, picture: Image.Image) -> str:
    """Return the mode that the profile describes; raise ValueError if the picture has another."""
    space = profile.profile.xcolor_space.strip()
    if space == "CMYK" and picture.mode == "CMYK":
        return "CMYK"
    if space == "GRAY" and picture.mode in ("L", "LA"):
        return "L"
    if space == "RGB" and picture.mode != "CMYK":
        return "RGB"
    raise ValueError(f"a profile for {space} on a picture of mode {picture.mode}")
