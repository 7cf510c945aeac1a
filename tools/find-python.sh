#!/bin/sh
# Print the first interpreter that works and is new enough. Running each is the only proof: a name on the PATH may be a
# shim without a Python behind it. Versions that constraints.txt knows come first.
supported='import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))'
newer='import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info[:2])'
for test in "$supported" "$newer"; do
  for python in "$1" python3.13 python3.12 python3.11 python3 python; do
    if [ -n "$python" ] && "$python" -c "$test" 2>/dev/null; then
      echo "$python"
      exit 0
    fi
  done
done
echo "error: no usable Python, 3.11 or newer with venv is needed; install one or run: make PYTHON=/path/to/python" >&2
exit 2
