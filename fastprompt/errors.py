"""The error a user meets: what is wrong, where, and the fix, in one or two lines."""


class FastpromptError(Exception):
    """Base of every error raised on purpose; the command line prints it without a traceback."""


class BackendError(FastpromptError):
    """A framework is missing, unknown, or was chosen too late."""


class ConfigError(FastpromptError, ValueError):
    """An option or a configuration value that cannot work."""


class CheckpointError(FastpromptError):
    """A backbone's or a prompt's files are missing, cut, of the wrong shape, or of another model."""


class DataError(FastpromptError, ValueError):
    """A data file that cannot be read as what it is said to be."""


class TrainingError(FastpromptError, RuntimeError):
    """A run that would train nothing, or that went wrong on the way."""


class LostProcess(TrainingError):
    """A process among several that is left alone: another one has ended."""

    MESSAGE = "Another process has ended, and this one with it"

    def __init__(self, reason: str) -> None:
        super().__init__(f"{self.MESSAGE} ({(reason.strip().splitlines() or ['no reason given'])[0]}).")
