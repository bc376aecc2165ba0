"""The lease of a bucket: one export at a time, on moto's server program."""

import json
import logging
import threading
import time
from pathlib import Path

import pytest
from program import PATIENCE_S, call
from test_export import job_file

from stylematch.errors import StylematchError, UserError
from stylematch.tables import lease as module
from stylematch.tables.lease import leased
from stylematch.tables.place import Place, place_of
from stylematch.tables.snapshots import Snapshots

NIGHT, FOLDER = "2025-11-20", "store/lease"


@pytest.fixture
def place(bucket, monkeypatch) -> Place:
    """OUT, on a bucket whose leases are renewed ten times a second."""
    monkeypatch.setattr(module, "RENEWED_S", 0.1)
    monkeypatch.setattr(module, "LEFT_S", PATIENCE_S)
    monkeypatch.setattr(module, "_LOOKED_S", 0.02)
    return place_of("s3://photos/out", "out")


def leave(place: Place, mark: Path, monkeypatch) -> str:
    """Take the lease as a process does that is killed then; return the sign's name."""
    with monkeypatch.context() as patch:
        patch.setattr(module._Lease, "renew_until", lambda *_: None)
        patch.setattr(module._Lease, "give_back", lambda _: None)
        with leased(place, FOLDER, mark, "export"):
            return next(iter(place.list(FOLDER)))


def test_of_runs_that_ask_at_once_one_is_let_in(place, tmp_path):
    inside, most, outcomes = [], [], []
    start, done = threading.Barrier(4), threading.Event()

    def ask(number: int) -> None:
        start.wait()
        try:
            with leased(place, FOLDER, tmp_path / str(number), "export"):
                inside.append(number)
                most.append(len(inside))
                done.wait(10)
                inside.remove(number)
        except UserError as error:
            outcomes.append(str(error))
            if len(outcomes) == 3:
                done.set()

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1]
    assert len(outcomes) == 3
    assert "is under way: wait for it or stop it" in outcomes[0]
    assert place.list(FOLDER) == {}


def test_one_that_asks_under_a_later_name_may_still_have_seen_nobody(place, tmp_path):
    """It asked, and looked, before this one was there: this one waits until it has made up its mind."""
    later = f"{FOLDER}/99999999999999999999-0.json"
    said = {"host": "elsewhere", "process": 7, "since": "2025-11-20T02:30:00+00:00", "holds": 0}
    place.write(later, json.dumps(said).encode())
    ended = threading.Event()

    def hold() -> None:
        writes = 0
        while not ended.wait(0.1):
            writes += 1
            place.write(later, json.dumps(said | {"holds": 1, "writes": f"{writes:09}"}).encode())

    other = threading.Thread(target=hold)
    other.start()
    named = r"another export \(elsewhere, process 7, since 2025-11-20T02:30:00"
    with pytest.raises(UserError, match=named), leased(place, FOLDER, tmp_path / "mark", "export"):
        pytest.fail("two hold it")
    ended.set()
    other.join()


def test_a_night_that_was_killed_leaves_a_lease_that_the_next_takes_over(place, tmp_path, monkeypatch, caplog):
    left = leave(place, tmp_path / "there", monkeypatch)
    monkeypatch.setattr(module, "LEFT_S", 0.3)
    clock = time.monotonic()
    with caplog.at_level(logging.WARNING), leased(place, FOLDER, tmp_path / "here", "export") as still_held:
        assert time.monotonic() - clock >= 0.3
        monkeypatch.setattr(module, "LEFT_S", PATIENCE_S)
        assert left not in place.list(FOLDER)
        assert "s3://photos/out is taken over from another export" in caplog.text
        still_held()
    assert place.list(FOLDER) == {}


def test_on_the_machine_of_the_one_that_was_killed_nobody_waits(place, tmp_path, monkeypatch):
    leave(place, tmp_path / "mark", monkeypatch)
    with leased(place, FOLDER, tmp_path / "mark", "export"):
        assert len(place.list(FOLDER)) == 1


def test_a_lease_is_renewed_while_its_holder_lives(place, tmp_path):
    with leased(place, FOLDER, tmp_path / "one", "export") as still_held:
        (name,) = place.list(FOLDER)
        until = time.monotonic() + PATIENCE_S
        while json.loads(place.read(f"{FOLDER}/{name}"))["writes"] < "000000004":
            assert time.monotonic() < until
            time.sleep(0.02)
        with pytest.raises(UserError, match="is under way"), leased(place, FOLDER, tmp_path / "two", "export"):
            pytest.fail("two hold it")
        still_held()


def test_a_holder_that_stood_still_finds_out(place, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(module._Lease, "renew_until", lambda *_: None)
        with leased(place, FOLDER, tmp_path / "one", "export") as still_held:
            still_held()
            patch.setattr(module, "LEFT_S", 0.3)
            with leased(place, FOLDER, tmp_path / "two", "export"):
                patch.setattr(module._Lease, "_is_old", lambda _: False)  # its clock stood still as well
                with pytest.raises(StylematchError, match="has lost s3://photos/out to another one") as told:
                    still_held()
    assert told.value.exit_code == 3


def test_a_second_night_is_refused(place, tmp_path):
    (tmp_path / "photos").mkdir()
    job = job_file(tmp_path, out=place.url, work=f"{tmp_path}/work")
    Snapshots(place).claim()
    with leased(place, FOLDER, tmp_path / "mark", "export"):
        result = call("export", job, "--date", NIGHT)
    assert (result.code, "another export (" in result.sentence) == (2, True)
    assert "latest.json" not in place.list()


def test_a_night_that_lost_its_lease_publishes_nothing(place, tmp_path, monkeypatch):
    (tmp_path / "photos").mkdir()
    monkeypatch.setattr(module, "RENEWED_S", 1000.0)
    taken, found = threading.Event(), Snapshots.finished

    def robbed(snapshots, *day):
        if not taken.is_set():
            taken.set()
            for name in place.list(FOLDER):
                place.remove(f"{FOLDER}/{name}")
        return found(snapshots, *day)

    monkeypatch.setattr(Snapshots, "finished", robbed)
    result = call("export", job_file(tmp_path, out=place.url, work=f"{tmp_path}/work"), "--date", NIGHT)
    assert (result.code, "has lost" in result.sentence) == (3, True)
    assert "latest.json" not in place.list()
    assert place.list("snapshots") == {}


def test_two_first_nights_at_once_both_find_the_folder_theirs(tmp_path, monkeypatch):
    place, listed = place_of(str(tmp_path), "out"), Place.list
    other = Snapshots(place_of(str(tmp_path), "out"))

    def meanwhile(self, folder=""):
        if self is place:
            other.claim()
        return listed(self, folder)

    monkeypatch.setattr(Place, "list", meanwhile)
    Snapshots(place).claim()
    assert list(listed(place)) == ["export.json"]
