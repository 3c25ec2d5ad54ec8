"""The one exception that means "the user can fix this": every program prints its message as one line and exits with 2."""


class UserError(Exception):
    """A mistake in what the user gave us. The message is one line: what is wrong, where, and what to do about it."""
