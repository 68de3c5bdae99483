"""What went wrong that the user can cure. The command line prints the message and leaves with the code, without a traceback."""


class NerfAppError(Exception):
    """A fault with a cure: what must hold, what came, from which file, what to do. One line."""

    exit_code = 1


class UsageError(NerfAppError):
    """A flag, a setting or a command that cannot be meant."""

    exit_code = 2


class DataError(NerfAppError):
    """Photos, poses, masks or a scene file that cannot be used as they are."""

    exit_code = 3


class ResourceError(NerfAppError):
    """No room: disk, memory, permission, or a folder that another run holds."""

    exit_code = 4


class BackendUnavailable(NerfAppError):
    """A part of the program that was asked for by name is missing on this machine."""

    exit_code = 5


class Diverged(NerfAppError):
    """The numbers of a training run left the finite."""

    exit_code = 6


def first_line(error: Exception) -> str:
    """What kind of error it is, and the beginning of what it says: for a message of one line about somebody else's."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else 'no reason given'}"


def is_of_gpu(error: Exception) -> bool:
    """Whether a GPU failed, by what torch or Triton says; torch may not be loaded."""
    return any(kind.__name__ == "AcceleratorError" for kind in type(error).__mro__) or "Triton Error [CUDA]" in str(error)
