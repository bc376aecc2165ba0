"""The gallery in headless Chromium: filters, search, pages, a person; nothing fails, nothing leaves the page."""

import base64

import numpy as np
import pytest
from browser import Browser, require_chromium
from galleries import write_gallery
from test_gallery import HOSTILE_NAMES, STYLES, face_row, item_picture, item_row, photo_row, write_run

from stylematch.report.page_rows import LabelledFace, NearestFaces
from stylematch.report.pictures import make_thumbnail
from stylematch.tables.manifest import Stage

PHOTOS = 150
COAT_REASON = "A typical Coat (0.91 like the average Coat), fitting by gender Men (a guess)."
STAGES = {"score": Stage(10.0, PHOTOS, "photos"), "items": Stage(2.0, PHOTOS, "faces", per_worker=True)}


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with Browser(require_chromium(), tmp_path_factory.mktemp("profile")) as running:
        yield running


def nearest(faces):
    known = LabelledFace("000123.jpg", "Formal", ("Smiling", "Young"))
    return [NearestFaces([("Formal", 0.6), ("Casual", 0.4)], [(known, 0.91)]) for _ in faces]


@pytest.fixture(scope="module")
def address(tmp_path_factory) -> str:
    """A gallery of 150 photos: every tenth is rejected, every fifteenth has two faces, styles by turns.

    All faces have the same two trousers; the second face of two has a coat besides, of its own.
    """
    run = tmp_path_factory.mktemp("page") / "run"
    photos, faces, items = [], [], []
    thumbnails = {}
    for number in range(PHOTOS):
        path = f"day {number // 50}/IMG_{number:03d}.jpg"
        if number % 10 == 9:
            photos.append(photo_row(path, 0, status="rejected", reason="truncated", message="It ends early."))
            continue
        several = number % 15 == 0
        photos.append(photo_row(path, 2 if several else 1))
        style = STYLES[number % 3]
        score = 0.3 + number / 300
        smiling = 0.95 if number % 2 else 0.05
        faces.append(face_row(photos[-1], 0, style, style_score=score, Smiling=smiling, nose_x=200.0, nose_y=410.0))
        if several:
            faces.append(face_row(photos[-1], 1, "Formal", x=10.0, width=50.0, style_score=0.25))
        for face in range(photos[-1]["faces"]):
            items += [item_row(photos[-1], face, rank) for rank in (1, 2)]
        if several:
            items.append(item_row(photos[-1], 1, 3, item_id=f"coat-{number}", category="Coat", reason=COAT_REASON))
        picture = np.full((80, 40, 3), number, np.uint8)
        thumbnails[path] = base64.b64encode(make_thumbnail(picture)).decode()
    write_run(run, photos, faces, items)
    facts = {"test/00001": {"title": "Wide trousers", "price": "49.5", "url": "https://example.org/1"}}
    facts |= {"test/00002": {"title": "Odd one", "url": "javascript:document.title='owned'"}}
    return write_gallery(
        run,
        item_picture=item_picture,
        item_facts=lambda item_id: facts.get(item_id, {}),
        nearest=nearest,
        thumbnails=thumbnails.get,
        title="A night",
        summary={"Run": "abc"},
        stages=STAGES,
    ).as_uri()


@pytest.fixture
def page(browser, address):
    """The gallery just opened; after the test nothing may have gone wrong in it or left it."""
    opened = browser.open(address)
    opened.ready("list")
    yield opened
    assert opened.errors == []
    report = address.removesuffix("index.html")
    assert opened.requests
    assert [url for url in opened.requests if not url.startswith(report)] == []
    opened.close()


def count_of(page) -> str:
    return page.texts("#count")[0].replace("\u2013", "-")


def wait_for_count(page, wanted: str) -> None:
    page.wait(f"document.querySelector('#count').textContent.replace('\\u2013', '-') === {wanted!r}")


def choose(page, control: str, assignment: str) -> None:
    """Set a control as a person does: its value, then the event."""
    page.evaluate(
        f"(() => {{ const node = document.querySelector('{control}'); node.{assignment};"
        "node.dispatchEvent(new Event('change')); })()"
    )


def test_overview_counts_mixes_reasons_and_throughput(page):
    assert page.texts("#counts strong") == ["150", "135", "0", "15", "145"]
    assert sorted(page.texts("#styles .name")) == sorted(STYLES)
    assert page.texts("#reasons code") == ["truncated"]
    assert page.texts("#rate")[0].startswith("15.0 photos a second, 150 in ")
    assert page.texts("#timing .name") == ["items"]
    assert page.evaluate(
        "[...document.querySelectorAll('#styles i')].every((bar) => bar.getBoundingClientRect().width > 1)"
    )


def test_filters_search_and_pages_find_the_same_photos_as_the_tables(page):
    rows = [number for number in range(PHOTOS) if number % 10 != 9]
    assert count_of(page) == "1-60 of 150 photos"
    assert len(page.texts(".card")) == 60

    page.go("page=3", "list 3")
    assert count_of(page) == "121-150 of 150 photos"
    assert page.texts(".card .file")[0] == "IMG_120.jpg"

    page.go("q=day 1/img_07", "list")
    assert page.texts(".card .file") == [f"IMG_{number:03d}.jpg" for number in range(70, 80)]

    page.go("status=rejected:truncated", "list")
    assert count_of(page) == "1-15 of 15 matching photos"

    page.go("attribute=Smiling&style=Casual", "list")
    wanted = [number for number in rows if number % 2 and number % 3 == 0]
    assert page.texts(".card .file") == [f"IMG_{number:03d}.jpg" for number in wanted]

    page.go("attribute=!Smiling&score=70-100", "list")
    wanted = [number for number in rows if number % 2 == 0 and number >= 120]
    assert page.texts(".card .file") == [f"IMG_{number:03d}.jpg" for number in wanted]

    # Style and score must hold for one face: the second faces are Formal, but less sure.
    page.go("style=Formal&score=0-29", "list")
    wanted = [number for number in rows if number % 15 == 0]
    assert page.texts(".card .file") == [f"IMG_{number:03d}.jpg" for number in wanted]
    assert page.evaluate("document.querySelector('.card-link').hash").endswith("&photo=1&face=1")

    page.go("q=nowhere", "list")
    assert page.texts("#empty")[0].startswith("No photo matches")


def test_controls_and_keys_do_what_the_address_does(page):
    choose(page, "#style", "value = 'Formal'")
    page.wait(
        "location.hash.includes('style=Formal') && document.querySelector('#count').textContent.includes('matching')"
    )
    choose(page, "#low", "value = '75'")
    page.wait("location.hash.includes('score=75-100')")
    page.evaluate("document.querySelector('#clear').click(), 0")
    wait_for_count(page, "1-60 of 150 photos")

    page.press("ArrowRight", shift=True)  # as whoever selects text does
    page.press("ArrowRight")
    page.wait("location.hash === '#page=2'")
    page.press("ArrowLeft")
    page.wait("location.hash === '#page=1'")
    page.press("/", "/")
    assert page.evaluate("document.activeElement.id") == "search"
    for letter in "_14":
        page.press(letter, letter)
    page.wait("location.hash.includes('q=_14')")
    wait_for_count(page, "1-10 of 10 matching photos")
    page.press("Escape")

    # From the list to a person and on by keys alone, within what the search found.
    page.evaluate("document.querySelector('.card-link').focus(), 0")
    page.press("Enter", "\r")
    page.ready("person 141")
    page.press("ArrowRight")
    page.ready("person 142")
    page.press("Escape")
    page.ready("list")
    assert count_of(page) == "1-10 of 10 matching photos"


def test_a_persons_page_shows_what_decided(page):
    page.go("page=1&photo=16&face=0", "person 16 0")
    assert page.texts("#person-title") == ["day 0/IMG_015.jpg"]
    assert page.evaluate("document.activeElement.id") == "person-title"
    assert page.texts(".verdict-style strong") == ["Casual"]
    assert page.texts(".deciders .who") == ["Rules", "Neighbours", "Together"]
    assert page.texts(".deciders .number")[2] == "35\u00a0%"
    assert page.texts(".rule code") == ["casual"]
    assert page.texts(".meters li:not([hidden]) .name")[:2] == ["Smiling", "Young"]
    assert page.texts(".neighbours strong") == ["Formal"]
    assert "shares Smiling, Young" in page.texts(".neighbours .shared")[0]
    assert "Formal 60\u00a0%, Casual 40\u00a0%" in page.texts(".panels .why")[1]
    assert page.texts(".item h4") == ["1 Wide trousers", "2 Odd one"]
    assert page.texts(".person-picture > .quiet")[0].startswith("Face 0, ")
    assert page.texts(".face-choice b") == ["0", "1"]
    page.wait("[...document.querySelectorAll('.item canvas')].filter((canvas) => canvas.width === 28).length === 2")
    assert "similarity 0.88 with the clothes worn" in page.texts(".item")[0]
    assert "price 49.5" in page.texts(".item")[0]
    # Only web addresses become links.
    assert page.evaluate("[...document.querySelectorAll('h4 a')].map((a) => a.href)") == ["https://example.org/1"]
    # The box and the points lie on the picture where the tables say.
    box = page.evaluate(
        """(() => { const [picture, box] = ['#person .frame canvas', '#person .chosen .line']
            .map((name) => document.querySelector(name).getBoundingClientRect());
            return ['left', 'top', 'width', 'height'].map((side, at) =>
                (box[side] - (at < 2 ? picture[side] : 0)) / picture[at % 2 ? 'height' : 'width']); })()"""
    )
    assert box == pytest.approx([0.25, 0.25, 0.5, 0.5], abs=0.02)
    assert page.evaluate("document.querySelectorAll('#person .landmark').length") == 5
    nose = page.evaluate(
        "['cx', 'cy'].map((name) => Number(document.querySelectorAll('#person .landmark')[2].getAttribute(name)))"
    )
    assert nose == [200.0, 410.0]

    page.evaluate("document.querySelectorAll('.face-choice a')[1].click(), 0")
    page.ready("person 16 1")
    assert page.texts(".verdict-style strong") == ["Formal"]
    page.evaluate("document.querySelector('#back').click(), 0")
    page.ready("list 1")


def colour_of_last(page, selector: str) -> list[int]:
    """Return the red, green, blue and opacity in the middle of the last thumbnail."""
    return page.evaluate(
        f"""(() => {{ const copy = document.createElement('canvas').getContext('2d');
            copy.drawImage([...document.querySelectorAll('{selector}')].at(-1), 0, 0);
            return [...copy.getImageData(20, 40, 1, 1).data]; }})()"""
    )


def test_photos_show_their_own_thumbnails_once_they_come_into_sight(page):
    drawn = "[...document.querySelectorAll('.card .frame canvas')].filter((canvas) => canvas.width === 40).length"
    page.go("page=3", "list 3")
    page.wait(f"{drawn} > 0")
    assert page.evaluate("document.querySelectorAll('.card .frame canvas').length") == 27
    assert page.evaluate("document.querySelector('.card canvas').getAttribute('aria-label')").startswith(
        "IMG_120.jpg, "
    )
    page.evaluate("window.scrollTo(0, 100000)")
    page.wait(f"{drawn} === 27")
    assert colour_of_last(page, ".card .frame canvas") == [148, 148, 148, 255]
    page.go("page=1&photo=132&face=0", "person 132")
    page.wait("document.querySelector('#person canvas').width === 40")
    assert colour_of_last(page, "#person .frame canvas") == [131, 131, 131, 255]


def test_a_card_shows_the_items_of_the_face_that_it_names(page):
    names = "[...document.querySelector('{card}').querySelectorAll('.strip canvas')].map((n) => n.ariaLabel)"
    assert page.evaluate(names.format(card=".card")) == ["Wide trousers", "Odd one"]
    assert page.evaluate("document.querySelector('.strip .swatch').title") == "Wide trousers"
    assert page.evaluate("document.querySelectorAll('.rejected .strip').length") == 0
    page.wait("document.querySelector('.strip canvas').width === 28")
    assert page.texts(".asked") == []

    # Photo 1's coat is its second face's.
    page.go("category=Coat", "list")
    assert count_of(page) == "1-10 of 10 matching photos"
    assert page.evaluate(names.format(card=".card")) == ["Wide trousers", "Odd one", "Coat coat-0"]
    asked = "[...document.querySelectorAll('.asked canvas')].map((node) => node.ariaLabel)"
    coats = [f"Coat coat-{n}" for n in range(0, PHOTOS, 15)]
    assert page.evaluate(asked) == coats


def test_items_are_found_by_category_id_and_title(page):
    scored = PHOTOS - PHOTOS // 10
    assert page.texts("#most .name")[:3] == ["Wide trousers", "Odd one", "Coat"]
    assert page.texts("#most .quiet")[:3] == ["145 faces", "145 faces", "1 face"]
    assert page.texts("#category option") == ["Every category", "Trouser (145)", "Coat (10)"]
    choose(page, "#category", "value = 'Coat'")
    wait_for_count(page, "1-10 of 10 matching photos")
    page.evaluate("document.querySelector('#item-search').focus(), 0")
    for letter in "coat-1":
        page.press(letter, letter)
    wait_for_count(page, "1-4 of 4 matching photos")  # 15, 105, 120 and 135
    page.evaluate("document.querySelector('#clear').click(), 0")
    wait_for_count(page, "1-60 of 150 photos")
    assert page.evaluate("document.querySelector('#item-search').value") == ""

    page.go("item=WIDE", "list")
    assert count_of(page) == f"1-60 of {scored} matching photos"
    page.go("item=coat-15", "list")  # a whole id: not the items whose ids begin so
    assert page.texts(".card .file") == ["IMG_015.jpg"]
    # One face must meet all: the coats' faces are Formal, and none of them is sure.
    page.go("item=coat&style=Casual", "list")
    assert page.texts("#empty")[0].startswith("No photo matches")
    page.go("category=Hat", "list")
    assert page.texts("#empty")[0].startswith("No photo matches")

    page.go("page=1", "list")
    page.evaluate("document.querySelectorAll('.most-item')[2].click(), 0")
    wait_for_count(page, "1-1 of 1 matching photo")
    assert page.evaluate("document.querySelectorAll('.most-item')[2].ariaPressed") == "true"
    assert page.texts("#most-more") == ["Show all 12"]
    page.evaluate("document.querySelector('#most-more').click(), 0")
    assert page.evaluate("document.querySelectorAll('#most li:not([hidden])').length") == 12


def test_the_whole_reason_is_there_on_demand_and_who_else_has_an_item(page):
    page.go("page=1&photo=16&face=1", "person 16 1")
    assert page.texts(".because")[2] == "A typical Coat, fitting by gender Men."
    assert page.evaluate("document.querySelector('.item .swatch').getBoundingClientRect().width") >= 140
    page.evaluate("document.querySelectorAll('.item-links button')[2].focus(), 0")
    page.press("Enter", "\r")
    assert page.texts(".because")[2] == COAT_REASON
    assert "similarity 0.88" in page.texts(".item-figures:not([hidden])")[0]
    assert page.evaluate("document.activeElement.ariaExpanded") == "true"
    page.press("Enter", "\r")
    assert page.texts(".because")[2] == "A typical Coat, fitting by gender Men."
    page.evaluate("document.querySelectorAll('.item-links a')[2].click(), 0")
    page.ready("list")
    wait_for_count(page, "1-1 of 1 matching photo")
    assert page.texts(".card .file") == ["IMG_015.jpg"]


def test_a_rejected_photo_says_why(page):
    page.go("page=1&photo=10&face=0", "person 10")
    assert page.texts(".verdict code") == ["truncated"]
    assert "It ends early." in page.texts(".verdict")[0]


@pytest.mark.slow
@pytest.mark.parametrize(("width_px", "dark"), [(390, False), (390, True), (1280, False), (1280, True)])
def test_no_serious_accessibility_fault(browser, address, axe, width_px, dark):
    views = (("", "list"), ("#style=Formal&category=Coat&page=1", "list"), ("#page=1&photo=16&face=1", "person"))
    for hash_, ready in views:
        page = browser.open(address + hash_, width_px=width_px, dark=dark)
        page.ready(ready)
        assert page.evaluate("document.documentElement.scrollWidth") <= width_px
        assert axe(page) == []
        page.close()


def test_a_browser_shows_hostile_names_as_text(browser, tmp_path):
    scored = [photo_row(name) for name in HOSTILE_NAMES]
    refused = photo_row("z.jpg", 0, status="rejected", reason="corrupt", message=HOSTILE_NAMES[0])
    faces = [face_row(photo, style=photo["path"], why=photo["path"], rule=photo["path"]) for photo in scored]
    items = [item_row(photo, item_id=photo["path"], category=photo["path"], reason=photo["path"]) for photo in scored]
    run = write_run(tmp_path / "run", [*scored, refused], faces, items)
    index = write_gallery(run, item_picture=item_picture, title=HOSTILE_NAMES[0], summary={"<b>": HOSTILE_NAMES[1]})

    page = browser.open(index.as_uri())
    page.ready("list")
    assert page.evaluate("document.title") == HOSTILE_NAMES[0]
    assert len(page.texts(".card.scored")) == len(HOSTILE_NAMES)
    for number in range(1, len(HOSTILE_NAMES) + 2):
        page.go(f"page=1&photo={number}&face=0", f"person {number}")
        assert page.evaluate("document.querySelectorAll('[onerror], script:not([src]), img[src=x]').length") == 0
        assert not page.evaluate(
            r"/[\x07\x1b\u202e\u202c\u2028\u2029]/.test(document.querySelector('#person').textContent)"
        )
    page.go("page=1", "list")
    shown = set(page.texts(".hidden-character"))
    assert {"\\n", "\\t", "\\x1b", "\\x07", "\\u{202e}", "\\u{2028}", "\\u{2029}"} <= shown
    assert not page.evaluate(r"/[\x07\x1b\u202e\u202c\u2028\u2029]/.test(document.querySelector('#cards').textContent)")
    # A style's exact name, whatever it holds, is what the filter compares.
    choose(page, "#style", "selectedIndex = 1")
    wait_for_count(page, "1-1 of 1 matching photo")
    assert page.errors == []


def test_a_missing_part_is_said(browser, tmp_path):
    photo = photo_row("a.jpg")
    index = write_gallery(
        write_run(tmp_path / "run", [photo], [face_row(photo)]), item_picture=item_picture, title="Torn"
    )
    (index.parent / "data" / "tiles-00001.js").unlink()
    page = browser.open(index.as_uri())
    page.wait("document.querySelector('#problem') && !document.querySelector('#problem').hidden")
    assert "data/tiles-00001.js is missing" in page.texts("#problem")[0]
