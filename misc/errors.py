"""The one error that a person can mend: reported as one line, exit status 2."""


class InputError(ValueError):
    """A flag, file or folder is not usable; the message names it and says what to do."""
