"""datasets/mathsymbols.py: the set is built from small archives in its sources' layout."""
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

import download
import mathsymbols
from download import fetch
from test_download import DATA, MIRROR, SHA256, home, inside, server, zip_of    # two are fixtures


def png(picture):
    return cv2.imencode(".png", picture)[1].tobytes()


def sign(label, size=28, shift=0):
    """Black on white, as the sources have it: + - × ÷."""
    picture, m = np.full((size, size), 255, np.uint8), size // 2 + shift
    lines = {0: [(-8, 0, 8, 0), (0, -8, 0, 8)], 1: [(-8, 0, 8, 0)],
             2: [(-7, -7, 7, 7), (-7, 7, 7, -7)], 3: [(-8, 0, 8, 0), (0, -7, 0, -7), (0, 7, 0, 7)]}
    for x, y, x2, y2 in lines[label]:
        cv2.line(picture, (m + x, m + y), (m + x2, m + y2), 0, 2)
    return picture


def formula(writer, *signs, extra=""):
    """An InkML file as in the CROHME package: (truth, [stroke texts]) of each sign."""
    traces, groups = "", ""
    for number, (truth, strokes) in enumerate(signs):
        groups += f'<traceGroup><annotation type="truth">{truth}</annotation>'
        for place, stroke in enumerate(strokes):
            traces += f'<trace id="{number}_{place}">\n{stroke}\n</trace>'
            groups += f'<traceView traceDataRef="{number}_{place}"/>'
        groups += f'<annotationXML href="s{number}"/></traceGroup>'
    writer = f'<annotation type="writer">{writer}</annotation>' if writer else ""
    return ('<?xml version="1.0" encoding="utf-8"?><ink xmlns="http://www.w3.org/2003/InkML">'
            f'<annotation type="UI">"2009210-947-102.ink"</annotation>{writer}<annotationXML>'
            f'<math xmlns="http://www.w3.org/1998/Math/MathML">{extra}</math></annotationXML>'
            f'{traces}<traceGroup><annotation>Segmentation</annotation>{groups}</traceGroup></ink>')


SIGNS = [("+", ["10 0 5, 10 20 6", "0 10, 20 10"]), ("-", ["0 5.5, 30 5.5"]),
         (r"\times", ["0 0, 9 9", "9 0, 0 9"]), (r"\div", ["0 5, 20 5", "10 0", "10 10"]),
         ("=", ["1 1, 21 1", "1 9, 21 9"]), ("(", ["5 0, 1 9, 5 18"]), (")", ["1 0, 5 9, 1 18"])]


def other(strokes, step):
    """The same strokes, moved: another sign of the same writer."""
    def move(point):
        return " ".join(str(float(value) + step) for value in point.split()[:2])

    return [", ".join(move(point) for point in stroke.split(",")) for stroke in strokes]


def sources():
    """Small archives in the layout of the three repositories."""
    bhmsds = {f"repo/symbols/{name}-{i:04}.png": png(sign(label, shift=i % 3))
              for label, name in enumerate(("plus", "minus")) for i in range(40)}
    bhmsds |= {"repo/symbols/dot-0000.png": b"not looked at",
               "repo/symbols/plus-0099.png": png(np.full((28, 28), 255, np.uint8))}
    names = ("addition_plus", "subtraction_minus", "multiplication_cross", "division_obelus")
    inner = {f"symbols_partitioned/{part}/{name}/{part}{label}.png": png(255 - sign(label))
             for part in ("test", "train", "val") for label, name in enumerate(names)}
    inner |= {"symbols_partitioned/test/division_slash/a.png": png(sign(1))}
    mdas = {"repo/mdas_symbol_dataset/mdas_symbols_v1.zip": zip_of(inner), "repo/a.py": b"x"}
    crohme = {f"repo/HAMEX/f{i}.inkml":
              formula(f"DEPART00{i}", *[(t, other(s, i)) for t, s in SIGNS]) for i in range(9)}
    crohme |= {
        "repo/TrainINKML/HAMEX/f0.inkml": crohme["repo/HAMEX/f0.inkml"],        # a second copy
        "repo/KAIST/k.inkml": formula("1/mj7+n/98=", ("-", ["0 0, 50 1"]), ("x", ["0 0, 9 9"]),
                                      ("+", SIGNS[0][1])),
        "repo/MathBrush/m.inkml": formula("", ("=", other(SIGNS[4][1], 77))),
        "repo/TestINKMLGT/t.inkml": formula("103", ("-", ["0 0, 60 1"]),
                                            extra='<mfrac xml:id="s0"><mn>1</mn></mfrac>'),
        "repo/TestINKMLGT/u.inkml": formula("103", ("(", ["9 0, 2 8, 9 17"])),
        "repo/broken.inkml": "<ink>"}
    return {"bhmsds": bhmsds, "mdas": mdas, "crohme": crohme}


@pytest.fixture
def symbols(home, server, monkeypatch):
    """Where the set is built; the server holds its sources."""
    for name, files in sources().items():
        server.files[f"/{name}"] = zip_of(files)
        monkeypatch.setitem(mathsymbols.SOURCES, name, f"{server.url}/{name}")
    return home / "mathsymbols"


def load(folder, name):
    with np.load(folder / f"{name}.npz") as file:       # no pickled objects
        return {key: file[key] for key in file.files}


def test_mathsymbols_is_built_from_its_public_sources(symbols, server, capsys):
    folder = fetch("mathsymbols")
    out = capsys.readouterr().out
    assert "got crohme.npz, bhmsds.npz, mdas.npz; not kaggle_hms14.npz, herc.npz," in out
    assert str(folder) not in out               # it stands in a notebook's output
    assert "bhmsds.npz: 1 pictures without a clear symbol left out: symbols/plus-0099.png" in out
    assert inside(folder) == [".complete", "bhmsds.npz", "crohme.npz", "mdas.npz"]
    for name in ("crohme", "bhmsds", "mdas"):
        data = load(folder, name)
        assert data["images"].dtype == np.uint8 and data["images"].shape[1:] == (56, 56)
        assert data["labels"].dtype == np.uint8 and data["test"].dtype == bool
        assert len({len(values) for values in data.values()}) == 1
        assert (data["images"][:, :3] == 0).all() and (data["images"].max((1, 2)) > 200).all()
    fetch("mathsymbols")
    assert len(server.seen) == 3                # the set counts as whole


def test_photographed_signs_are_cut_out_centred_and_split_as_in_our_copy(symbols):
    fetch("mathsymbols")
    data = load(symbols, "bhmsds")
    assert set(data) == {"images", "labels", "test", "names"}
    assert np.bincount(data["labels"]).tolist() == [40, 40]
    plus = data["images"][data["labels"] == 0]
    assert (plus == plus[0]).all()              # wherever it stood, it is centred now
    assert plus[0, 28, 28] == 255 and plus[0, :16].max() == 0
    test = dict(zip(data["names"].tolist(), data["test"].tolist()))
    assert 0 < sum(test.values()) < 30
    assert test["symbols/minus-0000.png"] and not test["symbols/plus-0000.png"]  # as in our copy

    data = load(symbols, "mdas")
    assert np.bincount(data["labels"]).tolist() == [3, 3, 3, 3]
    assert data["test"].tolist() == ["/test/" in name for name in data["names"]]
    obelus = data["images"][data["labels"] == 3][0]
    assert cv2.connectedComponents(obelus)[0] == 4      # a bar, two dots and the background


def test_specks_are_dropped_and_large_pictures_made_smaller():
    large = cv2.resize(sign(0), (280, 280))
    large[20:24, 20:24] = 0                     # dirt far from the sign
    image = mathsymbols.cut_symbol(large, 0)
    assert cv2.boundingRect(image)[2:] == (48, 48) and image[28, 28] == 255
    for empty in (np.full((28, 28), 255, np.uint8), sign(1).T):      # a minus that stands
        assert mathsymbols.cut_symbol(np.ascontiguousarray(empty), 1) is None


def test_crohme_strokes_are_drawn(symbols):
    fetch("mathsymbols")
    data = load(symbols, "crohme")
    assert set(data) == {"images", "labels", "test", "writer", "in_strings"}
    # 9 formulas; the second copy, the fraction bar, the x and the broken file add nothing.
    assert np.bincount(data["labels"]).tolist() == [10, 10, 9, 9, 10, 10, 9]
    writers = set(data["writer"].tolist())
    assert writers == {f"ivc/depart00{i}" for i in range(9)} | {
        "KAIST/1/mj7+n/98=", "MathBrush/session_2009210-947", "crohme1x/103"}
    assert set(data["writer"][data["in_strings"]].tolist()) == {
        "ivc/depart003", "ivc/depart008", "MathBrush/session_2009210-947"}
    for writer in writers:                      # a writer is in one part only
        part = set(data["test"][data["writer"] == writer].tolist())
        assert part == {mathsymbols.in_test(writer)}
    for label, pieces in enumerate((1, 1, 1, 3, 2, 1, 1)):
        for image in data["images"][data["labels"] == label]:
            assert cv2.connectedComponents(image)[0] == pieces + 1
            x, y, width, height = cv2.boundingRect(image)
            assert 47 <= max(width, height) <= 50
            assert abs(2 * x + width - 56) <= 2 and abs(2 * y + height - 56) <= 2
    left, right = (data["images"][data["labels"] == label][0] for label in (5, 6))
    assert left[28].argmax() < left[6].argmax() and right[28].argmax() > right[6].argmax()
    heights = [cv2.boundingRect(image)[3] for image in data["images"][data["labels"] == 1]]
    assert min(heights) >= 2 and max(heights) <= 6 and len(set(heights)) > 1     # the pen varies


def test_a_class_is_filled_in_turns_over_the_writers(symbols, server):
    many = [("-", other(["0 0, 50 1"], step)) for step in range(3000)]
    rest = [sign for sign in SIGNS if sign[0] != "-"]
    server.files["/crohme"] = zip_of({
        "r/C/HAMEX/a.inkml": formula("depart001", *many, *rest),
        "r/C/HAMEX/b.inkml": formula("depart002", ("-", ["0 1, 70 2"]))})
    data = load(fetch("mathsymbols"), "crohme")
    minus = data["writer"][data["labels"] == 1]
    assert len(minus) == 2600 and minus[:2].tolist() == ["ivc/depart001", "ivc/depart002"]


@pytest.mark.parametrize("archive, text", [
    (None, "HTTP Error 404"), (b"no archive", "bhmsds.zip: damaged"),
    (zip_of({"r/symbols/plus-0000.png": png(sign(0))}), "bhmsds.zip: the source has changed")])
def test_some_sources_will_do_the_others_are_tried_again(symbols, server, capsys, archive, text):
    whole, server.files["/bhmsds"] = server.files["/bhmsds"], archive
    folder = fetch("mathsymbols")
    out = capsys.readouterr().out
    assert "got crohme.npz, mdas.npz; not" in out and text in out
    assert inside(folder) == ["crohme.npz", "mdas.npz"]      # no stamp
    built = (folder / "crohme.npz").stat().st_mtime_ns

    server.files["/bhmsds"] = whole
    fetch("mathsymbols")
    assert "got crohme.npz, bhmsds.npz, mdas.npz;" in capsys.readouterr().out
    assert download.is_whole(folder) and (folder / "crohme.npz").stat().st_mtime_ns == built


def test_a_file_of_the_mirror_is_used_and_the_rest_is_built(symbols, tmp_path, monkeypatch, capsys):
    mirror = tmp_path / "mirror" / "mathsymbols"
    mirror.mkdir(parents=True)
    (mirror / "herc.npz").write_bytes(DATA)
    monkeypatch.setitem(download.DATASETS["mathsymbols"]["files"], "herc.npz", SHA256)
    assert (fetch("mathsymbols", tmp_path / "mirror") / "herc.npz").read_bytes() == DATA
    assert ("got crohme.npz, herc.npz, bhmsds.npz, mdas.npz; not kaggle_hms14.npz, ternak.npz."
            in capsys.readouterr().out)


@pytest.mark.skipif(not (MIRROR / "mathsymbols").is_dir(),
                    reason="DATASETS_MIRROR has no mathsymbols")
def test_what_readers_build_is_split_as_our_copy_is():
    photos, ink = load(MIRROR / "mathsymbols", "bhmsds"), load(MIRROR / "mathsymbols", "crohme")
    for names, test in ((np.char.add("bhmsds", photos["names"]), photos["test"]),
                        (ink["writer"], ink["test"])):
        assert [mathsymbols.in_test(str(name)) for name in names] == test.tolist()
    known = {stem + end for stem, ends in mathsymbols.ROW_WRITERS.items() for end in ends.split()}
    assert set(ink["writer"][ink["in_strings"]].tolist()) == known


def test_the_command_line_finds_the_builders_and_catches_their_errors(home, tmp_path, monkeypatch):
    for file in Path(download.__file__).parent.glob("*.py"):
        shutil.copy(file, tmp_path)
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")      # no network
    done = subprocess.run([sys.executable, tmp_path / "download.py", "mathsymbols"], text=True,
                          capture_output=True, timeout=60)
    assert done.returncode == 1 and done.stdout == "" and "Traceback" not in done.stderr
    assert done.stderr.count("https://codeload.github.com/") == 3, done.stderr
