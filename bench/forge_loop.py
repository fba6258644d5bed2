"""Forge's own loading and moving beside ours, without the WebUI: its `backend/` from the folder given, real files.

    python bench/forge_loop.py --forge DIR --flux F --t5 F --clip F --ae F --json loop.json

and small, without a GPU (tiny files are written, a second CPU stands for the card):

    python bench/forge_loop.py --forge DIR --tiny /tmp/tiny

A process a variant: `host` is Forge as it is, `ours` the same with the weights item (and, where a case says so,
the large card's memory items), `direct` ours with files that the GPU reads itself. Every phase is a line as soon
as it is over; outputs are compared by sha256.
"""

from __future__ import annotations

import sys

from loop.options import arguments
from measure.places import add_product


def main() -> int:
    options = arguments(__doc__)
    if options.child:
        from loop.child import child

        return child(options)
    # The parent reads files as the product does; the host's child goes without the product's code.
    add_product()
    from loop.parent import parent

    return parent(options)


if __name__ == "__main__":
    sys.exit(main())
