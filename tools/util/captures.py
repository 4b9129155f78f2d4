"""Subcommands that read logs and captures of the CPI."""

from __future__ import annotations

import json
import re
import shutil
import sys
from pathlib import Path

import timeline
import timeline_report
import timeline_svg
from shell import ROOT, Shell, UtilError


class Captures(Shell):
    """Requests and responses of the CPI."""

    def do_capture_requests(self, log: str = "log") -> None:
        """Extract CPI requests and responses, without secrets, from a debug log of bosh into requests/.

        LOG is the output of bosh with BOSH_LOG_LEVEL=debug (default: log), or a directory that the CPI wrote captures
        to. The captures of a directory are copied unchanged.
        """
        source = Path(log)
        if source.is_dir():
            for capture in sorted(source.glob("*.json")):
                self.write(f"requests/{capture.name}", capture.read_text("utf-8"))
            return
        if not source.is_file():
            raise UtilError(f"there is no file or directory {log}: name a debug log of bosh or a captures directory")
        sys.path.insert(0, str(ROOT))
        from bosh_lxd_cpi.runtime.log import Log, secrets_in

        if not self.dry_run:
            shutil.rmtree("requests", ignore_errors=True)
        content = source.read_text("utf-8", errors="replace")
        for kind, word in (("request", "STDIN"), ("response", "STDOUT")):
            for number, line in enumerate(re.findall(rf"(?m)^{word}: '(.*)\s*'$", content), 1):
                try:
                    document = json.loads(line)
                except ValueError as error:
                    raise UtilError(f"{log}: {kind} {number} is not JSON: {error}") from None
                redactor = Log("")
                redactor.hide(secrets_in(document))
                redacted = redactor.redact(json.dumps(document, indent=2))
                self.write(f"requests/{kind}-{number:03}.json", f"{redacted}\n")

    def do_timeline(self, log: str = "log", *options: str) -> None:
        """Show where the time of a deployment went: waiting for a throttle slot, waiting for the server, own time.

        LOG is the output of `bosh task ID --debug` (default: log), a log of the CPI, or a directory of captures.
        OPTIONs: --json prints one JSON document instead of tables. --svg=FILE writes a picture.
        """
        pictures = [option.partition("=")[2] for option in options if option.startswith("--svg=")]
        for option in options:
            if option != "--json" and not option.startswith("--svg="):
                raise UtilError(f"there is no option {option}; timeline has --json and --svg=FILE")
        calls = timeline.read(Path(log))
        if "--json" in options:
            print(json.dumps(timeline_report.document(calls), indent=2))
        else:
            print(timeline_report.text(calls), end="")
        for picture in pictures:
            Path(picture).write_text(timeline_svg.svg(calls), encoding="utf-8")
