"""Images -> labels of a saliency network that learned without masks, and of the CRF that brings them to the edges.

Reads   the images of --sal_dataset_dir, or with --bg_cue those of a set with classes; --sal_weights
Writes  RESULT_DIR/sal/<stem>.png, 8-bit gray at the image's own size, soft; 0 and 255 with --sal_binary
Paper   step/train_sal.py; Kraehenbuehl & Koltun, NIPS 2011 (dense CRF)
"""

from itertools import islice

from misc.errors import InputError
from misc.run.failures import Failures
from misc.run.flags import Args
from step.cue import share_of
from step.sal_labels import label_by_network
from step.sets import all_files, open_images, shard_of


def run(args: Args, failures: Failures) -> None:
    if args.sal_weights is not None:
        label_by_network(open_images(args).images, args, failures)


def run_classes(args: Args, failures: Failures) -> None:
    """Of a set with classes, where --bg_cue needs them. Raises InputError where there shall be none."""
    if not share_of(args):
        return
    if args.sal_weights is None:
        raise InputError(f"--bg_cue {args.bg_cue} needs saliency; give --sal_weights FILE or auto, or --bg_cue cam")
    files = all_files(args)
    places = shard_of(args, len(files))
    label_by_network(dict(islice(files.items(), places.start, places.stop)), args, failures)
