"""Reads the collection's notebooks, takes code out of them, and runs copies of them."""
import ast
import json
import re
import shutil
import types
from pathlib import Path

import nbformat
import papermill
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from start import reuse_source

ROOT = Path(__file__).resolve().parents[1]
LEAVE_OUT = shutil.ignore_patterns("my_*", "*.checkpoint*", ".ipynb_checkpoints")
KILL_SWITCH = """
import os, pathlib, threading, time
def kill_switch():
    while not any(pathlib.Path().glob({pattern!r})):
        time.sleep(0.01)
    os._exit(9)
threading.Thread(target=kill_switch, daemon=True).start()
"""


def notebooks(name="*"):
    """The notebooks of all projects, or those of one name: notebooks("train")."""
    return sorted(ROOT.glob(f"[1-6]_*/{name}.ipynb"))


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
    defined twice, the last definition counts.
    """
    statements, found = [], {}
    for cell in code_cells(read(path)):
        values = tags(cell) & {"parameters", "same:setup"}
        for statement in ast.parse(source(cell)).body:
            statements.append(statement)
            for name in bound_names(statement):
                assigned = isinstance(statement, (ast.Assign, ast.AnnAssign))
                if values or name.isupper() or not assigned:
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
    folders and models) and datasets/*.py. Neither data sets nor what a training left behind."""
    root = path.parents[1]
    projects = {path.parent.name, *re.findall(r"\b[1-6]_[A-Z]\w+", path.read_text("utf-8"))}
    for name in projects:
        for source_folder in (root / name, root / "models" / name):
            if source_folder.is_dir():
                target = folder / source_folder.relative_to(root)
                shutil.copytree(source_folder, target, ignore=LEAVE_OUT, dirs_exist_ok=True)
    (folder / "datasets").mkdir(parents=True, exist_ok=True)
    for file in (root / "datasets").glob("*.py"):
        shutil.copy(file, folder / "datasets")


def run(path, parameters, folder, kill_when=None):
    """Execute a copy of a notebook inside `folder`; returns the executed book.

    `folder` gets a copy of what the notebook needs of the repository; the executed notebook
    lies at its own place in it. A second run in the same folder finds what the first one wrote,
    a checkpoint for example. With `kill_when`, a glob pattern seen from the notebook, the
    kernel dies, as if killed, as soon as such a file exists: nbclient's DeadKernelError.
    """
    copy_repository(path, folder)
    copy = folder / path.relative_to(path.parents[1])
    if kill_when:
        book = nbformat.read(copy, as_version=4)
        book.cells.insert(0, new_code_cell(KILL_SWITCH.format(pattern=kill_when)))
        nbformat.write(book, copy)
    papermill.execute_notebook(str(copy), str(copy), parameters, cwd=str(copy.parent),
                               kernel_name="python3", progress_bar=False, execution_timeout=300)
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
