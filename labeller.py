"""A picture -> its class activation map and its labels, in Python, with networks that stay loaded:

    from labeller import Labeller

    label = Labeller()  # any flags of run_sample.py by name, such as cam_network="resnet50", device="cuda"
    found = label("photo.jpg")  # found["cam"], found["cam_pamr"], found["cam_slic"], found["sal"]: (H,W) uint8

The functions are those of run_sample.py's passes, so the labels are those that it writes, byte for byte.
"""

from pathlib import Path
from typing import BinaryIO

import numpy as np

from misc.errors import InputError
from misc.files.images import read_image, read_named
from misc.run.device import out_of_memory, pick_device, side_step_for
from misc.run.flags import Args
from net import Network, SalNet, for_inference
from net.weights import load, read_network
from pgt.cam import class_power
from run_sample import TABLE
from step import make_cam, make_label, make_slic, sal_labels
from step.refine import refine_one, refining_device
from step.sal_labels import weights_of

Picture = str | Path | BinaryIO | np.ndarray  # an array: (H,W,3) uint8 RGB


class Labeller:
    """Networks and settings of run_sample.py; flags: those of it that are to be other than the default.

    Raises InputError for an unknown flag, a value out of bounds, and weights that cannot be had. A call takes one
    picture at a time.
    """

    def __init__(self, **flags: object):
        self._args = args = _resolved(flags)
        device = pick_device(args.device, args.deterministic)
        self._step, self._refining = side_step_for(device, args.side_step), refining_device(args)
        weights = args.cam_weights_dir or make_cam.trained_here(args)
        net, _ = load(args.cam_network, weights, args.result_dir / "weights", not args.quiet)
        self._power = class_power(net, args.cam_class_power)
        self._cam: Network = for_inference(net.to(device))
        self._sal: SalNet | None = None
        if args.sal_weights is not None:
            self._sal = for_inference(read_network(weights_of(args), SalNet).to(device))
        refiners = make_label.refiner_of(args.label), make_slic.refiner_of(args.slic)
        self._refiners = dict(zip(("cam_pamr", "cam_slic"), refiners, strict=True))

    def __call__(self, picture: Picture) -> dict[str, np.ndarray]:
        """-> image (H,W,3) uint8 RGB, as a viewer shows it; cam, cam_pamr, cam_slic and, where there is a network for
        it, sal: (H,W) uint8, as run_sample.py writes them (with cam_quarter, cam is (h,w) uint16). Raises OSError for
        what is no picture, and InputError where memory ends."""
        image, side = _read(picture), self._args.max_side
        with out_of_memory("lower max_side"):
            found = {"image": image, "cam": self._map(image)}
            for key, refiner in self._refiners.items():
                found[key] = refine_one(refiner, image, found["cam"], side, self._refining)
            if self._sal is not None:
                found["sal"] = self._label(self._sal, image)
        return found

    def _map(self, image: np.ndarray) -> np.ndarray:
        work = make_cam.look_at(image, make_cam.in_order(self._args.cam_scales), self._args.max_side, self._step)
        (saliency,) = make_cam.saliency_of(self._cam, [work], self._power)
        return make_cam.to_quarter(saliency) if self._args.cam_quarter else make_cam.to_map(saliency, work.size)

    def _label(self, net: SalNet, image: np.ndarray) -> np.ndarray:
        recipe = self._args.sal
        work = sal_labels.look_at(image, recipe, self._args.max_side)
        (maps,) = sal_labels.maps_of(net, [work], recipe)
        return sal_labels.label_of(work, maps, recipe)


def _resolved(flags: dict[str, object]) -> Args:
    known = TABLE.resolve({}).places
    for name in flags:
        if name not in known:
            raise InputError(f"{name} is no flag of run_sample.py; python run_sample.py --help_all lists them")
    return TABLE.resolve(flags)


def _read(picture: Picture) -> np.ndarray:
    if isinstance(picture, (str, Path)):
        return read_named(Path(picture))
    if not isinstance(picture, np.ndarray):
        return read_image(picture)
    if picture.ndim != 3 or picture.shape[2] != 3 or picture.dtype != np.uint8 or not picture.size:
        raise InputError(f"an array has to be (H,W,3) uint8 RGB, and is {picture.shape} {picture.dtype}")
    return picture
