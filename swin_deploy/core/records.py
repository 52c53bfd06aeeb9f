"""JSON that anyone may have written, bounded and typed; and errors of foreign readers.

Devices read files too, so this needs the standard library alone, and Python 3.10.
"""

from __future__ import annotations

import errno
import json
import math
import re
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import MISSING, dataclass, fields, is_dataclass
from functools import cache
from itertools import accumulate
from pathlib import Path
from typing import Annotated, Any, NamedTuple, TypeVar

from swin_deploy.core.errors import ConfigError, InputError, typed
from swin_deploy.core.own_files import open_plain

T = TypeVar("T")

MAX_BYTES = 64 << 20  # the largest real record, of 50,000 images with every flip, has a tenth of it
MAX_DEPTH = 64  # ours are 8 deep at most
MAX_DIGITS = 20  # of an integer: 2^64 has as many

# A string that is not closed matches too: else every quote in it would be tried again.
_STRING = re.compile(rb'"[^"\\]*(?:\\.?[^"\\]*)*(?:"|\Z)', re.DOTALL)
_DEEPER = {ord("["): 1, ord("{"): 1, ord("]"): -1, ord("}"): -1}
_NO_BRACKETS = bytes(sorted(set(range(256)) - _DEEPER.keys()))
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
_SHOWN = 60  # characters of a value in a message


@dataclass(frozen=True)
class Within:
    """Bounds of a number, or of how many characters or entries something has: both may be reached.

    ``decode`` refuses what is outside where it is metadata of a type, as ``Text`` and the next are.
    """

    low: float
    high: float


# What a report that anyone may have written can hold, so that all of it can be shown.
Text = Annotated[str, Within(0, 4000)]
# Wider than any measurement, and narrow enough for a sum or a margin of them to be finite.
Number = Annotated[float, Within(-1e15, 1e15)]
Positive = Annotated[float, Within(1e-9, 1e15)]
Share = Annotated[float, Within(0, 1)]
Count = Annotated[int, Within(0, (1 << 53) - 1)]
Batch = Annotated[int, Within(1, (1 << 31) - 1)]
Interval = tuple[Number, Number]
Rows = Annotated[tuple[T, ...], Within(0, 20_000)]
Reasons = Annotated[dict[Text, Text], Within(0, 20_000)]


def parse_json(content: bytes, where: object, hint: str = "", *, finite: bool = True) -> Any:
    """A JSON value whose size, depth and numbers are those of an honest file.

    Args:
        content: UTF-8.
        where: The file, for messages.
        hint: What to try where it is none.
        finite: Refuse NaN and infinity, which JSON has not and Python writes all the same.

    Raises:
        InputError: It is no JSON, or more than ``MAX_BYTES``, ``MAX_DEPTH`` or ``MAX_DIGITS``, or
            has numbers or characters that JSON has not: NaN, infinity, half of a surrogate pair.
    """
    if len(content) > MAX_BYTES:
        raise InputError(f"{where} has {len(content)} bytes, at most {MAX_BYTES} are read", hint)
    brackets = _STRING.sub(b"", content).translate(None, _NO_BRACKETS)
    if (depth := max(accumulate(_DEEPER[one] for one in brackets), default=0)) > MAX_DEPTH:
        raise InputError(f"{where} is nested {depth} deep, at most {MAX_DEPTH} are read", hint)
    try:
        value = json.loads(
            content.decode("utf-8-sig"),
            parse_int=_integer,
            parse_float=_finite if finite else float,
            parse_constant=_refuse_constant if finite else float,
        )
        if _SURROGATE.search(content):
            json.dumps(value, ensure_ascii=False).encode()
    except json.JSONDecodeError as error:
        raise InputError(
            f"{where} is not JSON (line {error.lineno}, column {error.colno})", hint
        ) from error
    except ValueError as error:
        raise InputError(f"{where} is not JSON that can be read: {error}", hint) from error
    return value


def finite(value: Any) -> Any:
    """A JSON-able value with null in place of every number that JSON has not: NaN and infinity."""
    if isinstance(value, dict):
        return {key: finite(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _integer(text: str) -> int:
    if len(text.lstrip("-")) > MAX_DIGITS:
        raise ValueError(f"a number of {len(text)} digits, at most {MAX_DIGITS} are read")
    return int(text)


def _finite(text: str) -> float:
    if (value := float(text)) in (float("inf"), float("-inf")):
        raise ValueError(f"the number {text[:_SHOWN]} is too large")
    return value


def _refuse_constant(text: str) -> float:
    raise ValueError(f"{text} is no number of JSON")


def load_json(path: Path, hint: str = "", *, finite: bool = True) -> dict[str, Any]:
    """The JSON object in a file; arguments as of ``parse_json``.

    Raises:
        InputError: The file is missing or no plain one, or holds anything else.
        OSError: It cannot be read.
    """
    try:
        with open_plain(path) as stream:
            content = stream.read(MAX_BYTES + 1)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise InputError(f"{path} does not exist", hint) from error
    value = parse_json(content, path, hint, finite=finite)
    if not isinstance(value, dict):
        raise InputError(f"{path} holds {_show(value)}, not a JSON object", hint)
    return value


def decode(
    kind: type[T],
    value: object,
    where: object,
    hint: str = "",
    key: str = "",
    *,
    newer: bool = False,
    own: bool = False,
) -> T:
    """A value of ``parse_json`` as a dataclass, with every type in it checked.

    What ``dataclasses.asdict`` made of one, and JSON has kept, comes back equal.

    Args:
        kind: A dataclass, or any type that its fields have.
        value: What was parsed.
        where: The file, for messages.
        hint: What to try where it does not fit.
        key: Its place in the file, for messages.
        newer: Pass over keys that the dataclasses have not: a newer version may have added them.
        own: It was made by this program just now: the same, and it may be of any size.

    Raises:
        InputError: It does not fit; names the key, what is there and what should be.
    """
    try:
        return typing.cast(T, _decode(kind, value, key, _How(newer or own, own)))
    except _MisfitError as error:
        raise InputError(f"{where}: {error}", hint) from error


VERSION = "schema_version"


def require_version(
    data: Mapping[str, Any], versions: Sequence[int], where: object, hint: str
) -> None:
    """InputError unless a record is of one of these versions."""
    if (found := decode(int, data.get(VERSION), where, hint, VERSION)) not in versions:
        raise InputError(
            f"{where} has schema version {found}, this version of swin-deploy reads "
            f"{' or '.join(map(str, versions))}",
            hint,
        )


class _How(NamedTuple):
    newer: bool
    own: bool


class _MisfitError(Exception):
    def __init__(self, key: str, found: object, wanted: str) -> None:
        self.key = key
        super().__init__(f"{key or 'it'} is {_show(found)}, not {wanted}")


def _decode(kind: Any, value: object, key: str, how: _How) -> object:
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if kind is Any:
        return value
    if origin is Annotated:
        return _decode_within(arguments, value, key, how)
    if origin in (typing.Union, types.UnionType):
        return _decode_union(arguments, value, key, how)
    if origin is typing.Literal:
        # By type too: True equals 1.
        if any(value == one and type(value) is type(one) for one in arguments):
            return value
        raise _MisfitError(key, value, f"one of {', '.join(map(repr, arguments))}")
    if is_dataclass(kind):
        return _decode_dataclass(kind, value, key, how)
    if origin in (tuple, list):
        return _decode_array(origin, arguments, value, key, how)
    if origin in (dict, Mapping):
        if not isinstance(value, dict):
            raise _MisfitError(key, value, "an object")
        of, inner = arguments
        return {
            _decode(of, name, f"a key of {key}", how): _decode(inner, one, _join(key, name), how)
            for name, one in value.items()
        }
    if kind is float and type(value) is int:
        return float(value)
    if type(value) is not (type(None) if kind is None else kind):
        raise _MisfitError(key, value, _NAMES.get(kind, str(kind)))
    return value


_NAMES: dict[Any, str] = {
    bool: "true or false",
    dict: "an object",
    float: "a number",
    int: "an integer",
    list: "an array",
    str: "a string",
    type(None): "null",
}


def _decode_within(arguments: tuple[Any, ...], value: object, key: str, how: _How) -> object:
    kind, *metadata = arguments
    found: Any = _decode(kind, value, key, how)
    for bound in () if how.own else metadata:
        size, of = (found, "") if isinstance(found, int | float) else (len(found), " entries")
        if not bound.low <= size <= bound.high:
            of = " characters" if isinstance(found, str) else of
            raise _MisfitError(key, value, f"from {bound.low:g} to {bound.high:g}{of}")
    return found


def _decode_union(kinds: tuple[Any, ...], value: object, key: str, how: _How) -> object:
    problems = []
    for kind in kinds:
        try:
            return _decode(kind, value, key, how)
        except _MisfitError as error:
            # What was meant is told by the keys that are there; and by how far it could be read:
            # within it, rather than not null.
            problems.append(((_known_keys(kind, value), len(error.key)), error))
    raise max(problems, key=lambda problem: problem[0])[1]


def _known_keys(kind: Any, value: object) -> int:
    """How many of the keys that are there a kind has."""
    if not (is_dataclass(kind) and isinstance(value, dict)):
        return 0
    return len(value.keys() & {field.name for field in fields(kind)})


def _decode_array(
    origin: Any, kinds: tuple[Any, ...], value: object, key: str, how: _How
) -> object:
    if not isinstance(value, list):
        raise _MisfitError(key, value, "an array")
    if origin is list or kinds[1:] == (...,):
        each = [kinds[0]] * len(value)
    elif len(kinds) == len(value):
        each = list(kinds)
    else:
        raise _MisfitError(key, value, f"an array of {len(kinds)}")
    found = (
        _decode(kind, one, f"{key}[{i}]", how)
        for i, (kind, one) in enumerate(zip(each, value, strict=True))
    )
    return origin(found)


@cache
def _fields_of(kind: Any) -> dict[str, tuple[Any, bool]]:
    """Name -> type of what a dataclass is made of, and whether it has to be there."""
    hints = typing.get_type_hints(kind, include_extras=True)
    return {
        one.name: (hints[one.name], one.default is MISSING and one.default_factory is MISSING)
        for one in fields(kind)
        if one.init
    }


def _decode_dataclass(kind: Any, value: object, key: str, how: _How) -> object:
    if not isinstance(value, dict):
        raise _MisfitError(key, value, "an object")
    known = _fields_of(kind)
    if not how.newer and (unknown := sorted(value.keys() - known.keys())):
        raise _MisfitError(_join(key, unknown[0]), value[unknown[0]], "a key of this version")
    read = {}
    for name, (hint, needed) in known.items():
        if name in value:
            read[name] = _decode(hint, value[name], _join(key, name), how)
        elif needed:
            raise _MisfitError(_join(key, name), "missing", "there")
    try:
        return kind(**read)
    except (ConfigError, InputError) as error:  # what its own check refused
        raise _MisfitError(key, value, f"allowed: {error.problem}") from error


def _join(key: str, name: object) -> str:
    return f"{key}.{str(name)[:_SHOWN]}" if key else str(name)[:_SHOWN]


def _show(value: object) -> str:
    text = json.dumps(value, default=repr)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


_AGAIN = "make or copy it again"
_LONGEST = 240  # characters of a reader's own words
# What offsets in a damaged archive lead to; any other of the system's errors is its own.
_ODD = (errno.EINVAL, errno.EOVERFLOW)


@contextmanager
def reading(what: object, kind: str, hint: str = _AGAIN) -> Iterator[None]:
    """Blame the file for whatever its bytes lead a reader to raise within the block.

    Zip, pickle, NumPy, protobuf, ONNX, safetensors, TOML and Pillow have no errors in common, and
    over damaged bytes raise those of Python as well. So the block holds calls of readers, and
    nothing of ours that could have a bug.

    Args:
        what: The file, or the part of one, for the message.
        kind: What it should be, with its article.
        hint: What to try.

    Raises:
        InputError: For all that is no typed error, and none of the operating system.
        SwinDeployError: What was typed already; memory that ran out; what the system refused.
        OSError: Of a kind that has no type.
    """
    try:
        yield
    except Exception as error:
        if (known := typed(error)) is not None:
            raise known from (error if known is not error else error.__cause__)
        if isinstance(error, OSError) and error.errno is not None and error.errno not in _ODD:
            raise
        raise InputError(
            f"{what} is not {kind}, or is damaged: {reason_of(error)}", hint
        ) from error


def reason_of(error: BaseException) -> str:
    """What an error of others says, on one line of bounded length."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."
