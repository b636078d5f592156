"""A small training in several processes with Accelerate, on the CPU or one process a GPU:

    python3 start.py export 2 FOLDER          # writes cat_dog.py, from which this file imports
    torchrun --standalone --nproc-per-node 2 several_processes.py PHOTOS.npz --module FOLDER

PHOTOS.npz holds `photos`, uint8 (N, 3, S, S), and `labels`, (N,) 0 or 1; a fifth is kept back, to
measure with. The weights are written beside it, to PHOTOS.pth.

On four GPUs, --nproc-per-node 4, a step takes 4 × batch_size photos, and an epoch has a quarter of
the steps: try a higher rate. Batch normalisation takes its means over a process's own photos; where
those are few, nn.SyncBatchNorm.convert_sync_batchnorm(model) takes them over all. There is no
.to(device): `prepare` moves the network and what the loaders give. And only the main process prints
and writes, by accelerator.print and accelerator.save.
"""
import argparse
import os
import sys
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from accelerate import Accelerator
from accelerate.utils import set_seed
from torch.utils.data import DataLoader, TensorDataset


def accelerator_for(processes, cpu):
    """One process a GPU; where there is no GPU, or with --cpu, all share the CPU."""
    gpus = torch.cuda.device_count()
    if gpus and not cpu and processes > gpus:
        sys.exit(f"{processes} processes for {gpus} GPU(s): --nproc-per-node {gpus}, or --cpu")
    return Accelerator(cpu=cpu or (processes > 1 and not gpus))


def loaders(file, batch_size):
    """Training and held-out photos, the same ones in each process."""
    with np.load(file) as stored:
        photos, labels = torch.tensor(stored["photos"]), torch.tensor(stored["labels"]).long()
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
    kept_back, training = order.tensor_split([len(order) // 5])
    return (DataLoader(TensorDataset(photos[training], labels[training]), batch_size, shuffle=True),
            DataLoader(TensorDataset(photos[kept_back], labels[kept_back]), batch_size))


def accuracy(model, loader, accelerator):
    """The share of right answers over the photos of all processes."""
    model.eval()
    with torch.inference_mode():
        right = [accelerator.gather_for_metrics(model(images / 255).argmax(1) == labels)
                 for images, labels in loader]
    return torch.cat(right).float().mean().item()


def main(photos, module, cpu, epochs=4, batch_size=32, learning_rate=4e-3, width=16):
    if not Path(module, "cat_dog.py").is_file():
        sys.exit(f"no cat_dog.py in {module}: python3 start.py export 2 FOLDER makes it")
    sys.path.insert(0, str(module))
    from cat_dog import CatDogNet
    accelerator = accelerator_for(int(os.environ.get("LOCAL_WORLD_SIZE", 1)), cpu)
    set_seed(0)                                  # the same first weights in all processes
    model = CatDogNet(width)
    optimizer = torch.optim.AdamW(model.parameters(), learning_rate)
    model, optimizer, training, kept_back = accelerator.prepare(
        model, optimizer, *loaders(photos, batch_size))
    steps = epochs * len(training)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, learning_rate, total_steps=steps)
    for epoch in range(1, epochs + 1):
        model.train()
        for images, labels in training:          # each process gets other photos
            loss = F.cross_entropy(model(images / 255), labels)
            optimizer.zero_grad()
            accelerator.backward(loss)           # the mean of all processes' gradients
            optimizer.step()
            schedule.step()
        accelerator.print(f"epoch {epoch}: {accuracy(model, kept_back, accelerator):.1%} of the "
                          f"photos kept back, {accelerator.num_processes} processes")
    mine = torch.cat([weights.detach().flatten() for weights in model.parameters()])
    apart = accelerator.gather(mine[None]).std(0, correction=0).max().item()
    accelerator.print(f"the processes' weights differ by {apart:.0e}")
    accelerator.save(accelerator.unwrap_model(model).state_dict(), Path(photos).with_suffix(".pth"))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("photos", help="a file PHOTOS.npz")
    parser.add_argument("--module", required=True, help="the folder of start.py export 2 FOLDER")
    parser.add_argument("--cpu", action="store_true", help="leave the GPUs alone")
    main(**vars(parser.parse_args()))
