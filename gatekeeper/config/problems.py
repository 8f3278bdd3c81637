"""What is wrong with a configuration: every problem, with its place and what to do about it."""

from collections.abc import Sequence
from typing import Any

import msgspec

from gatekeeper.core.errors import GatekeeperError


class Problem(msgspec.Struct, frozen=True):
    """One fault.  `path` is like `protect[1].access`, empty for the whole file; line and column count from 1."""

    source: str
    path: str
    line: int
    column: int
    message: str
    hint: str | None = None

    def __str__(self) -> str:
        what = f"{self.path}: {self.message}" if self.path else self.message
        return f"{self.source}:{self.line}:{self.column}: {what}{f'; {self.hint}' if self.hint else ''}"

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return msgspec.structs.asdict(self)


class ConfigError(GatekeeperError):
    """The configuration cannot be used.  `problems` are all of them, in the order of the file."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(sorted(problems, key=lambda problem: (problem.line, problem.column)))
        super().__init__("\n".join(map(str, self.problems)))
