from __future__ import annotations

import pytest

from history.progress import shown_progress, stand


@pytest.mark.parametrize(
    ("done", "total", "seconds", "expected"),
    [
        (0, 200_000, 1.0, "0 of 200,000 reviews (0%)"),
        (50_000, 200_000, 2.0, "50,000 of 200,000 reviews (25%), 25,000/s, 6 s left"),
        (1, 1_001, 1.0, "1 of 1,001 reviews (0%), 1/s, 16 min left"),
        (1, 10_001, 1.0, "1 of 10,001 reviews (0%), 1/s, 2.8 h left"),
        (7, 7, 0.0, "7 of 7 reviews (100%)"),
    ],
)
def test_progress_tells_rate_and_time_left(
    done: int, total: int, seconds: float, expected: str
) -> None:
    assert stand(done, total, seconds) == expected


def test_progress_is_plain_lines_where_there_is_no_terminal(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter([0.0, 0.5, 1.5, 1.6])
    monkeypatch.setattr("history.progress.time.monotonic", lambda: next(clock))
    with shown_progress(300) as reporter:
        for _ in range(3):
            reporter.advance(100)
    output, errors = capfd.readouterr()
    assert output == ""
    assert errors.splitlines() == [
        "200 of 300 reviews (66%), 133/s, 1 s left",
        "300 of 300 reviews (100%), 188/s, 0 s left",
    ]


def test_progress_is_a_bar_on_a_terminal(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    with shown_progress(300) as reporter:
        reporter.say("a line that stays")
        reporter.advance(150)
    errors = capfd.readouterr().err
    assert "a line that stays" in errors
    assert "150 of 300 reviews (50%)" in errors
    assert "━" in errors
