"""The error of a command that can't go on: a sentence for a person, details for a log."""


class Refused(Exception):
    """A command that can't be carried out.

    `str(error)` is one sentence: what is wrong, where, and what to do. `details` is what a person would
    look at next (the last lines of a tool's output or of the journal), `facts` is for programs.
    """

    def __init__(self, sentence: str, details: str = "", **facts: object) -> None:
        super().__init__(sentence)
        self.details = details
        self.facts = facts

    def with_cause(self) -> str:
        """Return the sentence, with the exception that the details end in, if they hold a traceback."""
        cause = last_exception(self.details)
        return f"{str(self).removesuffix('.')}: {cause}" if cause else str(self)


def last_exception(text: str) -> str:
    """Return the last line of the last traceback in a text, as `ValueError: …`; empty if there is none.

    Python prints a traceback's frames indented, and then the exception at the indentation of its first line.
    """
    found, margin = "", None
    for line in text.splitlines():
        content = line.lstrip()
        indent = len(line) - len(content)
        if content.startswith("Traceback (most recent call last):"):
            margin = indent
        elif margin is not None and content and indent <= margin:
            found, margin = content, None
    return found
