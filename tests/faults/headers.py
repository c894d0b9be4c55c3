"""Small files whose header claims any size."""

import io
import struct
import zlib

from PIL import Image


def _encode(form: str, **options: object) -> bytearray:
    buffer = io.BytesIO()
    Image.new("RGB", (16, 16), (90, 20, 160)).save(buffer, form, **options)
    return bytearray(buffer.getvalue())


def jpeg(width: int, height: int, progressive: bool = False) -> bytes:
    data = _encode("JPEG", progressive=progressive)
    at = data.index(b"\xff\xc2" if progressive else b"\xff\xc0") + 5
    data[at : at + 4] = struct.pack(">HH", height, width)
    return bytes(data)


def progressive_jpeg(width: int, height: int) -> bytes:
    return jpeg(width, height, progressive=True)


def png(width: int, height: int) -> bytes:
    data = _encode("PNG")
    data[16:24] = struct.pack(">II", width, height)
    data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    return bytes(data)


def webp(width: int, height: int) -> bytes:
    data = _encode("WEBP")
    at = data.index(b"\x9d\x01\x2a") + 3
    data[at : at + 4] = struct.pack("<HH", width, height)
    return bytes(data)


def bmp(width: int, height: int) -> bytes:
    data = _encode("BMP")
    data[18:26] = struct.pack("<ii", width, height)
    return bytes(data)


def tiff(width: int, height: int) -> bytes:
    data = _encode("TIFF")
    (start,) = struct.unpack_from("<I", data, 4)
    (count,) = struct.unpack_from("<H", data, start)
    sides = {256: width, 257: height, 278: height}  # width, height, rows of a strip
    for at in range(start + 2, start + 2 + 12 * count, 12):
        (tag,) = struct.unpack_from("<H", data, at)
        if tag in sides:
            struct.pack_into("<HHII", data, at, tag, 4, 1, sides[tag])
    return bytes(data)


def tiff_at_a_fraction() -> bytes:
    """Return a TIFF file whose pixels begin at a fraction, over which Pillow stumbles with TypeError."""
    data = _encode("TIFF")
    (start,) = struct.unpack_from("<I", data, 4)
    (count,) = struct.unpack_from("<H", data, start)
    for at in range(start + 2, start + 2 + 12 * count, 12):
        if struct.unpack_from("<H", data, at) == (273,):
            struct.pack_into("<HHII", data, at, 273, 5, 1, 8)
    return bytes(data)


def ppm(width: int, height: int) -> bytes:
    return b"P6\n%d %d\n255\n" % (width, height) + bytes(768)


CLAIMS = {
    "JPEG": (jpeg, (65535, 65535)),
    "progressive JPEG": (progressive_jpeg, (65535, 65535)),
    "PNG": (png, (65535, 65535)),
    "WebP": (webp, (16383, 16383)),
    "BMP": (bmp, (65535, 65535)),
    "TIFF": (tiff, (65535, 65535)),
    "PPM": (ppm, (65535, 65535)),
}
"""What makes a file that claims too many px, and (width, height)."""

NEAR_CLAIMS = {
    "JPEG that libjpeg would take": (jpeg, (65500, 65500)),
    "progressive JPEG that libjpeg would take": (progressive_jpeg, (65500, 65500)),
    "PNG that OpenCV would take": (png, (32000, 32000)),
    "BMP that OpenCV would take": (bmp, (32000, 32000)),
    "TIFF that OpenCV would take": (tiff, (32000, 32000)),
    "PPM that OpenCV would take": (ppm, (32000, 32000)),
    "PNG at its most": (png, (2**31 - 1, 2**31 - 1)),
}
"""The same for claims that the libraries below DALI, which have limits of their own, would take, and the largest."""
