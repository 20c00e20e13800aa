"""What the processes of a study on a Ray cluster tell each other, in one that imports no torch and is up soon."""


class Board:
    """What all seats tell, and whether they are to stop."""

    def __init__(self) -> None:
        self.lines: dict[str, str] = {}
        self.stopping = False

    def tell(self, job: str, line: str) -> bool:
        self.lines[job] = line
        return self.stopping

    def look(self) -> dict[str, str]:
        return self.lines

    def stop(self) -> None:
        self.stopping = True
