"""The subcommand that extracts CPI requests from a log."""

from __future__ import annotations

import json
import re
import shutil
import sys
from pathlib import Path

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
