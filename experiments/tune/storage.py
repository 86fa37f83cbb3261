"""Where a search keeps its trials: a journal file in its folder, one elsewhere, or a database."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qgen.files import check_place

if TYPE_CHECKING:
    from optuna.storages import BaseStorage

__all__ = ["HIDDEN", "JOURNAL", "Storage", "load_optuna", "storage_at"]

JOURNAL = "journal.jsonl"
"""In the search's folder, where no other place is given."""

HIDDEN = "***"
"""In place of the user and the password of a database."""

SECONDS_FOR_OTHERS = 60.0
"""Longest wait for other processes that write to a file of SQLite."""


def load_optuna() -> Any:
    """The package, silent.

    Raises:
        ImportError: it is not installed.
    """
    try:
        import optuna
    except ImportError as error:
        raise ImportError("tuning needs optuna; install it with: pip install 'qgen-hep[tune]'") from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna


@dataclass(frozen=True)
class Storage:
    """A place for trials, which can be sent to workers; it does not show what is secret in its address.

    Args:
        address: path of a journal, or URL of a database as SQLAlchemy takes it.

    >>> Storage("sqlite:////data/trials.db")
    Storage(shown='sqlite:////data/trials.db')
    >>> Storage("postgresql://me:secret@host/trials")
    Storage(shown='postgresql://***@host/trials')
    """

    address: str = field(repr=False)
    shown: str = field(init=False)
    """The address without user, password and options."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "shown", _shown(self.address))

    @contextmanager
    def open(self) -> Iterator[BaseStorage]:
        """The storage of optuna, which is made if it is not there.

        Raises:
            ImportError: optuna or the database's driver is not installed.
            ValueError: it is damaged, or the URL is none.
            OSError: it cannot be reached, read or written.
        """
        load_optuna()
        if "://" not in self.address:
            from experiments.tune.journal import open_journal

            yield open_journal(Path(self.address))
            return
        from optuna.exceptions import StorageInternalError
        from sqlalchemy.exc import ArgumentError, SQLAlchemyError

        storage = None
        try:
            storage = self._database()
            yield storage
        except ArgumentError as error:
            raise ValueError(f"storage {self.shown}: {self._reason(error)}") from None
        except (SQLAlchemyError, StorageInternalError) as error:
            raise OSError(f"storage {self.shown}: {self._reason(error)}") from None
        finally:
            if storage is not None:
                storage.remove_session()
                storage.engine.dispose()

    def _database(self) -> Any:
        from optuna.storages import RDBStorage

        options = {"connect_args": {"timeout": SECONDS_FOR_OTHERS}} if self.address.startswith("sqlite") else {}
        try:
            return RDBStorage(self.address, engine_kwargs=options)
        except ImportError as error:
            missing = error.__cause__ or error
            raise ImportError(f"storage {self.shown}: its driver is not installed ({missing})") from None
        except RuntimeError as error:  # tables of another version of optuna
            raise ValueError(f"storage {self.shown}: {self._reason(error)}") from None

    def _reason(self, error: Exception) -> str:
        """What is wrong, in one line without what is secret."""
        from sqlalchemy.engine import make_url
        from sqlalchemy.exc import ArgumentError

        cause = error.__cause__ or error
        line = (str(cause).strip() or type(cause).__name__).splitlines()[0].replace(self.address, self.shown)
        try:
            url = make_url(self.address)
        except (ArgumentError, ValueError):
            return line
        for secret in (url.password, *(value for value in url.query.values() if isinstance(value, str))):
            line = line.replace(str(secret), HIDDEN) if secret else line
        return line


def _shown(address: str) -> str:
    if "://" not in address or address.startswith("sqlite"):
        return address
    load_optuna()
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    scheme = address.partition("://")[0]
    try:
        url = make_url(address)
    except (ArgumentError, ValueError):
        return f"{scheme}://{HIDDEN}"
    port = f":{url.port}" if url.port else ""
    return f"{scheme}://{HIDDEN}@{(url.host or '').rpartition('@')[2]}{port}/{url.database or ''}"


def storage_at(place: str | None, folder: Path) -> Storage:
    """The storage at a place that a user names, the same from wherever workers look.

    Args:
        place: path of a journal file, or URL of a database (``sqlite:///trials.db``, ``postgresql://host/trials``).
        folder: of the search, which holds the journal if no place is named.

    Raises:
        ValueError: there can be no file, or the database would be gone with the process.
    """
    if place is None:
        return Storage(str(folder.absolute() / JOURNAL))
    if "://" not in place:
        if begin := re.match(r"[a-z0-9+]+:", place):  # whose rest may hold a password
            raise ValueError(f"storage: found {begin[0]}{HIDDEN}; expected a path, or a URL as {begin[0]}//...")
        check_place(place)
        return Storage(str(Path(place).absolute()))
    if place.startswith("sqlite"):
        scheme, _, rest = place.partition(":///")
        path, question, options = rest.partition("?")
        if not path or path == ":memory:":
            raise ValueError(f"storage {place}: is in the memory of one process; expected sqlite:///FILE")
        check_place(path)
        place = f"{scheme}:///{Path(path).absolute()}{question}{options}"
    return Storage(place)
