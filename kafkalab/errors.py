"""The one exception of the lab: a single clear line that says what to do."""


class LabError(RuntimeError):
    """Something that the person in front of the screen can fix; the message says how.

    A notebook shows the line alone, without the frames of the lab's own plumbing.
    """

    def _render_traceback_(self) -> list[str]:
        return [f"{type(self).__name__}: {self}"]
