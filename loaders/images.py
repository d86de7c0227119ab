"""Image files, opened by Pillow: those of the formats that are meant and within the limit of pixels."""

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

# What may be found in a file, whatever its name says. Pillow knows more formats, and for one it runs Ghostscript.
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "AVIF", "JPEG2000")
HEIC = {b"ftyp" + brand for brand in (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")}
SCANS = 500  # of a JPEG, each of which goes over all of its pixels; where libturbojpeg stops
# What begins a part of a JPEG. No marker: a byte that follows 0xFF in coded data, a restart in it, a byte that fills.
_MARKER = re.compile(rb"\xff([^\x00\x01\xd0-\xd7\xff])")
_SCAN, _END = b"\xda", b"\xd9"

# Of odd images Pillow warns and logs, on stderr and with the path of its own source. Our sentences say what is wrong.
warnings.filterwarnings("ignore", module=r"PIL\.")
logging.getLogger("PIL").addHandler(logging.NullHandler())


def open_image(content: bytes, what: str) -> Image.Image:
    """The image in a file's bytes, its header read and its pixels not yet. what: a sentence calls it so.

    ValueError, naming it, for what is none of FORMATS, is damaged, or has more pixels than `limits.PIXELS`.
    """
    set_pillows_limit()
    with naming(what, content):
        image = _opened(content)
    PIXELS.check(image.width * image.height, what)
    return image


def _opened(content: bytes) -> Image.Image:
    """As `Image.open`, which warns of half as many pixels as are allowed, and refuses them in words of its own."""
    Image.init()
    for name in FORMATS:
        factory, accepts = Image.OPEN[name]
        try:
            taken = accepts is None or accepts(content[:16])
            if taken and not isinstance(taken, str):  # a text says why it is not
                return factory(io.BytesIO(content), "")
        except (SyntaxError, IndexError, TypeError, struct.error):  # what a plugin says of another format's file
            continue
    raise UnidentifiedImageError


def set_pillows_limit() -> None:
    """Makes Pillow refuse at `limits.PIXELS`, which is twice the number that it warns at, where that was set anew."""
    if PIXELS.value != PIXELS.default:
        Image.MAX_IMAGE_PIXELS = -(-PIXELS.value // 2)


def restrain_pillow() -> None:
    """For this process, where another library opens images with Pillow: no Ghostscript, and the limit of pixels."""
    set_pillows_limit()
    EpsImagePlugin.gs_binary = False


def check_jpeg(content: bytes, what: str) -> bool:
    """Whether the loader decodes a JPEG; where it does not, Pillow may. Asked before Pillow is given one at all.

    ValueError, naming it, for one that is damaged, of which Pillow makes a picture all the same, and for one of more
    than SCANS scans, which would take Pillow for hours.
    """
    fault, words = jpeg_fault(content)
    if fault not in (OK, BAD_JPEG) and _scans(content) > SCANS:
        fault, words = BAD_JPEG, f"it has more than {SCANS} scans"
    if fault == BAD_JPEG:
        raise ValueError(f"{what}: {STATUS_TEXT[fault]} ({words})")
    return fault == OK


def _scans(content: bytes) -> int:
    """How many scans a JPEG has, by the markers in front of them."""
    count, place = 0, 2
    while (marker := _MARKER.search(content, place)) and marker[1] != _END:
        count += marker[1] == _SCAN
        size = content[marker.end() : marker.end() + 2]  # of what is no coded data, in which anything may stand
        place = marker.end() + int.from_bytes(size)
    return count


def smaller(size: tuple[int, int], longest: int) -> tuple[int, int]:
    """The size, width and height, with no side longer than that and the aspect ratio kept to the pixel."""
    if max(size) <= longest:
        return size
    width, height = (max(1, round(side * longest / max(size))) for side in size)
    return width, height


@contextmanager
def naming(what: str, content: bytes | None = None) -> Iterator[None]:
    """Whatever Pillow raises in the block, MemoryError apart, is raised as a ValueError that names `what`.

    Pillow's plugins raise SyntaxError, RuntimeError, struct.error and more at a damaged file. content: the file's
    bytes, where they are at hand, which tell why Pillow found no image in them.
    """
    try:
        yield
    except MemoryError:
        raise
    except UnidentifiedImageError:  # its own words are about an address in memory
        words = "Pillow finds none in it" if content is None else _not_an_image(content)
        raise ValueError(f"{what} cannot be read as an image: {words}") from None
    except Image.DecompressionBombError:
        raise ValueError(
            f"{what} must have at most {PIXELS.value:,} pixels, and a part of it has more; "
            f"the environment variable {PIXELS.variable} raises this limit"
        ) from None
    except Exception as error:
        raise ValueError(f"{what} cannot be read as an image: {reason(error)}") from None


def _not_an_image(content: bytes) -> str:
    """Why Pillow found no image in a file's bytes."""
    if not content:
        return "it is empty"
    if content[4:12] in HEIC:
        return "it is HEIC, which Pillow does not decode; make it JPEG or PNG first"
    if content.startswith(b"\xff\xd8\xff"):
        words = jpeg_fault(content)[1]
        return "it is a damaged JPEG, or one of a kind that Pillow does not decode" + (f" ({words})" if words else "")
    return f"it is damaged, or none of {', '.join(FORMATS)}"
