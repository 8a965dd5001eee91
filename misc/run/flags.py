"""Flags. The top of a run script holds its stages, data classes whose fields are the flags: one line is default, type,
bounds and help of a flag, and the number to edit.

    @stage("make_label: maps -> labels", prefix="label_", of=("make_label",))
    class Label:
        high: float | None = flag(1.7, "surely object: above this times the mean of the map", above=0)

gives `--label_high`, args.label.high, args.label_high. A given flag comes first, a recipe before the top of the script.
"""

import argparse
import dataclasses
import difflib
import importlib
import re
import sys
import types
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from misc.errors import InputError
from misc.files.remote import as_path
from misc.report.kinds import EXPORT_FORMATS, Simplify
from pgt.settings import out_of_bounds, setting

_TRUTH = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
_KINDS = {bool: "True or False", int: "a whole number", float: "a number", str: "text", Path: "a path"}
_NUMBER = re.compile(r"-?[\d.,]+(e-?\d+)?|-?inf|nan", re.IGNORECASE)
Words = Sequence[str] | Mapping[str, object]
_APART = "\x1f"  # between the values of a list that came as several words


def flag(default: object, help: str, *, often: bool = False, **bounds: object) -> typing.Any:
    """A field of a stage. often: --help shows it, the others are in --help_all. bounds: above, at_least, at_most,
    choices, required; prefix of a nested data class, whose own fields then are flags of that prefix."""
    return setting(default, help, often=often, **bounds)


def stage(title: str, prefix: str = "", of: Sequence[str] = (), lends: bool = True) -> Callable[[type], type]:
    """Makes a class a stage: a frozen data class with a title for --help and a prefix of its flags.

    of: the passes whose results depend on it, "*" for all. lends: whether a pass that is off lends them, see
    misc.run.records.
    """

    def make(cls: type) -> type:
        cls = dataclass(frozen=True)(cls)
        cls.title, cls.prefix, cls.of, cls.lends = title, prefix, tuple(of), lends
        cls.key = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", cls.__name__).lower()
        return cls

    return make


class Pass(typing.NamedTuple):
    """A pass of a script. on: whether it runs where nobody says; None: by a flag of its own that is no truth value.
    step: a module with run(args, failures), or module:function; makes: under what name its results and their record lie
    in RESULT_DIR, where it makes any (misc/run/records.py); reads: what others make -> the flag that names something
    else instead, "" where there is none; often: see flag; parts: whether it tells of all shards (misc/run/parts.py)."""

    on: bool | None
    step: str
    makes: str = ""
    reads: Mapping[str, str] = types.MappingProxyType({})
    often: bool = False
    parts: bool = False

    def load(self) -> Callable:
        """What it runs: (args, failures) -> nothing."""
        module, _, function = self.step.partition(":")
        return getattr(importlib.import_module(module), function or "run")


def pass_flags(passes: Mapping[str, Pass]) -> typing.Any:
    """The stage of their flags."""
    held = {name: flag(p.on, f"run {p.step}", often=p.often) for name, p in passes.items() if p.on is not None}
    return stage("passes")(type("Passes", (), {"__annotations__": dict.fromkeys(held, bool), **held}))()


@dataclass(frozen=True)
class Flag:
    """One flag. kind: bool, int, float, str or Path; optional: `none` is a value; length: of a list how many values, 0
    for any number, None for one value; where: attributes that lead to it from args."""

    name: str
    kind: type
    default: object
    facts: Mapping[str, typing.Any]
    where: tuple[str, ...]
    optional: bool = False
    length: int | None = None

    def read(self, text: str) -> object:
        """The value of a text. Raises InputError, which names the flag."""
        if self.optional and text.lower() == "none":
            return None
        if self.length is None:
            return self.checked(self._one(text))
        texts = text.split(_APART) if self.kind is Path else re.split(f"[{_APART},]", text)
        return self.checked(tuple(self._one(t) for t in texts if t))

    def _one(self, text: str) -> object:
        try:
            return _TRUTH[text.lower()] if self.kind is bool else text if self.kind is Path else self.kind(text)
        except (KeyError, ValueError):
            raise self._error(repr(text), f"is not {_KINDS[self.kind]}") from None

    def checked(self, value: object) -> typing.Any:
        """value, of a command line, the top of a script or a JSON file, as args hold it. Raises InputError for another
        type, another number of values, or what is out of bounds."""
        if value is None and self.optional:
            return None
        many = isinstance(value, (list, tuple))
        values = tuple(as_path(v) if self.kind is Path else v for v in (value if many else [value]))
        none = not values and self.kind in (int, float)
        if none or many != (self.length is not None) or self.length not in (None, 0, len(values)):
            raise self._error(_text(values), f"takes {self.length or 'some'} values, not {len(values)}")
        for one in values:
            right = isinstance(one, (int, float) if self.kind is float else self.kind)
            if not right or (isinstance(one, bool) and self.kind is not bool):
                raise self._error(repr(one), f"is not {_KINDS[self.kind]}")
            if problem := out_of_bounds(one, self.facts):
                raise self._error(str(one), problem + _did_you_mean(str(one), self.facts.get("choices", ())))
        return values if many else values[0]

    def _error(self, value: str, problem: str) -> InputError:
        return InputError(f"--{self.name} {value}: {problem}")


def _did_you_mean(word: str, known: Sequence[str], prefix: str = "") -> str:
    close = difflib.get_close_matches(word, known, 1)
    return f"; did you mean {prefix}{close[0]}?" if close else ""


class Args:
    """What a run is told: a stage with a prefix by its name (args.label.high), every flag by its own (args.label_high),
    a nested data class by that of its field, and what a script adds. defaults: flag -> value where nobody says any;
    maps_of_others: whether the maps of the run were made elsewhere; images_flag: the one that names its images;
    args_file: where RESULT_DIR keeps it all; at_shard: the number of the shard under way, of a run by shards; shards:
    their numbers once all are done; opened: what is kept for later; evaluates_alone: whether evaluations are all.
    """

    maps_of_others = evaluates_alone = False
    images_flag, args_file = "--sal_dataset_dir", "args.json"
    at_shard: int | None = None
    shards: Sequence[int] | None = None

    def __init__(self, stages: Sequence[typing.Any], places: Mapping[str, Flag], defaults: Mapping[str, object]):
        self.stages, self.places, self.defaults = tuple(stages), dict(places), dict(defaults)
        self.opened: dict[str, typing.Any] = {}
        self.__dict__.update({s.key: s for s in stages if s.prefix})
        nested = ((s.prefix + f.name, getattr(s, f.name)) for s in stages for f in dataclasses.fields(s))
        self.__dict__.update({name: value for name, value in nested if dataclasses.is_dataclass(value)})

    def __getattr__(self, name: str) -> typing.Any:
        place = self.__dict__.get("places", {}).get(name)
        if place is None:
            raise AttributeError(f"no stage or flag {name}")
        value: typing.Any = next(s for s in self.stages if s.key == place.where[0])
        for attribute in place.where[1:]:
            value = getattr(value, attribute, None)
        return value

    def once(self, what: str, opening: Callable[[], typing.Any]) -> typing.Any:
        """What opening() gives, which is called once per run."""
        if what not in self.opened:
            self.opened[what] = opening()
        return self.opened[what]

    def kept(self, what: str, opening: Callable[[], typing.Any]) -> typing.Any:
        """once, in a run by shards; else opening(), whose result does not stay in memory."""
        return opening() if self.at_shard is None else self.once(what, opening)

    def flat(self) -> dict[str, typing.Any]:
        """Flag -> value; of what may be left out, whether it is there."""
        values = {name: getattr(self, name) for name in self.places}
        return {n: v is not None if self.places[n].facts.get("toggle") else v for n, v in values.items()}

    def flags_of(self, name: str) -> dict[str, bool]:
        """Flags that the results of a pass depend on -> whether it lends them."""
        held = {s.key: s.lends for s in self.stages if name in s.of or "*" in s.of}
        return {n: held[f.where[0]] for n, f in self.places.items() if f.where[0] in held}


@dataclass(frozen=True)
class Table:
    """The flags of a script. description: its docstring; stages: instances, whose values are the top of the script;
    recipes: flag -> its value -> what other flags then are; top: what of the stages' values this script has otherwise;
    positional: the flag that a bare word is."""

    description: str
    stages: Sequence[typing.Any]
    recipes: Mapping[str, Mapping[object, Mapping[str, object]]] = field(default_factory=dict)
    top: Mapping[str, object] = field(default_factory=dict)
    positional: str | None = None

    def parse(self, argv: Words | None = None) -> tuple[Args, dict[str, object]]:
        """-> args, and what of them the command line gives, or flag -> value in its place. Raises InputError; --help
        ends the program."""
        words = list(sys.argv[1:] if argv is None else argv)
        plain = [word for word in words if word not in ("-h", "--help", "--help_all")]
        given = dict(argv) if isinstance(argv, Mapping) else self.given(plain)
        if {"-h", "--help", "--help_all"}.intersection(words):
            print(self.help(given, "--help_all" in words), flush=True)
            raise SystemExit(0)
        args = self.resolve(given)
        for name, f in args.places.items():
            if (f.facts.get("required") or (f.default and f.kind is Path)) and not getattr(args, name):
                raise InputError(f"--{name} is missing: {f.facts['help']}")
        return args, given

    def resolve(self, given: Mapping[str, object]) -> Args:
        """Given flags before recipes before the top of the script."""
        places = {f.name: f for s in self.stages for f in flags_of(s)}
        defaults = {name: f.default for name, f in places.items()} | _expanded(self.top, places)
        values = dict(defaults)
        for name, recipes in self.recipes.items():
            values |= _expanded(recipes.get(given.get(name, values[name]), {}), places)
        wanted = {places[name].where[:-1] for name in given if len(places[name].where) > 2}
        values |= {f.name: True for f in places.values() if f.where in wanted} | given  # a flag of it means it is there
        values = {name: places[name].checked(value) for name, value in values.items()}
        try:
            return Args([_filled(s, values) for s in self.stages], places, defaults)
        except ValueError as e:
            raise InputError(str(e)) from e

    def given(self, words: Sequence[str]) -> dict[str, object]:
        """Flag -> value, of the words of a command line."""
        places, given, left = {f.name: f for s in self.stages for f in flags_of(s)}, {}, list(words)
        while left:
            word = left.pop(0)
            name, equals, text = word.removeprefix("--").partition("=")
            if not word.startswith("--"):
                if word.startswith("-") or self.positional is None or self.positional in given:
                    raise InputError(f"{word!r} belongs to no flag; --help lists them")
                name, equals, text = self.positional, "=", word
            if name not in places:
                close = _did_you_mean(name, list(places), "--")
                raise InputError(f"--{name}: no such flag{close or '; --help and --help_all list them'}")
            given[name] = places[name].read(text if equals else _take(places[name], left))
        return given

    def help(self, given: Mapping[str, object], everything: bool) -> str:
        """All flags with their defaults, as recipes among the given ones make them; or those that are used often."""
        values = self.resolve(given).flat()
        parser = argparse.ArgumentParser(
            description=self.description,
            usage=f"%(prog)s {'[folder] ' if self.positional else ''}[flags]",
            formatter_class=argparse.RawDescriptionHelpFormatter,
            add_help=False,
            epilog=None if everything else "--help_all explains all flags.",
        )
        for s in self.stages:
            shown = [f for f in flags_of(s) if everything or f.facts.get("often")]
            group = parser.add_argument_group(s.title) if shown else None
            for f in shown:
                text = f"{f.facts['help']} (default: {_text(values[f.name])})".replace("%", "%%")
                group.add_argument(f"--{f.name}", metavar=_metavar(f), help=text)
        return parser.format_help()


def _take(place: Flag, left: list[str]) -> str:
    """The words that belong to a flag, taken away from those that are left."""
    if place.kind is bool:
        return left.pop(0) if left and left[0].lower() in _TRUTH else "True"
    numbers = place.kind in (int, float)
    taken = []
    while left and not left[0].startswith("--") and (place.length is not None or not taken):
        if taken and numbers and not _NUMBER.fullmatch(left[0]):
            break
        taken.append(left.pop(0))
    if not taken and not (place.kind is str and place.length == 0):
        raise InputError(f"--{place.name} needs a value")
    return _APART.join(taken)


def _metavar(place: Flag) -> str:
    if place.facts.get("choices"):
        return "|".join(map(str, place.facts["choices"]))
    word = {bool: "True|False", int: "N", float: "X", str: "NAME", Path: "PATH"}[place.kind]
    return word if place.length is None else f"{word} ..."


def _text(value: object) -> str:
    return " ".join(map(str, value)) if isinstance(value, tuple) else "none" if value is None else str(value)


def flags_of(stage: typing.Any) -> Iterator[Flag]:
    """Of an instance of a stage class, with its values as defaults. A nested data class gives a flag per field; where
    it may be None, there is one more, which says whether it is there."""
    hints = typing.get_type_hints(type(stage))
    for f in dataclasses.fields(stage):
        kind, optional, length = _kind_of(hints[f.name])
        name, value, where = stage.prefix + f.name, getattr(stage, f.name), (stage.key, f.name)
        if not dataclasses.is_dataclass(kind):
            yield Flag(name, kind, value, f.metadata, where, optional, length)
            continue
        if optional:
            yield Flag(name, bool, value is not None, {**f.metadata, "toggle": True}, where)
        hints_of_it, prefix = typing.get_type_hints(kind), f.metadata.get("prefix", f"{name}_")
        for sub in dataclasses.fields(kind):
            inner, may_be_none, _ = _kind_of(hints_of_it[sub.name])
            given = getattr(value, sub.name) if value is not None else sub.default
            yield Flag(prefix + sub.name, inner, given, sub.metadata, (*where, sub.name), may_be_none)


def _kind_of(hint: typing.Any) -> tuple[typing.Any, bool, int | None]:
    """Annotation -> type of a value, whether None is one, how many there are (see Flag)."""
    parts = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    optional = type(None) in parts
    (hint,) = (part for part in parts if part is not type(None))
    if typing.get_origin(hint) is tuple:
        inner = typing.get_args(hint)
        return inner[0], optional, 0 if inner[-1] is Ellipsis else len(inner)
    return hint, optional, None


def _expanded(values: Mapping[str, typing.Any], places: Mapping[str, Flag]) -> dict[str, object]:
    """Values by flag, where a nested data class may stand for all of its flags. Raises InputError for no such flag."""
    found: dict[str, object] = {}
    for name, value in values.items():
        if name not in places:
            raise InputError(f"the top of the script names {name}, which is no flag{_did_you_mean(name, list(places))}")
        found[name] = value
        if dataclasses.is_dataclass(value) or (value is None and places[name].facts.get("toggle")):
            found[name] = value is not None
            inner = (f for f in places.values() if f.where[:-1] == places[name].where and value is not None)
            found |= {f.name: getattr(value, f.where[-1]) for f in inner}
    return found


def _filled(stage: typing.Any, values: Mapping[str, object]) -> typing.Any:
    """The stage with these values by flag."""
    made: dict[str, typing.Any] = {}
    for f in flags_of(stage):
        attribute, *inner = f.where[1:]
        if f.facts.get("toggle"):
            made[attribute] = {} if values[f.name] else None
        elif not inner:
            made[attribute] = values[f.name]
        elif made.setdefault(attribute, {}) is not None:
            made[attribute][inner[0]] = values[f.name]
    for attribute, value in made.items():
        if isinstance(value, dict):
            kind, _, _ = _kind_of(typing.get_type_hints(type(stage))[attribute])
            was = getattr(stage, attribute)
            made[attribute] = dataclasses.replace(was, **value) if was is not None else kind(**value)
    return dataclasses.replace(stage, **made)


@dataclass(frozen=True)
class Talks:
    """What every command says while it works."""

    progress: str = flag("auto", "auto: a bar on a terminal, else lines", choices=("auto", "bar", "lines", "off"))
    progress_seconds: float = flag(30.0, "between two such lines", above=0)
    quiet: bool = flag(False, "no progress")


@stage("run")
class Run(Talks):
    result_dir: Path | None = flag(None, "everything is written below this folder", often=True, writes=True)
    num_workers: int = flag(0, "threads that refine and score; 0: one per core", at_least=0)
    overwrite: bool = flag(False, "make every file anew, also those that are up to date", often=True)


@stage("many images: by shards")
class Shards:
    shard: str | None = flag(None, "I/N: every N-th shard from the I-th on; auto, auto/N: as SLURM, Kubernetes say")
    shard_size: int = flag(1000, "images per shard", at_least=1)
    num_devices: str | None = flag(None, "a process for each of N devices, or of N on the CPU; all")


@stage("device")
class Device:
    device: str = flag("auto", "auto (cuda, then mps, then cpu), or a torch device such as cuda:1", often=True)
    deterministic: bool = flag(False, "the same bytes from run to run on CUDA too, at a cost; a CPU's always are")


@stage("shapes that networks see at inference", of=("make_cam", "make_sem_seg", "make_seg"), lends=False)
class Shapes:
    side_step: int | None = flag(
        None, "sides go by steps of so many pixels, and one; 0: exact sizes; none: 64 on CUDA, 0 elsewhere", at_least=0
    )


@stage("forwards of make_cam", of=("make_cam",), lends=False)
class Forwards:
    cam_infer_batch_size: int = flag(0, "images of one shape per forward; 0: 8 on CUDA, 1 elsewhere", at_least=0)


@stage("training, of every network", of=("train_cam", "train_sal", "train_seam", "train_aff", "train_seg"), lends=False)
class Training:
    seed: int = flag(0, "of all that is random; the same seed gives the same weights on one device", at_least=0)
    accumulate: int = flag(1, "forwards per step", at_least=1)


@stage("course of a training")
class Course:
    resume: bool = flag(True, "go on from the last state of a run that was killed; False: anew")
    state_steps: int = flag(0, "steps between states on disk; 0: an epoch, at most 2,000", at_least=0)
    tensorboard: bool = flag(True, "write RESULT_DIR/tensorboard, where the package is installed")


@stage("eval, overview, report, export: what came out")
class Results:
    mask_dir: Path | None = flag(
        None, "masks with the names of the images; none: those of the data set", often=True, reads=True
    )
    overview_rows: int = flag(12, "images in the overview", at_least=1)
    export: str | None = flag(
        None, "labels for other tools as well, to RESULT_DIR/export/<format>", often=True, choices=EXPORT_FORMATS
    )
    export_threshold: float = flag(0.5, "foreground of an exported label: at and above this", at_least=0, at_most=1)
    export_shapes: str = flag("rle", "coco: polygons fill holes", choices=("rle", "polygons"))
    export_simplify: Simplify | None = flag(
        Simplify(), "labelme, coco: polygons that a person can correct; False: exact to the pixel"
    )
