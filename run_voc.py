"""High-fidelity pseudo labels (HFPL): image-level labels -> class activation maps -> segmentation, on PASCAL VOC 2012.

    python run_voc.py --toy                              every pass on a small set made by code, in minutes
    python run_voc.py --voc12_root VOCdevkit/VOC2012 --seam_weights ilsvrc-cls_rna-a1_cls1000_ep-0001.params
    python run_voc.py --data_dir my_set --preset small                          images and classes of your own
    python -m step.make_seg photos --make_seg_weights result/my_set/ckpt/seg.pth    new pictures, by the final network
    python run_voc.py --train_seam_pass False --make_cam_pass False             the passes after these alone

Every line of the classes below is a flag and its default, as published for VOC 2012 (HFPL, WACV 2024): edit it, or give
the flag.
"""

import sys
from pathlib import Path

from misc.run.flags import (
    Args,
    Course,
    Device,
    Forwards,
    Pass,
    Run,
    Shapes,
    Shards,
    Table,
    Training,
    Words,
    flag,
    pass_flags,
    stage,
)
from misc.run.passes import run_passes
from misc.run.records import lent
from pgt.crf import CRF_RECIPES, CRFParams
from pgt.seam_weights import SEAMWeights
from run_sample import MakeSal, Sal

ROOT = Path(__file__).resolve().parent


PASSES = {
    "train_seam_pass": Pass(True, "step.train_seam", "train_seam", often=True),  # torchrun: on several devices
    "make_cam_pass": Pass(True, "step.make_cam:run_classes", "cam", {"train_seam": "cam_weights"}, often=True),
    "make_sal_pass": Pass(True, "step.make_sal:run_classes", "sal"),  # for --bg_cue
    "make_crf_pass": Pass(True, "step.make_crf", "crf", {"cam": "", "sal": ""}),
    "eval_cam_pass": Pass(True, "step.eval_cam", reads={"cam": "", "sal": ""}),
    "train_aff_pass": Pass(True, "step.train_aff", "train_aff", {"crf": "", "train_seam": "aff_network"}),
    "make_sem_seg_pass": Pass(
        True, "step.make_sem_seg", "sem_seg", {"cam": "", "sal": "", "train_aff": "sem_seg_weights"}
    ),
    "eval_sem_seg_pass": Pass(True, "step.eval_sem_seg", reads={"sem_seg": ""}, parts=True),
    "train_seg_pass": Pass(True, "step.train_seg", "train_seg", {"sem_seg": "seg_labels", "train_seam": "seg_network"}),
    "make_seg_pass": Pass(True, "step.make_seg", "seg", {"sal": "", "train_seg": "make_seg_weights"}),
    "eval_seg_pass": Pass(True, "step.eval_seg", reads={"seg": ""}, parts=True),
    "doubtful_pass": Pass(
        True, "step.doubtful:run_classes", reads={"cam": "", "crf": "", "sem_seg": "", "seg": ""}, parts=True
    ),
    "report_pass": Pass(True, "step.report:run_classes", reads={"cam": "", "sem_seg": "", "seg": ""}),
}


@stage("data (data/segmentation.py has the layouts)", of="*")
class Voc12:
    voc12_root: Path = flag(
        Path("VOCdevkit/VOC2012"), "as `python -m data.prepare voc12` leaves it", often=True, reads=True
    )


@stage("images, of all passes", of="*")
class Images:
    toy: bool = flag(False, "a small set made by code, and settings for two CPU cores", often=True)
    preset: str = flag(
        "default",
        "published: as the authors ran it, also where that is not best; small: for a CPU, or some hundred images",
        often=True,
        choices=("default", "published", "small"),
    )
    data_dir: Path | None = flag(None, "images and classes of your own instead", often=True, reads=True)
    extra_data_dir: Path | None = flag(None, "more images to train with: any set with some of the classes", reads=True)
    train_split: str | None = flag(None, "the part to train on; none: train_aug where there is one, else train")
    limit: int | None = flag(None, "take only the first LIMIT images by name", often=True, at_least=1)


@stage("sizes", of=("make_cam", "make_sal", "make_crf", "make_sem_seg", "make_seg"))
class Sizes:
    max_side: int = flag(1024, "a longer side is scaled down to this for networks and CRFs", at_least=1)
    crf_scale: float = flag(1.0, "CRFs are for pictures this many times smaller than VOC's, of 500 pixels", above=0)


@stage("train_seam: images with image-level labels -> a network that gives class activation maps", of=("train_seam",))
class Method:
    method: str = flag(
        "hfpl",
        "plain: a CAM network; seam: SEAM alone; hfpl: SEAM with ISL and FSL",
        often=True,
        choices=("plain", "seam", "hfpl"),
    )
    seam_as_known: bool = flag(
        False,
        "with --seam_init imagenet, where ImageNet has all classes: a plain CAM network, whatever --method says, "
        "that is not trained",
    )
    losses: SEAMWeights = flag(SEAMWeights(), "HFPL's losses", prefix="")


@stage("the recipe of train_seam", prefix="seam_", of=("train_seam",))
class Seam:
    network: str = flag("resnet38", "backbone, such as resnet38, resnet50 or efficientnet_lite0", often=True)
    weights: Path | None = flag(None, "start: a .pth, or WideResNet-38's .params; none: ImageNet's", often=True)
    fix_norms: bool = flag(True, "batch norms stay as they are")
    crop_size: int = flag(448, "side of the training images in pixels", at_least=1)
    long_side: tuple[int, int] = flag((448, 768), "the long side becomes LOW to HIGH before the crop", at_least=1)
    view_scale: float = flag(0.3, "scale of SEAM's second view", at_least=0, at_most=1)
    batch_size: int = flag(8, "images per step, of all processes together", at_least=1)
    num_epoches: float = flag(8, "passes over the images", above=0)
    learning_rate: float = flag(0.01, "of the backbone; biases take twice as much", above=0)
    momentum: float = flag(5e-4, "as published; with 0.9 the rate must be lower", at_least=0, at_most=1)
    weight_decay: float = flag(5e-4, "weight decay, of biases none", at_least=0)
    warm_up: float = flag(0.0, "share of the steps in which the rate rises", at_least=0, at_most=1)
    clip: float = flag(0.0, "largest norm of the gradient; 0: any", at_least=0)
    head_factor: float = flag(10, "the new layers' learning rate is this many times the backbone's", above=0)
    pcm_factor: float = flag(10, "the same for the layers of SEAM's pixel correlation module", at_least=0)
    init: str = flag(
        "published",
        "new layers' start: random; for short trainings a whitened PCM; also a classifier of class means, or of "
        "ImageNet's classes",
        choices=("published", "whitened", "prototypes", "imagenet"),
    )
    jitter: float = flag(0.3, "jitter of brightness, contrast and saturation", at_least=0, at_most=1)
    hue: float = flag(0.1, "hue is turned by up to this share", at_least=0, at_most=1)


@stage("make_cam: images with image-level labels -> RESULT_DIR/cam/<name>.npz", of=("make_cam",))
class Cam:
    cam_weights: Path | None = flag(None, "a checkpoint, also of SEAM, HFPL or IRN; none: train_seam's", often=True)
    cam_scales: tuple[float, ...] = flag((0.5, 1.0, 1.5, 2.0), "image scales; each also has its mirror image", above=0)
    cam_inference: str = flag(
        "auto",
        "how the scales become a map; auto: irn for checkpoints of IRN, seam for all others",
        choices=("auto", "seam", "irn"),
    )
    cam_bits: int = flag(8, "bits per value of a map", choices=(8, 16))
    cam_pamr: float = flag(
        0.0, "maps follow edges by PAMR, on the CPU, on the image at this scale; 0: they do not", at_least=0, at_most=1
    )


@stage("what tells object from background", of=("make_crf", "make_sem_seg", "make_seg"))
class Cue:
    bg_cue: str = flag(
        "cam",
        "background; cam: where no CAM is high, as published; both: also by saliency, of a network that learned "
        "without masks; saliency: by that alone",
        often=True,
        choices=("cam", "both", "saliency"),
    )
    bg_share: float = flag(
        0.4, "of --bg_cue both, the share of saliency in a pixel's highest map", at_least=0, at_most=1
    )


@stage("make_crf: class activation maps -> RESULT_DIR/crf_la and crf_ha/<name>.npz", of=("make_crf",))
class Crf:
    crf_alphas: tuple[float, float] = flag((1.0, 24.0), "LOW HIGH: background is (1 - max CAM)^alpha", above=0)
    crf: CRFParams = flag(CRF_RECIPES["wsss_cam"], "its kernels and iterations")


@stage("what is scored, trained on and segmented", of=("train_seg", "make_seg"), lends=False)
class Parts:
    eval_splits: tuple[str, ...] = flag(("train", "val"), "the parts to score")
    cam_bg_score: float = flag(0.25, "threshold of contour F, beside the best one", at_least=0, at_most=1)
    seg_most_epoches: float = flag(
        0.0, "train_seg takes fewer than seg_num_steps where those are more passes over the images; 0: any", at_least=0
    )
    seg_labels: Path | None = flag(None, "label maps <name>.png to train on; none: RESULT_DIR/sem_seg", reads=True)
    seg_splits: tuple[str, ...] | None = flag(
        None, "the parts to segment; none: val, and all that is there where it cannot be scored"
    )


@stage("the recipe of train_aff", prefix="aff_", of=("train_aff",))
class Aff:
    network: str | None = flag(None, "backbone; none: seam_network")
    weights: str | None = flag(None, "start; seam: train_seam's network; none: seam_weights")
    crop_size: int = flag(448, "side of the training images in pixels", at_least=1)
    long_side: tuple[int, int] | None = flag(None, "the long side becomes LOW to HIGH; none: it stays", at_least=1)
    jitter: float = flag(0.3, "jitter of brightness, contrast and saturation", at_least=0, at_most=1)
    hue: float = flag(0.1, "hue is turned by up to this share", at_least=0, at_most=1)
    batch_size: int = flag(8, "images per step, of all processes together", at_least=1)
    num_epoches: float = flag(8, "passes over the images", above=0)
    learning_rate: float = flag(0.001, "of the backbone; 10 times as much for new layers", above=0)
    momentum: float = flag(0.9, "the published code has 0.0005 by a mistake", at_least=0, at_most=1)
    weight_decay: float = flag(5e-4, "weight decay, of biases none", at_least=0)


@stage("make_sem_seg: CAMs -> pseudo labels, RESULT_DIR/sem_seg/<name>.png", of=("make_sem_seg",))
class MakeSemSeg:
    sem_seg_weights: Path | None = flag(None, "an AffinityNet, also a published one; none: train_aff's")
    sem_seg_soft: bool = flag(False, "also write RESULT_DIR/sem_seg_soft/<name>.npz, scores of all present classes")


@stage("the recipe of make_sem_seg", prefix="sem_seg_", of=("make_sem_seg",))
class SemSeg:
    walk: bool = flag(
        True,
        "along AffinityNet's affinities; False: the CRF alone, without train_aff, which some hundred images mislead",
    )
    scale: float = flag(1.0, "scale of the image on whose grid, a cell per 8 x 8 pixels, the walk is", above=0)
    alpha: float = flag(6.0, "background is (1 - highest CAM) to this power", above=0)
    power: float = flag(1.0, "background and classes to this power before the CRF: above 1 they are surer", above=0)
    beta: float = flag(8.0, "power of the affinities", at_least=0)
    exp_times: int = flag(6, "the walk has 2 to this power steps", at_least=0)
    confidence: float = flag(0.0, "train_seg leaves out pixels below this probability", at_least=0, at_most=1)
    crf: CRFParams | None = flag(CRF_RECIPES["wsss_cam"], "end with a dense CRF")


@stage("the recipe of train_seg", prefix="seg_", of=("train_seg",))
class Seg:
    network: str | None = flag(None, "backbone; none: seam_network")
    weights: str | None = flag(None, "start; seam: train_seam's network; none: seam_weights")
    head: str = flag(
        "largefov",
        "head; objects starts from image labels, a classifier of train_seam's or ImageNet's, and a saliency network",
        choices=("largefov", "deeplabv3", "objects"),
    )
    fix_norms: bool = flag(False, "the backbone's batch norms stay as they are")
    fix_classes: bool = flag(
        False,
        "of head objects, backbone and classifiers are fitted to image labels alone: some hundred masks spoil them",
    )
    norm_momentum: float = flag(3e-4, "running statistics move by this share", at_least=0, at_most=1)
    crop_size: int = flag(448, "side of the training images in pixels", at_least=1)
    scale: tuple[float, float] = flag((0.5, 1.5), "images are resized by LOW HIGH before the crop", above=0)
    hsv_jitter: int = flag(10, "hue, saturation and value of 8 bits move by up to this", at_least=0)
    batch_size: int = flag(10, "images per step, of all processes together", at_least=1)
    num_steps: int = flag(20001, "steps; the published schedule of 20,000 divides by 20,001", at_least=1)
    learning_rate: float = flag(0.001, "of the backbone; biases take twice as much", above=0)
    momentum: float = flag(0.9, "SGD's momentum", at_least=0, at_most=1)
    weight_decay: float = flag(5e-4, "weight decay, of biases none", at_least=0)
    head_factor: float = flag(10.0, "the head's learning rate is this many times the backbone's", above=0)
    ema: float = flag(0.0, "what a step keeps of the mean of the weights; 0: no mean", at_least=0, at_most=1)
    optimizer: str = flag("sgd", "optimiser", choices=("sgd", "adamw"))
    warm_up: float = flag(0.0, "share of the steps in which the rate rises", at_least=0, at_most=1)
    clip: float = flag(0.0, "largest norm of the gradient; 0: any", at_least=0)
    loss: str = flag(
        "cross_entropy", "generalized cross entropy trusts labels less", choices=("cross_entropy", "generalized")
    )
    loss_q: float = flag(0.7, "of the generalized one: towards 0 cross entropy, 1 absolute error", above=0)


@stage("how a final network segments a picture", of=("make_seg",))
class Segmenter:
    make_seg_weights: Path | None = flag(None, "a final network, also a published one; none: train_seg's")
    seg_scales: tuple[float, ...] = flag(
        (0.5, 0.75, 1.0, 1.25, 1.5, 1.75), "image scales; each also has its mirror image", above=0
    )
    seg_crf_recipe: str = flag(
        "wsss_seg",
        "sets the CRF: as published, of the pseudo labels, which reaches farther, or of make_sal",
        choices=("wsss_seg", "wsss_cam", "saliency"),
    )
    seg_crf: CRFParams | None = flag(CRF_RECIPES["wsss_seg"], "end with a dense CRF")


STAGES = (
    Images(), Sizes(), Method(), Seam(), Training(seed=1), Course(), Cam(), Cue(), MakeSal(), Sal(), Crf(), Aff(),
    MakeSemSeg(), SemSeg(), Seg(), Segmenter(), Parts(), Run(), Device(), Shapes(), Forwards(), Shards(),
)  # fmt: skip

# as the authors ran it, where that is neither right nor best
PUBLISHED = {
    "aff_momentum": 5e-4,  # a mistake, which takes the weight decay for it; the learning rate goes with it
    "aff_learning_rate": 0.01,
    "sem_seg_crf": None,
}

# a small network and some hundred steps, for a CPU or for a set of some hundred images
SMALL = {
    "seam_network": "efficientnet_lite0",
    "seam_crop_size": 224,
    "seam_long_side": (224, 384),
    "seam_view_scale": 0.75,
    "seam_learning_rate": 0.003,
    "seam_momentum": 0.9,
    "seam_warm_up": 0.1,
    "seam_clip": 2.0,
    "seam_pcm_factor": 1.0,
    "seam_init": "imagenet",
    "seam_as_known": True,  # what some hundred images add to ImageNet's million is lost in labels
    "fsl_weight": 4.0,
    "fsl_sigma": 1.5,
    "cam_scales": (0.5, 1.0, 1.5),
    "bg_cue": "both",
    "bg_share": 0.4,
    "aff_weights": "seam",
    "aff_crop_size": 224,
    "aff_long_side": (224, 384),
    "aff_num_epoches": 4,
    "aff_learning_rate": 0.01,
    "sem_seg_walk": False,  # AffinityNet needs more
    "sem_seg_alpha": 4.0,
    "sem_seg_power": 2.0,
    "seg_weights": None,  # what train_seam learned of some hundred images says little of others
    "seg_head": "objects",
    "seg_fix_classes": True,
    "seg_fix_norms": True,
    "seg_norm_momentum": 0.1,
    "seg_crop_size": 224,
    "seg_batch_size": 8,
    "seg_num_steps": 150,
    "seg_most_epoches": 30.0,  # below 40 images
    "seg_optimizer": "adamw",
    "seg_learning_rate": 3e-5,
    "seg_warm_up": 0.05,
    "seg_clip": 1.0,
    "seg_scales": (0.5, 0.75, 1.0),
    "seg_crf_recipe": "saliency",
}

# beside SMALL: pictures of 100 pixels, drawn, of classes that nobody has seen, and enough of them for published ways
TOY = {
    **SMALL,
    "bg_cue": "cam",
    "sem_seg_walk": True,
    "seg_weights": "seam",
    "seg_head": "largefov",
    "seg_fix_classes": False,
    "seg_num_steps": 400,
    "seg_optimizer": "sgd",
    "seg_learning_rate": 0.005,
    "seg_warm_up": 0.0,
    "seg_clip": 0.0,
    "seam_init": "whitened",
    "seam_crop_size": 160,
    "seam_long_side": (160, 240),
    "cam_scales": (1.5, 2.0, 2.5),
    "crf_scale": 4.0,
    "aff_crop_size": 160,
    "aff_long_side": (176, 256),
    "aff_num_epoches": 3,
    "sem_seg_scale": 2.0,
    "sem_seg_exp_times": 3,
    "sem_seg_alpha": 1.0,
    "sem_seg_power": 1.0,
    "sem_seg_confidence": 0.7,
    "seg_crop_size": 160,
    "seg_scale": (1.25, 2.0),
    "seg_scales": (1.5, 1.75),
    "seg_crf_recipe": "wsss_cam",
}

RECIPES = {
    "preset": {"published": PUBLISHED, "small": SMALL},
    "toy": {True: TOY},
    "seg_crf_recipe": {name: {"seg_crf": CRF_RECIPES[name]} for name in ("wsss_cam", "saliency")},
}

TABLE = Table(__doc__, (pass_flags(PASSES), Voc12(), *STAGES), RECIPES)


def parse(argv: Words | None = None) -> Args:
    return parse_for("voc12", TABLE, argv)


def parse_for(dataset: str, table: Table, argv: Words | None = None) -> Args:
    """The flags of a run script. dataset: a name of data.datasets, whose root is a flag. -> args, with dataset and
    dataset_root."""

    def placed(args: Args) -> Args:
        name = "toy" if args.toy else args.data_dir.resolve().name if args.data_dir else dataset
        args.dataset, args.dataset_root = dataset, getattr(args, f"{dataset}_root")
        args.result_dir = args.result_dir or ROOT / "result" / name
        return args

    args, given = table.parse(argv)
    return placed(table.resolve({**given, **lent(PASSES, placed(args), given)}))


if __name__ == "__main__":
    sys.exit(run_passes(PASSES, parse))
