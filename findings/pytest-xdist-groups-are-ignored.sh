#!/usr/bin/env bash
# pytest 9.2.0 and 9.1.1, pytest-xdist 3.8.0, execnet 2.1.2, Python 3.11, Linux. Seen 2026-11-29.
#
# With --dist loadgroup, tests that carry one xdist_group mark are promised to run in one worker.
# Under pytest 9.2.0 the mark has no effect: the tests of a group are spread over all workers, with
# no error and no warning. Under pytest 9.1.1 the same plugin keeps the group together.
#
# Seen (40 tests of one group, two workers):
#   pytest 9.1.1: 1 worker ran the group
#   pytest 9.2.0: 2 workers ran the group
#
# Why it matters: session fixtures that are dear, or that may stand only once (a cluster, a device,
# a port), are made in every worker; a suite becomes slower, or fails at random, after an update of
# pytest alone.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cat > "$folder/test_group.py" <<'PYTHON'
import os
import time

import pytest

FOLDER = os.environ["SEEN"]


@pytest.mark.xdist_group("one")
@pytest.mark.parametrize("number", range(40))
def test_member(number: int) -> None:
    time.sleep(0.02)
    open(os.path.join(FOLDER, os.environ["PYTEST_XDIST_WORKER"]), "w").close()
PYTHON
changed=0
for expected in "9.1.1 1" "9.2.0 2"; do
  read -r version workers <<< "$expected"
  python3 -m venv "$folder/$version"
  "$folder/$version/bin/pip" install --quiet --disable-pip-version-check \
    "pytest==$version" pytest-xdist==3.8.0 execnet==2.1.2
  mkdir "$folder/seen-$version"
  SEEN="$folder/seen-$version" "$folder/$version/bin/python" -m pytest -q -p no:cacheprovider \
    -n 2 --dist loadgroup "$folder/test_group.py" > "$folder/log" || { cat "$folder/log"; exit 2; }
  found=$(find "$folder/seen-$version" -type f | wc -l)
  echo "pytest $version: $found worker(s) ran the group"
  [ "$found" = "$workers" ] || changed=1
done
if [ "$changed" != 0 ]; then
  echo "this has changed" >&2
fi
exit "$changed"
