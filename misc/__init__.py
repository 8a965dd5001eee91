"""What every run needs. The method of before 0.2 is pgt's: `from misc.crf import ...` goes on for this release."""

import importlib
import sys
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

_MOVED = {f"misc.{name}": f"pgt.{name}" for name in ("affinity", "cam", "crf", "losses", "pamr", "superpixel")}
_MOVED |= {f"misc.{name}": f"pgt.metrics.{name}" for name in ("classification", "localization")}
_MOVED |= {"misc.metrics": "pgt.metrics.saliency", "misc.seg_metrics": "pgt.metrics.segmentation"}


class _Moved(MetaPathFinder, Loader):
    def find_spec(self, name: str, *_: object) -> ModuleSpec | None:
        return ModuleSpec(name, self) if name in _MOVED else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        module = importlib.import_module(_MOVED[spec.name])
        self.__spec = module.__spec__  # which the import system is about to replace
        return module

    def exec_module(self, module: ModuleType) -> None:
        module.__spec__ = self.__spec


sys.meta_path.append(_Moved())
