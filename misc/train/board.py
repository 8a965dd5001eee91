"""TensorBoard, where it is installed; nothing where it is not."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np


class Board:
    def __init__(self, folder: Path, wanted: bool):
        self._writer = None
        if wanted:
            try:
                from torch.utils.tensorboard import SummaryWriter
            except ImportError:
                return
            self._writer = SummaryWriter(str(folder))

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        if self._writer:
            for name, value in values.items():
                self._writer.add_scalar(name, value, step)

    def picture(self, step: int, name: str, picture: np.ndarray) -> None:
        """picture (H,W,3) uint8."""
        if self._writer:
            self._writer.add_image(name, picture, step, dataformats="HWC")

    def close(self) -> None:
        if self._writer:
            self._writer.close()
