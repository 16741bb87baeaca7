"""The errors that wmkit raises for a user's mistake."""

__all__ = ["UserError"]


class UserError(ValueError):
    """A mistake that the user can mend: its text names what is wrong and what to do.

    The command line prints it as one line and exits with code 2.
    """
