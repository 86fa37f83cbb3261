"""``download``: one file from a server, resumed where it was interrupted, kept only if its checksum is right."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import http.client
import json
import os
import shutil
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

from qgen.files import sync_folder

__all__ = ["Mismatch", "Unreachable", "checksum_of", "download", "read_json_from"]

ATTEMPTS, TIMEOUT_S, BLOCK, ROOM = 6, 60.0, 2**20, 2**26
MAX_JSON = 2**24
RETRIED = (408, 425, 429, 500, 502, 503, 504)
Tell = Callable[[str, int, int], None]


class Mismatch(ValueError):
    """What was downloaded is not the file that was asked for."""


class Unreachable(OSError):
    """The server cannot be reached, or does not give the file."""


class _Again(Exception):
    """A fault that may pass; the message is what is said if it does not."""


def checksum_of(path: Path, kind: str) -> str:
    """``md5:...`` or ``sha256:...`` of a file.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "notes")
    ...     _ = path.write_bytes(b"new")
    ...     checksum_of(path, "md5")
    'md5:22af645d1859cb5ca6da0c484f1f37ea'
    """
    with path.open("rb") as file:
        return f"{kind}:{hashlib.file_digest(file, lambda: hashlib.new(kind, usedforsecurity=False)).hexdigest()}"


def download(
    url: str,
    path: Path,
    checksum: str,
    *,
    plain: bool = False,
    tell: Tell = lambda what, done, of: None,
    pause: Callable[[float], None] = time.sleep,
) -> None:
    """A file from a server, at ``path`` when it is complete and its checksum is right.

    It grows as ``.NAME.fetch`` beside its place. What is there already is kept: a later call asks the server for the
    rest. A transfer that breaks is taken up again, six times in a row at most without a byte gained. A file with
    another checksum is deleted: bytes that are wrong are of no use to anyone. If it had been resumed, it is first
    fetched anew, since the one on the server may have changed meanwhile.

    Args:
        url: of the file; https.
        path: where it goes.
        checksum: ``md5:...`` or ``sha256:...``.
        plain: allow http too.
        tell: is told what is done, as bytes done and of how many.
        pause: waits so many seconds.

    Raises:
        ValueError: an address that is no https; another process fetches the same or has just done so; or the file does
            not match (:class:`Mismatch`).
        OSError: the disk is full, or (:class:`Unreachable`) there is no network or no such file.
    """
    part = path.with_name(f".{path.name}.fetch")
    with _locked(part) as file:
        resumed = file.seek(0, os.SEEK_END) > 0
        _fill(url, file, path, plain, tell, pause)
        found = checksum_of(part, checksum.split(":")[0])
        if found != checksum and resumed:
            file.truncate(0)
            _fill(url, file, path, plain, tell, pause)
            found = checksum_of(part, checksum.split(":")[0])
        if found != checksum:
            part.unlink()
            raise Mismatch(f"{url}: what came has the checksum {found}, expected {checksum}; it was deleted")
        os.fsync(file.fileno())
        part.replace(path)
        sync_folder(path.parent)


def read_json_from(url: str, *, plain: bool = False, pause: Callable[[float], None] = time.sleep) -> Any:
    """The content of a JSON file on a server.

    Raises:
        ValueError: it is no JSON, or longer than 16 MB.
        OSError: it cannot be had.
    """

    def read() -> bytes:
        with _opened(urllib.request.Request(url), plain) as answer:
            return answer.read(MAX_JSON + 1)

    content = _patiently(read, url, pause, lambda: 0)
    if len(content) > MAX_JSON:
        raise ValueError(f"{url}: more than {MAX_JSON} bytes; a record was expected")
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{url}: not JSON") from error


@contextmanager
def _locked(part: Path) -> Iterator[IO[bytes]]:
    with part.open("a+b", buffering=0) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ValueError(f"{part}: another process is fetching this file") from None
        if not _is(file, part):
            raise ValueError(f"{part}: another process has just ended fetching this file; ask for it again")
        try:
            yield file
        finally:
            if file.seek(0, os.SEEK_END) == 0:
                part.unlink(missing_ok=True)


def _is(file: IO[bytes], path: Path) -> bool:
    """Whether an open file still has this name: another process may have given it its own, or removed it."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _fill(url: str, file: IO[bytes], path: Path, plain: bool, tell: Tell, pause: Callable[[float], None]) -> None:
    """Get what the part file lacks."""
    tags: dict[str, str] = {}
    size = lambda: file.seek(0, os.SEEK_END)  # noqa: E731
    _patiently(lambda: _once(url, file, path, plain, tell, tags), url, pause, size)


def _once(url: str, file: IO[bytes], path: Path, plain: bool, tell: Tell, tags: dict[str, str]) -> None:
    """One request: to the end of the file, or as far as the connection holds."""
    done = file.seek(0, os.SEEK_END)
    request = urllib.request.Request(url, headers={"User-Agent": "qgen", "Accept-Encoding": "identity"})
    if done:
        request.add_header("Range", f"bytes={done}-")
        if "etag" in tags:
            request.add_header("If-Range", tags["etag"])
    try:
        with _opened(request, plain) as answer:
            if answer.status != 206 or not _continues(answer, done):
                file.truncate(0)
                done = 0
            tag = answer.headers.get("ETag", "")
            if tag.startswith('"'):
                tags["etag"] = tag
            length = answer.headers.get("Content-Length", "")
            total = done + int(length) if length.isdecimal() else 0
            _check_room(path, max(0, total - done))
            while content := answer.read(BLOCK):
                _write(file, content, path)
                done += len(content)
                tell(path.name, done, max(total, done))
                if not total:
                    _check_room(path, 0)
    except urllib.error.HTTPError as error:
        if error.code == 416 and done:  # nothing is missing, or the file has become shorter
            error.close()
            return
        raise
    if total and done < total:
        raise _Again(f"the transfer broke off after {done} of {total} bytes")


def _continues(answer: Any, done: int) -> bool:
    """Whether an answer goes on where the part file ends."""
    return str(answer.headers.get("Content-Range", "")).startswith(f"bytes {done}-")


def _write(file: IO[bytes], content: bytes, path: Path) -> None:
    view = memoryview(content)
    try:
        while view:
            view = view[file.write(view) :]
    except OSError as error:
        raise OSError(
            error.errno, f"{error.strerror}; what was fetched is kept for the next time", str(path)
        ) from error


def _check_room(path: Path, n_bytes: int) -> None:
    free = shutil.disk_usage(path.parent).free - ROOM
    if n_bytes > free or free < 0:
        need = f"{n_bytes / 1e9:.3g} GB more are needed, " if n_bytes else ""
        raise OSError(errno.ENOSPC, f"no room on the disk; {need}{max(0, free) / 1e9:.3g} GB are free", str(path))


def _patiently(work: Callable[[], Any], url: str, pause: Callable[[float], None], progress: Callable[[], int]) -> Any:
    """Do work that a network can break, again while it may help; what is gained sets the count of attempts back."""
    attempt, before = 0, progress()
    while True:
        try:
            return work()
        except urllib.error.HTTPError as error:
            error.close()
            reason = f"the server answers {error.code} {error.reason}"
            if error.code not in RETRIED:
                raise Unreachable(f"{url}: {reason}") from None
        except urllib.error.URLError as error:
            reason = f"no connection ({getattr(error.reason, 'strerror', None) or error.reason}); is there a network?"
            if isinstance(error.reason, socket.gaierror):
                raise Unreachable(f"{url}: {reason}") from None
        except (http.client.HTTPException, ConnectionError, TimeoutError) as error:
            reason = f"the connection broke ({type(error).__name__})"
        except _Again as error:
            reason = str(error)
        now = progress()
        attempt, before = (1 if now > before else attempt + 1), now
        if attempt == ATTEMPTS:
            raise Unreachable(f"{url}: {reason}; tried {ATTEMPTS} times, what is there is kept for the next time")
        pause(2.0 ** (attempt - 1))


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows only to where one might have asked in the first place."""

    def __init__(self, plain: bool) -> None:
        self._plain = plain

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        _check_scheme(newurl, self._plain)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _check_scheme(url: str, plain: bool) -> None:
    allowed = ("https", "http") if plain else ("https",)
    if urlsplit(url).scheme not in allowed:
        raise ValueError(f"{url}: only {' and '.join(allowed)} is followed")


def _opened(request: urllib.request.Request, plain: bool) -> Any:
    _check_scheme(request.full_url, plain)
    opener = urllib.request.OpenerDirector()
    handlers: list[urllib.request.BaseHandler] = [
        urllib.request.ProxyHandler(),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
        _Redirects(plain),
    ]
    for handler in handlers:
        opener.add_handler(handler)
    return opener.open(request, timeout=TIMEOUT_S)
