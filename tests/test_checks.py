"""Each check passes on a small good project, and complains about each broken variant of it."""
import base64
import hashlib
import json

import pytest

import checks
from nbformat.v4 import new_code_cell, new_markdown_cell, new_output
from notebooks import cells, code_cells, kind, language, read, source, write_notebook

PROJECT = "1_Handwritten_Digit_Recognition"
TRAIN, INFERENCE = f"{PROJECT}/train.ipynb", f"{PROJECT}/inference.ipynb"
CHINESE = f"{PROJECT}/train.zh-CN.ipynb"
METRICS = f"models/{PROJECT}/metrics.json"
SETUP = ("same:setup", 'print("ready")', "ready\n")
TRAIN_CELLS = [
    "# Digits\n[photo](data/photo.png), <!--=1:results/test/value:.1%-->99.5 %<!--/--> right",
    ("parameters", "steps = 2    # gradient steps, 1 … 10\ntrain_again = False    # True: 9 s\n"
     "run_studies = False    # True: 1 s", ""),
    SETUP,
    ("", "def double(x):\n    \"\"\"Twice.\"\"\"\n    return 2 * x", ""),
    ("", 'print(f"{double(steps) / 3:.3f} of", train_again)    # a third', "1.333 of False\n"),
    ("study", "print(run_studies)", "False\n"),
    *[("exercise", f'print("not yet")    # {number}', "not yet\n",
       "<details><summary>One answer</summary>\nfour\n</details>") for number in range(3)]]
INFERENCE_CELLS = [
    ("parameters", "shown = 3    # pictures, 1 … 9", ""),
    SETUP,
    ("reuse", '# reuse\nfrom pathlib import Path\n\n'
     f'MODELS = Path("../models/{PROJECT}")    # the weights', ""),
    ("reuse", "# reuse\ndef main():\n    print(MODELS, len(str(MODELS)))", ""),
    ("demo", 'print("1 digits      12 = 12")', "1 digits      12 = 12\n"),
    ("", "print(shown)", "3\n")]
GOOD_METRICS = {
    "data": {"mnist": {"train": 600, "test": 200}}, "parameters": {"steps": 2},
    "results": {"test": {"value": 0.995, "n": 200, "interval": [0.97, 0.999]}},
    "cost": {"seconds": 3, "cores": 2, "peak_memory_mib": 500, "date": "2026-11-30"},
    "history": [{"epoch": 1, "loss": 0.5}],
    "studies": {"knobs": {"steps 4": {"settings": {"steps": 4}, "seeds": [0, 1],
                                      "values": {"test": [0.98, 0.99], "seconds": [1, 2.5]}}}},
    "weights_sha256": hashlib.sha256(b"weights").hexdigest()}


@pytest.fixture
def root(tmp_path):
    """A repository with one good project; its training is translated."""
    smoke = {"steps": 1, "train_again": True, "run_studies": True}
    write_notebook(tmp_path / TRAIN, TRAIN_CELLS, smoke=smoke)
    write_notebook(tmp_path / INFERENCE, INFERENCE_CELLS)
    text = (tmp_path / TRAIN).read_text(encoding="utf-8")
    for english, chinese in [("Digits", "数字"), ("a third", "三分之一"), ("Twice", "两倍"),
                             (' of\\", train_again', ' 是\\", train_again')]:
        assert english in text
        text = text.replace(english, chinese)
    (tmp_path / CHINESE).write_text(text, encoding="utf-8")
    files = {f"{PROJECT}/readme.md": "[train](train.ipynb)", f"{PROJECT}/data/photo.png": "",
             f"{PROJECT}/data/LICENSES.md": "MIT", f"models/{PROJECT}/model.pth": "weights",
             METRICS: json.dumps(GOOD_METRICS), "datasets/download.py": "",
             "readme.md": "Right: <!--=1:results/test/value:.1%-->99.5 %<!--/-->",
             "readme.zh-CN.md": "准确率 <!--=1:results/test/value:.1%-->99.5%<!--/-->"}
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    return tmp_path


def all_files(root):
    return sorted(str(file.relative_to(root).as_posix()) for file in root.rglob("*")
                  if file.is_file())


def run_check(check, root, name):
    """A check's complaints about one file or folder, or about what it takes instead."""
    if check is checks.check_files:
        return check(root, all_files(root))
    if check is checks.check_same:
        return check([root / TRAIN, root / INFERENCE, root / CHINESE])
    if check is checks.check_translation:
        return check(root / TRAIN, root / CHINESE)
    if check is checks.check_ruff:
        return check(root)
    return check(root / name)


def by_tag(book, tag):
    return cells(book, tag)[0]


def code(text, tag=""):
    """A change of a notebook: one more code cell, executed like the others."""
    def change(book):
        count = len(code_cells(book)) + 1
        book["cells"].append(new_code_cell(text, execution_count=count,
                                           metadata={"tags": [tag]} if tag else {}))
    return change


def output(**values):
    """A change of a notebook: one more output of its first code cell."""
    def change(book):
        code_cells(book)[0]["outputs"].append(new_output(**values))
    return change


def printed(text):
    return output(output_type="stream", name="stdout", text=text)


def text(text):
    """A change of a notebook: one more text cell."""
    return lambda book: book["cells"].append(new_markdown_cell(text))


def replace(tag, old, new):
    """A change of a notebook: other code in the cell with a tag, or "", that holds `old`."""
    def change(book):
        there = cells(book, tag) if tag else book["cells"]
        cell, = (cell for cell in there if old in source(cell))
        cell["source"] = source(cell).replace(old, new)
    return change


def metadata(**values):
    return lambda book: book["metadata"].update(values)


def smoke(**values):
    return lambda book: book["metadata"]["smoke"].update(values)


def remove(tag):
    return lambda book: book["cells"].remove(by_tag(book, tag))


def retag(tag, new):
    return lambda book: by_tag(book, tag)["metadata"].update(tags=[new])


def entry(*keys, value):
    """A change of a JSON file."""
    def change(data):
        for key in keys[:-1]:
            data = data[key]
        data[keys[-1]] = value
    return change


def drop_cell_key(key):
    return lambda book: book["cells"][0].pop(key)


def same_ids(book):
    book["cells"][1]["id"] = book["cells"][0]["id"]


def swap(book):
    book["cells"][3:5] = book["cells"][4], book["cells"][3]


def gap(book):
    code_cells(book)[2]["execution_count"] = 9


def no_answers(book):
    book["cells"] = [c for c in book["cells"] if "<details>" not in source(c)]


def tag_text(book):
    book["cells"][0]["metadata"]["tags"] = ["study"]


def machine_metadata(book):
    book["metadata"]["papermill"] = {"input_path": "/home/me/train.ipynb"}


def large_notebook(book):
    book["cells"][0]["source"] = "x" * 3_000_000


def picture(kind, size):
    data = {kind: base64.b64encode(bytes(size)).decode()}
    return output(output_type="display_data", data=data)


NOTEBOOK_VARIANTS = [    # check, notebook, change
    (checks.check_format, TRAIN, drop_cell_key("cell_type")),
    (checks.check_format, TRAIN, drop_cell_key("id")),
    (checks.check_format, TRAIN, same_ids),
    (checks.check_format, TRAIN, metadata(kernelspec={"name": "julia", "display_name": "J"})),
    (checks.check_tags, TRAIN, retag("study", "studdy")),
    (checks.check_tags, TRAIN, retag("study", "demo")),
    (checks.check_tags, INFERENCE, retag("demo", "exercise")),
    (checks.check_tags, TRAIN, tag_text),
    (checks.check_same, TRAIN, replace("same:setup", "ready", "Ready")),
    (checks.check_same, CHINESE, replace("same:setup", "print(", "print(1, ")),
    (checks.check_same, INFERENCE, remove("same:setup")),
    (checks.check_same, INFERENCE, code(TRAIN_CELLS[3][1])),
    (checks.check_same, INFERENCE, code("def double(x):\n    return 2 * x")),
    (checks.check_same, INFERENCE, code("class double:\n    x = 2")),
    (checks.check_same, INFERENCE, code("print(1)\n", "same:one")),
    (checks.check_translation, CHINESE, code("print(1)")),
    (checks.check_translation, CHINESE, lambda book: book["cells"].pop()),
    (checks.check_translation, CHINESE, swap),
    (checks.check_translation, CHINESE, drop_cell_key("id")),
    (checks.check_translation, CHINESE, retag("study", "same:study")),
    (checks.check_translation, CHINESE, replace("parameters", "steps = 2", "steps = 3")),
    (checks.check_translation, CHINESE, replace("same:setup", "print(", "display(")),
    (checks.check_translation, CHINESE, replace("", ":.3f", ":.2f")),
    (checks.check_translation, CHINESE, replace("", "/ 3", "/ 4")),
    (checks.check_translation, CHINESE, lambda book: by_tag(book, "study").update(
        cell_type="markdown")),
    (checks.check_sizes, TRAIN, large_notebook),
    (checks.check_sizes, TRAIN, picture("image/png", 151_000)),
    (checks.check_sizes, TRAIN, picture("image/gif", 1_501_000)),
    (checks.check_parameters, INFERENCE, remove("parameters")),
    (checks.check_parameters, TRAIN, code("more = 1    # one", "parameters")),
    (checks.check_parameters, TRAIN, lambda book: book["cells"].append(book["cells"].pop(1))),
    (checks.check_parameters, TRAIN, replace("parameters", "    # gradient steps, 1 … 10", "")),
    (checks.check_parameters, TRAIN, replace("parameters", "= 2", "= len('ab')")),
    (checks.check_parameters, TRAIN, replace("parameters", "steps = 2", "print(2)")),
    (checks.check_parameters, TRAIN, replace("parameters", "steps = 2", "stepps = 2")),
    (checks.check_parameters, TRAIN, replace("parameters", "run_studies = False",
                                            "run_studies = True")),
    (checks.check_cell_lengths, TRAIN, code("\n".join(["x = 1"] * 41))),
    (checks.check_cell_lengths, TRAIN, code("x = 1    #" + 83 * "x")),
    (checks.check_cell_lengths, TRAIN, code("\n".join(["x = 1"] * 26))),
    (checks.check_cell_lengths, INFERENCE, lambda book: [
        code("\n".join(["x = 1"] * 9))(book) for _ in range(8)]),
    (checks.check_code, TRAIN, code("%matplotlib inline")),
    (checks.check_code, TRAIN, code("!pip install torch")),
    (checks.check_code, TRAIN, code("import warnings\nwarnings.filterwarnings('ignore')")),
    (checks.check_code, TRAIN, code("import warnings\nwarnings.simplefilter('ignore')")),
    (checks.check_code, TRAIN, code("DataLoader(data, num_workers=2)")),
    (checks.check_code, TRAIN, code("torch.load(f, weights_only=True)")),
    (checks.check_code, TRAIN, code("torch.load(f, map_location='cpu')")),
    (checks.check_code, TRAIN, code("torch.load(f, weights_only=False, map_location='cpu')")),
    (checks.check_ruff, TRAIN, code("from math import *")),
    (checks.check_ruff, TRAIN, code("import math")),
    (checks.check_ruff, TRAIN, code("print(stepps)")),
    (checks.check_ruff, TRAIN, code("def half(x):\n    return x / two")),
    (checks.check_ruff, TRAIN, code("def more():\n    pass\n\ndef more():\n    return 1")),
    (checks.check_ruff, TRAIN, code("print(open('a.txt').read())")),
    (checks.check_ruff, TRAIN, code("from pathlib import Path\nprint(Path('a').read_text())")),
    (checks.check_ruff, TRAIN, code("try:\n    print(1)\nexcept:\n    print(2)")),
    (checks.check_ruff, TRAIN, code("def more(to=[]):\n    return to")),
    (checks.check_executed, TRAIN, gap),
    (checks.check_executed, TRAIN, output(output_type="error", ename="E", evalue="",
                                          traceback=[])),
    (checks.check_executed, TRAIN, output(output_type="stream", name="stderr", text="hm")),
    (checks.check_executed, TRAIN, printed("a FutureWarning: mind")),
    (checks.check_executed, TRAIN, printed("5 % 12.3it/s")),
    (checks.check_executed, TRAIN, printed("1\r2")),
    (checks.check_executed, TRAIN, printed("███")),
    (checks.check_machine_paths, TRAIN, printed("wrote /work/main/a.png")),
    (checks.check_machine_paths, TRAIN, printed(r"C:\Users\me")),
    (checks.check_machine_paths, TRAIN, output(
        output_type="execute_result", data={"text/plain": "PosixPath('/tmp/a/b')"})),
    (checks.check_machine_paths, TRAIN, machine_metadata),
    (checks.check_machine_paths, TRAIN, lambda book: by_tag(book, "study")["metadata"].update(
        execution={"iopub.status.busy": "2026-11-25T00:39:56"})),
    (checks.check_reuse, INFERENCE, code("# reuse\nprint('side effect')", "reuse")),
    (checks.check_reuse, INFERENCE, code("# reuse\nmodel = 1", "reuse")),
    (checks.check_reuse, INFERENCE, code("# reuse\nimport no_such_module", "reuse")),
    (checks.check_reuse, INFERENCE, code("# reuse\ndef more():\n    return shown", "reuse")),
    (checks.check_reuse, INFERENCE, code("def more():\n    return 1", "reuse")),
    (checks.check_reuse, INFERENCE, code("# reuse\nfrom download import fetch", "reuse")),
    (checks.check_reuse, INFERENCE, replace("reuse", "MODELS =", "FOLDER =")),
    (checks.check_reuse, INFERENCE, replace("reuse", PROJECT, "1_Digits")),
    (checks.check_reuse, INFERENCE, replace("reuse", "def main", "def run")),
    (checks.check_demo, INFERENCE, remove("demo")),
    (checks.check_demo, INFERENCE, code("print('1 digits      7')", "demo")),
    (checks.check_demo, INFERENCE, lambda book: by_tag(book, "demo")["outputs"].clear()),
    (checks.check_demo, INFERENCE, lambda book: by_tag(book, "demo")["outputs"].append(
        new_output("stream", name="stdout", text="and more\n"))),
    (checks.check_exercises, TRAIN, remove("exercise")),
    (checks.check_exercises, TRAIN, lambda book: by_tag(book, "exercise")["outputs"].clear()),
    (checks.check_exercises, TRAIN, no_answers),
    (checks.check_exercises, CHINESE, no_answers),
    (checks.check_smoke, TRAIN, lambda book: book["metadata"].pop("smoke")),
    (checks.check_smoke, TRAIN, smoke(epochs=1)),
    (checks.check_smoke, TRAIN, smoke(train_again=False)),
    (checks.check_smoke, TRAIN, lambda book: book["metadata"]["smoke"].pop("run_studies")),
    (checks.check_smoke, CHINESE, smoke(epochs=1)),
    (checks.check_links, TRAIN, text("[a picture](data/none.png)")),
    (checks.check_links, TRAIN, text('<img src="data/none.png">')),
    (checks.check_links, TRAIN, text("[a page][1]\n\n[1]: none.md")),
    (checks.check_links, TRAIN, text("[root](/readme.md)")),
    (checks.check_numbers, TRAIN, text("a <!--=1:results/test/value:.1%-->99.4 %<!--/-->")),
    *[(checks.check_numbers, TRAIN, text(f"It reads {figure} of them.")) for figure in (
        "97.3 %", "97.31%", "61 %", "1.33", "640", "12,500", "-5.75 points,")],
    (checks.check_numbers, TRAIN, text("<details><summary>What we measured</summary>\n\n`{}` "
                                       "gives 98.6 in 12 s\n</details>")),
    (checks.check_metrics, METRICS, entry("data", "mnist", value=800)),
    (checks.check_metrics, METRICS, lambda metrics: metrics.pop("studies")),
    (checks.check_metrics, METRICS, entry("results", "test", "interval", value=[0.1, 0.2])),
    (checks.check_metrics, METRICS, entry("results", "test", value={"value": 0.9})),
    (checks.check_metrics, METRICS, entry("cost", "cores", value="two")),
    (checks.check_metrics, METRICS, entry("cost", "date", value="30 Nov")),
    (checks.check_metrics, METRICS, entry("history", value=[])),
    (checks.check_metrics, METRICS, entry("studies", "knobs", value=["99 %"])),
    (checks.check_metrics, METRICS, entry("studies", "knobs", "more", value={"test": "99 %"})),
    (checks.check_metrics, METRICS, entry("studies", "knobs", "steps 4", "values", "test",
                                          value=["99 %", "98 %"])),
    (checks.check_metrics, METRICS, entry("studies", "knobs", "steps 4", "values", "test",
                                          value=[0.99])),
    (checks.check_metrics, METRICS, entry("studies", "knobs", "steps 4", "settings", value="4")),
    (checks.check_metrics, METRICS, entry("weights_sha256", value="0")),
]
FILE_VARIANTS = [    # check, what it looks at, file, its new content (None: no file)
    (checks.check_format, TRAIN, TRAIN, "{"),
    (checks.check_numbers, "readme.md", "readme.md", "a <!--=1:results/best:.1%-->9 %<!--/-->"),
    (checks.check_numbers, "readme.md", "readme.md", "a <!--=2:results/test:.1%-->9 %<!--/-->"),
    (checks.check_numbers, "readme.md", "readme.md", "a <!--=1:results/test/value-->99.5 %"),
    (checks.check_numbers, "readme.md", "readme.md",
     "<!--=1:results/test/value:.1%-->99.5 %<!--/--> begins the line"),
    (checks.check_numbers, "readme.md", "readme.md", "99.5 % of the digits"),
    (checks.check_numbers, f"{PROJECT}/readme.md", f"{PROJECT}/readme.md", "a score of 298.5"),
    (checks.check_ruff, "", "start.py", "import os\n"),
    (checks.check_ruff, "", "start.py", f'TEXT = "{95 * "x"}"\n'),
    (checks.check_ruff, "", "start.py", "def f(:\n"),
    (checks.check_links, "readme.md", "readme.md", "![](none.png)"),
    (checks.check_readmes, "", "readme.md", "no number"),
    (checks.check_readmes, "", "readme.zh-CN.md", None),
    (checks.check_layout, PROJECT, INFERENCE, None),
    (checks.check_layout, PROJECT, METRICS, None),
    (checks.check_layout, PROJECT, f"{PROJECT}/data/LICENSES.md", None),
    (checks.check_metrics, METRICS, f"models/{PROJECT}/model.pth", "others"),
    (checks.check_files, "", f"{PROJECT}/data/film.gif", "x" * 1_600_000),
    (checks.check_files, "", f"{PROJECT}/data/photo.jpg", "x" * 401_000),
    (checks.check_files, "", "datasets/mnist/train.gz", ""),
    (checks.check_files, "", f"{PROJECT}/model.pth", ""),
    (checks.check_files, "", f"models/{PROJECT}/my_model.pth", ""),
    (checks.check_files, "", f"models/{PROJECT}/run.checkpoint", ""),
]
ALL = [getattr(checks, name) for name in dir(checks) if name.startswith("check_")]


def test_every_check_is_used_and_tested():
    single = {checks.check_same, checks.check_translation, checks.check_ruff, checks.check_readmes,
              checks.check_layout, checks.check_metrics, checks.check_files}
    assert single | {*checks.FOR_NOTEBOOKS, *checks.FOR_PAGES} == set(ALL)
    assert {variant[0] for variant in NOTEBOOK_VARIANTS + FILE_VARIANTS} == set(ALL)


def test_the_good_project_passes(root):
    for check in checks.FOR_NOTEBOOKS + checks.FOR_PAGES:
        for name in (TRAIN, INFERENCE, CHINESE):
            assert check(root / name) == [], check.__name__
    for name in ("readme.md", "readme.zh-CN.md", f"{PROJECT}/readme.md"):
        assert checks.check_links(root / name) == [] == checks.check_numbers(root / name)
    for check, name in [(checks.check_layout, PROJECT), (checks.check_metrics, METRICS),
                        (checks.check_readmes, ""), (checks.check_same, ""),
                        (checks.check_translation, ""), (checks.check_ruff, ""),
                        (checks.check_files, "")]:
        assert run_check(check, root, name) == [], check.__name__


@pytest.mark.parametrize("check, name, broken", NOTEBOOK_VARIANTS,
                         ids=[f"{v[0].__name__}-{i}" for i, v in enumerate(NOTEBOOK_VARIANTS)])
def test_a_changed_file_fails(root, check, name, broken):
    assert run_check(check, root, name) == []
    change(root / name, broken)
    assert run_check(check, root, name)


@pytest.mark.parametrize("check, name, file, content", FILE_VARIANTS,
                         ids=[f"{v[0].__name__}-{i}" for i, v in enumerate(FILE_VARIANTS)])
def test_another_content_fails(root, check, name, file, content):
    assert run_check(check, root, name) == []
    if content is None:
        (root / file).unlink()
    else:
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).write_text(content, encoding="utf-8")
    assert run_check(check, root, name)


def change(path, by):
    data = read(path)
    by(data)
    path.write_text(json.dumps(data), encoding="utf-8")


GOOD_CODE = ["print(open('a', 'rb').read())", "print(open('a', encoding='utf-8').read())",
             "import torch\ndevice = 'cpu'\n"
             "torch.load('f', map_location=device, weights_only=True)",
             "from torch.utils.data import DataLoader\nDataLoader(range(3), num_workers=0)",
             "for epoch, row in zip(range(3), 'abc'):\n    print(row)"]


@pytest.mark.parametrize("line", GOOD_CODE)
def test_good_code_passes(root, line):
    change(root / TRAIN, code(line))
    assert checks.check_code(root / TRAIN) == [] == checks.check_ruff(root)


@pytest.mark.parametrize("words", [
    "In 2013 they gave 25 photos.", "arXiv 1512.03385", "See [the paper](https://a.b/1.5/640).",
    "as section 10.2 says", "## 2.1 Data", "`lr=0.005`", "```\nloss 0.005\n```", "$x = 0.005$",
    "It prints 1.333.", "a third of 2, 10 or 28×28", "ResNet-50 in torch 2.14.1", "2 % and 10",
    "95 % interval", "a <!--=1:results/test/value:.3f-->0.995<!--/-->", '<img width="640">'])
def test_what_is_no_figure_or_printed_passes(root, words):
    change(root / TRAIN, code("share = 0.02"))
    change(root / TRAIN, text(words))
    assert checks.check_numbers(root / TRAIN) == []


def test_kinds_and_languages(root):
    assert [kind(root / name) for name in (TRAIN, CHINESE, INFERENCE, METRICS)] == [
        "train", "train", "inference", None]
    assert [language(root / name) for name in (TRAIN, CHINESE, INFERENCE)] == ["", "zh-CN", ""]


def test_what_waits_can_only_get_less():
    found = ["0.5: in no output", "0.55: in no output"]
    assert checks.unexpected(found, []) == found
    assert checks.unexpected(found, ["0.5"]) == found[1:]
    assert checks.unexpected(found, ["0.5", "0.55"]) == []
    assert checks.unexpected([], ["0.5"]) == [
        "0.5: mended; strike it out of tests/waiting.json"]


def test_a_notebook_of_no_kind_fails(root):
    (root / TRAIN).rename(root / PROJECT / "notes.ipynb")
    assert checks.check_format(root / PROJECT / "notes.ipynb")
