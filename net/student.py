"""The saliency network that comes along: student.safetensors, of which student.md tells how it was made.

    python -m net.student result/ckpt/sal.pth net/student.safetensors

writes the weights that train_sal left in half precision, and prints the file's sha256.
"""

import sys
from pathlib import Path

from misc.errors import InputError
from misc.files.download import sha256_of

STUDENT = Path(__file__).with_suffix(".safetensors")
SHA256 = "63154757d006c4eb4ae51812efc53b49594a1aa43dcad2d27a5c087d4308bb6b"


def student_file() -> Path:
    """Raises InputError where the file is missing, or is another one."""
    if not STUDENT.is_file():
        raise InputError(f"{STUDENT} is missing: get it from the repository, or give --sal_weights FILE or none")
    if sha256_of(STUDENT) != SHA256:
        raise InputError(f"{STUDENT} is not the file of this version (its sha256 differs): get it from the repository")
    return STUDENT


def main() -> None:
    from net.weights import read_checkpoint, save_half

    source, out = map(Path, sys.argv[1:])
    save_half(out, read_checkpoint(source))
    print(sha256_of(out))


if __name__ == "__main__":
    main()
