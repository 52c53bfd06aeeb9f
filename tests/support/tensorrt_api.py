"""What a version of NVIDIA's bindings has: its names, and the signatures in their docstrings.

    python tensorrt_api.py MODULE

prints it as JSON. Versions cannot be imported beside one another, hence the process of its own.
"""

from __future__ import annotations

import importlib
import json
import re
import sys
from typing import Any

Api = dict[str, dict[str, Any]]  # class name, "" for the module -> member -> its entry


def describe(trt: Any) -> Api:
    """Entries: ``{"class": name}``, ``{"value": type}``, ``{"calls": [signature]}``."""
    package = f"{trt.Builder.__module__}."

    def entry(value: Any) -> dict[str, Any]:
        if f"{getattr(value, '__module__', None)}." == package and isinstance(value, type):
            return {"class": value.__qualname__}
        doc = (getattr(value, "fget", value).__doc__ or "").replace(package, "")
        lines = re.findall(r"^(?:\d+\. )?(\w*)(\(.*\) -> .+)$", doc, re.MULTILINE)
        signatures = [line for name, line in lines if name in ("", getattr(value, "__name__", ""))]
        if isinstance(value, property):
            return {"value": "".join(signatures).split(" -> ")[-1], "settable": bool(value.fset)}
        if callable(value):
            return {"calls": signatures}
        return {"value": type(value).__qualname__, "text": str(value)[:40]}

    api: Api = {}
    owners = [("", trt)]
    for name, owner in owners:  # grows while it is read
        api[name] = {member: entry(getattr(owner, member)) for member in dir(owner)}
        found = [e["class"] for e in api[name].values() if e.get("class", "") not in ("", *api)]
        owners += [(path, getattr(owner, path.split(".")[-1])) for path in found]
        api[name]["of"] = {"classes": [c.__qualname__ for c in getattr(owner, "__mro__", ())]}
    return api


if __name__ == "__main__":
    json.dump(describe(importlib.import_module(sys.argv[1])), sys.stdout)
