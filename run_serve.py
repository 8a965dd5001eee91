"""A page on this machine: drop a picture, see its map and its labels, save its cut-out.

    python run_serve.py                             then open the address that it prints
    python run_serve.py --cam_network resnet50      most flags of run_sample.py that maps and labels depend on

Nothing is written but weights that are downloaded, and by default no other machine can reach it. Ctrl-C ends it.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from labeller import Labeller
from misc.report.kinds import SALIENCY
from misc.report.serve import Desk, open_server
from misc.run.evaluation import exit_status
from misc.run.flags import Args, Device, Shapes, Table, flag, stage
from misc.run.memory import settle_memory
from run_sample import RECIPES, ROOT, Cam, Label, MakeLabel, MakeSal, MakeSlic, Sal, Slic


@stage("the page")
class Serve:
    host: str = flag("127.0.0.1", "who may open it: 127.0.0.1 this machine alone, 0.0.0.0 anyone", often=True)
    port: int = flag(8000, "0: any that is free", often=True, at_least=0, at_most=65535)
    max_mb: float = flag(32.0, "larger files are refused, in millions of bytes", often=True, above=0)


@stage("what it reads")
class Folder:
    result_dir: Path = flag(ROOT / "result", "trained networks are taken from here", often=True)


STAGES = (Serve(), Cam(), MakeLabel(), Label(), MakeSlic(), Slic(), MakeSal(), Sal(), Folder(), Device(), Shapes())
OWN = ("host", "port", "max_mb")
TABLE = Table(__doc__, STAGES, {name: RECIPES[name] for name in ("label_recipe", "slic_recipe")})


def parse(argv: Sequence[str] | None = None) -> tuple[Args, dict[str, object]]:
    """-> args, and those flags of a Labeller that the command line gives."""
    args, given = TABLE.parse(argv)
    return args, {name: value for name, value in given.items() if name not in OWN}


def serve(argv: Sequence[str] | None = None) -> None:
    settle_memory()
    args, flags = parse(argv)
    titles = {kind.key: kind.title for kind in SALIENCY if kind.key != "sal" or args.sal_weights is not None}
    with open_server(Desk(Labeller(**flags), titles, round(args.max_mb * 1e6)), args.host, args.port) as server:
        host = f"[{args.host}]" if ":" in args.host else args.host
        print(f"open http://{host}:{server.server_port}/ in a browser; Ctrl-C ends it", flush=True)
        try:
            server.serve_forever(0.2)
        finally:
            print("ended", flush=True)  # at once: the interpreter takes its time


def main(argv: Sequence[str] | None = None) -> int:
    return exit_status(lambda: serve(argv))


if __name__ == "__main__":
    sys.exit(main())
