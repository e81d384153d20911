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
