"""What other libraries say of a damaged file, fit for a sentence of ours."""

MOST = 300  # characters: some repeat the bytes that they could not read


def reason(error: Exception) -> str:
    """The error's words, on one line and cut where they are long; its kind where it has none."""
    words = " ".join(str(error).split()) or type(error).__name__
    return words if len(words) <= MOST else f"{words[:MOST]}..."
