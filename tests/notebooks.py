"""Reads the collection's notebooks, takes code out of them, and runs copies of them."""
import ast
import json
import re
import shutil
import textwrap
import types
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from types import SimpleNamespace

import nbformat
import papermill
from nbclient import NotebookClient
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from start import reuse_source

ROOT = Path(__file__).resolve().parents[1]
LEAVE_OUT = shutil.ignore_patterns("my_*", "*.part", "*.checkpoint*", ".ipynb_checkpoints")
KILL_SWITCH = """
import os, pathlib, signal, threading, time
def kill_switch():
    while not any(pathlib.Path().glob({pattern!r})):
        time.sleep(0.01)
    os.kill(os.getpid(), getattr(signal, "SIGKILL", signal.SIGTERM))    # Windows has no SIGKILL
threading.Thread(target=kill_switch, daemon=True).start()
"""
# A check cell that prints its error instead of ending the run.
ANSWER_CHECK = """
import traceback
try:
    exec({!r})
except Exception:
    print(traceback.format_exc())
"""
# Answers to an exercise that are wrong in kind: each must get words, not a traceback.
WRONG = {"None": "None", "an int": "7", "another shape": 'torch.zeros(2, 3, 5, device="cpu")'}


def kind(path):
    """train or inference: what a notebook's name begins with; None if neither."""
    found = re.match("train|inference", path.name)
    return found and found[0]


def language(path):
    """zh-CN of train.zh-CN.ipynb; "" of an original, train.ipynb or inference.ipynb."""
    return path.name.removeprefix(kind(path) or "").removesuffix(".ipynb").strip(".")


def notebooks(name="", translated=True):
    """The notebooks of all projects, or those of one kind: notebooks("train")."""
    return sorted(path for path in ROOT.glob(f"[1-6]_*/{name}*.ipynb")
                  if translated or not language(path))


def translations():
    """(original, translation) of each translated notebook."""
    return [(path.with_name(f"{kind(path)}.ipynb"), path) for path in notebooks()
            if kind(path) and language(path)]


def read(path):
    return json.loads(path.read_text(encoding="utf-8"))


def source(cell):
    return "".join(cell["source"])


def tags(cell):
    return set(cell["metadata"].get("tags", []))


def cells(book, tag):
    return [cell for cell in book["cells"] if tag in tags(cell)]


def code_cells(book):
    return [cell for cell in book["cells"] if cell["cell_type"] == "code"]


def stdout(cell):
    return "".join("".join(output["text"]) for output in cell["outputs"]
                   if output.get("name") == "stdout")


def exercises(book):
    """The exercises of a notebook: name, place (of the check cell), stub, check, answer, why.

    stub: source of the cell above the check, which the reader fills in. answer: source of the
    same cell with the folded answer in it. Where that can't be run here, `answer` is None, and
    `why` says the reason.
    """
    all_cells, found = book["cells"], []
    places = [place for place, cell in enumerate(all_cells) if "exercise" in tags(cell)]
    for last, place, end in zip([0, *places], places, [*places[1:], None]):
        check = source(all_cells[place])
        function = re.compile(r"^( +)return None\b.*$", re.MULTILINE)
        above = [source(cell) for cell in all_cells[last:place] if cell["cell_type"] == "code"]
        stub = next((text for text in reversed(above) if function.search(text) and any(
            name in check for name in re.findall(r"^def (\w+)", text, re.MULTILINE))), None)
        folded = "".join(re.findall(r"<details>.*?</details>", "\n\n".join(
            source(cell) for cell in all_cells[place:end] if cell["cell_type"] == "markdown"),
            re.DOTALL))
        block = re.search(r"^```python\n(.*?)^```", folded, re.DOTALL | re.MULTILINE)
        answer = why = None
        if stub is None:
            why = "it asks for settings that reach a number at full size, which takes too long"
        elif not re.search(r"\bcheck\(|\btheirs\b", check):
            why = "its check trains at full size, to reach a number: the small data can't"
        elif block is None:
            why = "there is no ```python block in its <details>"
        elif re.match(r"(?:@.*\n)*(?:def|class) ", block[1]):
            answer = block[1].rstrip()
        else:
            answer = fill_in(stub, block[1])
        found.append(SimpleNamespace(place=place, stub=stub, check=check, answer=answer, why=why,
                                     name=f"exercise {len(found) + 1}"))
    return found


def fill_in(stub, body):
    """A stub's source with `body`, unindented lines, in place of its `return None`."""
    return re.sub(r"^( +)return None\b.*$", lambda line: textwrap.indent(body.rstrip(), line[1]),
                  stub, flags=re.MULTILINE)


def add_answers(book):
    """Behind each exercise whose answer can be run: wrong answers and the right one, each with
    the check cell; the check cells' metadata "answer" says which of them it is."""
    for exercise in reversed(exercises(book)):
        if exercise.answer is None:
            continue
        tries = {which: fill_in(exercise.stub, f"return {value}")
                 for which, value in WRONG.items()} | {"right": exercise.answer}
        more = []
        for which, text in tries.items():
            more += [new_code_cell(text), new_code_cell(ANSWER_CHECK.format(exercise.check))]
            more[-1]["metadata"]["answer"] = f"{exercise.name}: {which}"
        book["cells"][exercise.place + 1:exercise.place + 1] = more


@contextmanager
def interrupted(module, name, at):
    """Inside, the call number `at` (from 1) of a module's function raises KeyboardInterrupt, as
    the stop button does; with None, none does."""
    function, calls = getattr(module, name), count(1)

    def stopping(*arguments, **keywords):
        if next(calls) == at:
            raise KeyboardInterrupt
        return function(*arguments, **keywords)

    setattr(module, name, stopping)
    try:
        yield
    finally:
        setattr(module, name, function)


def reuse_module(path):
    """The `reuse` cells of an inference notebook as a module, as a reader's copy would be."""
    module = types.ModuleType(path.parent.name)
    exec(compile(reuse_source(path), str(path), "exec"), module.__dict__)
    return module


def bound_names(statement):
    """The names that a statement at the top of a cell defines."""
    if isinstance(statement, (ast.FunctionDef, ast.ClassDef)):
        return [statement.name]
    if isinstance(statement, (ast.Import, ast.ImportFrom)):
        return [alias.asname or alias.name.split(".")[0] for alias in statement.names]
    if isinstance(statement, (ast.Assign, ast.AnnAssign)):
        return [node.id for node in ast.walk(statement)
                if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)]
    return []


def take(path, *names):
    """A module with these definitions of a notebook and all that they need.

    Taken are imports, functions, classes, upper-case constants, and the values of the cells
    tagged `parameters` and `same:setup`; nothing else of the notebook runs. Where a name is
    defined twice, the last definition counts, of imports the first.
    """
    statements, found = [], {}
    for cell in code_cells(read(path)):
        values = tags(cell) & {"parameters", "same:setup"}
        for statement in ast.parse(source(cell)).body:
            statements.append(statement)
            for name in bound_names(statement):
                assigned = isinstance(statement, (ast.Assign, ast.AnnAssign))
                if isinstance(statement, (ast.Import, ast.ImportFrom)):
                    found.setdefault(name, statement)    # what stands before may need it
                elif values or name.isupper() or not assigned:
                    found[name] = statement
    needed, todo = [], list(names)
    while todo:
        statement = found.get(todo.pop())
        if statement is not None and statement not in needed:
            needed.append(statement)
            todo += [node.id for node in ast.walk(statement) if isinstance(node, ast.Name)]
    body = [statement for statement in statements if statement in needed]
    module = types.ModuleType(path.stem)
    exec(compile(ast.Module(body, []), str(path), "exec"), module.__dict__)
    for name in names:
        if not hasattr(module, name):
            raise LookupError(f"{path} defines no function, class or constant {name}")
    return module


def copy_repository(path, folder):
    """Copy what a notebook needs to `folder`: its project and each one that it names (their
    folders and models), datasets/*.py, models/*.py, and start.py with its list of packages, for
    notebooks that export another project. Neither data sets nor what a training left behind."""
    root = path.parents[1]
    projects = {path.parent.name, *re.findall(r"\b[1-6]_[A-Z]\w+", path.read_text("utf-8"))}
    for name in projects:
        for source_folder in (root / name, root / "models" / name):
            if source_folder.is_dir():
                target = folder / source_folder.relative_to(root)
                shutil.copytree(source_folder, target, ignore=LEAVE_OUT, dirs_exist_ok=True)
    for name in ("datasets", "models"):
        (folder / name).mkdir(parents=True, exist_ok=True)
        for file in (root / name).glob("*.py"):
            shutil.copy(file, folder / name)
    for name in ("start.py", "requirements.txt"):
        if (root / name).is_file():
            shutil.copy(root / name, folder)


def run(path, parameters, folder, kill_when=None, change=None):
    """Execute a copy of a notebook inside `folder`; returns the executed book.

    `folder` gets a copy of what the notebook needs of the repository; the executed notebook
    lies at its own place in it. A second run in the same folder finds what the first one wrote,
    a checkpoint for example. With `kill_when`, a glob pattern seen from the notebook, the
    kernel is killed as soon as such a file exists: nbclient's DeadKernelError. `change` is a
    function that changes the copy before it runs.
    """
    copy_repository(path, folder)
    copy = folder / path.relative_to(path.parents[1])
    book = nbformat.read(copy, as_version=4)
    if change:
        change(book)
    if kill_when:
        book.cells.insert(0, new_code_cell(KILL_SWITCH.format(pattern=kill_when)))
    nbformat.write(book, copy)
    papermill.execute_notebook(str(copy), str(copy), parameters, kernel_name="python3",
                               prepare_only=True, progress_bar=False)
    book = nbformat.read(copy, as_version=4)    # executed by papermill, it would change our folder
    NotebookClient(book, timeout=300, kernel_name="python3",
                   resources={"metadata": {"path": str(copy.parent)}}).execute()
    nbformat.write(book, copy)
    return read(copy)


def write_notebook(path, parts, **metadata):
    """Write a notebook, executed as it seems: for the tests of these tests.

    parts: a text cell, or (tag or "", code, what it printed, text cells that follow ...).
    """
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    book = new_notebook(metadata={"kernelspec": kernel, **metadata})
    for part in parts:
        if isinstance(part, str):
            book.cells.append(new_markdown_cell(part))
            continue
        tag, code, printed, *text = part
        output = [new_output("stream", name="stdout", text=printed)] if printed else []
        book.cells.append(new_code_cell(code, execution_count=len(code_cells(book)) + 1,
                                        outputs=output, metadata={"tags": [tag]} if tag else {}))
        book.cells += map(new_markdown_cell, text)
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(book, path)
