"""A process that commits blocks until it is killed: `python committing_process.py FOLDER`.

It prints a line `committed N` after block N is committed by both hospitals; what it has printed must never be lost.
"""

import sys
from pathlib import Path

from support.devnet_channel import Channel

OF_A = "_implicit_org_HospitalA"


def main(folder: Path) -> None:
    channel = Channel.open(folder)
    print("ready", flush=True)
    while True:
        number = channel.a.height
        public = channel.put(f"key-{number % 7}", b"%d" % number)
        private = channel.put_private(OF_A, f"p{number % 5}", b"%d" % number)
        assert channel.commit(public, private) == ["VALID", "VALID"]
        print(f"committed {number}", flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
