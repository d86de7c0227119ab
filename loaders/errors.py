"""What other libraries say of a damaged file, fit for a sentence of ours."""

MOST = 300  # characters: some repeat the bytes that they could not read


def reason(error: Exception) -> str:
    """The error's words, on one line and cut where they are long; its kind where it has none.

    Of an error of the system they are a sentence and the file, without the number that Python puts in front.
    """
    text = str(error)
    if isinstance(error, OSError) and error.strerror:
        text = f"{error.strerror}: {error.filename}" if error.filename else error.strerror
    words = " ".join(text.split()) or type(error).__name__
    return words if len(words) <= MOST else f"{words[:MOST]}..."
