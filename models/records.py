"""What trainings keep: checkpoints, weights, figures and studies. Nothing in here is taught.

A training notebook begins with

    sys.path.append("../models")
    import records

Files: models/N_Name/my_checkpoint_HASH.pth, one for each set of settings; my_model.pth and
my_metrics.json, what your own runs give; model.pth and metrics.json, what came with the
repository. Every file is written under another name first and then renamed.
"""
import hashlib
import json
import math
import os
import pickle
import sys
import zipfile
from datetime import date
from pathlib import Path

import numpy as np
import torch
from torch import nn

DAMAGED = (zipfile.BadZipFile, pickle.UnpicklingError, EOFError, KeyError, ValueError, TypeError,
           AttributeError)    # what a damaged or foreign file leads to; no memory, no device do not
T_95 = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262)    # t, for 1 … 9 degrees


def plain(settings):
    """Settings as JSON gives them back: tuples are lists, numbers are Python's."""
    return json.loads(json.dumps(settings, sort_keys=True))


def write(path, save):
    """save(part) writes a file under another name, which then takes the place of `path`.

    OSError: it can't be written (disk full, read-only folder); what was there before stays.
    """
    part = path.with_name(path.name + ".part")
    try:
        save(part)
        with open(part, "rb+") as file:
            os.fsync(file.fileno())    # on the disk before the name changes, if the power is cut
        os.replace(part, path)
    except (OSError, RuntimeError) as error:    # torch.save reports a full disk as the second
        if part.exists():
            part.unlink()
        raise OSError(f"{path.name} can't be written to {path.parent}: is the disk full, or the "
                      f"folder read-only? ({str(error).splitlines()[0]})") from None


# Checkpoints

def random_states():
    """The state of each generator that torch draws from: "cpu", and the accelerator's."""
    states = {"cpu": torch.get_rng_state()}
    for name in ("cuda", "mps"):
        if getattr(torch, name).is_available():
            states[name] = getattr(torch, name).get_rng_state()
    return states


class Checkpoint:
    """The file from which a training goes on.

    settings: all that decides the result, as plain values; other settings have another file.
    objects: name -> what has a state_dict (network, optimizer, schedule, games).
    """

    def __init__(self, folder, settings, objects):
        self.settings, self.objects = plain(settings), objects
        name = hashlib.sha256(json.dumps(self.settings).encode()).hexdigest()[:8]
        self.path = Path(folder) / f"my_checkpoint_{name}.pth"
        trial = self.path.with_name(f"my_trial_{name}")    # can this folder be written at all?
        write(trial, lambda part: part.write_bytes(b"trial"))
        trial.unlink()
        print("goes on from" if self.path.exists() else "will write", self.path.name)

    def save(self, progress):
        """progress: a dict of plain values and tensors. A full disk is said, and no more."""
        states = {name: one.state_dict() for name, one in self.objects.items()}
        content = {"settings": self.settings, "progress": progress, "objects": states,
                   "random": random_states()}
        try:
            write(self.path, lambda part: torch.save(content, part))
        except OSError as error:
            print(error, "The training goes on without a new checkpoint.")

    def load(self):
        """Bring the objects to the state in the file; returns its progress, or None (fresh).

        A damaged or foreign file is put aside; then objects and random states are untouched.
        """
        if not self.path.exists():
            return None
        try:
            content = self.checked()
        except DAMAGED as error:
            aside = self.path.with_name(self.path.name + ".broken")
            os.replace(self.path, aside)
            print(f"{self.path.name} is no checkpoint of this training ({error}): put aside as "
                  f"{aside.name}, starting afresh")
            return None
        for name, one in self.objects.items():
            one.load_state_dict(content["objects"][name])
        for name, state in content["random"].items():
            if name in random_states():
                (torch if name == "cpu" else getattr(torch, name)).set_rng_state(state)
        return content["progress"]

    def checked(self):
        """What the file holds, if it is whole and fits; else one of DAMAGED."""
        with zipfile.ZipFile(self.path) as file:    # torch.load itself compares no checksums
            if file.testzip() or not any(name.endswith("/data.pkl") for name in file.namelist()):
                raise ValueError("damaged inside")
        content = torch.load(self.path, map_location="cpu", weights_only=True)
        if content["settings"] != self.settings or not content["progress"]:
            raise ValueError("of other settings, or without progress")
        if content["random"]["cpu"].shape != torch.get_rng_state().shape:
            raise ValueError("without random states")
        for name, one in self.objects.items():
            state = content["objects"][name]
            if isinstance(one, nn.Module) and ({key: value.shape for key, value in state.items()}
                    != {key: value.shape for key, value in one.state_dict().items()}):
                raise ValueError(f"its {name} has another shape")
        return content


# Weights and figures

def save_weights(network, path):
    """Write a network's weights, on the CPU, for inference.ipynb; returns their sha256."""
    state = {name: value.detach().cpu().contiguous() for name, value in
             network.state_dict().items()}
    write(path, lambda part: torch.save(state, part))
    print(f"{path.name}: {path.stat().st_size / 1e6:.1f} MB. To use these weights, set in the "
          f'parameters of inference.ipynb:\nweights_file = "{path.name}"')
    return hashlib.sha256(path.read_bytes()).hexdigest()


def load_figures(folder, name="metrics.json"):
    """The figures in a file: `metrics.json` was shipped, `my_metrics.json` is yours."""
    file = Path(folder) / name
    return json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}


def save_figures(folder, figures, weights_file="my_model.pth"):
    """Add figures to my_metrics.json; to metrics.json where weights_file is "model.pth"."""
    name = "metrics.json" if weights_file == "model.pth" else "my_metrics.json"
    text = json.dumps(load_figures(folder, name) | figures, indent=1, ensure_ascii=False)
    write(Path(folder) / name, lambda part: part.write_text(text + "\n", encoding="utf-8"))
    return name


def say_changes(recorded, settings):
    """Print which settings are not those of the shipped weights."""
    settings = plain(settings)
    changed = [name for name in settings if name in recorded and recorded[name] != settings[name]]
    if changed:
        print("The shipped weights were trained with " + ", ".join(
            f"{name} = {recorded[name]}" for name in changed)
            + "; train_again = True trains with your values.")


def cost(seconds, **more):
    """What a training took, for the figures."""
    return {"seconds": round(seconds), "cores": min(os.cpu_count(), torch.get_num_threads()),
            **more, "peak_memory_mib": round(peak_memory()), "date": date.today().isoformat()}


def peak_memory():
    """The most memory that this process has held, in MiB."""
    try:
        import resource
    except ImportError:    # Windows; psutil comes with Jupyter
        import psutil
        return psutil.Process().memory_info().peak_wset / 2**20
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20


# Intervals

def wilson(right, n, z=1.96):
    """95 % interval of a share, right of n trials, as two shares (Wilson 1927)."""
    share = right / n
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return max(0.0, centre - half), min(1.0, centre + half)


def mean_interval(values):
    """(mean, low, high): the mean of some numbers with its 95 % t-interval (Student 1908)."""
    mean, degrees = float(np.mean(values)), len(values) - 1
    if degrees < 1:
        return mean, math.nan, math.nan
    t = T_95[degrees - 1] if degrees <= len(T_95) else 1.96 + 2.37 / degrees + 2.82 / degrees**2
    half = t * float(np.std(values, ddof=1)) / math.sqrt(len(values))
    return mean, mean - half, mean + half


def share_result(right, n):
    """A share as metrics.json keeps it."""
    return {"value": right / n, "n": n, "interval": list(wilson(right, n))}


# Studies

def study(folder, name, rows, measure, seeds=(0,), run=False, weights_file="my_model.pth"):
    """The figures of a study: label -> {"settings", "seeds", "values": name -> one a seed}.

    rows: label -> settings; measure(seed=…, **settings) -> name -> number. A row counts only
    if it was measured with these very settings and seeds: yours first, then the recorded ones.
    With `run`, what is missing is measured, and each figure is written as soon as it is there.
    """
    file = "metrics.json" if weights_file == "model.pth" else "my_metrics.json"
    found, now, missing = {}, [], []
    for label, settings in rows.items():
        row = find_row(folder, name, label, plain(settings), seeds)
        for seed in [seed for seed in seeds if seed not in row["seeds"]] if run else ():
            for key, value in measure(seed=seed, **settings).items():
                row["values"].setdefault(key, []).append(float(value))
            row["seeds"].append(seed)
            row["date"] = date.today().isoformat()
            studies = load_figures(folder, file).get("studies", {})
            studies.setdefault(name, {})[label] = row
            save_figures(folder, {"studies": studies}, weights_file)
            now += [label] if label not in now else []
        if {*seeds} <= {*row["seeds"]}:
            found[label] = row
        else:
            missing.append(label)
    for text, labels in (("As recorded", found.keys() - now), ("Measured now", now),
                         ("Not measured with these settings; run_studies = True does", missing)):
        if labels:
            print(f"{text}: {', '.join(label for label in rows if label in labels)}.")
    return found


def find_row(folder, study_name, label, settings, seeds):
    """A row of a study as the files have it, or an empty one; of two, the one with more seeds."""
    rows = [load_figures(folder, file).get("studies", {}).get(study_name, {}).get(label, {})
            for file in ("my_metrics.json", "metrics.json")]
    rows = [row for row in rows if row.get("settings") == settings and "values" in row]
    empty = {"settings": settings, "seeds": [], "values": {}}
    return max(rows, key=lambda row: len({*seeds} & {*row["seeds"]}), default=empty)


def differences(rows, figure, factor=1.0):
    """label -> (mean, low, high, one a seed): each row less the first one, paired by seed."""
    first, *others = rows.values()
    result = {}
    for label, row in zip(list(rows)[1:], others):
        pairs = [(row["values"][figure][row["seeds"].index(seed)],
                  first["values"][figure][first["seeds"].index(seed)])
                 for seed in row["seeds"] if seed in first["seeds"]]
        each = [factor * (mine - theirs) for mine, theirs in pairs]
        result[label] = (*mean_interval(each), each)
    return result


def plot_differences(rows, figure, title, xlabel, factor=1.0):
    """A dot plot: what each row of a study gains over its first one, with its 95 % interval."""
    import matplotlib.pyplot as plt
    gains = differences(rows, figure, factor)
    fig, axis = plt.subplots(figsize=(8, 0.7 + 0.28 * len(gains)), layout="constrained")
    for place, (mean, low, high, each) in enumerate(gains.values()):
        axis.plot([low, high], [place, place], color="#0072B2", lw=1.5)
        axis.plot(each, [place] * len(each), "o", ms=3, color="#999999")
        axis.plot(mean, place, "o", color="#0072B2")
    axis.axvline(0, color="black", lw=0.8, ls="--")
    axis.set(title=title, xlabel=xlabel, yticks=range(len(gains)), yticklabels=list(gains))
    axis.invert_yaxis()
    return fig


def show_table(head, rows):
    """Show rows of texts as a table; the first column has no head."""
    from IPython.display import Markdown, display
    lines = [f"| | {' | '.join(head)} |", "| --- |" + " --- |" * len(head)]
    display(Markdown("\n".join(lines + [f"| {' | '.join(row)} |" for row in rows])))


def show_study(rows, columns):
    """Show a study; columns: head -> (figure, format): its mean over the seeds."""
    show_table(columns, [[label, *(format(np.mean(row["values"][figure]), form)
                                   for figure, form in columns.values())]
                         for label, row in rows.items()])
