"""The service's routes and limits, in this process: what is refused, how, and with which code."""

import asyncio
import io
import re
import sys
from concurrent.futures import ThreadPoolExecutor

import faiss
import httpx
import numpy as np
import pytest
from PIL import Image
from program import call, rows
from service import JPEG, Service, example, load_scorer, metric, serving

from stylematch.report.pictures import encode_item_picture
from stylematch.serve.headers import CONTENT_SECURITY_POLICY
from stylematch.tables.contract import LANDMARKS


@pytest.fixture(scope="module")
def scorer():
    return load_scorer()


@pytest.fixture(scope="module")
def service(scorer, example_run):
    with serving(scorer, run=example_run) as running:
        yield running


def problem(answer: httpx.Response) -> tuple[int, str]:
    assert answer.headers["content-type"] == "application/json"
    assert set(answer.json()) == {"reason", "message"}, answer.text
    assert answer.json()["message"]
    return answer.status_code, answer.json()["reason"]


def form(data: bytes, name: str = "picture") -> dict:
    return {"files": {name: ("a name.jpg", data, "image/jpeg")}}


# Answers


@pytest.mark.parametrize("how", ["body", "form"])
def test_an_answer_is_what_score_writes(service, example_run, how):
    photos = {row["path"]: row for row in rows(example_run, "photos")}
    faces, items = rows(example_run, "faces"), rows(example_run, "recommendations")
    compared = 0
    for path, photo in photos.items():
        if photo["status"] == "rejected":
            continue
        data = example(path)
        sent = {"content": data, "headers": JPEG} if how == "body" else form(data)
        answer = service.ask("POST", "/score?embedding=true", **sent)
        assert answer.status_code == 200
        assert answer.json()["photo"] == {name: photo[name] for name in answer.json()["photo"]}
        mine = [row for row in faces if row["path"] == path]
        assert len(answer.json()["faces"]) == len(mine) == photo["faces"]
        for got, row in zip(answer.json()["faces"], mine, strict=True):
            told = {**got["box"], **got["landmarks"], **got["attributes"], **got["style"]}
            told |= {name: got[name] for name in ("face", "detection_score", "embedding")}
            assert told == {name: row[name] for name in row if name not in ("path", "photo_id")}
            wanted = [item for item in items if (item["path"], item["face"]) == (path, row["face"])]
            for item, want in zip(got["items"], wanted, strict=True):
                assert item.pop("picture").startswith("items/picture?item_id=")
                assert item.pop("columns") == {}
                assert item == {name: want[name] for name in item}
            compared += 1
    assert compared == len(faces)


def test_embeddings_come_only_when_asked_for(service):
    face = service.ask("POST", "/score", content=example("astronaut.jpg"), headers=JPEG).json()["faces"][0]
    assert face["embedding"] is None
    assert set(face["landmarks"]) == set(LANDMARKS)


def test_items_have_pictures(service, scorer):
    item = service.ask("POST", "/score", content=example("astronaut.jpg"), headers=JPEG).json()["faces"][0]["items"][0]
    answer = service.ask("GET", f"/{item['picture']}")
    assert answer.headers["content-type"] == "image/png"
    assert answer.content == encode_item_picture(scorer.item_picture(item["item_id"]))
    assert problem(service.ask("GET", "/items/picture?item_id=../../etc/passwd")) == (404, "not_found")
    answer = service.ask("GET", "/items/picture")
    assert problem(answer) == (422, "malformed_request")
    assert answer.json()["message"] == "query.item_id: is missing; give it"


# Limits


def png(width: int, height: int) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (width, height)).save(stream, "PNG")
    return stream.getvalue()


async def in_pieces(data: bytes):
    for start in range(0, len(data), 65536):
        yield data[start : start + 65536]


@pytest.mark.parametrize(
    ("sent", "status", "reason"),
    [
        ({"content": b"", "headers": JPEG}, 422, "empty_file"),
        (form(b""), 422, "empty_file"),
        ({"content": b"text", "headers": JPEG}, 415, "not_a_picture"),
        ({"content": b"text", "headers": {"Content-Type": "text/plain"}}, 415, "unsupported_media_type"),
        ({"content": b"text"}, 415, "unsupported_media_type"),
        ({"content": b"\0" * 1_000_001, "headers": JPEG}, 413, "file_too_large"),
        (form(b"\0" * 1_000_001), 413, "file_too_large"),
        (form(b"\0" * 1_100_000), 413, "file_too_large"),
        ({"content": in_pieces(b"\0" * 1_100_000), "headers": JPEG}, 413, "file_too_large"),
        ({"content": b"", "headers": {**JPEG, "Content-Length": "9" * 5000}}, 413, "file_too_large"),
        ({"content": png(2300, 2300), "headers": JPEG}, 413, "too_large"),
        (form(b"data", "photo"), 422, "malformed_request"),
        ({"data": {"picture": "text"}, "files": {"other": b""}}, 422, "malformed_request"),
        ({"content": b"no form", "headers": {"Content-Type": "multipart/form-data"}}, 400, "malformed_request"),
        (
            {"content": b"no form", "headers": {"Content-Type": "multipart/form-data; boundary=x"}},
            400,
            "malformed_request",
        ),
    ],
)
def test_what_is_refused(service, sent, status, reason):
    assert problem(service.ask("POST", "/score", **sent)) == (status, reason)


@pytest.mark.parametrize(("name", "status"), [("truncated.jpg", 422), ("notes.jpg", 415)])
def test_a_rejected_photo_has_the_reason_of_its_row(service, example_run, name, status):
    row = next(row for row in rows(example_run, "photos") if row["path"] == name)
    answer = service.ask("POST", "/score", content=example(name), headers=JPEG)
    assert problem(answer) == (status, row["reason"])
    assert answer.json()["message"] == row["message"]


def test_unknown_places_and_methods_are_told_alike(service):
    assert problem(service.ask("GET", "/nowhere")) == (404, "not_found")
    assert problem(service.ask("GET", "/score")) == (405, "method_not_allowed")
    answer = service.ask("POST", "/score?embedding=perhaps", content=b"x", headers=JPEG)
    assert problem(answer) == (422, "malformed_request")
    assert answer.json()["message"] == "query.embedding: has to be true or false"


@pytest.mark.parametrize(("method", "url"), [("POST", "/score?top_k=20"), ("GET", "/items/picture?item_id=0&size=9")])
def test_a_parameter_that_is_none_is_refused_and_not_passed_over(service, method, url):
    sent = {"content": example("astronaut.jpg"), "headers": JPEG} if method == "POST" else {}
    answer = service.ask(method, url, **sent)
    assert problem(answer) == (422, "malformed_request")
    assert answer.json()["message"] == (
        f"query.{url.rpartition('=')[0].rpartition('?')[2].rpartition('&')[2]}: is no parameter here; leave it out "
        "(/openapi.json lists those there are)"
    )


def test_a_full_room_says_when_to_come_again(scorer):
    sent = {"method": "POST", "url": "/score", "content": example("astronaut.jpg"), "headers": JPEG}
    with serving(scorer, max_waiting=2, batch_wait_ms=300.0) as small:
        answers = small.ask_all(*[sent] * 5)
        assert sorted(answer.status_code for answer in answers) == [200, 200, 503, 503, 503]
        refused = [answer for answer in answers if answer.status_code == 503]
        assert {problem(answer) for answer in refused} == {(503, "busy")}
        assert {answer.headers["retry-after"] for answer in refused} == {"1"}
        assert small.ask(**sent).status_code == 200  # the places are free again


def test_what_takes_too_long_is_given_up(scorer):
    sent = {"method": "POST", "url": "/score", "content": example("astronaut.jpg"), "headers": JPEG}
    with serving(scorer, timeout_s=0.02, batch_wait_ms=500.0) as slow:
        assert problem(slow.ask(**sent)) == (504, "timed_out")
        text = slow.ask("GET", "/metrics").text
        assert metric(text, "stylematch_requests_in_hand") == 0
    assert slow.app.state.service.metrics.registry.get_sample_value("stylematch_batch_pictures_count") == 0


def test_an_upload_that_takes_too_long_is_given_up(scorer):
    async def trickle():
        yield b"\xff\xd8\xff"
        await asyncio.sleep(0.5)
        yield b""

    with serving(scorer, upload_timeout_s=0.1) as slow:
        assert problem(slow.ask("POST", "/score", content=trickle(), headers=JPEG)) == (408, "upload_timed_out")


def test_a_failure_of_ours_is_told_and_counted(scorer):
    with serving(scorer) as broken:
        broken.app.state.service.batcher._work = lambda pictures: 1 / 0
        answer = broken.ask("POST", "/score", content=b"x", headers=JPEG)
        assert problem(answer) == (500, "internal_error")
        count = 'stylematch_http_requests_total{method="POST",route="/score",status="500"}'
        assert metric(broken.ask("GET", "/metrics").text, count) == 1


# Health, metrics, pages


def test_health_follows_the_worker(scorer):
    with serving(scorer) as healthy:
        assert healthy.ask("GET", "/health/live").json() == {"status": "alive"}
        assert healthy.ask("GET", "/health/ready").json() == {"status": "ready"}
        probed = healthy.ask("HEAD", "/health/ready")
        assert (probed.status_code, probed.content) == (200, b"")
    answer = healthy.ask("GET", "/health/ready")
    assert (answer.status_code, answer.json()) == (503, {"status": "closing"})
    assert healthy.ask("GET", "/health/live").status_code == 200


def test_metrics_count_what_happened(scorer):
    with serving(scorer) as counted:
        for name in ("group.jpg", "coffee.jpg", "truncated.jpg"):
            counted.ask("POST", "/score", content=example(name), headers=JPEG)
        counted.ask("GET", "/no/such/<place>")
        text = counted.ask("GET", "/metrics").text
    assert metric(text, "stylematch_faces_total") == 3
    for status, reason in (("scored", "ok"), ("no_face", "no_face_found"), ("rejected", "truncated")):
        assert metric(text, f'stylematch_photos_total{{reason="{reason}",status="{status}"}}') == 1
    assert metric(text, "stylematch_batch_pictures_sum") == 3
    assert metric(text, 'stylematch_http_request_seconds_count{route="/score"}') == 3
    assert "place" not in text  # a path that anybody can make up is no label


def test_the_service_says_what_it_is_made_of(service, scorer):
    info = service.ask("GET", "/info").json()
    assert info["styles"] == list(scorer.adviser.judge.rules.styles)
    assert info["attributes"] == list(scorer.extractor.attribute_names)
    assert (info["max_file_bytes"], info["max_megapixels"], info["gallery"]) == (1_000_000, 5.0, True)


def test_every_answer_has_the_strict_headers(service):
    for url in ("/", "/page/page.js", "/info", "/nowhere", "/gallery/", "/openapi.json"):
        headers = service.ask("GET", url).headers
        assert headers["content-security-policy"] == CONTENT_SECURITY_POLICY
        assert headers["x-content-type-options"] == "nosniff"
    assert "unsafe" not in CONTENT_SECURITY_POLICY
    assert CONTENT_SECURITY_POLICY.startswith("default-src 'none'")


def test_the_page_needs_nothing_from_elsewhere(service):
    page = service.ask("GET", "/").text
    named = re.findall(r'(?:src|href)="([^"]+)"', page)
    loaded = [name for name in named if name.startswith("page/")]
    assert len(loaded) >= 3
    for name in loaded:
        assert service.ask("GET", f"/{name}").status_code == 200
    for text in (page, *(service.ask("GET", f"/{name}").text for name in loaded)):
        assert not re.search(r"(?<!\w)(https?:)?//[a-z0-9]", text.replace('xmlns="http://www.w3.org/2000/svg"', ""))
    assert not re.search(r"<script(?![^>]*src=)|<style|\sstyle=|\son\w+=", page)


def test_the_gallery_is_the_runs_and_nothing_beside_it(service, example_run):
    assert service.ask("GET", "/gallery/").content == (example_run / "report" / "index.html").read_bytes()
    assert service.ask("GET", "/gallery/data/summary.js").status_code == 200
    assert (example_run / "manifest.json").is_file()
    for path in ("../manifest.json", "%2e%2e/manifest.json", "..%2fmanifest.json", "/etc/passwd", "%00", "a" * 5000):
        assert service.ask("GET", f"/gallery/{path}").status_code == 404, path


def test_links_do_not_lead_out_of_the_gallery(scorer, tmp_path):
    report = tmp_path / "run" / "report"
    report.mkdir(parents=True)
    (report / "index.html").write_text("a gallery")
    (tmp_path / "secret.txt").write_text("secret")
    (report / "link.txt").symlink_to(tmp_path / "secret.txt")
    with serving(scorer, run=tmp_path / "run") as linked:
        assert linked.ask("GET", "/gallery/").text == "a gallery"
        assert linked.ask("GET", "/gallery/link.txt").status_code == 404


def test_without_a_run_there_is_no_gallery(scorer):
    with serving(scorer) as bare:
        assert problem(bare.ask("GET", "/gallery/")) == (404, "not_found")
        assert bare.ask("GET", "/info").json()["gallery"] is False


@pytest.mark.parametrize(
    ("settings", "host", "status"),
    [
        ({}, "localhost:8000", 200),
        ({}, "[::1]:8000", 200),
        ({}, "other.example", 400),
        ({"host": "0.0.0.0"}, "other.example", 200),
        ({"allowed_hosts": ("other.example",)}, "other.example", 200),
        ({"allowed_hosts": ("other.example",)}, "localhost", 400),
        ({"allowed_hosts": ("*.example",)}, "other.example:80", 200),
        ({"allowed_hosts": ("*.example",)}, "example", 400),
    ],
)
def test_on_loopback_only_loopbacks_names_lead_in(scorer, settings, host, status):
    with serving(scorer, **settings) as named:
        answer = named.ask("GET", "/info", headers={"Host": host})
        assert answer.status_code == status
        if status == 400:
            assert problem(answer) == (400, "malformed_request")
            assert f"'{host}'; it is started with --allowed-host" in answer.json()["message"]


def test_a_picture_is_scored_alike_with_any_others(scorer):
    names = ("astronaut.jpg", "grace_hopper.jpg", "group.jpg", "coffee.jpg", "astronaut.jpg", "truncated.jpg")
    requests = [{"method": "POST", "url": "/score", "content": example(name), "headers": JPEG} for name in names]
    with serving(scorer, batch_wait_ms=500.0, batch_pictures=len(names)) as together, serving(scorer) as alone:
        at_once = together.ask_all(*requests)
        assert metric(together.ask("GET", "/metrics").text, "stylematch_batch_pictures_count") == 1
        assert [answer.json() for answer in at_once] == [alone.ask(**request).json() for request in requests]


def test_searches_of_any_thread_have_the_threads_that_were_asked_for(scorer):
    def asked() -> int:
        faiss.omp_set_num_threads(3)  # as the machine would have it
        scorer.score_pictures([example("group.jpg")])
        return faiss.omp_get_max_threads()

    with ThreadPoolExecutor(1) as thread:
        assert thread.submit(asked).result() == 1  # of load_scorer


# The command


def test_without_the_extra_the_command_says_what_to_install(monkeypatch):
    monkeypatch.delitem(sys.modules, "stylematch.serve.server", raising=False)
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    result = call("serve")
    assert result.code == 2
    assert "Serving needs the 'serve' extra: pip install 'stylematch[serve]'" in result.sentence


def test_mistakes_of_the_command_are_told_in_a_sentence(tmp_path):
    for options, told in (
        (["--run", tmp_path], "has no gallery"),
        (["--index", tmp_path], "neither an index"),
        (["--host", "no.such.host.invalid"], "cannot be listened on"),
        (["--timeout-s", "-1"], "--timeout-s"),
        (["--max-file-mb", "0"], "--max-file-mb"),
    ):
        result = call("serve", "--port", 0, "--device", "cpu", *options)
        assert result.code == 2
        assert told in result.sentence


def test_pixels_are_not_changed_by_the_way_they_come(service):
    # The thumbnail of a picture sent as PNG: another file, but the same pixels, so the same attributes.
    pixels = np.asarray(Image.open(io.BytesIO(example("more photos/hopper_mirrored.jpg"))))
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    as_jpeg, as_png = (
        service.ask("POST", "/score", content=data, headers={"Content-Type": "application/octet-stream"}).json()
        for data in (example("more photos/hopper_mirrored.jpg"), stream.getvalue())
    )
    assert as_png["photo"]["format"] == "PNG"
    assert as_png["faces"][0]["attributes"] == as_jpeg["faces"][0]["attributes"]


def test_a_service_in_this_process_closes(scorer):
    closed = Service(scorer)
    closed.app.state.service.close()
    assert closed.ask("POST", "/score", content=b"x", headers=JPEG).status_code == 500
