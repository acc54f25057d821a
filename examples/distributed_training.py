"""
One network trained by several processes: data-parallel training with torchrun
==============================================================================

The task is to tell square waves from sawtooth waves, with the network of the paper on State-Frequency Memory.  Each
mini-batch is shared out among the processes, and PyTorch's DistributedDataParallel adds up their gradients, so that
the loss curve is the one of a single process but for rounding; only the time changes.  Processes pay where a
mini-batch is much work, with wide networks, long series and large batches, which these are not.  For a search, rather
let each process have fits of its own, as in cluster_grid_search.py.

What came out: all digits printed here are the same for one, two and three processes.  That takes a network whose
training is stable: with n_outputs=32 in place of 1 each update makes a rounding error two or three times as large, and
after two epochs any two orders of summation have curves of their own, in float64, too.

In this process alone, in two processes here, and on two machines with four processes each (the same command on both,
port 29500 open on the first)::

    python examples/distributed_training.py
    torchrun --nproc-per-node 2 examples/distributed_training.py
    torchrun --nnodes 2 --nproc-per-node 4 --rdzv-backend c10d --rdzv-endpoint first.machine:29500 \
        examples/distributed_training.py

Processes exchange gradients through gloo, or through nccl with ``--device cuda``: one process a GPU.  Ctrl-C ends
training in all of them after the same mini-batch and keeps what has been learned.  Takes about ten seconds.
"""

# sphinx_gallery_thumbnail_path = "pictures/window.svg"

import argparse
import os
import time
from pathlib import Path

import torch
import torch.distributed as dist

from sfmts.datasets import make_waves
from sfmts.heads import ClassificationHead
from sfmts.networks import SFM
from sfmts.training import SequenceBatch, SequenceModel, Trainer, TrainingSettings, evaluate

parser = argparse.ArgumentParser(description="Train one network in several processes.")
parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu", help="where each process computes")
parser.add_argument("--epochs", type=int, default=15)
parser.add_argument("--output", type=Path, help="file for the trained weights")
arguments = parser.parse_args()

# %%
# The processes
# -------------
# torchrun tells each process who it is through the environment.  Without it there is no group, and one process trains.
# Each process has one thread here; on a machine of its own it may have as many as there are cores.

torch.set_num_threads(1)
device = torch.device(arguments.device)
group, rank, size = None, 0, 1
if "RANK" in os.environ:
    if device.type == "cuda":
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    group, rank, size = dist.group.WORLD, dist.get_rank(), dist.get_world_size()

# %%
# Data and network
# ----------------
# Every process has all series: it is the trainer that shares out each mini-batch.


def make_batch(n_series, seed):
    """Return waves seen at 100 random times, and their classes."""
    X, y = make_waves(n_series, n_steps=100, random_state=seed)
    lengths = torch.full((n_series,), X.shape[1])
    return SequenceBatch(torch.from_numpy(X).flatten(0, 1), lengths, target=torch.from_numpy(y))


train, test = (make_batch(n_series, seed).to(device, torch.float64) for n_series, seed in ((1000, 0), (500, 1)))
mean, scale = train.values.mean(0), train.values.std(0)
generator = torch.Generator().manual_seed(0)
network = SFM(train.n_channels, n_states=50, n_outputs=1, generator=generator)
head = ClassificationHead(network.output_size, n_classes=2, generator=generator)
model = SequenceModel(network, head, mean=mean, scale=scale).to(device, torch.float64)

# %%
# Training
# --------
# The group is given explicitly; batch_size counts the series of all processes together.

settings = TrainingSettings(max_iter=arguments.epochs, batch_size=64, verbose=1)
start = time.perf_counter()
history = Trainer(model, settings, generator, process_group=group).fit(train)
seconds = time.perf_counter() - start

if rank == 0:
    print(f"processes: {size}, weights: {network.n_parameters}, seconds: {seconds:.1f}, ended by: {history.stopped}")
    print(f"{'epoch':>5}  {'loss':>8}")
    for epoch, loss in enumerate(history.loss, start=1):
        print(f"{epoch:5}  {loss:8.5f}")
    accuracy, loss = evaluate(model, test, batch_size=250)
    print(f"test   {loss:8.5f}, accuracy {accuracy:.3f}")
    if arguments.output:
        torch.save(model.state_dict(), arguments.output)
        print(f"wrote {arguments.output}")
if group is not None:
    dist.barrier()  # leave together: the interpreter must not end while a thread still lets go of its last exchange
    dist.destroy_process_group()
