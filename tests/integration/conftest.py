# SPDX-License-Identifier: BSD-2-Clause
"""Fixtures, and the promise that no process outlives the tests and that a failed test shows every log."""

import os

import pytest

import harness

POINTSMAN_LOG_LINES_SHOWN = 60
OTHER_LOG_LINES_SHOWN = 15

harness.raise_descriptor_limit()


def pytest_configure(config):
    if not os.access(harness.POINTSMAN, os.X_OK):
        pytest.exit(f"{harness.POINTSMAN} is not there: run make first", returncode=2)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    outcome = yield
    report = outcome.get_result()
    if not report.failed:
        return
    item.session.config.stash[FAILED] = True
    is_other = lambda process: not isinstance(process, harness.Pointsman)
    for process in sorted(harness.running + harness.ended, key=is_other):
        shown = OTHER_LOG_LINES_SHOWN if is_other(process) else POINTSMAN_LOG_LINES_SHOWN
        lines = process.log_text(since_mark=True).splitlines()[-shown:]
        if lines:
            report.sections.append((f"log of {process.name} ({process.log})", "\n".join(lines)))


FAILED = pytest.StashKey[bool]()


def pytest_runtest_setup(item):
    harness.ended.clear()
    for process in harness.running:
        process.log_mark = process.log.stat().st_size


def pytest_unconfigure(config):
    harness.stop_everything()
    if config.stash.get(FAILED, False):
        print(f"logs are kept in {harness.home()}")
    else:
        harness.remove_home()


@pytest.fixture(autouse=True)
def no_process_is_left(request):
    """What a test starts itself, it or its fixtures end: here, if it failed before it came to that."""
    before = list(harness.running)
    yield
    for process in list(harness.running):
        if process not in before:
            process.kill()


def made(replication):
    yield replication.start()
    replication.stop()


@pytest.fixture(scope="module")
def cluster():
    """A master, two replicas, three Sentinels that the module's tests leave as they found them."""
    yield from made(harness.Replication())


@pytest.fixture(scope="module")
def pair():
    """A master and a replica without Sentinels; a file whose tests break theirs has a fixture of its own."""
    yield from made(harness.Replication(replicas=1, sentinels=0))


@pytest.fixture
def own_cluster():
    """The same for one test that breaks it."""
    yield from made(harness.Replication())


@pytest.fixture(scope="module")
def proxy(cluster):
    """One pointsman with default policies for the module."""
    pointsman = harness.Pointsman(cluster).start()
    pointsman.wait_for_replicas(2)
    yield pointsman
    pointsman.stop()


@pytest.fixture(scope="module")
def direct():
    """A plain redis-server to compare with."""
    server = harness.Server("direct").start().ready()
    yield server
    server.kill()


@pytest.fixture
def client(proxy):
    with proxy.client() as connection:
        yield connection


@pytest.fixture
def processes():
    """Collects what a test starts; all of it is ended after the test, pointsmen with a look at their status."""
    started = []

    def start(process):
        started.append(process)
        return process.start()

    yield start
    for process in reversed(started):
        if isinstance(process, (harness.Pointsman, harness.Replication)):
            process.stop()
        else:
            process.kill()
