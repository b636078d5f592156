"""Executes each notebook in a copy: training on small data, inference as it is; runs the demos
and the exports. Finds the projects itself."""
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import download
import pytest
import torch
from torchvision.datasets import ImageFolder

import checks
import small_data
import start
from notebooks import (ROOT, add_answers, cells, code_cells, exercises, interrupted, notebooks,
                       read, run, source, stdout, take, write_notebook)

TRAIN, INFERENCE = notebooks("train", translated=False), notebooks("inference", translated=False)

LOAD = """
import importlib, inspect, sys
sys.path.insert(0, sys.argv[1])
module = importlib.import_module(sys.argv[2])
for name, function in list(vars(module).items()):
    if name.startswith("load_") and str(inspect.signature(function)).startswith("(weights="):
        print(name, function())    # load_...(weights=WEIGHTS, ...)
sys.argv[1:] = ["-h"]
module.main()
"""


def project(path):
    return path.parent.name


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


# Executions: each is a function of a notebook and an empty folder, and runs once for all tests.

def smoke(path, folder):
    """Training on small data, its studies too, with answers to the exercises: the book."""
    make_small_data(path, folder)
    return run(path, read(path)["metadata"]["smoke"], folder, change=add_answers)


MARK = 12345.0    # seconds of the first epoch in the checkpoint: in the end they are still there


def killed(path, folder):
    """The same training, its kernel killed at the first checkpoint, then started again until its
    weights are there; whether they were there too soon."""
    models = f"../models/{project(path)}"
    text = "".join(source(cell) for cell in cells(read(path), "parameters"))
    wanted = {"train_again": True, "run_studies": False}    # studies come after the training
    parameters = read(path)["metadata"]["smoke"] | {
        name: value for name, value in wanted.items() if re.search(rf"^{name} =", text, re.M)}
    make_small_data(path, folder)
    with pytest.raises(RuntimeError, match="(?i)kernel died"):
        run(path, parameters, folder, kill_when=f"{models}/my_*checkpoint*.pth")
    there = folder / "models" / project(path)
    too_soon = (there / "my_model.pth").exists()
    checkpoint, = there.glob("my_checkpoint_*.pth")
    content = torch.load(checkpoint, weights_only=True)
    content["progress"]["history"][0]["seconds"] = MARK
    torch.save(content, checkpoint)
    with pytest.raises(RuntimeError, match="(?i)kernel died"):
        run(path, parameters, folder, kill_when=f"{models}/my_model.pth")
    content = torch.load(checkpoint, weights_only=True)
    assert content["progress"]["history"][0]["seconds"] == MARK, "it began afresh"
    assert not [*there.glob("*.broken")]
    return too_soon


def as_it_is(path, folder):
    return run(path, {}, folder)


@pytest.fixture(scope="module")
def executed(request, tmp_path_factory):
    """(job, path) -> (its result, its folder). What the chosen tests look at is executed two at
    a time, on a thread each: on small data more threads only wait for each other. There is
    neither mirror nor network, so that a missing data set is noticed."""
    jobs, pool = {}, ThreadPoolExecutor(2)

    def start_job(job, path):
        folder = tmp_path_factory.mktemp(f"{project(path)[0]}-{job.__name__}")
        return pool.submit(job, path, folder), folder

    def result(job, path):
        future, folder = jobs[job, path]
        return future.result(), folder

    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("DATASETS_MIRROR", raising=False)
        for name in ("http_proxy", "https_proxy"):
            patch.setenv(name, "http://127.0.0.1:9")
        patch.setenv("OMP_NUM_THREADS", "1")
        patch.setenv("TQDM_DISABLE", "1")    # a busy machine shows bars that others don't see
        for item in request.session.items:
            marker = item.get_closest_marker("runs")
            for job in marker.kwargs["jobs"] if marker else ():
                path = item.callspec.params["path"]
                if (job, path) not in jobs:
                    jobs[job, path] = start_job(job, path)
        yield result
        pool.shutdown(cancel_futures=True)


@pytest.mark.runs(jobs=[smoke])
@pytest.mark.parametrize("path", TRAIN, ids=project)
def test_training_on_small_data(path, executed):
    """The same code path as at full size, and the studies: they write to my_metrics.json."""
    _, folder = executed(smoke, path)
    book = folder / project(path) / path.name
    complaints = checks.check_executed(book) + checks.check_exercises(book)
    assert not complaints, "\n" + "\n".join(complaints)
    models = Path("models") / project(path)
    assert (folder / models / "my_model.pth").is_file()
    assert read(folder / models / "my_metrics.json")["studies"]
    for name in ("metrics.json", "model.pth"):
        assert (folder / models / name).read_bytes() == (ROOT / models / name).read_bytes()


@pytest.mark.runs(jobs=[smoke, killed])
@pytest.mark.parametrize("path", TRAIN, ids=project)
def test_a_killed_training_ends_the_same(path, executed):
    """The same weights as a training without a break, bit for bit."""
    (_, folder), (too_soon, other_folder) = executed(smoke, path), executed(killed, path)
    assert not too_soon, "the weights were written before the training's first checkpoint"
    one, other = (torch.load(place / "models" / project(path) / "my_model.pth",
                             map_location="cpu", weights_only=True)
                  for place in (folder, other_folder))
    assert one.keys() == other.keys()
    assert [name for name in one if not torch.equal(one[name], other[name])] == []


RIGHT = re.compile(r"\W*(equal|right)\b", re.IGNORECASE)    # how a check cell says it


@pytest.mark.runs(jobs=[smoke])
@pytest.mark.parametrize("path, exercise", [
    pytest.param(path, exercise, id=f"{project(path)[0]}-{exercise.name}")
    for path in TRAIN for exercise in exercises(read(path))])
def test_answers(path, exercise, executed):
    """The folded answer is right; answers of a wrong kind get words, not a traceback."""
    if exercise.answer is None:
        pytest.skip(f"the answer is not run: {exercise.why}")
    book, _ = executed(smoke, path)
    printed = {cell["metadata"]["answer"].removeprefix(f"{exercise.name}: "): stdout(cell)
               for cell in code_cells(book)
               if cell["metadata"].get("answer", "").startswith(f"{exercise.name}: ")}
    assert RIGHT.match(printed.pop("right")), printed
    assert "not yet" in printed["None"]
    for which, text in printed.items():
        assert text.strip() and "Traceback" not in text and not RIGHT.match(text), (which, text)


@pytest.mark.runs(jobs=[as_it_is])
@pytest.mark.parametrize("path", INFERENCE, ids=project)
def test_inference_without_data_sets(path, executed):
    _, folder = executed(as_it_is, path)
    book = folder / project(path) / path.name
    complaints = checks.check_executed(book) + checks.check_demo(book)
    assert not complaints, "\n" + "\n".join(complaints)


@pytest.mark.parametrize("path", INFERENCE, ids=project)
def test_demo(path, monkeypatch, capsys):
    monkeypatch.setattr(start, "PYTHON", Path(sys.executable))
    number = int(project(path)[0])
    assert start.demos({number: path.parent}) == 0
    line = rf"{number} {start.NAMES[number]:<12}\S.*\n"
    assert re.fullmatch(line, capsys.readouterr().out)


@pytest.mark.parametrize("path", INFERENCE, ids=project)
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


STUB = 'def my_sum(a, b):\n    """Add."""\n    return None     # your code'
CHECK = """mine, theirs = my_sum(torch.ones(2), 2), torch.ones(2) + 2
if mine is None:
    print("not yet")
else:
    print("equal" if bool((mine == theirs).all()) else "3, 3 is wanted")"""
ANSWERS = ["return a + b", 'def my_sum(a, b):\n    """Add."""\n    return a + b']
EXERCISES = [
    ("parameters", "import torch", ""),
    *[part for answer in ANSWERS for part in [
        ("", STUB, ""), ("exercise", CHECK, "not yet\n", "<details><summary>One answer</summary>"
                         f"\n\n```python\n{answer}\n```\nOr so.\n</details>\n\n**Next**")]],
    ("", "def other():\n    return None", ""),
    ("", "my_settings = None    # {}", ""),
    ("exercise", "print('not yet')", "not yet\n", "<details>\n\n`{}`\n</details>")]


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


def test_run_can_change_the_copy_and_adds_answers(tmp_path):
    path = tmp_path / "original" / "1_A" / "train.ipynb"
    write_notebook(path, EXERCISES)
    right, words, settings = exercises(read(path))
    assert right.answer == words.answer == 'def my_sum(a, b):\n    """Add."""\n    return a + b'
    assert settings.answer is None and "settings" in settings.why
    executed = run(path, {}, tmp_path / "copy", change=add_answers)
    printed = {cell["metadata"]["answer"]: stdout(cell) for cell in code_cells(executed)
               if "answer" in cell["metadata"]}
    assert printed["exercise 1: right"] == "equal\n" == printed["exercise 2: right"]
    assert printed["exercise 1: None"] == "not yet\n"
    assert "Traceback" in printed["exercise 1: another shape"] and len(printed) == 8
    assert checks.check_exercises(tmp_path / "copy" / "1_A" / "train.ipynb") == []


def test_interrupted(tmp_path):
    write_notebook(tmp_path / "a.ipynb", [
        ("", "def step(n):\n    return n + 1\n\ndef steps():\n    return step(step(0))", "")])
    module = take(tmp_path / "a.ipynb", "steps")
    with pytest.raises(KeyboardInterrupt), interrupted(module, "step", 2):
        module.steps()
    with interrupted(module, "step", None):
        assert module.steps() == 2
    with interrupted(module, "step", 3):
        assert module.steps() == 2


@pytest.mark.parametrize("name", download.DATASETS)
def test_every_data_set_has_a_small_one(name, tmp_path):
    getattr(small_data, name)(tmp_path)
    assert [file for file in tmp_path.rglob("*") if file.is_file() and file.stat().st_size]


def test_small_petimages_are_photos_of_many_shapes_in_two_classes(tmp_path):
    small_data.petimages(tmp_path)
    photos = ImageFolder(tmp_path)
    assert photos.classes == ["Cat", "Dog"] and photos.targets == [0] * 60 + [1] * 60
    assert len({photo.size for photo, _ in photos}) > 60
