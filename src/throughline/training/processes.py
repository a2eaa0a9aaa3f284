"""One run in several processes: each reads its share of the rows of every batch, and together they act as one."""

import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from lightning.fabric.plugins.environments.cluster_environment import ClusterEnvironment
from lightning.fabric.plugins.environments.lightning import LightningEnvironment, find_free_network_port
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from torch import Tensor

from throughline.plumbing import stopping
from throughline.plumbing.errors import UserError
from throughline.plumbing.launchers import launched


def max_over_processes(value: float, device: torch.device) -> float:
    """The largest `value` of any process, so that a decision by it is the same in all of them."""
    if not dist.is_initialized():
        return value
    largest = torch.tensor(value, dtype=torch.float64, device=device)
    dist.all_reduce(largest, dist.ReduceOp.MAX)
    return largest.item()


def gathered(rows: Tensor, dim: int = 0) -> Tensor:
    """The rows of all processes, in order: process p has every n-th row, from row p on."""
    if not dist.is_initialized():
        return rows
    parts: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(parts, rows.cpu())
    return interleaved(parts, dim)


def interleaved(parts: Sequence[Tensor], dim: int) -> Tensor:
    """The rows of several tensors in turns."""
    rows = torch.empty(sum(part.shape[dim] for part in parts), *parts[0].movedim(dim, 0).shape[1:], dtype=parts[0].dtype)
    for number, part in enumerate(parts):
        rows[number :: len(parts)] = part.movedim(dim, 0)
    return rows.movedim(0, dim)


def environment() -> ClusterEnvironment:
    """How Lightning finds the other processes: as torchrun or srun has started them, or as `spawned` does."""
    launch = launched()
    if launch is None:
        return LightningEnvironment()  # explicitly: inside a Slurm job Lightning would take over its processes and signals
    return TorchElasticEnvironment() if launch.by == "torchrun" else SLURMEnvironment(auto_requeue=False)


@contextmanager
def _connected() -> Iterator[None]:
    """Connect with the processes that the launcher has started, while the body runs."""
    found = environment()
    address = {"MASTER_ADDR": found.main_address, "MASTER_PORT": str(found.main_port)}
    os.environ.update({**address, "RANK": str(found.global_rank()), "WORLD_SIZE": str(found.world_size())})
    dist.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo")
    try:
        yield
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()


_sent = False


@contextmanager
def leading() -> Iterator[None]:
    """Lead the processes that a launcher has started. Without one, or inside such a block, this does nothing.

    If the body ends before it has sent them anything, for example because the settings are refused, they are sent nothing to
    do, so that none of them waits.
    """
    global _sent
    if launched() is None or dist.is_initialized():
        yield
        return
    _sent = False
    with _connected():
        try:
            yield
        finally:
            if not _sent:
                send(None)


def send(job: Any) -> None:
    """Send all other processes what they have to do."""
    global _sent
    _sent = True
    _broadcast(job)


@contextmanager
def following() -> Iterator[Any]:
    """What the first process has sent, while the body does it; None if there is nothing to do."""
    with _connected():
        yield _broadcast(None)


def _broadcast(value: Any) -> Any:
    box = [value]
    dist.broadcast_object_list(box, device=torch.device("cpu"))
    return box[0]


@contextmanager
def share_of_cores(processes: int) -> Iterator[None]:
    """Take this process's share of the cores of its machine while the body trains; afterwards, it is alone."""
    threads = torch.get_num_threads()
    torch.set_num_threads(max(1, threads // processes))
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        if dist.is_initialized():
            dist.destroy_process_group()  # what is measured after the training, the first process measures alone


@contextmanager
def spawned(processes: int, target: Callable[..., Any], *args: Any) -> Iterator[None]:
    """Run the body here as the first of `processes`, while each other process runs `target(*args)`.

    They are started here and not by Lightning. Its launcher would start the command again: in a sweep, the whole sweep.

    Raises:
        UserError: another process ended too early.
    """
    if processes == 1:
        yield
        return
    port, context = find_free_network_port(), multiprocessing.get_context("spawn")
    others = [
        context.Process(target=_worker, args=(rank, port, processes, target, args), name=f"process {rank + 1}")
        for rank in range(1, processes)
    ]
    with _variables_of(0, port), share_of_cores(processes):
        try:
            with stopping.not_inherited():
                for process in others:
                    process.start()
            yield
            for process in others:
                process.join()
        except BaseException as error:
            if isinstance(error, RuntimeError):  # a connection broke, perhaps because its process died
                for process in others:
                    process.join(timeout=2)
            broken = [process for process in others if process.exitcode]
            for process in others:
                if process.pid is not None:
                    process.kill()
            if broken and isinstance(error, RuntimeError):
                ended = ", ".join(f"{p.name} of {processes} ended with {_status(p.exitcode)}" for p in broken)
                raise UserError(f"{ended}; resume=auto continues from the last checkpoint") from error
            raise


def _status(exitcode: int | None) -> str:
    return signal.Signals(-exitcode).name if exitcode is not None and exitcode < 0 else f"status {exitcode}"


def _worker(rank: int, port: int, processes: int, target: Callable[..., Any], args: tuple[Any, ...]) -> None:
    first = multiprocessing.parent_process()
    with _variables_of(rank, port), share_of_cores(processes):
        try:
            target(*args)
        except UserError:
            sys.exit(2)  # the first process reports it
        except RuntimeError:
            if first is None or first.is_alive():
                raise
            sys.exit(1)  # the first process was killed, and the connection broke with it


@contextmanager
def _variables_of(rank: int, port: int) -> Iterator[None]:
    """Set the environment variables by which Lightning identifies this process."""
    variables = {"LOCAL_RANK": str(rank), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    before = {key: os.environ.get(key) for key in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for key, value in before.items():
            if value is None:
                del os.environ[key]
            else:
                os.environ[key] = value
