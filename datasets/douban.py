"""Gets the set douban: a mirror's file, or one of the same form made of Kaggle's.

douban.csv.xz is a table in UTF-8 with a header and the columns COLUMNS. Star is 1 to 5, or empty.
"""
import csv
import lzma
import os
import shutil
from pathlib import Path
from textwrap import shorten

from tqdm import tqdm

from transfer import DownloadError

FILE, CSV = "douban.csv.xz", "DMSC.csv"     # ours and Kaggle's
COLUMNS = ["Movie_Name_CN", "Star", "Comment", "Source"]
STARS = {"", "1", "2", "3", "4", "5"}
SET = "utmhikari/doubanmovieshortcomments"
LOGIN = "log in first, see https://github.com/Kaggle/kagglehub#authenticate. It says: "


def prepare(folder, get):
    if not made_here(folder / FILE):
        try:
            get(FILE)
        except DownloadError as error:
            try:
                make(kaggles_csv(folder, get), folder / FILE)
            except DownloadError as another:
                raise DownloadError(f"{error}\n{another}") from another
    (folder / CSV).unlink(missing_ok=True)
    shutil.rmtree(folder / "kaggle", ignore_errors=True)


def made_here(path):
    """Whether a file is made by `make`, where Source is empty, and whole: xz checks itself."""
    try:
        with lzma.open(path, "rt", encoding="utf-8", newline="") as file:
            rows = csv.reader(file)
            return next(rows) == COLUMNS and all(len(row) == 4 and not row[3] for row in rows)
    except (OSError, EOFError, ValueError, StopIteration, lzma.LZMAError, csv.Error):
        return False


def kaggles_csv(folder, get):
    """The path of Kaggle's table: put there by hand, or loaded with the package kagglehub."""
    try:
        return get(CSV)
    except DownloadError:
        cache = folder / "kaggle"
        found = next(load_set(cache).rglob(CSV), None)
    if found is None:
        shutil.rmtree(cache, ignore_errors=True)
        raise DownloadError(f"Kaggle: the source has changed, it holds no {CSV}")
    if cache not in found.parents:          # a notebook of Kaggle's own has it in a folder to read
        return found
    os.replace(found, folder / CSV)         # from now on it need not be loaded again
    shutil.rmtree(cache)                    # what is left would look whole to kagglehub
    return folder / CSV


def load_set(cache):
    """Loads Kaggle's set into the folder `cache`, or goes on with it; returns where it is."""
    try:
        import kagglehub                    # not at the top: with a mirror nobody needs it
        from requests import RequestException    # kagglehub comes with it
    except ImportError as error:
        raise DownloadError(f"Kaggle: {error}. Run: python -m pip install kagglehub") from error
    usual = os.environ.get("KAGGLEHUB_CACHE")
    os.environ["KAGGLEHUB_CACHE"] = str(cache)   # else it fills a folder in the reader's home
    try:
        return Path(kagglehub.dataset_download(SET))
    except Exception as error:              # of the network, of Kaggle, of a damaged archive
        if not isinstance(error, (RequestException, ConnectionError, TimeoutError)):
            if isinstance(error, OSError):
                raise                       # of the disk: `fetch` says what to do
            shutil.rmtree(cache, ignore_errors=True)
        status = getattr(getattr(error, "response", None), "status_code", None)
        text = shorten(str(error) or repr(error), 400, placeholder=" ...")
        raise DownloadError(f"Kaggle: {LOGIN if status in (401, 403) else ''}{text}") from error
    finally:
        os.environ.pop("KAGGLEHUB_CACHE")
        if usual is not None:
            os.environ["KAGGLEHUB_CACHE"] = usual


def make(source, target):
    """Writes our table out of Kaggle's, row by row: without users, dates and votes."""
    part, kept, broken = target.with_name(f"{FILE}.part"), 0, 0
    with (open(source, encoding="utf-8-sig", errors="replace", newline="") as file,
          lzma.open(part, "wt", preset=0, encoding="utf-8", newline="") as packed):    # 0: quick
        rows, table = read_rows(file), csv.writer(packed, lineterminator="\n")
        header = next(rows, None) or []
        table.writerow(COLUMNS)
        for row in tqdm(rows, f"reading {CSV}", unit=" rows", delay=2, leave=False):
            values = dict(zip(header, row)) if row and len(row) == len(header) else {}
            film, star, text = (" ".join(values.get(name, "").split()) for name in COLUMNS[:3])
            if text and star in STARS and "\ufffd" not in film + text:    # of bytes not in UTF-8
                table.writerow([film, star, text, ""])
                kept += 1
            else:
                broken += 1
    if not kept or not set(COLUMNS[:3]) <= set(header):
        part.unlink()
        if source.parent == target.parent:
            source.unlink()
        raise DownloadError(f"{CSV}: no row with {', '.join(COLUMNS[:3])} in it; removed")
    os.replace(part, target)
    print(f"{kept:,} reviews from Kaggle; {broken:,} broken rows left out")


def read_rows(file):
    """Yields the rows of a table, None for one that can't be read."""
    rows = csv.reader(file)
    while True:
        try:
            yield next(rows)
        except csv.Error:
            yield None
        except StopIteration:
            return


ENTRY = {                                   # of the table in download.py
    "about": "short reviews of films in Chinese, with stars; for study and non-commercial research",
    "size": "31 MB from a mirror; from Kaggle about 150 MB, and 0.7 GB while it is unpacked",
    "by_hand": f"https://www.kaggle.com/datasets/{SET} has {CSV} in a zip: unpack that.",
    "prepare": prepare,
    "files": {FILE: "c5b73060fb5c792a67859d8c3303198e6896c663c9b40909e35586678de07cbc"},
}
