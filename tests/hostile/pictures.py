"""Image files that are damaged, explode, lie about what they are, or are merely unusual."""

from __future__ import annotations

import io
import os
import struct
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
from PIL import Image, PngImagePlugin

from tests.hostile.case import Case, World

PIXELS = np.random.default_rng(0).integers(0, 256, (40, 36, 3), dtype=np.uint8)


def folder(name: str, content: bytes) -> Callable[[World], list[str]]:
    """Train on a folder with this one file."""

    def make(world: World) -> list[str]:
        world.write(f"pictures/{name}", content)
        return world.run("train", on_pictures(world))

    return make


def on_pictures(world: World) -> dict[str, Any]:
    return world.config(data__root=str(world.folder / "pictures"))


def encoded(mode: str = "RGB", kind: str = "PNG", **options: Any) -> bytes:
    return saved(Image.fromarray(PIXELS).convert(mode), kind, **options)


def saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format=kind, **options)
    return buffer.getvalue()


def png(width: int, height: int, *, depth: int = 8, color: int = 2, data: bytes = b"", extra: bytes = b"") -> bytes:
    """A PNG that claims a size."""
    head = struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0)
    chunks = chunk(b"IHDR", head) + extra + chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def text_bomb() -> bytes:
    text = chunk(b"zTXt", b"comment\0\0" + zlib.compress(bytes(100 << 20)))
    return png(4, 4, data=bytes(4 * 13), extra=text)


def terminal_text() -> PngImagePlugin.PngInfo:
    info = PngImagePlugin.PngInfo()
    info.add_text("title", "\x1b]0;owned\x07")
    return info


def bmp(width: int, height: int) -> bytes:
    return b"BM" + struct.pack("<IHHIIiiHHIIiiII", 54, 0, 0, 54, 40, width, height, 1, 24, 0, 0, 0, 0, 0, 0)


def tiff_loop() -> bytes:
    """A TIFF whose only directory comes after itself."""
    return b"II*\0" + struct.pack("<I", 8) + struct.pack("<H", 0) + struct.pack("<I", 8)


def exif(orientation: int) -> Image.Exif:
    found = Image.Exif()
    found[0x0112] = orientation
    return found


def damaged(content: bytes) -> bytes:
    """Bytes in the middle changed, so that no checksum fits."""
    middle = len(content) // 2
    return content[:middle] + bytes(b ^ 0xFF for b in content[middle : middle + 20]) + content[middle + 20 :]


def text_of_utf8(world: World) -> list[str]:
    path = os.fsencode(world.folder) + b"/pictures"
    os.mkdir(path)
    with open(path + b"/\xff.png", "wb") as file:
        file.write(encoded())
    return world.run("train", on_pictures(world))


def pipe(world: World) -> list[str]:
    (world.folder / "pictures").mkdir()
    os.mkfifo(world.folder / "pictures" / "pipe.png")
    return world.run("train", on_pictures(world))


def dangling(world: World) -> list[str]:
    (world.folder / "pictures").mkdir()
    (world.folder / "pictures" / "gone.png").symlink_to(world.folder / "nowhere.png")
    return world.run("train", on_pictures(world))


def skipped(world: World) -> list[str]:
    world.write("pictures/bad.png", b"")
    world.write("pictures/good.png", encoded())
    return world.run("train", on_pictures(world), "--set", "data.on_error=skip")


def only_skipped(world: World) -> list[str]:
    world.write("pictures/bad.png", b"")
    return world.run("train", on_pictures(world), "--set", "data.on_error=skip")


def refused(name: str, file: str, content: bytes) -> Case:
    return Case(name, folder(file, content), "stopped", (file,))


def read(name: str, file: str, content: bytes) -> Case:
    return Case(name, folder(file, content), "fine")


FRAMES = [Image.fromarray(PIXELS), Image.fromarray(255 - PIXELS)]
GRAY16 = Image.fromarray(PIXELS[..., 0].astype(np.uint16) * 257)

CASES = [
    refused("jpeg cut", "a.jpg", encoded(kind="JPEG")[:400]),
    refused("png cut", "a.png", encoded()[:400]),
    refused("gif cut", "a.png", encoded("P", "GIF")[:100]),
    refused("webp cut", "a.webp", encoded(kind="WEBP")[:100]),
    refused("tiff cut", "a.tiff", encoded(kind="TIFF")[:100]),
    refused("bmp cut", "a.bmp", encoded(kind="BMP")[:100]),
    refused("png damaged", "a.png", damaged(encoded())),
    refused("empty", "a.png", b""),
    refused("one byte", "a.png", b"\x89"),
    refused("png of no pixels", "a.png", png(0, 0)),
    refused("png of no width", "a.png", png(0, 10)),
    refused("bmp of no pixels", "a.bmp", bmp(0, 0)),
    refused("gif of no pixels", "a.png", b"GIF89a" + bytes(7) + b";"),
    refused("png bomb", "a.png", png(60_000, 60_000, data=bytes(1000))),
    refused("png of the largest size", "a.png", png(2**31 - 1, 2**31 - 1)),
    refused("bmp bomb", "a.bmp", bmp(60_000, 60_000)),
    refused("bmp of negative width", "a.bmp", bmp(-5, 5)),
    refused("png with a text bomb", "a.png", text_bomb()),
    refused("tiff that loops", "a.tiff", tiff_loop()),
    refused("text as png", "a.png", b"not an image at all\n" * 20),
    refused("web page as jpg", "a.jpg", b"<!DOCTYPE html><html><body>404</body></html>"),
    refused("postscript as png", "a.png", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n"),
    refused("pdf as jpg", "a.jpg", encoded(kind="PDF")),
    refused("svg as png", "a.png", b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>'),
    refused("zip as png", "a.png", b"PK\x05\x06" + bytes(18)),
    refused("floating-point tiff", "a.tiff", encoded("F", "TIFF")),
    refused("32-bit tiff", "a.tiff", encoded("I", "TIFF")),
    Case("a pipe", pipe, "stopped", ("pipe.png",)),
    Case("a dangling link", dangling, "stopped", ("gone.png",)),
    Case("a name not of UTF-8", text_of_utf8, "refused", ("UTF-8",)),
    Case("nothing but skipped files", only_skipped, "stopped", ("none of the 1 images",)),
    Case("a skipped file", skipped, "fine"),
    read("cmyk jpeg", "a.jpg", encoded("CMYK", "JPEG")),
    read("gray", "a.png", encoded("L")),
    read("gray with alpha", "a.png", encoded("LA")),
    read("one bit", "a.png", encoded("1")),
    read("palette", "a.png", encoded("P")),
    read("alpha", "a.png", encoded("RGBA")),
    read("16-bit gray png", "a.png", saved(GRAY16, "PNG")),
    read("16-bit gray tiff", "a.tiff", saved(GRAY16, "TIFF")),
    read("16-bit color png", "a.png", png(4, 4, depth=16, data=(b"\0" + bytes(24)) * 4)),
    read("animated gif", "a.png", saved(FRAMES[0], "GIF", save_all=True, append_images=FRAMES[1:])),
    read("animated webp", "a.webp", saved(FRAMES[0], "WEBP", save_all=True, append_images=FRAMES[1:])),
    read("animated png", "a.png", saved(FRAMES[0], "PNG", save_all=True, append_images=FRAMES[1:])),
    read("several pages", "a.tiff", saved(FRAMES[0], "TIFF", save_all=True, append_images=FRAMES[1:])),
    read("png as jpg", "a.jpg", encoded()),
    read("jpeg as png", "a.png", encoded(kind="JPEG")),
    read("gif as bmp", "a.bmp", encoded("P", "GIF")),
    read("one pixel", "a.png", png(1, 1, data=bytes(4))),
    read("a line", "a.png", png(1, 3000, data=bytes(4) * 3000)),
    read("orientation", "a.jpg", encoded(kind="JPEG", exif=exif(6))),
    read("orientation that is none", "a.jpg", encoded(kind="JPEG", exif=exif(99))),
    read("broken exif", "a.jpg", encoded(kind="JPEG", exif=b"Exif\0\0nonsense")),
    read("broken color profile", "a.png", encoded(icc_profile=b"nonsense")),
    read("text with control characters", "a.png", encoded(pnginfo=terminal_text())),
    read("odd name", "a \n'\";$(touch canary)\u202e.png", encoded()),
]
