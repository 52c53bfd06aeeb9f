"""Follows TensorRT objects through a source text, and looks up every name in the real bindings.

``Walk`` is a small interpreter of a syntax tree: the value of an expression is what is known of its
type. What it cannot follow is a problem, never skipped: an attribute of an unknown object, code
that is not reached, a TensorRT object handed to code that is not looked at.
"""

from __future__ import annotations

import ast
import builtins
import re
from collections import ChainMap
from typing import Any

from tensorrt_api import Api
from tensorrt_kinds import (
    PLAIN,
    UNKNOWN,
    Env,
    Function,
    Known,
    Method,
    Own,
    all_of,
    arguments_of,
    element,
    one_of,
    parameters,
)

NONE = ast.dump(ast.Constant(None))
PLAIN_TYPES = re.compile(r"None|(typing\.Supports)?([Ii]nt|[Ff]loat)|bool|str|bytes")
UNTYPED = re.compile(r"None|.*\b(Any|object|Callable)\b.*")  # None: no annotation
VALUES = ("Dims", "IHostMemory")  # numbers and bytes: these may go to code not looked at
COPIES = ("tuple", "list", "sorted", "reversed")
ASKS = ("hasattr", "isinstance", "int", "str", "repr", "len", "bool", "bytes", "print")


class Walk:
    """One source text against one version: ``problems``, and the attributes that it ``checked``."""

    def __init__(self, api: Api, source: str) -> None:
        self.api = api
        self.problems: list[str] = []
        self.checked: set[ast.Attribute] = set()
        self.gates: dict[str, bool] = {}
        self._seen: set[ast.AST] = set()
        self._functions: list[Function] = []
        self._active: list[tuple[ast.AST, list[Any]]] = []  # with what each returned so far
        self.tree = ast.parse(source)
        self._children(self.tree, ChainMap())
        for function in self._functions:  # grows while it is read
            if function.node not in self._seen and UNKNOWN not in self._expected(function):
                self._run(function, [], {})
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Attribute) and node not in self._seen:
                self._problem(node, "is never reached with known arguments")

    def _problem(self, node: Any, text: str) -> Any:
        line = f"line {node.lineno}: {ast.unparse(node)} {text}"
        self.problems += [line] if line not in self.problems else []
        return UNKNOWN

    def _resolve(self, text: str) -> Any:
        """The type that a docstring names: in Python, or in C++ if it was registered too late."""
        if PLAIN_TYPES.fullmatch(text):
            return PLAIN
        if inner := re.fullmatch(r"[Ll]ist\[(.*)\]", text):
            return all_of([self._resolve(inner[1])])
        name = text.split("::")[-1]  # nvonnxparser::IParserError is ParserError in Python
        return next((Known(n) for n in (name, name[1:]) if n and n in self.api), UNKNOWN)

    def _differs(self, kind: Any, wanted: Any) -> str:
        of = getattr(kind, "of", None)
        if of is None or wanted in (PLAIN, UNKNOWN):
            return ""
        fits = wanted.of in self.api[of]["of"]["classes"]
        return "" if fits else f"wants {wanted.of}, not {of}"

    def _misfit(self, signature: Any, given: list[Any], named: dict[str, Any]) -> str:
        """Why these arguments do not fit, or nothing."""
        names = [name for name, _, _ in signature]
        if len(given) > len(names):
            return f"takes {len(names)} arguments, not {len(given)}"
        if excess := named.keys() - set(names[len(given) :]):
            return f"has no argument {', '.join(excess)}"
        filled = dict(zip(names, given, strict=False)) | named
        missing = [name for name, _, optional in signature if not optional and name not in filled]
        differs = (self._differs(filled.get(n), self._resolve(text)) for n, text, _ in signature)
        return f"needs {', '.join(missing)}" if missing else next(filter(None, differs), "")

    def _may_leave(self, kind: Any) -> bool:
        of = getattr(getattr(kind, "item", kind), "of", None)
        is_value = of in VALUES or "__members__" in self.api.get(of, ())
        return kind is PLAIN or isinstance(kind, Function) or is_value

    def _children(self, node: ast.AST, env: Env) -> list[Any]:
        return [self._kind(child, env) for child in ast.iter_child_nodes(node)]

    def _kind(self, node: Any, env: Env) -> Any:
        """What a node evaluates to; PLAIN for a statement."""
        match node:
            case ast.Name(name):
                return env.get(name, PLAIN if hasattr(builtins, name) else UNKNOWN)
            case ast.Attribute(value):
                return self._attribute(node, self._kind(value, env))
            case ast.Call():
                return self._call(node, env)
            case ast.Subscript(value, index):
                self._kind(index, env)
                return element(self._kind(value, env))
            case ast.Starred(value):
                return element(self._kind(value, env))
            case ast.Tuple(parts) | ast.List(parts) | ast.Set(parts):
                return all_of([self._kind(part, env) for part in parts])
            case ast.ListComp() | ast.SetComp() | ast.GeneratorExp() | ast.DictComp():
                env = env.new_child()
                for loop in node.generators:
                    self._kind(loop, env)
                is_dict = isinstance(node, ast.DictComp)
                results = [node.key, node.value] if is_dict else [node.elt]
                return all_of([self._kind(result, env) for result in results])
            case ast.comprehension(target, iterable) | ast.For(target, iterable):
                self._bind(target, element(self._kind(iterable, env)), env)
                self._children(node, env)
            case ast.Assign() | ast.AnnAssign():
                self._kind(getattr(node, "annotation", None), env)
                kind = self._kind(node.value, env)
                empty = node.value is None or ast.dump(node.value) == NONE
                for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
                    self._bind(target, kind, env, empty)
            case ast.withitem(value, target) | ast.NamedExpr(target, value):
                kind = self._kind(value, env)
                self._bind(target, kind, env)
                return kind
            case ast.Import() | ast.ImportFrom():
                env.update({a.asname or a.name.split(".")[0]: PLAIN for a in node.names})
                if ast.unparse(node).split()[1].startswith("tensorrt"):
                    self._problem(node, "does not say which of the modules it means")
            case ast.ExceptHandler(_, name):
                env[name or ""] = PLAIN
                self._children(node, env)
            case ast.FunctionDef(name):
                for part in (node.args, node.returns, *node.decorator_list):
                    self._kind(part, env)
                env[name] = Function(node, env, env.get("owner of methods"))
                self._functions.append(env[name])
            case ast.ClassDef(name, bases):
                kinds = [self._kind(base, env) for base in bases]
                of = next((kind.of for kind in kinds if isinstance(kind, Known)), None)
                env[name] = own = Own(of, {})
                inside = ChainMap(own.attributes, {"owner of methods": own}, *env.maps)
                self._children(ast.Module(node.body, []), inside)
            case ast.Return(value):
                self._active[-1][1].append(self._kind(value, env))
            case ast.If(test, body, orelse):
                self._branch(test, body, orelse, env)
            case ast.Compare() | ast.BinOp() | ast.UnaryOp() | ast.JoinedStr():
                self._children(node, env)
            case ast.AST():
                return PLAIN if one_of(self._children(node, env)) is PLAIN else UNKNOWN
        return PLAIN

    def _attribute(self, node: ast.Attribute, base: Any) -> Any:
        self._seen.add(node)
        if base is PLAIN:
            return PLAIN
        if isinstance(base, Own) and node.attr in base.attributes:
            found = base.attributes[node.attr]
            is_property = isinstance(found, Function) and found.node.decorator_list
            return self._run(found, [], {}) if is_property else found
        owner = getattr(base, "of", None)
        if owner is None:
            return self._problem(node, "belongs to an object that the walk does not know")
        self.checked.add(node)
        match self.api[owner].get(node.attr):
            case {"class": name}:
                return Known(name, made=False)
            case {"calls": signatures}:
                return Method(signatures, bound=getattr(base, "made", True))
            case {"value": text}:
                return self._resolve(text)
        return self._problem(node, f"does not exist in {owner or 'the module'}")

    def _call(self, node: ast.Call, env: Env) -> Any:
        called, callee = ast.unparse(node.func), self._kind(node.func, env)
        given = [self._kind(argument, env) for argument in node.args]
        named: dict[Any, Any] = {
            keyword.arg: self._kind(keyword.value, env) for keyword in node.keywords
        }
        starred = any(isinstance(argument, ast.Starred) for argument in node.args)
        if callee is not PLAIN and (starred or None in named):
            return self._problem(node, "has arguments that cannot be counted")
        match callee:
            case Function():
                return self._run(callee, given, named)
            case Own(_, {"__init__": Function() as function}):
                self._run(function, given, named)
                return callee
            case Own(str(of)) | Known(of, made=False):
                made = Method(self.api[of]["__init__"]["calls"], bound=True)
                self._call_method(node, made, given, named)
                return callee if isinstance(callee, Own) else Known(of)
            case Method():
                return self._call_method(node, callee, given, named)
        if called == "importlib.import_module":
            return Known("", made=False)
        if called == "super" and (of := getattr(env.get("super()"), "of", None)):
            return Known(of)
        if called in COPIES:
            return all_of([element(kind) for kind in given])
        if callee is not PLAIN and not isinstance(callee, Own):
            return self._problem(node, "calls something that the walk does not know")
        if called not in ASKS and not all(map(self._may_leave, [*given, *named.values()])):
            return self._problem(node, "hands a TensorRT object to code that is not looked at")
        return callee

    def _call_method(self, node: ast.Call, method: Method, given: list[Any], named: Any) -> Any:
        reasons, results = ["has no signature to check"], []
        for signature in method.signatures:
            reason = self._misfit(parameters(signature)[method.bound :], given, named)
            results += [] if reason else [self._resolve(signature.rpartition(" -> ")[2])]
            reasons += [reason]
        return one_of(results) if results else self._problem(node, reasons[-1])

    def _expected(self, function: Function) -> list[Any]:
        """What our function takes, as far as its annotations or the method it overrides say."""
        node, owner = function.node, function.owner
        arguments = arguments_of(node)
        if owner and owner.of and node.name in self.api[owner.of] and node.name != "__init__":
            overridden = parameters(self.api[owner.of][node.name]["calls"][0])
            if len(overridden) != len(arguments):
                self._problem(arguments[0], f"and its neighbours are not what {node.name} takes")
            return [self._resolve(text) for _, text, _ in overridden[1:]]
        texts = [ast.unparse(a.annotation) if a.annotation else "None" for a in arguments]
        kinds = [UNKNOWN if UNTYPED.fullmatch(t) else function.env.get(t, PLAIN) for t in texts]
        return kinds[1:] if owner else kinds

    def _run(self, function: Function, given: list[Any], named: dict[str, Any]) -> Any:
        node, owner = function.node, function.owner
        if any(node is active for active, _ in self._active):
            return UNKNOWN
        names = [argument.arg for argument in arguments_of(node)]
        env = function.env.new_child({"super()": owner, "owner of methods": None})
        if owner:
            env[names.pop(0)] = owner
        for kinds in (self._expected(function), given):
            env.update(zip(names, kinds, strict=False))
        env.update(named)
        self._seen.add(node)
        self._active.append((node, []))
        self._children(ast.Module(node.body, []), env)
        return one_of(self._active.pop()[1])

    def _branch(self, test: ast.expr, body: Any, orelse: Any, env: Env) -> None:
        """Only the side that this version takes, where the test is a ``hasattr`` gate."""
        match test:
            case ast.Call(ast.Name("hasattr"), [owner, ast.Constant(str(name))]):
                kind = self._kind(owner, env)
                if isinstance(kind, Known):
                    here = self.gates[f"{ast.unparse(owner)}.{name}"] = name in self.api[kind.of]
                    for skipped in orelse if here else body:
                        self._seen.update(ast.walk(skipped))
                    body, orelse = (body, []) if here else ([], orelse)
        self._kind(test, env)
        self._children(ast.Module([*body, *orelse], []), env)

    def _bind(self, target: Any, kind: Any, env: Env, empty: bool = False) -> None:
        """Assign; None, which is ``empty``, does not change what is known of the target."""
        match target:
            case ast.Name(name):
                env[name] = env.get(name, kind) if empty else kind
                return
            case ast.Tuple(parts) | ast.List(parts):
                for part in parts:
                    self._bind(part, element(kind), env)
                return
            case ast.Attribute(base, name):
                owner = self._kind(base, env)
                of = getattr(owner, "of", None)
                if of and name in self.api[of]:
                    wanted = self._kind(target, env)
                    if not self.api[of][name].get("settable"):
                        self._problem(target, "cannot be set")
                    elif reason := self._differs(kind, wanted):
                        self._problem(target, reason)
                    return
                if isinstance(owner, Own):
                    self._seen.add(target)
                    owner.attributes[name] = owner.attributes.get(name, kind) if empty else kind
                    return
        self._kind(target, env)
        if not self._may_leave(kind):
            self._problem(target, "keeps a TensorRT object where the walk does not look")
