from __future__ import annotations

import io
import pickle
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rtok.data.decoding import DecodeError, decode, read_image
from rtok.errors import UserError

RNG = np.random.default_rng(0)
COLOR = RNG.integers(0, 256, (6, 9, 3), dtype=np.uint8)
GRAY = COLOR[..., 0]
DEEP = RNG.integers(0, 65536, (6, 9, 3), dtype=np.uint16)
RAMP = np.arange(65536, dtype=np.uint16).reshape(256, 256)  # every value a 16-bit pixel can have


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png16(pixels: np.ndarray, *extra: bytes) -> bytes:
    """A 16-bit PNG, which Pillow writes only in gray."""
    height, width = pixels.shape[:2]
    color_type = 0 if pixels.ndim == 2 else {3: 2, 4: 6}[pixels.shape[2]]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    header = struct.pack(">IIBBBBB", width, height, 16, color_type, 0, 0, 0)
    chunks = [chunk(b"IHDR", header), *extra, chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def tiff16(pixels: np.ndarray, *, order: str = "<", photometric: int | None = None) -> bytes:
    """An uncompressed 16-bit TIFF of one strip, in either byte order."""
    height, width = pixels.shape[:2]
    channels = 1 if pixels.ndim == 2 else pixels.shape[2]
    photometric = photometric if photometric is not None else (1 if channels == 1 else 2)
    bits_at, data_at = 8, 8 + 2 * channels
    data = pixels.astype(f"{order}u2").tobytes()
    bits = (258, 3, channels, 16 if channels == 1 else bits_at)
    tags = [(256, 3, 1, width), (257, 3, 1, height), bits, (259, 3, 1, 1), (262, 3, 1, photometric)]
    tags += [(273, 4, 1, data_at), (277, 3, 1, channels), (278, 3, 1, height), (279, 4, 1, len(data))]
    directory = struct.pack(f"{order}H", len(tags))
    for tag, kind, count, value in tags:
        inline = kind == 3 and count == 1
        directory += struct.pack(f"{order}HHI", tag, kind, count)
        directory += struct.pack(f"{order}H2x" if inline else f"{order}I", value)
    head = (b"II" if order == "<" else b"MM") + struct.pack(f"{order}HI", 42, data_at + len(data))
    return head + struct.pack(f"{order}{channels}H", *[16] * channels) + data + directory + bytes(4)


def pixels(data: bytes) -> np.ndarray:
    picture = decode(data, "picture")
    assert picture.mode == "RGB"
    return np.asarray(picture)


def as_rgb(gray: np.ndarray) -> np.ndarray:
    return np.repeat(gray[..., None], 3, axis=2)


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "WEBP"])
def test_color_is_kept_to_the_bit(kind: str) -> None:
    options = {"lossless": True} if kind == "WEBP" else {}
    assert np.array_equal(pixels(encoded(Image.fromarray(COLOR), kind, **options)), COLOR)


def test_jpeg_is_close() -> None:
    smooth = np.tile(np.linspace(0, 255, 64, dtype=np.uint8)[None, :, None], (48, 1, 3))
    decoded = pixels(encoded(Image.fromarray(smooth), "JPEG", quality=95)).astype(int)
    assert np.abs(decoded - smooth).max() <= 4


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF"])
def test_gray_becomes_three_equal_channels(kind: str) -> None:
    assert np.array_equal(pixels(encoded(Image.fromarray(GRAY), kind)), as_rgb(GRAY))


def test_one_bit_becomes_black_and_white() -> None:
    bits = GRAY > 127
    assert np.array_equal(pixels(encoded(Image.fromarray(bits), "PNG")), as_rgb(bits * np.uint8(255)))


def test_a_palette_is_looked_up() -> None:
    palette = RNG.integers(0, 256, (4, 3), dtype=np.uint8)
    index = GRAY % 4
    image = Image.fromarray(index, mode=None).convert("L")
    image.putpalette(palette.tobytes())
    assert np.array_equal(pixels(encoded(image, "PNG")), palette[index])
    translucent = encoded(image, "PNG", transparency=bytes([255, 0, 128, 255]))
    alpha = np.array([255, 0, 128, 255])[index][..., None] / 255
    white_below = palette[index] * alpha + 255 * (1 - alpha)
    assert np.abs(pixels(translucent) - white_below).max() <= 1


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP"])
def test_alpha_is_composited_on_white(kind: str) -> None:
    alpha = np.where(GRAY > 127, 255, 0).astype(np.uint8)
    rgba = Image.fromarray(np.dstack([COLOR, alpha]))
    options = {"lossless": True, "exact": True} if kind == "WEBP" else {}
    expected = np.where(alpha[..., None] == 255, COLOR, 255)
    assert np.array_equal(pixels(encoded(rgba, kind, **options)), expected)


def test_partial_alpha_mixes_with_white() -> None:
    layer = Image.merge("LA", [Image.fromarray(GRAY), Image.new("L", (9, 6), 64)])
    expected = as_rgb(GRAY) * (64 / 255) + 255 * (191 / 255)
    assert np.abs(pixels(encoded(layer, "PNG")) - expected).max() <= 1


def test_a_transparent_color_becomes_white() -> None:
    expected = COLOR.copy()
    expected[0, 0] = 255
    key = tuple(int(value) for value in COLOR[0, 0])
    assert np.array_equal(pixels(encoded(Image.fromarray(COLOR), "PNG", transparency=key)), expected)


def test_cmyk_is_ink() -> None:
    cmyk = Image.new("CMYK", (4, 4), (255, 0, 0, 0))
    assert np.abs(pixels(encoded(cmyk, "TIFF")) - np.array([0, 255, 255])).max() == 0
    assert np.abs(pixels(encoded(cmyk, "JPEG", quality=95)).astype(int) - np.array([0, 255, 255])).max() <= 3


@pytest.mark.parametrize("shape", ["gray", "color"])
@pytest.mark.parametrize("write", [png16, tiff16, lambda values: tiff16(values, order=">")])
def test_sixteen_bits_keep_their_high_byte(write, shape: str) -> None:
    values = RAMP if shape == "gray" else np.dstack([RAMP, RAMP[::-1], RAMP.T])
    high = (values >> 8).astype(np.uint8)
    assert np.array_equal(pixels(write(values)), as_rgb(high) if shape == "gray" else high)


def test_eight_bits_written_as_sixteen_come_back_exactly() -> None:
    wide = COLOR.astype(np.uint16) * 257
    assert np.array_equal(pixels(png16(wide)), COLOR)
    assert np.array_equal(pixels(png16(wide[..., 0])), as_rgb(GRAY))
    assert np.array_equal(pixels(encoded(Image.fromarray(wide[..., 0]), "TIFF", compression="tiff_lzw")), as_rgb(GRAY))


def test_sixteen_bit_alpha_is_composited() -> None:
    alpha = np.where(GRAY > 127, 65535, 0).astype(np.uint16)
    expected = np.where(alpha[..., None] > 0, DEEP >> 8, 255)
    assert np.array_equal(pixels(png16(np.dstack([DEEP, alpha]))), expected)


def test_a_transparent_value_of_sixteen_bit_gray_becomes_white() -> None:
    values = np.array([[0x1234, 0x1235, 0xFF00]], np.uint16)
    data = png16(values, chunk(b"tRNS", struct.pack(">H", 0x1234)))
    assert np.array_equal(pixels(data), as_rgb(np.array([[255, 0x12, 0xFF]], np.uint8)))


def test_white_is_zero_is_inverted() -> None:
    values = DEEP[..., 0]
    assert np.array_equal(pixels(tiff16(values, photometric=0)), as_rgb(((65535 - values) >> 8).astype(np.uint8)))


@pytest.mark.parametrize("dtype", [np.float32, np.int32])
def test_pixels_without_a_range_are_refused(dtype: type) -> None:
    with pytest.raises(DecodeError, match=r"scan\.tif.*no fixed range"):
        decode(encoded(Image.fromarray(GRAY.astype(dtype)), "TIFF"), "scan.tif")


# How the stored picture must be turned to stand upright, from the EXIF standard's table.
TURNED = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: np.rot90(a, 2).transpose(1, 0, 2),
    8: lambda a: np.rot90(a, 1),
}


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied_once(kind: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"lossless": True} if kind == "WEBP" else {}
    data = encoded(Image.fromarray(COLOR), kind, exif=exif, **options)
    assert np.array_equal(pixels(data), TURNED[orientation](COLOR))


def test_orientation_of_sixteen_bit_gray() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    data = encoded(Image.fromarray(DEEP[..., 0]), "PNG", exif=exif)
    assert np.array_equal(pixels(data), as_rgb(np.rot90(DEEP[..., 0] >> 8, -1).astype(np.uint8)))


@pytest.mark.parametrize("exif", [b"Exif\0\0garbage", b"Exif\0\0II*\0\xff\xff\xff\x7f", b"Exif\0\0"])
def test_a_broken_exif_block_does_not_cost_the_picture(exif: bytes) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert np.array_equal(pixels(encoded(Image.fromarray(COLOR), "PNG", exif=exif)), COLOR)


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF"])
def test_of_an_animation_the_first_picture_counts(kind: str) -> None:
    first, second = Image.new("RGB", (8, 8), (255, 0, 0)), Image.new("RGB", (8, 8), (0, 0, 255))
    options = {"lossless": True} if kind == "WEBP" else {}
    data = encoded(first, kind, save_all=True, append_images=[second], **options)
    assert np.array_equal(pixels(data), np.asarray(first))


def test_the_name_does_not_decide_the_format(tmp_path: Path) -> None:
    Image.fromarray(COLOR).save(tmp_path / "a.png")
    (tmp_path / "a.png").rename(tmp_path / "a.JPEG")
    assert np.array_equal(np.asarray(read_image(tmp_path / "a.JPEG")), COLOR)


WHOLE = encoded(Image.fromarray(np.repeat(COLOR, 40, axis=0)), "PNG")
BROKEN = {
    "empty": (b"", "empty"),
    "text": (b"<html>not found</html>", "not a JPEG"),
    "postscript": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not a JPEG"),
    "truncated png": (WHOLE[: len(WHOLE) // 2], ""),
    "header only": (WHOLE[:20], ""),
    "truncated jpeg": (encoded(Image.fromarray(np.repeat(COLOR, 40, axis=0)), "JPEG")[:-100], "truncated"),
    "truncated tiff": (tiff16(DEEP)[:60], ""),
    "flipped bit": (WHOLE[:60] + bytes([WHOLE[60] ^ 255]) + WHOLE[61:], ""),
    "bomb": (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", 50_000, 50_000, 8, 0, 0, 0, 0))
        + chunk(b"IDAT", zlib.compress(bytes(1000)))
        + chunk(b"IEND", b""),
        "decompression bomb",
    ),
    "text bomb": (WHOLE[:33] + chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(80_000_000))) + WHOLE[33:], ""),
}


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
@pytest.mark.parametrize("name", BROKEN)
def test_what_cannot_be_decoded_is_named(tmp_path: Path, name: str) -> None:
    data, reason = BROKEN[name]
    path = tmp_path / "broken.jpg"
    path.write_bytes(data)
    with pytest.raises(DecodeError) as caught:
        read_image(path)
    assert isinstance(caught.value, UserError)
    assert caught.value.file == str(path)
    assert str(path) in str(caught.value) and reason in str(caught.value)
    assert "data.on_error: skip" in str(caught.value) and "\n" not in str(caught.value)


def test_a_file_that_is_gone_is_named(tmp_path: Path) -> None:
    with pytest.raises(DecodeError, match=r"gone\.png.*No such file"):
        read_image(tmp_path / "gone.png")


def test_the_error_survives_pickling() -> None:
    error = pickle.loads(pickle.dumps(DecodeError("a/b.jpg", "the file is empty")))
    assert type(error) is DecodeError
    assert (error.file, error.reason) == ("a/b.jpg", "the file is empty")
    assert str(error) == str(DecodeError("a/b.jpg", "the file is empty"))
