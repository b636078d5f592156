"""What the other modules here need: the error, a download, the inside of archives."""
import gzip
import hashlib
import http.client
import re
import ssl
import tarfile
import urllib.error
import urllib.request
import zipfile
import zlib
from functools import partial

from tqdm import tqdm

TIMEOUT = 30                    # seconds without an answer before a source is given up
TRIES = 5                       # so often is a download that breaks off gone on with
MAX_UNPACKED = 1024**3          # bytes; an archive that holds more is refused
NETWORK = (urllib.error.URLError, http.client.HTTPException, ConnectionError, TimeoutError,
           ssl.SSLError, ValueError)             # the last: a Content-Length that is no number
CERTIFICATES = (". Python lacks certificates: on macOS run its 'Install Certificates.command', "
                "else 'pip install certifi', set SSL_CERT_FILE to what 'python -m certifi' prints")


class DownloadError(RuntimeError):
    """A set could not be made ready. The message says what to do next."""

    def _render_traceback_(self):       # IPython asks for this: the message, without a traceback
        return str(self).splitlines()


def download(url, part):
    """Loads a URL into the file `part`; goes on from what that already holds."""
    for attempt in range(1, TRIES + 1):
        start, came = part.stat().st_size if part.exists() else 0, 0
        headers = {"User-Agent": "python"} | ({"Range": f"bytes={start}-"} if start else {})
        request = urllib.request.Request(url, headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT) as reply:
                if reply.status != 206:          # 206: only the rest comes, else all of it
                    start = 0
                total = start + int(reply.headers["Content-Length"] or 0)
                with (open(part, "ab" if start else "wb") as file,
                      tqdm(desc=part.stem, total=total or None, initial=start, unit="B",
                           unit_scale=True, delay=2, leave=False) as bar):
                    while chunk := reply.read(1 << 18):
                        file.write(chunk)
                        bar.update(len(chunk))
                        came += len(chunk)
            if start + came >= total:
                return
            raise ConnectionError(f"broken off at {start + came:,} of {total:,} bytes")
        except NETWORK as error:
            if getattr(error, "code", None) == 416 and start:
                part.unlink()        # 416: the file ends before our part does, so start again
            elif not came or attempt == TRIES:   # nothing came at all: the next try is in vain
                hint = CERTIFICATES if "CERTIFICATE_VERIFY" in str(error) else ""
                raise DownloadError(f"{url}: {error}{hint}") from error


def matches(path, known):
    """Compares a file with its SHA-256 or what else is known of it.

    "unzipped:..." is the SHA-256 of what a .gz holds: Debian packs the same data into other bytes.
    "bytes:..." is the size, for an archive with checksums inside. None: nothing is known.
    """
    kind, _, wanted = (known or "").rpartition(":")
    if not wanted or kind == "bytes":
        return not wanted or path.stat().st_size == int(wanted)
    try:
        with (gzip.open if kind == "unzipped" else open)(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == wanted
    except (gzip.BadGzipFile, zlib.error, EOFError):
        return False


def members(archive, pattern):
    """Yields (name, bytes) of the files in a zip or tar whose name fits; no link is followed.

    Raises DownloadError if it is damaged, has names that lead out of its folder, or is too large.
    """
    total = 0
    try:
        for name, size, read in contents(archive):
            total += size
            if re.match(r"[/\\]|[A-Za-z]:", name) or ".." in re.split(r"[/\\]", name):
                raise DownloadError(f"refused, as it holds an unsafe name: {name!r}")
            if total > MAX_UNPACKED:
                raise DownloadError(f"refused, as it unpacks to over {MAX_UNPACKED:,} bytes")
            if re.fullmatch(pattern, name):
                yield name, read()
    except (DownloadError, MemoryError):
        raise
    except Exception as error:          # each way of packing has errors of its own
        raise DownloadError(f"damaged ({error!r})") from error


def contents(archive):
    """Yields (name, size, a function that reads it) of each file."""
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as file:
            for info in file.infolist():
                yield info.filename, info.file_size, partial(file.read, info)
    else:
        with tarfile.open(archive, "r:") as file:    # "r:": not packed, so it can't swell up
            for info in filter(tarfile.TarInfo.isreg, file):
                yield info.name, info.size, file.extractfile(info).read
