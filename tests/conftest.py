"""What all tests share."""

from __future__ import annotations

import os
import signal
import tempfile

import pytest
from hypothesis import settings

# As the command line sets them: no bars of the libraries, and nothing is fetched.
os.environ.update(
    TRANSFORMERS_VERBOSITY="error",
    DIFFUSERS_VERBOSITY="error",
    HF_HUB_DISABLE_PROGRESS_BARS="1",
    HF_HUB_OFFLINE="1",
    OMP_WAIT_POLICY="PASSIVE",
)

# What FreeSwim keeps on a machine: a person's own stays out of it.
_home = tempfile.TemporaryDirectory(prefix="freeswim-home-")
os.environ["FREESWIM_HOME"] = _home.name

# A shell ignores Ctrl-C on behalf of what it runs in the background, and children inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# A busy machine is no failure: no test is timed.
settings.register_profile("freeswim", deadline=None)
settings.load_profile("freeswim")


def pytest_sessionfinish(session: pytest.Session) -> None:
    """In CI a test that was skipped because the system lacks something is a failure."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if not os.environ.get("CI") or reporter is None:
        return
    skipped = [str(report.longrepr) for report in reporter.stats.get("skipped", [])]
    if missing := [reason for reason in skipped if "system package" in reason]:
        reporter.write_line(f"CI lacks what tests need: {missing}", red=True)
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
