"""The typesetter as a process of its own: JSON on standard input, PDF on standard output, nothing kept.

It takes some 40 MB and a core for a moment, which a service that answers others should not.
"""

from __future__ import annotations

import sys
from pathlib import Path

import typst

TEMPLATE = Path(__file__).with_name("emr.typ")


def main() -> None:
    data = sys.stdin.buffer.read().decode("utf-8")
    sys.stdout.buffer.write(typst.compile(TEMPLATE, sys_inputs={"data": data}))


if __name__ == "__main__":
    main()
