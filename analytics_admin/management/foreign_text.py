"""Text that other people or programs wrote, made fit for a terminal. Knows nothing of breakers."""


def printable(text: str) -> str:
    """Return the text with whatever would steer a terminal, or break the line, spelt out."""
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode()
        for letter in text
    )
