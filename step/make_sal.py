"""Images -> labels of a saliency network that learned without masks, and of the CRF that brings them to the edges.

Reads   the images of --sal_dataset_dir; --sal_weights
Writes  RESULT_DIR/sal/<stem>.png, 8-bit gray at the image's own size, soft; 0 and 255 with --sal_binary
Paper   step/train_sal.py; Kraehenbuehl & Koltun, NIPS 2011 (dense CRF)
"""

from pathlib import Path

from misc.files.download import sha256_of
from misc.run.failures import Failures
from misc.run.flags import Args
from net import SalNet
from net.student import student_file
from net.weights import read_network
from step.sal_labels import label_images
from step.sets import open_images


def run(args: Args, failures: Failures) -> None:
    if args.sal_weights is None:
        return
    file, images = args.once("student", lambda: weights_of(args)), open_images(args).images
    net, sha256 = args.kept("saliency", lambda: (read_network(file, SalNet), sha256_of(file)))
    label_images("make_sal", "sal", net, sha256, images, args, failures)


def weights_of(args: Args) -> Path:
    """--sal_weights; auto: what train_sal left in RESULT_DIR, else the network that comes along."""
    if args.sal_weights != "auto":
        return Path(args.sal_weights)
    own = args.result_dir / "ckpt" / "sal.pth"
    if not own.is_file():
        return student_file()
    print(f"make_sal: weights of {own}")
    return own
