"""The service as it is started: real requests over loopback, many at once, and an orderly end."""

import asyncio
import json
import random
import signal
import socket
import time
from contextlib import closing

import httpx
import numpy as np
import pytest
from program import PATIENCE_S, call, rows
from service import JPEG, example, metric, started

PICTURES = ("astronaut.jpg", "more photos/hopper_mirrored.jpg", "coffee.jpg", "truncated.jpg")
REQUESTS, AT_ONCE = 300, 24


@pytest.fixture(scope="module")
def address(tmp_path_factory, example_run):
    with started(tmp_path_factory.mktemp("service"), "--run", example_run) as (where, _):
        yield where


async def flood(address: str, names: list[str], at_once: int) -> list[tuple[str, httpx.Response, float]]:
    limit = asyncio.Semaphore(at_once)

    async def one(client: httpx.AsyncClient, name: str) -> tuple[str, httpx.Response, float]:
        async with limit:
            began = time.perf_counter()
            if random.random() < 0.5:
                answer = await client.post("/score", content=example(name), headers=JPEG)
            else:
                answer = await client.post("/score", files={"picture": ("p.jpg", example(name), "image/jpeg")})
            return name, answer, time.perf_counter() - began

    async with httpx.AsyncClient(base_url=address, timeout=PATIENCE_S) as client:
        return await asyncio.gather(*(one(client, name) for name in names))


@pytest.mark.slow
def test_under_load_nothing_is_dropped_and_nothing_mixed_up(address, example_run, record_property):
    photos = {row["path"]: row for row in rows(example_run, "photos")}
    styles = {name: [row["style"] for row in rows(example_run, "faces") if row["path"] == name] for name in PICTURES}
    names = random.Random(0).choices(PICTURES, weights=(1, 4, 1, 2), k=REQUESTS)
    began = time.perf_counter()
    answers = asyncio.run(flood(address, names, AT_ONCE))
    seconds = time.perf_counter() - began
    assert len(answers) == REQUESTS
    for name, answer, _ in answers:
        if photos[name]["status"] == "rejected":
            assert (answer.status_code, answer.json()["reason"]) == (422, photos[name]["reason"])
        else:
            assert answer.status_code == 200, answer.text
            assert answer.json()["photo"]["photo_id"] == photos[name]["photo_id"]
            assert [face["style"]["style"] for face in answer.json()["faces"]] == styles[name]
    text = httpx.get(f"{address}/metrics", timeout=PATIENCE_S).text
    assert metric(text, "stylematch_batch_pictures_sum") == REQUESTS
    assert metric(text, "stylematch_batch_pictures_count") < REQUESTS / 2  # they were scored together
    assert metric(text, "stylematch_requests_in_hand") == 0
    p99_s = float(np.quantile([taken for _, _, taken in answers], 0.99))
    record_property("requests_per_second", round(REQUESTS / seconds, 1))
    record_property("p99_ms", round(1000 * p99_s))
    print(f"{REQUESTS / seconds:.1f} requests/s, p99 {1000 * p99_s:.0f} ms with {AT_ONCE} at once")


def test_a_refusal_is_heard_before_all_was_sent(address):
    """Clients that send all before they listen, and clients that ask for leave first, both hear the answer."""
    big = b"\0" * 30_000_000
    for headers in (JPEG, {**JPEG, "Expect": "100-continue"}):
        answer = httpx.post(f"{address}/score", content=big, headers=headers, timeout=PATIENCE_S)
        assert (answer.status_code, answer.json()["reason"]) == (413, "file_too_large")
    assert httpx.get(f"{address}/health/ready", timeout=PATIENCE_S).status_code == 200


def test_broken_connections_leave_no_trace(address):
    host, port = address.removeprefix("http://").split(":")
    head = b"POST /score HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/jpeg\r\n"
    for sent in (
        head + b"Content-Length: 1000\r\n\r\nshort",
        head + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"\x16\x03\x01 no HTTP at all\r\n\r\n",
    ):
        with closing(socket.create_connection((host, int(port)))) as connection:
            connection.sendall(sent)
    deadline = time.monotonic() + PATIENCE_S
    while metric(httpx.get(f"{address}/metrics", timeout=PATIENCE_S).text, "stylematch_requests_in_hand"):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert httpx.post(f"{address}/score", content=example("coffee.jpg"), headers=JPEG, timeout=PATIENCE_S).is_success


def test_what_is_logged_of_odd_clients_is_json_where_that_is_asked_for(tmp_path):
    upgrade = b"GET /score HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"
    with started(tmp_path, "--log-format", "json") as (address, _):
        host, port = address.removeprefix("http://").split(":")
        for sent in (b"no HTTP at all\r\n\r\n", upgrade):
            with closing(socket.create_connection((host, int(port)), PATIENCE_S)) as connection:
                connection.sendall(sent)
                assert connection.recv(12).startswith(b"HTTP/1.1 4")
    told = [json.loads(line) for line in (tmp_path / "serve.err").read_text().splitlines()]
    assert {line["logger"] for line in told} == {"uvicorn.error"}
    assert not any("pip install" in line["message"] for line in told)


def test_a_taken_port_is_told_in_a_sentence(address):
    result = call("serve", "--port", address.rsplit(":", 1)[1], "--device", "cpu")
    assert result.code == 2
    assert "cannot be listened on: Address already in use" in result.sentence


@pytest.mark.slow
def test_told_to_stop_it_answers_what_is_in_hand(tmp_path):
    async def stop_amid(address, process):
        async with httpx.AsyncClient(base_url=address, timeout=PATIENCE_S) as client:
            sent = [
                asyncio.create_task(client.post("/score", content=example("group.jpg"), headers=JPEG))
                for _ in range(12)
            ]
            while metric((await client.get("/metrics")).text, "stylematch_requests_in_hand") < len(sent) / 2:
                assert not any(task.done() for task in sent[6:])
            process.send_signal(signal.SIGTERM)
            return await asyncio.gather(*sent)

    with started(tmp_path, "--batch-pictures", 2) as (address, process):
        answers = asyncio.run(stop_amid(address, process))
        assert [answer.status_code for answer in answers] == [200] * 12
        assert process.wait(PATIENCE_S) == 0
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"{address}/health/live")
    assert (tmp_path / "serve.err").read_text() == ""


@pytest.mark.slow
@pytest.mark.parametrize("dark", [False, True])
def test_a_browser_shows_what_comes_back(address, tmp_path, dark):
    browser = pytest.importorskip("browser")
    from program import EXAMPLES

    with browser.Browser(browser.require_chromium(), tmp_path / "profile") as chromium:
        page = chromium.open(f"{address}/", dark=dark)
        page.wait("document.readyState === 'complete' && !!document.getElementById('picture')")
        page.wait("!document.getElementById('gallery').hidden")  # this service has one
        page.press("Tab")
        page.press("Tab")
        assert page.evaluate("document.activeElement.id") == "picture"

        def choose(name: str) -> None:
            root = page.send("DOM.getDocument")["root"]["nodeId"]
            node = page.send("DOM.querySelector", nodeId=root, selector="#picture")["nodeId"]
            page.send("DOM.setFileInputFiles", nodeId=node, files=[str(EXAMPLES / name)])

        choose("group.jpg")
        page.wait("document.getElementById('status').textContent === '3 faces found.'")
        answer = httpx.post(f"{address}/score", content=example("group.jpg"), headers=JPEG, timeout=PATIENCE_S).json()
        for face, heading in zip(answer["faces"], page.texts(".face h3"), strict=True):
            assert face["style"]["style"] in heading
        reasons = [item["reason"] for face in answer["faces"] for item in face["items"]]
        assert page.texts(".items span") == reasons
        page.wait(
            "[...document.querySelectorAll('.items img')].slice(0, 5).every((image) => image.naturalWidth === 28)"
        )
        assert page.evaluate("document.querySelectorAll('.box').length") == 3
        page.evaluate("document.querySelectorAll('.box')[1].click()")
        assert page.evaluate("document.activeElement.id") == "face-1"
        page.screenshot(tmp_path / "page.png", full=True)

        choose("coffee.jpg")
        page.wait("document.getElementById('status').textContent.startsWith('No face')")
        assert page.evaluate("document.querySelectorAll('.face').length") == 0
        assert page.errors == []
        choose("truncated.jpg")
        page.wait("document.getElementById('problem').textContent.endsWith('(truncated)')")
        assert all(request.startswith((address, "blob:")) for request in page.requests)
        assert [error for error in page.errors if "422" not in error] == []
