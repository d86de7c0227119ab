"""Image files, opened by Pillow: only in known formats, and with no more pixels than the limit allows."""

import io
import logging
import re
import struct
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from PIL import EpsImagePlugin, Image, UnidentifiedImageError

from twoview.loaders.decode import BAD_JPEG, OK, STATUS_TEXT, jpeg_fault
from twoview.loaders.errors import reason
from twoview.loaders.limits import PIXELS

# The formats that a file may have, whatever its name says. Pillow knows more, and for one of them it runs Ghostscript.
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "AVIF", "JPEG2000")
# Bytes 4 to 11 of HEIC files.
HEIC = {b"ftyp" + brand for brand in (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")}
SCANS = 500  # most scans of a JPEG, each of which goes over all pixels; libturbojpeg has the same limit
# A marker, which begins a segment of a JPEG. Not matched: stuffed bytes and restart markers, both of which occur inside
# coded data, and fill bytes.
_MARKER = re.compile(rb"\xff([^\x00\x01\xd0-\xd7\xff])")
_SCAN, _END = b"\xda", b"\xd9"  # the markers SOS (start of scan) and EOI (end of image)

# Pillow warns and logs about unusual images, on stderr and with paths of its own source. The errors raised here say
# what is wrong instead.
warnings.filterwarnings("ignore", module=r"PIL\.")
logging.getLogger("PIL").addHandler(logging.NullHandler())


def open_image(content: bytes, what: str) -> Image.Image:
    """Open the image in a file's bytes: its header is read, its pixels are not decoded yet.

    what: what error messages call the image.
    Raises ValueError, naming the image, if its format is not in FORMATS, it is damaged, or it has more pixels than
    `limits.PIXELS`.
    """
    set_pillows_limit()
    with naming(what, content):
        image = _opened(content)
    PIXELS.check(image.width * image.height, what)
    return image


def _opened(content: bytes) -> Image.Image:
    """Open the image as `Image.open` does, but without the latter's own check of the number of pixels.

    `Image.open` warns at half the number of pixels that is allowed here, and refuses larger images with its own
    message.
    """
    Image.init()
    for name in FORMATS:
        factory, accepts = Image.OPEN[name]
        try:
            taken = accepts is None or accepts(content[:16])
            if taken and not isinstance(taken, str):  # a string gives the reason why the file is not accepted
                return factory(io.BytesIO(content), "")
        except (SyntaxError, IndexError, TypeError, struct.error):  # what a plugin raises for a file of another format
            continue
    raise UnidentifiedImageError


def set_pillows_limit() -> None:
    """Make Pillow refuse images of more pixels than `limits.PIXELS`, if that limit differs from its default."""
    # Pillow warns at MAX_IMAGE_PIXELS, and refuses at twice that number.
    if PIXELS.value != PIXELS.default:
        Image.MAX_IMAGE_PIXELS = -(-PIXELS.value // 2)


def restrain_pillow() -> None:
    """Restrict Pillow in this process, for other libraries that open images with it: no Ghostscript, a pixel limit."""
    set_pillows_limit()
    EpsImagePlugin.gs_binary = False


def check_jpeg(content: bytes, what: str) -> bool:
    """Return whether the loader can decode a JPEG itself; if not, Pillow may. Call this before Pillow decodes a JPEG.

    what: what error messages call the image.
    Raises ValueError, naming the image, if it is damaged, since Pillow would decode it anyway, or if it has more than
    SCANS scans, which would keep Pillow busy for hours.
    """
    fault, words = jpeg_fault(content)
    if fault not in (OK, BAD_JPEG) and _scans(content) > SCANS:
        fault, words = BAD_JPEG, f"it has more than {SCANS} scans"
    if fault == BAD_JPEG:
        raise ValueError(f"{what}: {STATUS_TEXT[fault]} ({words})")
    return fault == OK


def _scans(content: bytes) -> int:
    """Return the number of scans of a JPEG, counted by their markers."""
    count, place = 0, 2
    while (marker := _MARKER.search(content, place)) and marker[1] != _END:
        count += marker[1] == _SCAN
        # A segment's length, in two bytes, and its content, in which any bytes may occur: it is skipped.
        size = content[marker.end() : marker.end() + 2]
        place = marker.end() + int.from_bytes(size)
    return count


def smaller(size: tuple[int, int], longest: int) -> tuple[int, int]:
    """Return (width, height) scaled so that no side exceeds `longest`, with the aspect ratio kept to the pixel.

    A size that is small enough is returned unchanged.
    """
    if max(size) <= longest:
        return size
    width, height = (max(1, round(side * longest / max(size))) for side in size)
    return width, height


@contextmanager
def naming(what: str, content: bytes | None = None) -> Iterator[None]:
    """Turn whatever Pillow raises in the block, except MemoryError, into a ValueError that names `what`.

    Pillow's plugins raise SyntaxError, RuntimeError, struct.error and more for a damaged file.
    content: the file's bytes, if available, from which the error can say why Pillow found no image in them.
    """
    try:
        yield
    except MemoryError:
        raise
    except UnidentifiedImageError:  # its own message gives an address in memory
        words = "Pillow does not recognize it" if content is None else _not_an_image(content)
        raise ValueError(f"{what} cannot be read as an image: {words}") from None
    except Image.DecompressionBombError:
        raise ValueError(
            f"{what} must have at most {PIXELS.value:,} pixels, but a part of it has more; "
            f"the environment variable {PIXELS.variable} raises this limit"
        ) from None
    except Exception as error:
        raise ValueError(f"{what} cannot be read as an image: {reason(error)}") from None


def _not_an_image(content: bytes) -> str:
    """Return the reason why Pillow found no image in a file's bytes."""
    if not content:
        return "it is empty"
    if content[4:12] in HEIC:
        return "it is HEIC, which Pillow does not decode; make it JPEG or PNG first"
    if content.startswith(b"\xff\xd8\xff"):
        words = jpeg_fault(content)[1]
        return "it is a damaged JPEG, or one of a kind that Pillow does not decode" + (f" ({words})" if words else "")
    return f"it is damaged, or none of {', '.join(FORMATS)}"
