// The gallery: the address holds the view (filters, page, person), so reload, back and bookmarks work.
"use strict";
((page) => {
  const { make, makeFrame, byId, count, percent, fileName } = page;
  const NAMES = { query: "q", status: "status", style: "style", attribute: "attribute", item: "item", category: "category" };
  const FIELDS = { search: "query", "item-search": "item" }; // what a person types
  const CHOICES = ["status", "style", "attribute", "category"];

  let summary = null;
  let timing = null;
  let turn = 0; // rises with every change of view, so that a late answer to an old question is dropped
  let shownPages = 1;
  let shown = null; // { positions, at }: what arrows move through
  const scrolled = new Map(); // list's address -> how far down it was

  const isPercent = (value) => Number.isFinite(value) && value >= 0 && value <= 100;

  const readView = () => readViewOf(location.hash.slice(1));

  function readViewOf(address) {
    const asked = new URLSearchParams(address);
    const view = Object.fromEntries(Object.entries(NAMES).map(([key, name]) => [key, asked.get(name) || ""]));
    const [low, high] = (asked.get("score") || "").split("-").map((value) => Number.parseInt(value, 10));
    const whole = (name) => Math.max(0, Number.parseInt(asked.get(name), 10) || 0);
    return {
      ...view,
      low: isPercent(low) ? low : 0,
      high: isPercent(high) ? high : 100,
      page: Math.max(1, whole("page")),
      photo: whole("photo"),
      face: whole("face"), // as the tables count them, from 0
    };
  }

  function addressOf(view) {
    const asked = new URLSearchParams();
    for (const [key, name] of Object.entries(NAMES)) if (view[key]) asked.set(name, view[key]);
    if (view.low > 0 || view.high < 100) asked.set("score", `${view.low}-${view.high}`);
    asked.set("page", view.page); // always there: an empty address would jump to the top
    if (view.photo) {
      asked.set("photo", view.photo);
      asked.set("face", view.face);
    }
    return `#${asked}`;
  }

  function setView(changes, replace) {
    const address = addressOf({ ...readView(), page: 1, photo: 0, ...changes });
    if (replace) location.replace(address);
    else location.hash = address;
  }

  // ---- controls ---------------------------------------------------------------------------------------------------
  function showControls(view) {
    for (const [id, key] of Object.entries(FIELDS)) if (document.activeElement !== byId(id)) byId(id).value = view[key];
    for (const key of CHOICES) byId(key).value = view[key];
    for (const key of ["low", "high"]) if (document.activeElement !== byId(key)) byId(key).value = view[key];
    byId("clear").hidden = !page.isFiltered(view);
    for (const button of document.querySelectorAll("[data-key]")) {
      button.setAttribute("aria-pressed", String(view[button.dataset.key] === button.dataset.value));
    }
  }

  function showCount(first, number, total, filtered) {
    const range = number ? `${count(first + 1)}\u2013${count(first + number)} of ${count(total)}` : "0";
    byId("count").textContent = `${range} ${filtered ? "matching " : ""}${total === 1 ? "photo" : "photos"}`;
  }

  function turnTo(target) {
    if (target < 1 || target > shownPages) return;
    setView({ page: target });
    byId("results").focus({ preventScroll: true }); // the button is about to be replaced
  }

  // ---- the list ---------------------------------------------------------------------------------------------------
  // kind is "tiles", what a list needs of a photo, "page", all that is known of it, or "thumbs".
  const chunkAt = (kind, position) => page.chunkOf(kind, Math.floor(position / summary.page_size) + 1);
  const thumbnailAt = async (position) => (await chunkAt("thumbs", position)).pictures[position % summary.page_size];
  const photoAt = async (kind, position) => {
    const chunk = await chunkAt(kind, position);
    return { chunk, photo: chunk.photos[position % summary.page_size] };
  };

  function makeCard({ photo, chunk }, position, view, chosen, isAsked) {
    const face = photo.faces[chosen];
    const folder = photo.path.slice(0, photo.path.lastIndexOf("/") + 1);
    const others = photo.faces.length - 1;
    const said = face
      ? make("span", { class: "said" }, make("span", { class: "dot", "aria-hidden": "true" }), make("span", { class: "style-name" }, face.style), make("span", { class: "quiet" }, percent(face.score)), others > 0 ? make("span", { class: "others quiet" }, `+${others}`) : null)
      : make("span", { class: `said ${photo.status}` }, make("span", { class: "style-name" }, page.STATUS_NAMES[photo.status] || photo.status), make("code", {}, photo.reason));
    if (face) said.style.setProperty("--hue", page.hueOf(face.style));
    const link = make(
      "a", { class: "card-link", href: addressOf({ ...view, photo: position + 1, face: chosen }), title: photo.path },
      makeFrame(photo, { chosen, bring: () => thumbnailAt(position) }),
      make("span", { class: "card-text" }, make("span", { class: "card-path" }, folder ? make("span", { class: "folder" }, folder) : null, make("span", { class: "file" }, fileName(photo.path))), said),
      face && face.items.length ? page.makeStrip(face.items.map((at) => chunk.items[at]), isAsked) : null,
    );
    return make("li", { class: `card ${photo.status}` }, link);
  }

  async function showList(view, mine) {
    const filtered = page.isFiltered(view);
    const size = summary.page_size;
    const matches = filtered ? await page.findMatches(view) : null;
    if (mine !== turn) return;
    const total = filtered ? matches.length : summary.counts.found;
    shownPages = Math.max(1, Math.ceil(total / size));
    const current = Math.min(view.page, shownPages);
    const first = (current - 1) * size;
    const places = Array.from({ length: Math.min(size, total - first) }, (_, at) => first + at);
    const wanted = filtered ? places.map((at) => matches[at]) : places;
    const photos = await Promise.all(wanted.map((position) => photoAt("tiles", position)));
    if (mine !== turn) return;
    const [faceOf, isAsked] = [page.faceFinder(view), page.itemTest(view)];
    byId("cards").replaceChildren(...photos.map((found, at) => makeCard(found, wanted[at], view, faceOf(wanted[at]), isAsked)));
    byId("empty").hidden = total > 0;
    byId("empty").textContent = filtered ? "No photo matches. Take a filter away, or search for another part of the path or of an item\u2019s name." : "No photos were found in this run.";
    showCount(first, wanted.length, total, filtered);
    page.makePagers(current, shownPages, turnTo);
    document.title = summary.title;
    return `list ${current}`;
  }

  // ---- a person ---------------------------------------------------------------------------------------------------
  async function showPerson(view, mine) {
    const total = summary.counts.found;
    const position = Math.min(view.photo, total) - 1;
    const matches = page.isFiltered(view) ? await page.findMatches(view) : null;
    const { chunk, photo } = await photoAt("page", position);
    if (mine !== turn) return;
    const linkTo = (number) => addressOf({ ...view, face: number });
    const linkToItem = (item) => addressOf({ ...readViewOf(""), item });
    const at = matches ? matches.indexOf(position) : position;
    const length = matches ? matches.length : total;
    shown = { positions: matches, at, length };
    const list = addressOf({ ...view, page: Math.floor(Math.max(0, at) / summary.page_size) + 1, photo: 0 });
    const step = (label, mark, to, id) => {
      const there = at >= 0 && to >= 0 && to < length;
      return make("a", { id, class: "step", "aria-label": label, title: label, href: there ? addressOf(viewAt(view, to)) : null, "aria-disabled": there ? null : "true", role: there ? null : "link" }, mark);
    };
    const bar = make(
      "nav", { class: "person-bar", "aria-label": "Photos around this one" },
      make("a", { id: "back", href: list }, "\u2190 All photos"),
      make("span", { class: "quiet" }, at >= 0 ? `${count(at + 1)} of ${count(length)}` : ""),
      step("Previous photo", "\u2039", at - 1, "previous"),
      step("Next photo", "\u203a", at + 1, "next"),
    );
    byId("person").replaceChildren(bar, ...page.makePerson(photo, view.face, chunk, summary, { linkTo, linkToItem, bring: () => thumbnailAt(position) }));
    document.title = `${page.plainText(fileName(photo.path))} \u00b7 ${summary.title}`;
    return `person ${position + 1} ${view.face}`;
  }

  function viewAt(view, at) {
    const position = shown.positions ? shown.positions[at] : at;
    return { ...view, photo: position + 1, face: page.faceFinder(view)(position) };
  }

  function step(by) {
    const view = readView();
    if (!view.photo) turnTo(Math.min(view.page, shownPages) + by);
    else if (shown && shown.at >= 0 && shown.at + by >= 0 && shown.at + by < shown.length) location.hash = addressOf(viewAt(view, shown.at + by));
  }

  // ---- start ------------------------------------------------------------------------------------------------------
  let listShown = null;

  async function show() {
    turn += 1;
    const mine = turn;
    const view = readView();
    const isPerson = view.photo > 0 && summary.counts.found > 0;
    if (!isPerson) showControls(view);
    if (isPerson && !byId("gallery").hidden && listShown) scrolled.set(listShown, window.scrollY);
    let ready = null;
    try {
      ready = await (isPerson ? showPerson(view, mine) : showList(view, mine));
    } catch (error) {
      page.showProblem(error);
    }
    if (mine !== turn || ready === null) return;
    const wasPerson = byId("gallery").hidden;
    byId("gallery").hidden = isPerson;
    byId("person").hidden = !isPerson;
    if (isPerson) {
      byId("person-title").focus({ preventScroll: true });
      window.scrollTo(0, 0);
    } else {
      if (wasPerson) window.scrollTo(0, scrolled.get(location.hash) || 0);
      else if (listShown !== null && listShown !== location.hash && byId("results").getBoundingClientRect().top < 0) byId("results").scrollIntoView();
      listShown = location.hash;
    }
    document.documentElement.dataset.ready = ready; // what is shown, for tests
  }

  function listen() {
    byId("toolbar").addEventListener("submit", (event) => event.preventDefault());
    for (const key of CHOICES) byId(key).addEventListener("change", (event) => setView({ [key]: event.target.value }));
    for (const [key, otherwise] of [["low", 0], ["high", 100]]) {
      byId(key).addEventListener("change", (event) => {
        const value = Math.round(Number(event.target.value));
        setView({ [key]: event.target.value !== "" && isPercent(value) ? value : otherwise });
      });
    }
    byId("clear").addEventListener("click", () => {
      for (const id of Object.keys(FIELDS)) byId(id).value = "";
      setView(readViewOf(""));
    });
    for (const link of document.querySelectorAll(".skip")) {
      link.addEventListener("click", (event) => {
        event.preventDefault(); // the address holds the view
        const target = byId("gallery").hidden ? byId("person-title") : byId("results");
        target.focus();
        target.scrollIntoView();
      });
    }
    let typing = 0;
    for (const [id, key] of Object.entries(FIELDS)) {
      byId(id).addEventListener("input", (event) => {
        clearTimeout(typing);
        typing = setTimeout(() => setView({ [key]: event.target.value }, true), 120);
      });
    }
    document.addEventListener("keydown", onKey);
    window.addEventListener("hashchange", show);
  }

  function onKey(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.target.closest("input, select, textarea")) {
      if (event.key === "Escape") event.target.blur();
      return;
    }
    if (event.key === "/" && !byId("gallery").hidden) {
      event.preventDefault();
      byId("search").focus();
      byId("search").select();
    } else if (event.key === "ArrowRight" && !event.shiftKey) step(1); // with Shift it extends a selection
    else if (event.key === "ArrowLeft" && !event.shiftKey) step(-1);
    else if (event.key === "Escape" && !byId("person").hidden) location.hash = byId("back").hash;
  }

  Object.assign(page, { readView, setView });
  page.onChunk("summary", (chunk) => {
    summary = chunk;
    page.startFinding(summary);
    page.showOverview(summary);
    listen();
    show().then(() => page.loadIndex()).catch(page.showProblem);
  });
  page.onChunk("timing", (chunk) => {
    timing = chunk;
    page.showTiming(timing);
  });
})((window.stylematchPage ??= {}));
