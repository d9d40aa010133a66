"""What goes wrong with an arm."""

from __future__ import annotations


class ArmError(RuntimeError):
    """The arm cannot be used, or did not answer. ``problems`` holds one line each."""

    def __init__(self, problems: list[str] | str):
        self.problems = [problems] if isinstance(problems, str) else list(problems)
        super().__init__("\n".join(self.problems))


def one_line(error: BaseException) -> str:
    """What an error says, without its line breaks; its name where it says nothing."""
    return " ".join(str(error).split()) or type(error).__name__
