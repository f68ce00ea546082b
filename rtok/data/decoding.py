"""Bytes of an image file to an 8-bit RGB picture, or an error that names the file.

What is done to get there, in this order:

- 16 bits a channel become 8 by keeping the high byte, for gray as well as colour (the exact inverse of
  writing 8-bit values as `257 * v`); 12-bit TIFF is first shifted up to 16 bits.
- Transparency (alpha channels, transparent palette entries, a PNG's transparent colour) is composited on
  white. Dropping it would show whatever colour happens to lie below invisible pixels.
- Gray, palette, CMYK and the rest become RGB as Pillow converts them; colour profiles are not applied.
- The EXIF orientation is applied, so the picture stands as its photographer saw it.

Of animations and multi-page files the first picture is taken.
"""

from __future__ import annotations

import io
import stat
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError

from rtok.errors import UserError

# Named one by one, so that a misnamed file never reaches a decoder nobody asked for (EPS starts Ghostscript).
# The name's extension does not count: ImageNet has a PNG named .JPEG. JPEG covers the MPO of phones.
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF")

# EXIF orientation (tag 0x0112) -> what sets the picture upright. 1 is upright already.
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_BITS_PER_SAMPLE = 258
_PHOTOMETRIC = 262
_WHITE_IS_ZERO = 0


class DecodeError(UserError):
    """An image file cannot be read or decoded; `file` says which, `reason` why.

    Both are the exception's arguments, so it survives pickling on its way out of a loader's worker.
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
            raise DecodeError(str(path), "it is no ordinary file")  # a pipe would be waited for, forever
        data = path.read_bytes()
    except OSError as error:
        raise DecodeError(str(path), error.strerror or str(error)) from error
    return decode(data, str(path))


def decode(data: bytes, name: str) -> Image.Image:
    """Decode the bytes of an image file to an 8-bit RGB picture; `name` appears in the error.

    Raises:
        DecodeError: empty, truncated or not an image; more pixels than Pillow's bound on decompression
            bombs; or numbers whose range the file does not say (32-bit, signed and floating-point TIFF).
    """
    if not data:
        raise DecodeError(name, "the file is empty")
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            image.load()
            # Not before: a PNG may carry EXIF behind the pixels, and loading a TIFF turns it already.
            orientation = _orientation(image)
            picture = _to_rgb(image)
    except UnidentifiedImageError as error:
        raise DecodeError(name, f"not a {', '.join(FORMATS[:-1])} or {FORMATS[-1]} file") from error
    except Exception as error:  # Pillow's decoders raise nearly every type on a damaged file
        raise DecodeError(name, str(error).rstrip(".") or type(error).__name__) from error
    return picture.transpose(_UPRIGHT[orientation]) if orientation in _UPRIGHT else picture


def _orientation(image: Image.Image) -> int:
    """Return the EXIF orientation; 1 where there is none, or where the EXIF block is broken."""
    try:
        return int(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # a picture with a damaged EXIF block is still a picture
        return 1


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith(("I", "F")):
        image = _gray_16_to_8(image)
    if not image.has_transparency_data:
        return image.convert("RGB")
    layer = image.convert("RGBA")
    white = Image.new("RGBA", layer.size, "white")
    return Image.alpha_composite(white, layer).convert("RGB")


def _gray_16_to_8(image: Image.Image) -> Image.Image:
    """Turn 16-bit gray into L, or into LA where the file names a transparent value.

    Pillow's own conversion clips at 255 instead. (16-bit colour it reduces to the high byte while reading.)
    """
    # Older releases of Pillow open 16-bit PNG as "I"; in a TIFF that mode means 32 bits or a sign.
    if not (image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PNG")):
        raise ValueError(f"{image.mode!r} pixels have no fixed range; convert it to 8 or 16 bits a channel")
    values = np.asarray(image).astype(np.uint16)
    if image.format == "TIFF":
        tags = image.getexif()
        bits = tags.get(_BITS_PER_SAMPLE, 16)
        values = values << (16 - (bits[0] if isinstance(bits, tuple) else bits))
        if tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO:
            values = np.uint16(65535) - values
    gray = Image.fromarray((values >> 8).astype(np.uint8))
    if "transparency" in image.info:
        opaque = np.asarray(image) != image.info["transparency"]
        gray.putalpha(Image.fromarray(opaque.astype(np.uint8) * 255))
    return gray
