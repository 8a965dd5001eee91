"""What is run: a file per pass."""

import os

os.environ.setdefault(
    "PYTORCH_ENABLE_MPS_FALLBACK", "1"
)  # before torch: what Apple's GPU lacks is named, and the CPU's
