"""What changes the weights, and how fast: torch's optimisers and rates, as a schedule names them."""

from __future__ import annotations

from typing import Any

import torch

from stylematch.settings.train_method import Schedule


def optimizer_of(network: torch.nn.Module, schedule: Schedule, steps: int) -> Any:
    """Return an optimiser of what learns, with its rate over time, as Lightning's ``configure_optimizers`` does.

    Norms and biases are not decayed.

    Parameters
    ----------
    network : torch.nn.Module
        Its parameters that need a gradient learn.
    schedule : Schedule
        Names both.
    steps : int
        Of the whole training.
    """
    learning = [p for p in network.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in learning if p.ndim > 1], "weight_decay": schedule.weight_decay},
        {"params": [p for p in learning if p.ndim <= 1], "weight_decay": 0.0},
    ]
    optimizer: torch.optim.Optimizer
    match schedule.optimizer:
        case "sgd":
            optimizer = torch.optim.SGD(groups, lr=schedule.learning_rate, momentum=schedule.momentum)
        case "adam":
            optimizer = torch.optim.Adam(groups, lr=schedule.learning_rate)
        case "adamw":
            optimizer = torch.optim.AdamW(groups, lr=schedule.learning_rate)
    rates = torch.optim.lr_scheduler
    match schedule.rate:
        case "one_cycle":
            total = steps + 1
            # torch divides by the length of a warm-up that ends with its first step: 0.2 of 5.
            warmup = schedule.warmup * (1 - 1e-9 * (schedule.warmup * total == 1))
            rate = rates.OneCycleLR(
                optimizer,
                max_lr=schedule.learning_rate,
                total_steps=total,
                pct_start=warmup,
                cycle_momentum=schedule.optimizer != "sgd",  # whose momentum is a setting
            )
            return {"optimizer": optimizer, "lr_scheduler": {"scheduler": rate, "interval": "step"}}
        case "cosine":
            cosine = rates.CosineAnnealingLR(optimizer, T_max=steps)
            return {"optimizer": optimizer, "lr_scheduler": {"scheduler": cosine, "interval": "step"}}
        case "plateau":
            plateau = rates.ReduceLROnPlateau(optimizer, patience=schedule.rate_patience - 1)  # torch waits one more
            return {"optimizer": optimizer, "lr_scheduler": {"scheduler": plateau, "monitor": "val_loss"}}
    return optimizer
