"""What trainings keep: checkpoints, weights, figures and studies. Nothing in here is taught.

A training notebook begins with

    sys.path.append("../models")
    import records

Files: models/N_Name/my_checkpoint_HASH.pth, one for each set of settings; my_model.pth and
my_metrics.json, what your own runs give; model.pth and metrics.json, what came with the
repository. Every file is written under another name first and then renamed. A training draws its
random numbers from torch, or from NumPy generators that it makes of seed and epoch.
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
from filelock import FileLock
from torch import nn

DAMAGED = (zipfile.BadZipFile, pickle.UnpicklingError, EOFError, KeyError, ValueError, TypeError,
           AttributeError, NotImplementedError)    # from a damaged file; not from a lack of memory
T_95 = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262)    # two-sided t, 1 … 9


def plain(settings):
    """Settings as JSON gives them back: tuples are lists, numbers are Python's."""
    return json.loads(json.dumps(settings, sort_keys=True))


def write(path, save):
    """save(file) writes to an open file of another name, which then takes the place of `path`.

    OSError: it can't be written (disk full, read-only folder); what was there before stays.
    """
    part = path.with_name(f"{path.name}.{os.getpid()}.part")    # one a process
    try:
        with open(part, "wb") as file:    # torch.save would write a path's name into the file
            save(file)
            file.flush()
            os.fsync(file.fileno())    # on the disk before the name changes, if the power is cut
        os.replace(part, path)
    except (OSError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and "inline_container" not in str(error):
            raise    # torch.save reports a full disk as such a RuntimeError
        raise OSError(f"{path.name} can't be written to {path.parent}: is the disk full, or the "
                      f"folder read-only? ({str(error)[:100]})") from None
    finally:
        if part.exists():
            part.unlink()


def put_aside(path, error):
    """Rename a file that can't be used, and say why."""
    aside = path.with_name(path.name + ".broken")
    os.replace(path, aside)
    reason = (str(error) or repr(error)).splitlines()[0][:100]
    print(f"{path.name} can't be used ({reason}): put aside as {aside.name}, starting afresh")


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
        self.settings, self.objects, self.tried = plain(settings), objects, False
        name = hashlib.sha256(json.dumps(self.settings).encode()).hexdigest()[:8]
        self.path = Path(folder) / f"my_checkpoint_{name}.pth"
        trial = self.path.with_name(f"my_trial_{name}")    # can this folder be written at all?
        write(trial, lambda file: file.write(b"trial"))
        trial.unlink()
        print("goes on from" if self.path.exists() else "will write", self.path.name)

    def save(self, progress):
        """progress: a dict of plain values and tensors. A full disk is said, and no more.

        The first file of a run is read again at once: what could not be loaded is an error now.
        """
        states = {name: one.state_dict() for name, one in self.objects.items()}
        content = {"settings": self.settings, "progress": progress, "objects": states,
                   "random": random_states()}
        try:
            write(self.path, lambda file: torch.save(content, file))
        except OSError as error:
            print(error, "The training goes on without a new checkpoint.")
            return
        if not self.tried:
            self.read_checked()
            self.tried = True

    def load(self):
        """Bring the objects to the state in the file; returns its progress, or None (fresh).

        A damaged or foreign file is put aside; then objects and random states are untouched.
        """
        if not self.path.exists():
            return None
        try:
            content = self.read_checked()
        except DAMAGED as error:
            put_aside(self.path, error)
            return None
        try:
            for name, one in self.objects.items():
                one.load_state_dict(content["objects"][name])
        except DAMAGED as error:    # the code has changed since, say: some objects are loaded now
            put_aside(self.path, error)
            raise RuntimeError("Run this cell again, from where the network is made.") from None
        for name, state in content["random"].items():
            if name in random_states():
                (torch if name == "cpu" else getattr(torch, name)).set_rng_state(state)
        return content["progress"]

    def read_checked(self):
        """What the file holds, if it is whole and fits; else one of DAMAGED."""
        with zipfile.ZipFile(self.path) as file:    # torch.load itself compares no checksums
            if file.testzip() or not any(name.endswith("/data.pkl") for name in file.namelist()):
                raise ValueError("damaged inside")
        try:
            content = torch.load(self.path, map_location="cpu", weights_only=True)
        except RuntimeError as error:
            if "PytorchStreamReader" in str(error):
                raise ValueError("damaged inside") from None
            raise    # no memory, no device: the file may be good
        if content["settings"] != self.settings or not content["progress"]:
            raise ValueError("of other settings, or without progress")
        now, then = torch.get_rng_state(), content["random"]["cpu"]
        if (then.shape, then.dtype) != (now.shape, now.dtype):
            raise ValueError("without random states")
        for name, one in self.objects.items():
            state = content["objects"][name]
            if isinstance(one, nn.Module) and ({key: value.shape for key, value in state.items()}
                    != {key: value.shape for key, value in one.state_dict().items()}):
                raise ValueError(f"its {name} has another shape")
        return content


# Weights and figures

def publishes(weights_file):
    """Whether a run replaces model.pth and metrics.json; else it writes my_metrics.json."""
    if Path(weights_file).name != weights_file or not weights_file.endswith(".pth"):
        raise ValueError(f'weights_file is "{weights_file}"; a bare name such as "my_model.pth" '
                         "is wanted")
    return weights_file.lower() == "model.pth"


def save_weights(network, folder, weights_file):
    """Write a network's weights, on the CPU, for inference.ipynb; returns their sha256."""
    publishes(weights_file)
    path, state = Path(folder) / weights_file, {
        name: value.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, value in network.state_dict().items()}
    if not all(value.isfinite().all() for value in state.values()):
        raise ValueError("the weights are not finite: nothing is written")
    write(path, lambda file: torch.save(state, file))
    print(f"{path.name}: {path.stat().st_size / 1e6:.1f} MB. To use these weights, set in the "
          f'parameters of inference.ipynb:\nweights_file = "{path.name}"')
    return hashlib.sha256(path.read_bytes()).hexdigest()


def load_shipped(folder, build, settings):
    """The network that came with the repository, and its figures.

    build: recorded settings -> a network of that size; settings: yours, to say what differs.
    """
    figures, path = load_figures(folder), Path(folder) / "model.pth"
    if hashlib.sha256(path.read_bytes()).hexdigest() != figures["weights_sha256"]:
        raise ValueError(f"{path} and metrics.json are of different trainings. Get back those that "
                         "came with the repository: git checkout -- models")
    say_changes(figures["parameters"], settings)
    network = build(figures["parameters"])
    network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    return network, figures


def load_figures(folder, name="metrics.json"):
    """The figures in a file: `metrics.json` was shipped, `my_metrics.json` is yours."""
    path = Path(folder) / name
    try:
        return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    except ValueError as error:
        put_aside(path, error)
        return {}


def save_figures(folder, figures, weights_file="my_model.pth"):
    """Add figures to my_metrics.json; to metrics.json where weights_file is "model.pth"."""
    name = "metrics.json" if publishes(weights_file) else "my_metrics.json"
    with FileLock(Path(folder) / "my_figures.lock"):    # two studies may run side by side
        kept = load_figures(folder, name)
        if "studies" in figures:
            studies = kept.get("studies", {})
            figures = figures | {"studies": studies | {
                study_name: studies.get(study_name, {}) | rows
                for study_name, rows in figures["studies"].items()}}
        text = json.dumps(kept | figures, indent=1, ensure_ascii=False)
        write(Path(folder) / name, lambda file: file.write((text + "\n").encode()))
    return name


def say_changes(recorded, settings):
    """Print which settings are not those of the shipped weights."""
    settings = plain(settings)
    changed = [name for name in settings if recorded.get(name) != settings[name]]
    if changed:
        print("The shipped weights were trained with " + ", ".join(
            f"{name} = {recorded.get(name, '(not recorded)')}" for name in changed)
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
    if it was measured with these very settings, and holds these very seeds: yours first, then
    the recorded one. With `run`, what is missing is measured, and written figure by figure.
    """
    file = "metrics.json" if publishes(weights_file) else "my_metrics.json"
    seeds, found, said = [int(seed) for seed in seeds], {}, {}
    for label, settings in rows.items():
        settings = plain(settings)
        own, *others = (find_row(folder, one, name, settings)
                        for one in (file, "my_metrics.json", "metrics.json"))
        row = next((one for one in (own, *others) if {*seeds} <= {*one["seeds"]}), None)
        source = f"as recorded {row.get('date', '')}".strip() if row else "not measured"
        if row is None and run:
            row, source = own, "measured now"
            for seed in [seed for seed in seeds if seed not in row["seeds"]]:
                for key, value in measure(seed=seed, **settings).items():
                    row["values"].setdefault(key, []).append(float(value))
                row["seeds"].append(seed)
                row["date"] = date.today().isoformat()
                save_figures(folder, {"studies": {name: {label: row}}}, weights_file)
        if row is not None:
            places = [row["seeds"].index(seed) for seed in seeds]
            found[label] = row | {"seeds": seeds, "values": {
                key: [values[place] for place in places] for key, values in row["values"].items()}}
        said.setdefault(source, []).append(label)
    for source, labels in said.items():
        print(f"{source.capitalize()}: {'all rows' if len(said) == 1 else '; '.join(labels)}.")
    if "not measured" in said:
        print("run_studies = True measures what is missing with these settings.")
    return found


def find_row(folder, file, study_name, settings):
    """The row of a study that was measured with these settings, or an empty one."""
    for row in load_figures(folder, file).get("studies", {}).get(study_name, {}).values():
        if isinstance(row, dict) and row.get("settings") == settings and "seeds" in row and all(
                len(values) == len(row["seeds"]) for values in row["values"].values()):
            return row
    return {"settings": settings, "seeds": [], "values": {}}


def differences(rows, figure, base, factor=1.0):
    """label -> (mean, low, high, one a seed): each row less the row `base`, paired by seed."""
    result = {}
    for label, row in rows.items():
        shared = [seed for seed in row["seeds"] if seed in rows[base]["seeds"]]
        mine, theirs = ([one["values"][figure][one["seeds"].index(seed)] for seed in shared]
                        for one in (row, rows[base]))
        if label != base and shared:
            each = [factor * (a - b) for a, b in zip(mine, theirs)]
            result[label] = (*mean_interval(each), each)
    return result


def plot_differences(rows, figure, base, title, xlabel, factor=1.0):
    """A dot plot: what each row of a study gains over `base`, with its 95 % interval."""
    import matplotlib.pyplot as plt
    gains = differences(rows, figure, base, factor) if base in rows else {}
    if not gains:
        print(f"Nothing to compare: {base} or the other rows are not measured.")
        return
    fig, axis = plt.subplots(figsize=(8, 0.7 + 0.28 * len(gains)), layout="constrained")
    for place, (mean, low, high, each) in enumerate(gains.values()):
        axis.plot([low, high], [place, place], color="#0072B2", lw=1.5)
        axis.plot(each, [place] * len(each), "o", ms=3, color="#999999")
        axis.plot(mean, place, "o", color="#0072B2")
    axis.axvline(0, color="black", lw=0.8, ls="--")
    axis.set(title=title, xlabel=xlabel, yticks=range(len(gains)), yticklabels=list(gains))
    axis.invert_yaxis()


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
