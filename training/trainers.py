"""TRL's trainers, set up for a run. The loop is TRL's and transformers'."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset as Table
from datasets import disable_progress_bars
from torch.optim.lr_scheduler import LambdaLR
from transformers import PrinterCallback, ProgressCallback
from trl.trainer.dpo_config import DPOConfig
from trl.trainer.dpo_trainer import DPOTrainer
from trl.trainer.sft_config import SFTConfig
from trl.trainer.sft_trainer import SFTTrainer

from training.anchor import Anchor
from training.lora import save_adapter
from training.recipe import Recipe
from training.request import Method
from training.rows import TrainerRow


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """What a trainer needs besides the model. `anchor` is of a supervised run; None: nothing holds the model."""

    method: Method
    recipe: Recipe
    train: Sequence[TrainerRow]
    held_out: Sequence[TrainerRow]
    tokenizer: Any
    checkpoints: Path  # where the trainer writes them
    seed: int
    device: str
    anchor: Anchor | None = None


class _Adapted:
    """Saves only the adapter, learns from the first step on, writes no card, and reports nothing to TRL's authors."""

    model: Any
    args: Any
    optimizer: Any
    lr_scheduler: Any

    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
        """Set up the learning rate; transformers' own schedules begin with a step at 0, which teaches nothing."""
        rate = partial(rate_share, warmup=self.args.get_warmup_steps(num_training_steps), steps=num_training_steps)
        self.lr_scheduler = LambdaLR(optimizer or self.optimizer, rate)
        return self.lr_scheduler

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Save the adapter to `output_dir`, by default to the folder of the checkpoints."""
        save_adapter(self.model, Path(output_dir or self.args.output_dir))

    def create_model_card(self, *_args: Any, **_options: Any) -> None:
        """Do nothing: the card is written when the run has been judged."""

    def _send_telemetry(self) -> None:
        """Do nothing."""


class SupervisedTrainer(_Adapted, SFTTrainer):
    """Trains on rows of `input_ids` and `labels`, which TRL leaves as they are, and holds the model by an anchor."""

    anchor: Anchor | None = None

    def training_step(self, model: Any, *args: Any, **options: Any) -> torch.Tensor:
        """Add the anchor's gradients to those of the batch. The loss that is returned, and logged, is the batch's."""
        loss: torch.Tensor = super().training_step(model, *args, **options)  # type: ignore[no-untyped-call]
        if self.anchor is not None:
            with self.compute_loss_context_manager():
                drift = self.anchor.loss(model, self.state.global_step)
            self.accelerator.backward(drift)
        return loss


class PreferenceTrainer(_Adapted, DPOTrainer):
    """Trains on rows of `prompt_ids`, `chosen_ids` and `rejected_ids`."""

    def _prepare_dataset(self, dataset: Table, *_args: Any, **_options: Any) -> Table:
        """Return the dataset: unlike SFTTrainer, DPOTrainer would tokenise once more what is tokenised already."""
        return dataset


def build_trainer(model: Any, setup: Setup) -> Any:
    """Return a trainer that logs each step, and leaves it to a callback when to evaluate, to save and to stop."""
    disable_progress_bars()
    kind = SupervisedTrainer if setup.method == "supervised" else PreferenceTrainer
    trainer: Any = kind(
        model=model,
        args=_arguments(setup),
        train_dataset=Table.from_list(list(setup.train)),
        eval_dataset=Table.from_list(list(setup.held_out)) if setup.held_out else None,
        processing_class=setup.tokenizer,
    )
    trainer.anchor = setup.anchor
    trainer.remove_callback(PrinterCallback)
    trainer.remove_callback(ProgressCallback)
    return trainer


def rate_share(step: int, *, warmup: int, steps: int) -> float:
    """Return the share of the highest learning rate: it rises over the warm-up, then falls as a cosine. Never 0.

    Args:
        step: from 0.
    """
    if step < warmup:
        return (step + 1) / (warmup + 1)
    return (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup))) / 2


def _arguments(setup: Setup) -> Any:
    if setup.method == "dpo":
        return DPOConfig(**_shared_arguments(setup), beta=setup.recipe.beta)
    return SFTConfig(**_shared_arguments(setup))


def _shared_arguments(setup: Setup) -> dict[str, Any]:
    recipe, on_gpu = setup.recipe, setup.device != "cpu"
    return {
        "output_dir": str(setup.checkpoints),
        "use_cpu": not on_gpu,
        "bf16": on_gpu and torch.cuda.is_bf16_supported(),
        "dataloader_pin_memory": on_gpu,
        "num_train_epochs": recipe.epochs,
        "max_steps": recipe.max_steps or -1,
        "per_device_train_batch_size": recipe.batch_size,
        "per_device_eval_batch_size": max(recipe.batch_size, 8),
        "learning_rate": recipe.learning_rate,
        "warmup_steps": recipe.warmup,
        "max_length": None,  # the rows have their final length
        "activation_checkpointing": False,  # the models are small; it would cost a third of the speed
        "logging_steps": 1,
        "logging_nan_inf_filter": False,  # it would hide that a run diverges
        "include_num_input_tokens_seen": "non_padding",
        "eval_strategy": "no",
        "save_strategy": "no",
        "disable_tqdm": True,
        "seed": setup.seed,
        "report_to": "none",
    }
