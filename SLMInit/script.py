"""The shared main program of `cudaInit.py` and `cudaInit_cpu.py`.

Imports nothing heavy at the top, so that `--help` and the advice on a missing package appear immediately.
"""

from __future__ import annotations

import os
import sys

from models.errors import FineTuningError
from SLMInit.environment import ensure_packages
from SLMInit.options import Device, TrainingOptions, parse_options

INTERRUPTED = 130  # the shell's status for Ctrl-C


def run(device: Device, argv: list[str]) -> int:
    """Fine-tune as requested on the command line and print the result. Returns the exit status.

    Args:
        device: the device to train on.
        argv: the script's path and its arguments.
    """
    ensure_packages(argv)
    # Threads that spin while waiting make training several times slower if another program also uses the cores.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("CUDA_VISIBLE_DEVICES", "0")  # a run uses one GPU
    options = parse_options(device, argv[1:])
    if device == "cuda" and not _has_cuda():
        print("cudaInit.py: PyTorch finds no CUDA GPU. Train on the CPU: python cudaInit_cpu.py", file=sys.stderr)
        return 1
    return _finetune(options)


def _has_cuda() -> bool:
    import torch

    return torch.cuda.is_available()


def _finetune(options: TrainingOptions) -> int:
    from SLMInit.console import Console
    from SLMInit.finetune import finetune
    from SLMInit.publish import advice, publish

    try:
        outcome = finetune(options, Console())
        result = outcome.result
        print(f"{result.steps} steps in {result.seconds:.0f} s; the best is step {result.best_step}.")
        if not outcome.is_taken:
            print(f"The gate refuses this adapter: see the table. It is in {result.adapter}.", file=sys.stderr)
            print("Add --resume --force to take it all the same.", file=sys.stderr)
            return 1
        print(f"The adapter is in {options.output}")
        if options.publish:
            publish(options)
    except FineTuningError as err:
        print(err, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"Interrupted. Add --resume to continue from the last checkpoint in {options.output}.", file=sys.stderr)
        return INTERRUPTED
    print(advice(options))
    return 0
