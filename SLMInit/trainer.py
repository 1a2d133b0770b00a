"""Configures transformers' Trainer for one LoRA run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import ProgressCallback, Trainer, TrainingArguments

from SLMInit.encoding import Collator, Row
from SLMInit.lora_model import save_lora
from SLMInit.options import TrainingOptions

KEPT_CHECKPOINTS = 2
WARM_UP = 0.1  # share of the steps


class LoraTrainer(Trainer):
    """Saves only the adapter, not the rest of the model."""

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Save the adapter to `output_dir` (a checkpoint's folder), by default to the folder of the checkpoints."""
        save_lora(self.model, Path(output_dir or self.args.output_dir or "."))


class LossBar(ProgressCallback):
    """A progress bar that shows the loss, instead of printing a line per step."""

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **kwargs: Any) -> None:
        """Show the training loss in the bar, and the loss of an evaluation on a separate line."""
        del args, control, kwargs
        bar: Any = self.training_bar
        if bar is None or logs is None:
            return
        if "loss" in logs:
            bar.set_postfix(loss=f"{logs['loss']:.3f}")
        if "eval_loss" in logs:
            bar.write(f"step {state.global_step}: evaluation loss {logs['eval_loss']:.3f}")


def build_trainer(
    model: Any, options: TrainingOptions, checkpoints: Path, train: Sequence[Row], held_out: Sequence[Row], pad_id: int
) -> LoraTrainer:
    """Return a Trainer that logs the loss of each step and evaluates on `held_out` after each epoch."""
    trainer = LoraTrainer(
        model=model,
        args=_arguments(options, checkpoints),
        data_collator=Collator(pad_id),
        train_dataset=train,
        eval_dataset=held_out,
    )
    trainer.remove_callback(ProgressCallback)
    trainer.add_callback(LossBar)
    return trainer


def _arguments(options: TrainingOptions, checkpoints: Path) -> TrainingArguments:
    on_gpu = options.device == "cuda"
    return TrainingArguments(
        output_dir=str(checkpoints),
        use_cpu=not on_gpu,
        bf16=on_gpu and torch.cuda.is_bf16_supported(),
        dataloader_pin_memory=on_gpu,
        num_train_epochs=options.epochs,
        max_steps=options.max_steps or -1,
        per_device_train_batch_size=options.batch_size,
        per_device_eval_batch_size=options.batch_size,
        learning_rate=options.learning_rate,
        lr_scheduler_type="cosine",
        warmup_steps=WARM_UP,
        train_sampling_strategy="group_by_length",
        remove_unused_columns=False,
        label_names=["labels"],
        logging_steps=1,
        eval_strategy="epoch",
        save_strategy="steps",
        save_steps=options.save_steps,
        save_total_limit=KEPT_CHECKPOINTS,
        seed=options.seed,
        report_to="none",
    )
