"""Executes each notebook in a copy: training on small data, inference as it is; runs the demos
and the exports. Finds the projects itself."""
import re
import subprocess
import sys
from pathlib import Path

import download
import pytest
from torchvision.datasets import ImageFolder

import checks
import small_data
import start
from notebooks import code_cells, notebooks, read, run, source, stdout, take, write_notebook

LOAD = """
import importlib, inspect, sys
sys.path.insert(0, sys.argv[1])
module = importlib.import_module(sys.argv[2])
for name, function in list(vars(module).items()):
    if name.startswith("load_") and "weights" in inspect.signature(function).parameters:
        print(name, function())
sys.argv[1:] = ["-h"]
module.main()
"""


def project(path):
    return path.parent.name


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Where a copy runs: without mirror and network, so that a missing data set is noticed."""
    monkeypatch.delenv("DATASETS_MIRROR", raising=False)
    for name in ("http_proxy", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    return tmp_path


def make_small_data(path, folder):
    """Generate the data sets that a notebook's code names."""
    code = "\n".join(map(source, code_cells(read(path))))
    for name in download.DATASETS:
        if f'"{name}"' in code:
            assert hasattr(small_data, name), (
                f"{path} uses the data set {name}: tests/small_data.py needs a function {name}")
            target = folder / "datasets" / name
            target.mkdir(parents=True)
            getattr(small_data, name)(target)
            download.stamp(target)


@pytest.mark.parametrize("path", notebooks("train"), ids=project)
def test_training_on_small_data(path, folder):
    make_small_data(path, folder)
    run(path, read(path)["metadata"]["smoke"], folder)
    executed = folder / project(path) / path.name
    complaints = checks.check_executed(executed) + checks.check_exercises(executed)
    assert not complaints, "\n" + "\n".join(complaints)
    assert (folder / "models" / project(path) / "my_model.pth").is_file()


@pytest.mark.parametrize("path", notebooks("inference"), ids=project)
def test_inference_without_data_sets(path, folder):
    run(path, {}, folder)
    executed = folder / project(path) / path.name
    complaints = checks.check_executed(executed) + checks.check_demo(executed)
    assert not complaints, "\n" + "\n".join(complaints)


@pytest.mark.parametrize("path", notebooks("inference"), ids=project)
def test_demo(path, monkeypatch, capsys):
    monkeypatch.setattr(start, "PYTHON", Path(sys.executable))
    number = int(project(path)[0])
    assert start.demos({number: path.parent}) == 0
    line = rf"{number} {start.NAMES[number]:<12}\S.*\n"
    assert re.fullmatch(line, capsys.readouterr().out)


@pytest.mark.parametrize("path", notebooks("inference"), ids=project)
def test_export_works_alone(path, tmp_path):
    number = int(project(path)[0])
    name, alone, elsewhere = start.NAMES[number], tmp_path / "alone", tmp_path / "elsewhere"
    elsewhere.mkdir()
    start.export(number, alone)
    result = subprocess.run([sys.executable, "-c", LOAD, alone, name], cwd=elsewhere,
                            capture_output=True, encoding="utf-8")
    assert result.returncode == 0, result.stderr
    assert "load_" in result.stdout and "usage" in result.stdout


# The tools of these tests

PARTS = [("parameters", "width = 3    # neurons, 1 … 9", ""),
         ("same:setup", "import math, time\nfrom pathlib import Path\ndevice = 'cpu'", ""),
         ("", "SCALE = 2\n\ndef area(radius):\n    return SCALE * math.pi * radius", ""),
         ("", "def total(n=width):\n    return device, area(n)\n\nmodel = area(1 / 0)", "")]
RESUMES = [("parameters", "first = 1    # a number", ""),
           ("", "from pathlib import Path\nimport time\n"
            "state = Path('../models/1_A/run.checkpoint')\nresumed = state.exists()", ""),
           ("", "if not resumed:\n    state.write_text(str(first), encoding='utf-8')\n"
            "    time.sleep(60)\nprint('resumed with', state.read_text(encoding='utf-8'))", "")]


def test_take_runs_nothing_but_what_it_takes(tmp_path):
    write_notebook(tmp_path / "a.ipynb", PARTS)
    assert take(tmp_path / "a.ipynb", "total").total() == ("cpu", pytest.approx(18.85, abs=0.01))
    with pytest.raises(LookupError, match="defines no function, class or constant model"):
        take(tmp_path / "a.ipynb", "model")


def test_run_goes_on_after_a_kill_and_leaves_the_original_alone(tmp_path):
    path = tmp_path / "original" / "1_A" / "train.ipynb"
    write_notebook(path, RESUMES)
    (tmp_path / "original" / "models" / "1_A").mkdir(parents=True)
    before = path.read_bytes()
    with pytest.raises(RuntimeError, match="(?i)kernel died"):
        run(path, {"first": 7}, tmp_path / "copy", kill_when="../models/1_A/*.checkpoint")
    executed = run(path, {"first": 8}, tmp_path / "copy")
    assert stdout(code_cells(executed)[-1]) == "resumed with 7\n"
    assert path.read_bytes() == before
    assert list((tmp_path / "original" / "models" / "1_A").iterdir()) == []


def test_small_data_covers_what_it_can():
    assert {"mnist", "fashionmnist", "mathsymbols", "handwritten_strings",
            "petimages"} <= {*download.DATASETS}


def test_small_petimages_are_photos_of_many_shapes_in_two_classes(tmp_path):
    small_data.petimages(tmp_path)
    photos = ImageFolder(tmp_path)
    assert photos.classes == ["Cat", "Dog"] and photos.targets == [0] * 60 + [1] * 60
    assert len({photo.size for photo, _ in photos}) > 60
