"""Image files of every kind that a folder may hold: written by PIL, by libturbojpeg, or by hand if neither can.

`KINDS` is kind -> (file name, content). `loaders/IMAGES.md` says what becomes of each.
"""

import ctypes
import io
import os
import struct
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
from PIL import Image, ImageCms

from twoview.loaders import turbojpeg
from twoview.loaders.datasets import bundled_photographs

SIDE = 48  # pixels, where a kind does not say otherwise

PHOTOGRAPH = bundled_photographs()["chelsea"].crop((150, 80, 150 + SIDE, 80 + SIDE))
WIDE = PHOTOGRAPH.resize((SIDE, SIDE // 2))  # not square, so that a rotation changes the shape


def saved(image: Image.Image, format: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def oriented(orientation: int) -> bytes:
    """EXIF with nothing but an orientation."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif.tobytes()


def segment(marker: int, content: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(content) + 2) + content


def drawn_jpeg(
    factors: Sequence[tuple[int, int]],
    precision: int = 8,
    adobe: int | None = None,
    jfif: tuple[int, int] | None = None,
) -> bytes:
    """A baseline JPEG of flat 8 x 8 blocks of random colors, for headers that no encoder at hand writes.

    factors: the sampling factors (horizontal, vertical) of each component. precision: bits, 8 or 12.
    adobe: the color transform in an Adobe marker. jfif: the version in a JFIF marker.
    """
    rng = np.random.default_rng(0)
    width, height = (max(each) for each in zip(*factors, strict=True))
    blocks = [1] if len(factors) == 1 else [h * v for h, v in factors]  # of each component in a unit of the scan
    units = (SIDE // 8) ** 2 if len(factors) == 1 else -(-SIDE // (8 * width)) * -(-SIDE // (8 * height))
    bits, last = [], [0] * len(factors)
    for _ in range(units):
        for component in np.repeat(range(len(factors)), blocks):
            value = int(rng.integers(-1000, 1000)) << (precision - 8)
            difference, last[component] = value - last[component], value
            size = abs(difference).bit_length()
            mantissa = difference if difference > 0 else difference + (1 << size) - 1
            bits.append(f"{size:05b}" + (f"{mantissa:0{size}b}" if size else "") + "0")  # then: no other coefficient
    code = "".join(bits)
    code += "1" * (-len(code) % 8)
    numbers = range(1, len(factors) + 1)
    frame = b"".join(bytes((n, h << 4 | v, 0)) for n, (h, v) in zip(numbers, factors, strict=True))
    # The code of a difference's size is the size in five bits; the only code of the other coefficients is their end.
    sizes, end = b"\x00" + bytes(4) + b"\x10" + bytes(11) + bytes(range(16)), b"\x10\x01" + bytes(15) + b"\x00"
    return b"".join(
        (
            b"\xff\xd8",
            segment(0xE0, b"JFIF\x00" + bytes(jfif) + b"\x00\x00\x01\x00\x01\x00\x00") if jfif else b"",
            segment(0xEE, b"Adobe" + struct.pack(">HHHB", 100, 0, 0, adobe)) if adobe is not None else b"",
            segment(0xDB, b"\x00" + b"\x01" * 64),
            segment(
                0xC0 if precision == 8 else 0xC1, struct.pack(">BHHB", precision, SIDE, SIDE, len(factors)) + frame
            ),
            segment(0xC4, sizes + end),
            segment(0xDA, bytes([len(factors), *(b for n in numbers for b in (n, 0)), 0, 63, 0])),
            int(code, 2).to_bytes(len(code) // 8, "big").replace(b"\xff", b"\xff\x00"),
            b"\xff\xd9",
        )
    )


def arithmetic_jpeg() -> bytes:
    """A JPEG by libturbojpeg, which uses arithmetic coding if an environment variable says so."""
    library = ctypes.CDLL(turbojpeg.library())
    library.tjInitCompress.restype = ctypes.c_void_p
    pixels, buffer, size = PHOTOGRAPH.tobytes(), ctypes.c_void_p(), ctypes.c_ulong()
    handle = ctypes.c_void_p(library.tjInitCompress())
    os.environ["TJ_ARITHMETIC"] = "1"
    try:
        library.tjCompress2(handle, pixels, SIDE, 0, SIDE, 0, ctypes.byref(buffer), ctypes.byref(size), 2, 90, 0)
        content = ctypes.string_at(buffer, size.value)
    finally:
        del os.environ["TJ_ARITHMETIC"]
        library.tjFree(buffer)
        library.tjDestroy(handle)
    assert b"\xff\xc9" in content, "libturbojpeg did not code arithmetically"
    return content


def of_scans(count: int, image: Image.Image, **options: object) -> bytes:
    """A progressive JPEG with this many scans, most of which add nothing to the first component."""
    content = saved(image, "JPEG", progressive=True, **options)
    first = content[content.index(b"\xff\xc2") + 10]
    blocks = -(-image.width // 8) * -(-image.height // 8)  # each of one bit, which is the only code of this table
    table = segment(0xC4, b"\x10\x01" + bytes(15) + b"\x00")
    scan = segment(0xDA, bytes([1, first, 0, 1, 63, 0])) + int("0" * blocks + "1" * (-blocks % 8), 2).to_bytes(
        -(-blocks // 8)
    )
    return content[:-2] + table + scan * (count - content.count(b"\xff\xda")) + content[-2:]


COLORS = {"gray": (0, 1), "RGB": (2, 3), "palette": (3, 1), "gray and alpha": (4, 2), "RGB and alpha": (6, 4)}
PASSES = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))  # Adam7


def chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def drawn_png(
    color: str, depth: int, interlaced: bool = False, before: bytes = b"", behind: bytes = b"", size: int = SIDE
) -> bytes:
    """A PNG of random values. before, behind: chunks on either side of the pixels."""
    kind, channels = COLORS[color]
    values = np.random.default_rng(0).integers(0, 1 << depth, (size, size, channels))
    lines = b""
    for top, left, down, right in PASSES if interlaced else ((0, 0, 1, 1),):
        for line in values[top::down, left::right]:
            bits = (line.reshape(-1, 1) >> np.arange(depth)[::-1]) & 1
            lines += b"\x00" + np.packbits(bits).tobytes()
    header = struct.pack(">IIBBBBB", size, size, depth, kind, 0, 0, interlaced)
    palette = np.random.default_rng(1).integers(0, 256, (1 << depth, 3), np.uint8) if color == "palette" else None
    return b"".join(
        (
            b"\x89PNG\r\n\x1a\n",
            chunk(b"IHDR", header),
            chunk(b"PLTE", palette.tobytes()) if palette is not None else b"",
            before,
            chunk(b"IDAT", zlib.compress(lines)),
            behind,
            chunk(b"IEND", b""),
        )
    )


def frames(format: str, **options: object) -> bytes:
    """Three images in one file."""
    turned = [PHOTOGRAPH.rotate(90), PHOTOGRAPH.rotate(180)]
    return saved(PHOTOGRAPH, format, save_all=True, append_images=turned, **options)


JPEG = saved(PHOTOGRAPH, "JPEG", quality=90)
PNG = drawn_png("RGB", 8)
Entries = Iterable[tuple[str, str, Callable[[], bytes]]]


def _jpegs() -> Entries:
    for number, sampling in enumerate(("4:4:4", "4:2:2", "4:2:0")):
        yield f"JPEG, {sampling}", "a.jpg", lambda n=number: saved(PHOTOGRAPH, "JPEG", quality=90, subsampling=n)
    for kind, factors in (
        ("JPEG, 4:4:0", ((1, 2), (1, 1), (1, 1))),
        ("JPEG, 4:1:1", ((4, 1), (1, 1), (1, 1))),
        ("JPEG, 4:4:4 declared as 2x1, 2x1, 2x1", ((2, 1), (2, 1), (2, 1))),
        ("JPEG, 4:2:2 declared as 2x2, 1x2, 1x2", ((2, 2), (1, 2), (1, 2))),
        ("JPEG, sampled 4x1, 2x1, 2x1", ((4, 1), (2, 1), (2, 1))),
        ("JPEG, sampled 2x4, 1x1, 1x1", ((2, 4), (1, 1), (1, 1))),
        ("JPEG, sampled 4x2, 1x1, 1x1", ((4, 2), (1, 1), (1, 1))),
        ("JPEG, sampled 3x1, 1x1, 1x1", ((3, 1), (1, 1), (1, 1))),
        ("JPEG, sampled 2x2, 2x1, 1x1", ((2, 2), (2, 1), (1, 1))),
        ("JPEG, sampled 1x1, 2x2, 2x2", ((1, 1), (2, 2), (2, 2))),
        ("JPEG, sampled 2x1, 3x1, 1x1", ((2, 1), (3, 1), (1, 1))),
        ("JPEG of two components", ((1, 1), (1, 1))),
        ("JPEG, gray, sampled 2x2", ((2, 2),)),
    ):
        yield kind, "a.jpg", lambda f=factors: drawn_jpeg(f)
    yield "JPEG, gray", "a.jpg", lambda: saved(PHOTOGRAPH.convert("L"), "JPEG")
    yield "JPEG, progressive", "a.jpg", lambda: saved(PHOTOGRAPH, "JPEG", progressive=True)
    yield "JPEG, arithmetic coding", "a.jpg", arithmetic_jpeg
    yield "JPEG with restart markers", "a.jpg", lambda: saved(PHOTOGRAPH, "JPEG", restart_marker_blocks=2)
    yield "JPEG, 12 bits", "a.jpg", lambda: drawn_jpeg([(1, 1)] * 3, precision=12)
    yield "JPEG of RGB (Adobe)", "a.jpg", lambda: saved(PHOTOGRAPH, "JPEG", keep_rgb=True)
    yield "JPEG, CMYK", "a.jpg", lambda: saved(PHOTOGRAPH.convert("CMYK"), "JPEG")
    yield "JPEG, CMYK, inverted (Adobe)", "a.jpg", lambda: drawn_jpeg([(1, 1)] * 4, adobe=0)
    yield "JPEG, YCCK (Adobe)", "a.jpg", lambda: drawn_jpeg([(2, 2), (1, 1), (1, 1), (2, 2)], adobe=2)
    yield "JPEG, unknown color transform (Adobe)", "a.jpg", lambda: drawn_jpeg([(1, 1)] * 3, adobe=9)
    yield "JPEG, JFIF 2.1", "a.jpg", lambda: drawn_jpeg([(1, 1)] * 3, jfif=(2, 1))
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    yield "JPEG with a color profile", "a.jpg", lambda: saved(PHOTOGRAPH, "JPEG", icc_profile=profile)
    yield "JPEG with a second image (MPO)", "a.jpg", lambda: frames("MPO")
    yield "JPEG with a second image, EXIF orientation 6", "a.jpg", lambda: frames("MPO", exif=oriented(6))
    yield "JPEG followed by other bytes", "a.jpg", lambda: JPEG + bytes(1000) + b"moov" + JPEG
    yield "JPEG, extra bytes before its end", "a.jpg", lambda: JPEG[:-2] + bytes(4) + JPEG[-2:]
    yield "JPEG, half of the coded data", "a.jpg", lambda: JPEG[: len(JPEG) * 3 // 4] + JPEG[-2:]
    turned = saved(PHOTOGRAPH, "JPEG", quality=90, exif=oriented(6))
    yield (
        "JPEG, half of the coded data, EXIF orientation 6",
        "a.jpg",
        lambda: turned[: len(turned) - len(JPEG) // 4] + turned[-2:],
    )
    inks = saved(PHOTOGRAPH.convert("CMYK"), "JPEG")
    yield "JPEG, half of the coded data, CMYK", "a.jpg", lambda: inks[: len(inks) * 3 // 4] + inks[-2:]
    yield "JPEG of 501 scans", "a.jpg", lambda: of_scans(501, PHOTOGRAPH)
    yield "JPEG of 501 scans, EXIF orientation 6", "a.jpg", lambda: of_scans(501, PHOTOGRAPH, exif=oriented(6))
    yield "JPEG of 501 scans, CMYK", "a.jpg", lambda: of_scans(501, PHOTOGRAPH.convert("CMYK"))
    yield "JPEG without its last two bytes", "a.jpg", lambda: JPEG[:-2]
    size = struct.pack(">BHH", 8, SIDE, SIDE)
    yield "JPEG without a height", "a.jpg", lambda: drawn_jpeg([(1, 1)]).replace(size, struct.pack(">BHH", 8, 0, SIDE))
    yield "JPEG named .png", "a.png", lambda: JPEG
    yield "JPEG named .JPEG", "a.JPEG", lambda: JPEG
    yield "JPEG named .jfif", "a.jfif", lambda: JPEG
    yield "JPEG, CMYK, named .JPEG", "a.JPEG", lambda: saved(PHOTOGRAPH.convert("CMYK"), "JPEG")
    for orientation in range(10):
        kind = f"JPEG, EXIF orientation {orientation}"
        yield kind, "a.jpg", lambda o=orientation: saved(WIDE, "JPEG", quality=90, exif=oriented(o))
    yield "JPEG with damaged EXIF", "a.jpg", lambda: saved(WIDE, "JPEG", exif=b"Exif\x00\x00garbage!")
    yield "JPEG, one pixel wide", "a.jpg", lambda: saved(PHOTOGRAPH.resize((1, 300)), "JPEG")
    yield "JPEG of one pixel", "a.jpg", lambda: saved(PHOTOGRAPH.crop((0, 0, 1, 1)), "JPEG")
    yield "JPEG, panorama of 20,000 x 64", "a.jpg", lambda: saved(PHOTOGRAPH.resize((20_000, 64)), "JPEG")


def _pngs() -> Entries:
    for color, depths in (
        ("gray", (1, 2, 4, 8, 16)),
        ("RGB", (8, 16)),
        ("palette", (1, 2, 4, 8)),
        ("gray and alpha", (8, 16)),
        ("RGB and alpha", (8, 16)),
    ):
        for depth in depths:
            for interlaced in (False, True):
                kind = f"PNG, {color}, {depth} bit{'s'[: depth > 1]}{', interlaced' * interlaced}"
                yield kind, "a.png", lambda c=color, d=depth, i=interlaced: drawn_png(c, d, i)
    for kind, color, depth, transparent in (
        ("PNG, palette, one transparent", "palette", 4, b"\xff\xff\x00"),
        ("PNG, palette, some translucent", "palette", 4, bytes(range(16))),
        ("PNG, gray, one transparent", "gray", 8, b"\x00\x07"),
        ("PNG, RGB, one transparent", "RGB", 8, bytes(6)),
    ):
        chunks = chunk(b"tRNS", transparent)
        yield kind, "a.png", lambda c=color, d=depth, before=chunks: drawn_png(c, d, before=before)
    gamma = chunk(b"gAMA", struct.pack(">I", 45455)) + chunk(b"sBIT", b"\x05\x06\x05") + chunk(b"pHYs", bytes(9))
    yield "PNG with gamma, significant bits, physical size", "a.png", lambda: drawn_png("RGB", 8, before=gamma)
    unknown = chunk(b"vpAg", bytes(9)) + chunk(b"prIv", b"anything")
    yield "PNG with unknown chunks", "a.png", lambda: drawn_png("RGB", 8, before=unknown, behind=unknown)
    profile, text = chunk(b"iCCP", b"x\x00\x00junk"), chunk(b"tEXt", b"Title\x00cat")
    yield "PNG with a damaged color profile", "a.png", lambda: drawn_png("RGB", 8, before=profile)
    yield "PNG with text after the pixels", "a.png", lambda: drawn_png("RGB", 8, behind=text)
    bomb = chunk(b"zTXt", b"Title\x00\x00" + zlib.compress(bytes(1 << 21)))
    yield "PNG with text of 2 MiB in 2 kB", "a.png", lambda: drawn_png("RGB", 8, before=bomb)
    yield "PNG, wrong checksum of a text", "a.png", lambda: drawn_png("RGB", 8, before=text[:-4] + bytes(4))
    yield "PNG, wrong checksum of the pixels", "a.png", lambda: PNG[:-16] + bytes(4) + PNG[-12:]
    yield "PNG without its last chunk", "a.png", lambda: PNG[:-12]
    yield "PNG, animated", "a.png", lambda: frames("PNG")
    exif = chunk(b"eXIf", oriented(6).removeprefix(b"Exif\x00\x00"))
    yield "PNG, EXIF orientation 6", "a.png", lambda: saved(WIDE, "PNG", exif=oriented(6))
    yield "PNG, EXIF orientation 6 after the pixels", "a.png", lambda: drawn_png("palette", 4, behind=exif)
    yield "PNG with damaged EXIF", "a.png", lambda: drawn_png("RGB", 8, before=chunk(b"eXIf", b"garbage!"))
    yield "PNG named .JPEG", "a.JPEG", lambda: PNG
    yield "PNG named .PNG", "a.PNG", lambda: PNG
    yield "PNG, one pixel wide", "a.png", lambda: saved(PHOTOGRAPH.resize((1, 300)), "PNG")
    yield "PNG, panorama of 20,000 x 64", "a.png", lambda: saved(PHOTOGRAPH.resize((20_000, 64)), "PNG")
    yield "PNG of 3,000 x 2,000", "a.png", lambda: saved(Image.new("RGB", (3000, 2000)), "PNG")
    yield "PNG of 70,000 x 1", "a.png", lambda: saved(Image.new("RGB", (70_000, 1)), "PNG")
    huge = chunk(b"IHDR", struct.pack(">IIBBBBB", 20_000, 20_000, 8, 2, 0, 0, 0))
    yield "PNG that claims 20,000 x 20,000", "a.png", lambda: PNG[:8] + huge + PNG[33:]


def _others() -> Entries:
    gray, palette = PHOTOGRAPH.convert("L"), PHOTOGRAPH.convert("P")
    alpha = PHOTOGRAPH.copy()
    alpha.putalpha(gray)
    deep = Image.fromarray(np.asarray(gray).astype(np.uint16) * 257)
    yield "GIF", "a.gif", lambda: saved(palette, "GIF")
    yield "GIF, one transparent", "a.gif", lambda: saved(palette, "GIF", transparency=int(np.asarray(palette)[0, 0]))
    yield "GIF, animated", "a.gif", lambda: frames("GIF")
    yield "GIF named .jpg", "a.jpg", lambda: saved(palette, "GIF")
    yield "WebP, lossy", "a.webp", lambda: saved(PHOTOGRAPH, "WEBP")
    yield "WebP, lossless, with alpha", "a.webp", lambda: saved(alpha, "WEBP", lossless=True)
    yield "WebP, animated", "a.webp", lambda: frames("WEBP")
    yield "WebP, EXIF orientation 6", "a.webp", lambda: saved(WIDE, "WEBP", exif=oriented(6))
    yield "WebP with damaged EXIF", "a.webp", lambda: saved(WIDE, "WEBP", exif=b"garbage!")
    yield "TIFF", "a.tif", lambda: saved(PHOTOGRAPH, "TIFF")
    for compression in ("tiff_lzw", "tiff_deflate", "packbits", "jpeg"):
        yield f"TIFF, {compression}", "a.tiff", lambda c=compression: saved(PHOTOGRAPH, "TIFF", compression=c)
    yield "TIFF, CMYK", "a.tif", lambda: saved(PHOTOGRAPH.convert("CMYK"), "TIFF")
    yield "TIFF, with alpha", "a.tif", lambda: saved(alpha, "TIFF")
    yield "TIFF, RGB and an unused byte", "a.tif", lambda: saved(PHOTOGRAPH.convert("RGBX"), "TIFF")
    yield "TIFF, one bit", "a.tif", lambda: saved(PHOTOGRAPH.convert("1"), "TIFF", compression="group4")
    yield "TIFF, gray, 16 bits", "a.tif", lambda: saved(deep, "TIFF")
    yield "TIFF, floating point", "a.tif", lambda: saved(gray.convert("F"), "TIFF")
    yield "TIFF, Lab", "a.tif", lambda: saved(Image.frombytes("LAB", PHOTOGRAPH.size, PHOTOGRAPH.tobytes()), "TIFF")
    yield "TIFF of several pages", "a.tif", lambda: frames("TIFF")
    yield "TIFF, EXIF orientation 6", "a.tif", lambda: saved(WIDE, "TIFF", tiffinfo={0x0112: 6})
    for mode, bits in (("1", "1 bit"), ("P", "palette"), ("RGB", "24 bits"), ("RGBA", "32 bits")):
        image = alpha if mode == "RGBA" else PHOTOGRAPH.convert(mode)
        yield f"BMP, {bits}", "a.bmp", lambda i=image: saved(i, "BMP")
    yield "PPM", "a.ppm", lambda: saved(PHOTOGRAPH, "PPM")
    yield "PGM", "a.pgm", lambda: saved(gray, "PPM")
    yield "PGM, 16 bits", "a.pgm", lambda: saved(deep, "PPM")
    yield "AVIF", "a.avif", lambda: saved(PHOTOGRAPH, "AVIF", max_threads=1)
    yield "AVIF named .jpg", "a.jpg", lambda: saved(PHOTOGRAPH, "AVIF", max_threads=1)
    yield "AVIF, EXIF orientation 6", "a.avif", lambda: saved(WIDE, "AVIF", exif=oriented(6), max_threads=1)
    maker = Image.Exif()
    maker[0x010F] = "a maker"
    named, header = saved(WIDE, "AVIF", exif=maker, max_threads=1), maker.tobytes().removeprefix(b"Exif\x00\x00")[:8]
    yield "AVIF with damaged EXIF", "a.avif", lambda: named.replace(header, b"garbage!")
    yield "HEIC", "a.heic", lambda: b"\x00\x00\x00\x18ftypheic\x00\x00\x00\x00mif1heic" + bytes(100)
    yield "HEIC named .jpg", "a.jpg", lambda: b"\x00\x00\x00\x18ftypheic\x00\x00\x00\x00mif1heic" + bytes(100)
    yield "JPEG 2000 named .jpg", "a.jpg", lambda: saved(PHOTOGRAPH, "JPEG2000")
    yield (
        "PostScript named .png",
        "a.png",
        lambda: b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n%%EOF\n",
    )
    yield "web page named .jpg", "a.jpg", lambda: b"<!DOCTYPE html><html>404 Not Found</html>"
    yield "empty file named .jpg", "a.jpg", lambda: b""


def _every() -> Iterator[tuple[str, tuple[str, bytes]]]:
    for number, (kind, name, make) in enumerate((*_jpegs(), *_pngs(), *_others())):
        yield kind, (name.replace("a", f"{number:03d}", 1), make())


KINDS = dict(_every())
