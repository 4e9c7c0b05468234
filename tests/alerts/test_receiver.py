"""The receiver as a process of its own."""

from __future__ import annotations

import http.client
import json
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from alerts.receiver import Journal, Message
from tests.alerts.monitoring_servers import ROOT, get_json, running_receiver, wait_until
from tests.servers import free_port


def message(status: str = "firing", **labels: str) -> dict[str, Any]:
    """A message as Alertmanager 0.31 posts it."""
    now = datetime.now(UTC).isoformat()
    return {
        "version": "4",
        "groupKey": '{}:{alertname="QueueGrowing"}',
        "truncatedAlerts": 0,
        "status": status,
        "receiver": "webhook",
        "groupLabels": {"alertname": "QueueGrowing"},
        "commonLabels": {},
        "commonAnnotations": {},
        "externalURL": "http://127.0.0.1:9093",
        "alerts": [
            {
                "status": status,
                "labels": {"alertname": "QueueGrowing", **labels},
                "annotations": {"summary": "It grows."},
                "startsAt": now,
                "endsAt": "0001-01-01T00:00:00Z",
                "generatorURL": "http://127.0.0.1:9090/graph",
                "fingerprint": "c0ffee",
            }
        ],
    }


def post(url: str, body: bytes) -> tuple[int, str]:
    request = urllib.request.Request(url, data=body, method="POST")
    try:
        with urllib.request.urlopen(request, timeout=10) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


@pytest.fixture
def url(tmp_path: Path) -> Iterator[str]:
    with running_receiver(tmp_path) as url:
        yield url


def test_alerts_are_shown_newest_first_and_written_down(url: str, tmp_path: Path) -> None:
    for queue in ("complexity", "fsrs-optimization"):
        assert post(url, json.dumps(message(queue=queue)).encode())[0] == 200
    shown = get_json(f"{url}/alerts")
    assert [alert["labels"]["queue"] for alert in shown] == ["fsrs-optimization", "complexity"]
    lines = (tmp_path / "alerts.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == shown[::-1]
    output = (tmp_path / "receiver.log").read_text()
    assert "firing QueueGrowing (queue=complexity) It grows." in output


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        (b"", "no message of Alertmanager"),
        (b"{", "no message of Alertmanager"),
        (b"[]", "no message of Alertmanager"),
        (b'{"version": "4", "receiver": "x"}', "alerts"),
        (b'{"version": "3", "receiver": "x", "alerts": []}', "version"),
        (b'{"version": "4", "receiver": "x", "alerts": [{"status": "on"}]}', "alerts.0.status"),
    ],
)
def test_what_is_no_message_is_refused_with_the_reason(url: str, body: bytes, problem: str) -> None:
    status, answer = post(url, body)
    assert status == 400
    assert problem in answer
    assert get_json(f"{url}/alerts") == []


def test_a_message_without_or_with_too_large_a_length_is_refused(url: str) -> None:
    host = url.removeprefix("http://")
    for length, expected in ((None, 411), ("-1", 411), ("99999999999", 413)):
        connection = http.client.HTTPConnection(host, timeout=5)
        connection.putrequest("POST", "/")
        if length is not None:
            connection.putheader("Content-Length", length)
        connection.endheaders()
        assert connection.getresponse().status == expected
        connection.close()


def test_other_paths_are_not_found(url: str) -> None:
    with pytest.raises(urllib.error.HTTPError, match="404"):
        get_json(f"{url}/elsewhere")


def test_it_ends_at_sigterm_with_zero_and_remembers_what_came_before(tmp_path: Path) -> None:
    with running_receiver(tmp_path) as url:
        post(url, json.dumps(message(queue="complexity")).encode())
    with (tmp_path / "alerts.jsonl").open("a") as file:
        file.write('{"cut off by a ki')
    environment = {
        "RECEIVER_PORT": str(free_port()),
        "RECEIVER_LOG": str(tmp_path / "alerts.jsonl"),
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "alerts", "receiver"],
        env=environment,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    url = f"http://127.0.0.1:{environment['RECEIVER_PORT']}"
    (alert,) = wait_until("alerts are shown", lambda: get_json(f"{url}/alerts"))
    assert alert["labels"]["queue"] == "complexity"
    post(url, json.dumps(message(queue="after")).encode())
    last_line = (tmp_path / "alerts.jsonl").read_text().splitlines()[-1]
    assert json.loads(last_line)["labels"]["queue"] == "after"
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=10)
    assert process.returncode == 0
    assert output.splitlines()[-1] == "stopped"


def test_the_log_takes_no_more_than_twice_its_size(tmp_path: Path) -> None:
    log = tmp_path / "alerts.jsonl"
    journal = Journal(log, log_bytes=5000)
    for number in range(100):
        journal.add(Message.model_validate(message(queue=f"queue-{number}")))
    journal.close()
    sizes = {path.name: path.stat().st_size for path in tmp_path.iterdir()}
    assert set(sizes) == {"alerts.jsonl", "alerts.jsonl.1"}
    assert all(size <= 5000 for size in sizes.values())
    assert json.loads(log.read_text().splitlines()[-1])["labels"]["queue"] == "queue-99"


def test_a_port_that_is_taken_is_told_in_one_line(url: str) -> None:
    completed = subprocess.run(
        [sys.executable, "-m", "alerts", "receiver"],
        env={"RECEIVER_PORT": url.rsplit(":", 1)[1]},
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert completed.returncode == 1
    assert completed.stderr.count("\n") == 1
    assert "RECEIVER_PORT" in completed.stderr
