"""Which of ImageNet's 1000 classes mean a class of everyday photographs.

Russakovsky et al., ImageNet Large Scale Visual Recognition Challenge, IJCV 2015. Numbers are places in the 1000 outputs
of a classifier, in the order that torchvision's weights say.
"""

import re
from functools import cache

# names of a class, those of VOC, COCO and plain speech: its places; what has few photographs of its own in ImageNet
# takes what it is often seen with (person: what people wear, play with and are seen doing)
_SYNSETS = """
aeroplane, airplane, plane: 404 895
backpack: 414
banana: 954
apple: 948
baseball glove: 429 981
bear: 294-297
bed: 564 520
bench: 703
bicycle, bike: 444 671
bird: 7-24 80-100 127-146
boat, ship: 472 484 510 554 576 625 628 724 780 814 871 914
book: 921 917
bottle: 440 720 737 898 907
bowl: 659 809
broccoli: 937
bus: 654 779 874
car: 436 468 511 609 627 656 661 751 817
cat: 281-285
cell phone, mobile phone, phone: 487 590 605
chair: 423 559 765
clock: 409 530 892
couch, sofa: 831
cow, cattle: 345
cup, mug: 968 504 967
dining table, diningtable, table: 532
dog: 151-268
elephant: 101 385 386
fish: 0 1 389-397
flower: 985 986
fork, spoon: 910
hair drier, hair dryer: 589
handbag, bag: 748 636
hot dog: 934
horse: 339
keyboard: 508 878
knife: 623 499
laptop: 620 681
microwave: 651
motorbike, motorcycle: 665 670
monkey: 369-382
mouse: 673
orange: 950
oven, stove: 827 766
parking meter: 704
person, people: 399 400 402 411 416 429 430 433 445 452 457 459 465 474 501 515 518 560 568 570 578 585 \
601 602 608 610 614 617 638 639 652 655 678 689 691 697 702 735 768 775 \
785 793 796 808 824 834 836-838 841 842 869 887 890 903 906 981-983
pizza: 963
potted plant, pottedplant, houseplant: 738
refrigerator, fridge: 760
remote: 761
rabbit: 330-332
sandwich: 933 931
sheep: 348 349
sink: 896
skis, ski: 795
snake: 52-68
sports ball, ball: 429 430 574 722 768 805 852 890
stop sign: 919
suitcase: 636 492
surfboard: 842
teddy bear: 850
tennis racket: 752
tie: 906 451
toaster: 859
toilet: 861
traffic light: 920
train: 466 547 705 820
truck: 555 569 675 717 864 867
tv, tvmonitor, television: 664 782 851
umbrella: 879
vase: 883
wine glass: 572 966
zebra: 340
""".strip()


def synsets_of(name: str) -> tuple[int, ...]:
    """A class name -> its places among ImageNet's 1000; () where none is known. Capitals, a plural's s, underscores and
    hyphens do not matter; a name is one of the table above, or of ImageNet's own."""
    table, key = _table(), _plain(name)
    return table.get(key) or table.get(key.removesuffix("s"), ())


def _plain(name: str) -> str:
    return " ".join(re.split(r"[\s_-]+", name.strip().casefold()))


@cache
def _table() -> dict[str, tuple[int, ...]]:
    own = {_plain(name): (place,) for place, name in reversed([*enumerate(categories())])}
    lines = (line.split(":") for line in _SYNSETS.splitlines())
    return own | {_plain(name): _places(places) for names, places in lines for name in names.split(",")}


def _places(text: str) -> tuple[int, ...]:
    """Such as 7-9 80 -> (7, 8, 9, 80)."""
    ends = (part.partition("-") for part in text.split())
    return tuple(place for first, _, last in ends for place in range(int(first), int(last or first) + 1))


def categories() -> list[str]:
    """ImageNet's own names of the 1000 classes, in their order."""
    from torchvision.models import ResNet50_Weights

    return ResNet50_Weights.IMAGENET1K_V1.meta["categories"]
