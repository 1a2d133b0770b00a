"""TRL's trainers, set up for a run. The loop is TRL's and transformers'."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset as Table
from datasets import disable_progress_bars
from transformers import PrinterCallback, ProgressCallback
from trl.trainer.dpo_config import DPOConfig
from trl.trainer.dpo_trainer import DPOTrainer
from trl.trainer.sft_config import SFTConfig
from trl.trainer.sft_trainer import SFTTrainer

from training.lora import save_adapter
from training.recipe import Recipe
from training.request import Method
from training.rows import TrainerRow


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """What a trainer needs besides the model."""

    method: Method
    recipe: Recipe
    train: Sequence[TrainerRow]
    held_out: Sequence[TrainerRow]
    tokenizer: Any
    checkpoints: Path  # where the trainer writes them
    seed: int
    device: str


class _AdapterOnly:
    """Saves only the adapter, writes no card of its own, and reports nothing to TRL's authors."""

    model: Any
    args: Any

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Save the adapter to `output_dir`, by default to the folder of the checkpoints."""
        save_adapter(self.model, Path(output_dir or self.args.output_dir))

    def create_model_card(self, *_args: Any, **_options: Any) -> None:
        """Do nothing: the card is written when the run has been judged."""

    def _send_telemetry(self) -> None:
        """Do nothing."""


class SupervisedTrainer(_AdapterOnly, SFTTrainer):
    """Trains on rows of `input_ids` and `labels`, which TRL leaves as they are."""


class PreferenceTrainer(_AdapterOnly, DPOTrainer):
    """Trains on rows of `prompt_ids`, `chosen_ids` and `rejected_ids`."""

    def _prepare_dataset(self, dataset: Table, *_args: Any, **_options: Any) -> Table:
        """Return the dataset: unlike SFTTrainer, DPOTrainer would tokenise once more what is tokenised already."""
        return dataset


def build_trainer(model: Any, setup: Setup) -> Any:
    """Return a trainer that logs each step, and leaves it to a callback when to evaluate, to save and to stop."""
    disable_progress_bars()
    kind = SupervisedTrainer if setup.method == "supervised" else PreferenceTrainer
    trainer = kind(
        model=model,
        args=_arguments(setup),
        train_dataset=Table.from_list(list(setup.train)),
        eval_dataset=Table.from_list(list(setup.held_out)) if setup.held_out else None,
        processing_class=setup.tokenizer,
    )
    trainer.remove_callback(PrinterCallback)
    trainer.remove_callback(ProgressCallback)
    return trainer


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
        "lr_scheduler_type": "cosine",
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
