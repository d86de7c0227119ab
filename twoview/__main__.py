"""The console script `twoview`, and `python -m twoview`.

What the command line itself needs is looked for first, so that what is absent is named in one sentence.
"""

import sys

from twoview.bench.suites.gpu import requirements


def main() -> None:
    """Ends with the command's exit code; with 2 where a package is absent that it cannot begin without."""
    if sys.argv[1:3] == ["suite", "gpu"] and "--help" not in sys.argv:
        who, faults = "suite gpu", requirements.absent()  # before it spends a minute
    else:
        who, faults = "the command line", [fault for fault in [requirements.fault_of("tyro")] if fault]
    if faults:
        print(f"twoview: {requirements.sentence(who, faults)}", file=sys.stderr)
        sys.exit(2)
    from twoview import cli

    cli.main()


if __name__ == "__main__":
    main()
