"""Decode the bytes of an image file to an 8-bit RGB picture, or raise an error that names the file.

In this order:

- The EXIF orientation is applied, so the picture is upright.
- 16 bits per channel become 8 by keeping the high byte, for gray as well as color (the exact inverse of writing 8-bit
  values as `257 * v`); 12-bit TIFF is first shifted up to 16 bits.
- Transparency (alpha channels, transparent palette entries, a PNG's transparent color) is composited on white.
  Dropping it would show whatever color happens to be stored in invisible pixels.
- Gray, palette, CMYK and other images become RGB as Pillow converts them; color profiles are not applied.

Animations and multi-page files give their first picture.
"""

from __future__ import annotations

import hashlib
import io
import stat
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from rtok.errors import UserError

# An explicit list, so that a misnamed file never reaches another decoder (EPS starts Ghostscript). The content decides,
# not the extension: ImageNet has a PNG named .JPEG. JPEG covers the MPO files of phones.
FORMATS = ["JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF"]
EXTENSIONS: tuple[str, ...] = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif")
if find_spec("PIL._avif"):  # some builds of Pillow lack it
    FORMATS.append("AVIF")
    EXTENSIONS += (".avif",)
if find_spec("pillow_heif"):
    from pillow_heif import register_heif_opener

    register_heif_opener()
    FORMATS.append("HEIF")
    EXTENSIONS += (".heic", ".heif")


class DecodeError(UserError):
    """An image file cannot be read or decoded; `file` says which, `reason` why.

    Both are the exception's arguments, so that it can be pickled on its way out of a loader's worker.
    """

    def __init__(self, file: str, reason: str) -> None:
        super().__init__(file, reason)
        self.file = file
        self.reason = reason

    def __str__(self) -> str:
        return (
            f"{self.file}: cannot be read as an image: {self.reason}. "
            "Replace or remove the file, or set data.on_error: skip."
        )


def read_image(path: Path) -> Image.Image:
    """Read and decode one file to an 8-bit RGB picture.

    Raises:
        DecodeError: the file cannot be opened, or `decode` refuses its content.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise DecodeError(str(path), "it is not a regular file")  # reading a pipe could wait forever
        data = path.read_bytes()
    except OSError as error:
        raise DecodeError(str(path), error.strerror or str(error)) from error
    return decode(data, str(path))


def read_size(path: Path) -> tuple[int, int] | None:
    """Return (width, height) from the header of an image file, as stored; None for a file that is not an image."""
    with suppress(Exception), Image.open(path, formats=FORMATS) as image:  # any type, on a damaged file
        return image.size
    return None


def decode(data: bytes, name: str) -> Image.Image:
    """Decode the bytes of an image file to an 8-bit RGB picture; `name` appears in the error.

    Raises:
        DecodeError: empty, truncated or not an image; more pixels than Pillow's limit against decompression bombs;
            or values without a fixed range (32-bit, signed and floating-point TIFF).
    """
    if not data:
        raise DecodeError(name, "the file is empty")
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            image.load()
            # Only now: a PNG may carry EXIF data behind its pixels.
            with suppress(Exception):  # a picture with a damaged EXIF block is still a picture
                ImageOps.exif_transpose(image, in_place=True)  # in place, so that the format stays known
            return _to_rgb(image)
    except UnidentifiedImageError as error:
        raise DecodeError(name, f"not a {', '.join(FORMATS[:-1])} or {FORMATS[-1]} file") from error
    except Exception as error:  # Pillow's decoders raise almost any type on a damaged file
        raise DecodeError(name, str(error).rstrip(".") or type(error).__name__) from error


def content_digest(picture: Image.Image) -> str:
    """Return a digest of a decoded picture's size and pixels: 16 hexadecimal digits, the same for any name and file."""
    digest = hashlib.blake2b(f"{picture.mode} {picture.size}".encode(), digest_size=8)
    digest.update(picture.tobytes())
    return digest.hexdigest()


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith(("I", "F")):
        image = _gray_16_to_8(image)
    if not image.has_transparency_data:
        return image.convert("RGB")
    layer = image.convert("RGBA")
    white = Image.new("RGBA", layer.size, "white")
    return Image.alpha_composite(white, layer).convert("RGB")


def _gray_16_to_8(image: Image.Image) -> Image.Image:
    """Convert 16-bit gray to L, or to LA where the file names a transparent value.

    Pillow's own conversion clips at 255 instead. (It reduces 16-bit color to the high byte while reading.)
    """
    # Older releases of Pillow open 16-bit PNG as "I"; in a TIFF that mode means 32 bits or signed values.
    if not (image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PNG")):
        raise ValueError(f"{image.mode!r} pixels have no fixed range; convert it to 8 or 16 bits per channel")
    values = np.asarray(image).astype(np.uint16)
    if image.format == "TIFF":
        tags = image.getexif()
        bits = tags.get(ExifTags.Base.BitsPerSample, 16)
        values = values << (16 - (bits[0] if isinstance(bits, tuple) else bits))
        if tags.get(ExifTags.Base.PhotometricInterpretation) == 0:  # white is zero
            values = np.uint16(65535) - values
    gray = Image.fromarray((values >> 8).astype(np.uint8))
    if "transparency" in image.info:
        opaque = np.asarray(image) != image.info["transparency"]
        gray.putalpha(Image.fromarray(opaque.astype(np.uint8) * 255))
    return gray
