"""The console script `twoview`, and `python -m twoview`.

The packages that the command line needs are checked first, so that the error for a missing one is one sentence.
"""

import sys

from twoview.bench.suites.gpu import requirements


def main() -> None:
    """Run the command line and exit with its code, or with 2 if a package that it needs to start is missing."""
    if sys.argv[1:3] == ["suite", "gpu"] and "--help" not in sys.argv:
        who, faults = "suite gpu", requirements.absent()  # checked before any device time is spent
    else:
        who, faults = "the command line", [fault for fault in [requirements.fault_of("tyro")] if fault]
    if faults:
        print(f"twoview: {requirements.sentence(who, faults)}", file=sys.stderr)
        sys.exit(2)
    from twoview import cli

    cli.main()


if __name__ == "__main__":
    main()
