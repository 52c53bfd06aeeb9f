"""A pickle -> what it describes, without importing, making or calling anything that it names."""

from __future__ import annotations

import pickletools
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import IO, Any, Protocol, cast

STORED = "persistent id"  # name of what stands for a storage; a global has a dot in its name
_MOST_STEPS = 4_000_000  # a checkpoint of Swin-L with its optimizer has a hundredth of that
_PLAIN_KEY = 2**60  # greater numbers can be chosen so that a dict gets slow
_LONGEST_NAME = 80  # in a message


class Stream(Protocol):
    """What a pickle is read from; a map of a file, so that no length in it asks for memory."""

    def read(self, n: int, /) -> bytes:
        """At most ``n`` bytes."""

    def readline(self) -> bytes:
        """Up to the next end of a line."""


@dataclass(slots=True, eq=False, repr=False)
class Inert:
    """What a pickle would import, or make by a call: its name, and what it would be given.

    Attributes:
        name: Module and name of the global that is imported or called; or ``STORED``.
        arguments: Of the call.
        entries: What is set in it by key.
        elements: What is appended to it.
        state: What it is handed to restore itself.
    """

    name: str
    arguments: tuple[Any, ...] = ()
    entries: dict[Any, Any] = field(default_factory=dict)
    elements: list[Any] = field(default_factory=list)
    state: Any = None


class Reader:
    """Reads pickles of one file.

    Numbers, text, lists, tuples and dicts come out as themselves, all others as ``Inert``: the
    machine below has no step that calls.

    Attributes:
        names: Of all globals that were asked for, in order, as they can be printed.
        stored: The persistent ids.
    """

    def __init__(self, stream: Stream) -> None:
        self.names: dict[str, None] = {}
        self.stored: list[Inert] = []
        self._stream = stream
        self._steps = 0

    def read(self) -> Any:
        """The next pickle.

        Raises:
            ValueError, TypeError, IndexError, KeyError: It is damaged.
        """
        self._stack: list[Any] = []
        self._below: list[list[Any]] = []  # stacks under the marks
        self._memo: dict[int, Any] = {}
        with warnings.catch_warnings():  # of escapes in a text: they are the file's
            warnings.simplefilter("ignore", DeprecationWarning)
            self._run()
        return self._stack.pop()

    def _run(self) -> None:
        # It takes ``read`` and ``readline`` alone, though its annotation asks for more.
        for opcode, argument, _ in pickletools.genops(cast(IO[bytes], self._stream)):
            self._steps += 1
            if self._steps > _MOST_STEPS:
                raise ValueError(f"its pickle has more than {_MOST_STEPS} steps")
            if step := _STEPS.get(opcode.name):
                step(self, argument)
            elif opcode.name in _VALUES:
                self._stack.append(argument)
            else:
                raise ValueError(f"its pickle has a step {opcode.name}")

    def _push_since_mark(self, make: Callable[[list[Any]], Any]) -> None:
        value = make(self._since_mark())
        self._stack.append(value)

    def _since_mark(self) -> list[Any]:
        items, self._stack = self._stack, self._below.pop()
        return items

    def _mark(self, _: object) -> None:
        self._below.append(self._stack)
        self._stack = []

    def _pop(self, _: object) -> None:
        if self._stack:
            self._stack.pop()
        else:
            self._since_mark()

    def _last(self, count: int) -> None:
        if len(self._stack) < count:
            raise IndexError("fewer values than its tuple has")
        self._stack[-count:] = [tuple(self._stack[-count:])]

    def _put(self, index: int) -> None:
        self._memo[index] = self._stack[-1]

    def _append(self, items: list[Any]) -> None:
        target = self._stack[-1]
        (target.elements if isinstance(target, Inert) else _of(list, target)).extend(items)

    def _set(self, items: list[Any]) -> None:
        target = self._stack[-1]
        entries = target.entries if isinstance(target, Inert) else _of(dict, target)
        entries.update(pairs_of(items))

    def _name(self, name: str) -> None:
        self.names["".join(c if c.isprintable() else "?" for c in name[:_LONGEST_NAME])] = None
        self._stack.append(Inert(name))

    def _stack_global(self, _: object) -> None:
        name, module = _of(str, self._stack.pop()), _of(str, self._stack.pop())
        self._name(f"{module}.{name}")

    def _call(self, callee: object, arguments: object) -> None:
        self._stack.append(Inert(_of(Inert, callee).name, _of(tuple, arguments)))

    def _reduce(self, _: object) -> None:
        arguments, callee = self._stack.pop(), self._stack.pop()
        self._call(callee, arguments)

    def _reduce_with_keywords(self, _: object) -> None:
        self._stack.pop()
        self._reduce(None)

    def _instance(self, name: str) -> None:
        items = self._since_mark()
        self._name(name)
        self._call(self._stack.pop(), tuple(items))

    def _object(self, _: object) -> None:
        callee, *items = self._since_mark()
        self._call(callee, tuple(items))

    def _build(self, _: object) -> None:
        state = self._stack.pop()
        _of(Inert, self._stack[-1]).state = state

    def _persistent(self, identity: object) -> None:
        inert = Inert(STORED, _of(tuple, identity))
        self.stored.append(inert)
        self._stack.append(inert)


def _of(kind: type[Any], value: object) -> Any:
    if not isinstance(value, kind):
        raise TypeError(f"a {type(value).__name__} where a {kind.__name__} belongs")
    return value


def pairs_of(items: list[Any]) -> dict[Any, Any]:
    """Keys and values in turn; keys whose hash a file could choose stand for themselves alone."""
    if len(items) % 2:
        raise ValueError("a key without a value")
    plain = [
        isinstance(key, str | None) or (isinstance(key, int) and abs(key) < _PLAIN_KEY)
        for key in items[::2]
    ]
    keys = [
        key if taken else Inert("key", (key,)) for key, taken in zip(items[::2], plain, strict=True)
    ]
    return dict(zip(keys, items[1::2], strict=True))


_VALUES = frozenset(
    opcode.name
    for opcode in pickletools.opcodes
    if opcode.arg is not None and len(opcode.stack_after) == 1 and not opcode.stack_before
) - {"PERSID", "GLOBAL"}
Step = Callable[[Reader, Any], object]
_STEPS: dict[str, Step] = {
    "PROTO": lambda r, _: None,
    "FRAME": lambda r, _: None,
    "STOP": lambda r, _: None,
    "NONE": lambda r, _: r._stack.append(None),
    "NEWTRUE": lambda r, _: r._stack.append(True),
    "NEWFALSE": lambda r, _: r._stack.append(False),
    "EMPTY_LIST": lambda r, _: r._stack.append([]),
    "EMPTY_TUPLE": lambda r, _: r._stack.append(()),
    "EMPTY_DICT": lambda r, _: r._stack.append({}),
    "EMPTY_SET": lambda r, _: r._stack.append(Inert("builtins.set")),
    "LIST": lambda r, _: r._push_since_mark(list),
    "TUPLE": lambda r, _: r._push_since_mark(tuple),
    "DICT": lambda r, _: r._push_since_mark(pairs_of),
    "FROZENSET": lambda r, _: r._push_since_mark(lambda i: Inert("builtins.frozenset", elements=i)),
    "TUPLE1": lambda r, _: r._last(1),
    "TUPLE2": lambda r, _: r._last(2),
    "TUPLE3": lambda r, _: r._last(3),
    "APPEND": lambda r, _: r._append([r._stack.pop()]),
    "APPENDS": lambda r, _: r._append(r._since_mark()),
    "ADDITEMS": lambda r, _: r._append(r._since_mark()),
    "SETITEM": lambda r, _: r._set([r._stack.pop(), r._stack.pop()][::-1]),
    "SETITEMS": lambda r, _: r._set(r._since_mark()),
    "MARK": Reader._mark,
    "POP": Reader._pop,
    "POP_MARK": lambda r, _: r._since_mark(),
    "DUP": lambda r, _: r._stack.append(r._stack[-1]),
    "MEMOIZE": lambda r, _: r._put(len(r._memo)),
    **dict.fromkeys(("PUT", "BINPUT", "LONG_BINPUT"), Reader._put),
    **dict.fromkeys(
        ("GET", "BINGET", "LONG_BINGET"), lambda r, index: r._stack.append(r._memo[index])
    ),
    **dict.fromkeys(("EXT1", "EXT2", "EXT4"), lambda r, code: r._name(f"copyreg.extension_{code}")),
    "GLOBAL": lambda r, name: r._name(name.replace(" ", ".")),
    "STACK_GLOBAL": Reader._stack_global,
    "INST": lambda r, name: r._instance(name.replace(" ", ".")),
    "OBJ": Reader._object,
    "REDUCE": Reader._reduce,
    "NEWOBJ": Reader._reduce,
    "NEWOBJ_EX": Reader._reduce_with_keywords,
    "BUILD": Reader._build,
    "PERSID": Reader._persistent,  # of text, which is no tuple: refused
    "BINPERSID": lambda r, _: r._persistent(r._stack.pop()),
}
