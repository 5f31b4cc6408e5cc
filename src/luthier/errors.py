"""The exception tree: each error says what happened, where, and what to do.

LuthierError                exit code 2: something a person can mend
|-- SpecError               luthier.toml says something it cannot mean
|-- DataError               the data file cannot be used as it is
|-- PowerError              the test split cannot decide the target
|-- ModelError              a model cannot be loaded or asked
|   `-- OfflineError        it is not in the cache, and the package index cannot be reached
|   `-- ChecksumError       what was downloaded is not what was promised
|-- MissingExtra            an optional part is not installed
|-- StoreError              the project folder cannot be read or written
`-- Stopped                 exit code 3: interrupted or out of budget; nothing is lost, the same command resumes
"""

from __future__ import annotations


class LuthierError(Exception):
    """An error a person can mend. `what` happened, `where`, and the `fix`, each one short sentence part."""

    exit_code = 2

    def __init__(self, what: str, *, where: str = "", fix: str = "") -> None:
        self.what, self.where, self.fix = what, where, fix
        super().__init__(str(self))

    def __str__(self) -> str:
        head = f"{self.where}: {self.what}" if self.where else self.what
        return f"{head}\n  fix: {self.fix}" if self.fix else head


class SpecError(LuthierError):
    """luthier.toml says something it cannot mean."""


class DataError(LuthierError):
    """The data file cannot be used as it is."""


class PowerError(LuthierError):
    """The test split cannot decide the target, whatever a candidate answers."""


class ModelError(LuthierError):
    """A model cannot be loaded or asked."""


class OfflineError(ModelError):
    """Something is not in the cache, and the package index cannot be reached."""


class ChecksumError(ModelError):
    """A file that was downloaded is not the one the catalog promises."""


class MissingExtra(LuthierError):
    """An optional part is not installed.

    >>> print(MissingExtra("local", "the zero-shot rung"))
    the zero-shot rung needs the extra 'local', which is not installed
      fix: pip install 'luthier[local]'
    """

    def __init__(self, extra: str, needed_by: str) -> None:
        self.extra = extra
        super().__init__(
            f"{needed_by} needs the extra '{extra}', which is not installed", fix=f"pip install 'luthier[{extra}]'"
        )


class StoreError(LuthierError):
    """The project folder cannot be read or written."""


class Stopped(LuthierError):
    """Interrupted or out of budget. Nothing is lost; `done` says how far it came; the same command resumes."""

    exit_code = 3

    def __init__(self, what: str, *, done: str = "", where: str = "", fix: str = "") -> None:
        self.done, self.reason = done, what
        super().__init__(
            what + (f" ({done})" if done else ""), where=where, fix=fix or "run the same command again to resume"
        )
