"""Messages of other libraries about a damaged file, shortened to become part of this project's error messages."""

MOST = 300  # characters that are kept; some messages repeat all of the bytes that could not be read


def reason(error: Exception) -> str:
    """Return the error's message on one line, cut if it is long; the name of its class if it has no message.

    For an OSError this is the system's sentence and the file name, without the error number that Python puts first.
    """
    text = str(error)
    if isinstance(error, OSError) and error.strerror:
        text = f"{error.strerror}: {error.filename}" if error.filename else error.strerror
    words = " ".join(text.split()) or type(error).__name__
    return words if len(words) <= MOST else f"{words[:MOST]}..."
