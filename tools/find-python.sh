#!/bin/sh
# Print the first interpreter that works and is new enough. Running each is the only proof: a name on the PATH may be a
# shim without a Python behind it. Versions that constraints.txt knows come first. An interpreter that is given as the
# argument is the only candidate.
supported='import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))'
newer='import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info[:2])'
if [ -n "$1" ]; then
  if "$1" -c "$newer" 2>/dev/null; then
    echo "$1"
    exit 0
  fi
  echo "error: PYTHON=$1 cannot be used, it is no Python 3.11 or newer with venv; name another or leave PYTHON out" >&2
  exit 2
fi
for test in "$supported" "$newer"; do
  for python in python3.13 python3.12 python3.11 python3 python; do
    if "$python" -c "$test" 2>/dev/null; then
      echo "$python"
      exit 0
    fi
  done
done
echo "error: no usable Python, 3.11 or newer with venv is needed; install one or run: make PYTHON=/path/to/python" >&2
exit 2
