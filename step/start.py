"""What trainings start from: a backbone and its weights, as flags say, and net/ has."""

import argparse
from pathlib import Path

import net
from misc.errors import InputError
from misc.train.stage import trained_file
from net.weights import imagenet_file


def start_of(args: argparse.Namespace, stage: str) -> tuple[str, Path | None]:
    """-> name of the backbone, and its file of weights; None for ImageNet's, which are on disk then.

    Of a stage (a prefix of flags) of the segmentation branch: its own network, or train_seam's; its own weights (the
    word seam: the network that train_seam left), or those that train_seam starts from where the backbone is the same.
    Raises InputError for an unknown network, and where there are no weights.
    """
    own, weights = getattr(args, f"{stage}_network"), getattr(args, f"{stage}_weights")
    name = known_network(own or args.seam_network, f"{stage if own else 'seam'}_network")
    if str(weights) == "seam":
        return name, trained_file(args, "seam", f"{stage}_weights")
    weights = weights or (args.seam_weights if name == args.seam_network else None)
    if weights is None:
        try:
            imagenet_file(name, not args.quiet)
        except InputError as e:
            raise InputError(f"--{stage}_network {name} starts from --{stage}_weights FILE: {e}") from e
    return name, weights


def known_network(name: str, flag: str) -> str:
    """name, which is that of a backbone. Raises InputError, which names the flag, where it is not."""
    if name not in net.NETWORKS:
        raise InputError(f"--{flag} {name}: unknown, choose one of {', '.join(net.NETWORKS)}")
    return name
