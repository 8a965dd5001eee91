"""What trainings start from: a backbone and its weights, as flags say, and net/ has."""

from pathlib import Path

from misc.errors import InputError
from misc.run.flags import Args
from misc.train.stage import trained_file
from net.weights import imagenet_file, require_network


def start_of(args: Args, stage: str) -> tuple[str, Path | None]:
    """-> name of the backbone, and its file of weights; None for ImageNet's, which are on disk then.

    Of a stage (a prefix of flags) of the segmentation branch: its own network, or train_seam's; its own weights (the
    word seam: the network that train_seam left), or those that train_seam starts from where the backbone is the same.
    Raises InputError for an unknown network, and where there are no weights.
    """
    own, weights = getattr(args, f"{stage}_network"), getattr(args, f"{stage}_weights")
    name = own or args.seam.network
    require_network(name, f"--{stage if own else 'seam'}_network")
    if weights == "seam":
        return name, trained_file(args, "seam", f"{stage}_weights")
    weights = Path(weights) if weights else args.seam.weights if name == args.seam.network else None
    if weights is None:
        try:
            imagenet_file(name, not args.quiet)
        except InputError as e:
            raise InputError(f"--{stage}_network {name} starts from --{stage}_weights FILE: {e}") from e
    return name, weights
