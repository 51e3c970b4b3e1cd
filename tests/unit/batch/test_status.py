"""What a batch tells of itself."""

from __future__ import annotations

import pytest
from kandiflux import batch
from kandiflux.batch import BatchEvent, Summary


def test_an_event_as_json() -> None:
    assert BatchEvent("found", {"index": 3}).as_dict() == {"event": "found", "index": 3}
    assert BatchEvent("stopping").as_dict() == {"event": "stopping"}


@pytest.mark.parametrize(("done", "complete"), [(2, False), (3, True)])
def test_a_batch_is_complete_if_every_job_is_done(done: int, complete: bool) -> None:
    summary = Summary(total=3, done=done, failed=0, waiting=3 - done, ran=done, seconds=1.0)
    assert (summary.complete, summary.stopped) == (complete, False)


def test_the_public_names_are_there() -> None:
    assert all(getattr(batch, name).__name__ == name for name in batch.__all__)
    with pytest.raises(AttributeError, match=r"module 'kandiflux\.batch' has no attribute 'Lane'"):
        batch.Lane  # noqa: B018  # pyright: ignore[reportAttributeAccessIssue]
