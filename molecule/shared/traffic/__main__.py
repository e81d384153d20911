"""python -m traffic http://127.0.0.1:8080 --seconds 60: generate load, print the report, exit 1 if anything was lost."""

import argparse
import sys

from .control import Traffic


def main() -> int:
    """Run from the command line; return the exit status."""
    parser = argparse.ArgumentParser(prog="traffic", description=__doc__)
    parser.add_argument("base_url", help="http://<loopback or private address>:<port>")
    parser.add_argument("--host", default="", help="Host header, if it differs from the address")
    parser.add_argument("--log", help="event log (default: a new temporary file)")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--rate", type=float, default=40, help="HTTP requests a second (default: %(default)s)")
    parser.add_argument("--websockets", type=int, default=10, help="(default: %(default)s)")
    parser.add_argument("--echo-every", type=float, default=0.2, help="seconds (default: %(default)s)")
    parser.add_argument("--timeout", type=float, default=60, help="seconds (default: %(default)s)")
    arguments = vars(parser.parse_args())
    with Traffic(**arguments) as traffic:
        try:
            report = traffic.wait()
        except KeyboardInterrupt:
            report = traffic.stop()
    print(report.table())
    print(f"event log: {traffic.settings.log}")
    try:
        report.assert_lossless()
    except AssertionError as loss:
        print(loss, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
