// The comparison's page: filters and pages over a list of changes; the address holds the view.
"use strict";
((page) => {
  const { make, byId, count, plural } = page;
  const KEYS = { query: "q", kind: "kind", from: "from", to: "to" };
  const parts = [];
  let summary = null;
  let columns = null;
  let loaded = null;
  let turn = 0;

  function readView() {
    const asked = new URLSearchParams(location.hash.slice(1));
    const view = Object.fromEntries(Object.entries(KEYS).map(([key, name]) => [key, asked.get(name) || ""]));
    return { ...view, page: Math.max(1, Number.parseInt(asked.get("page"), 10) || 1) };
  }

  function setView(changes, replace) {
    const view = { ...readView(), page: 1, ...changes };
    const asked = new URLSearchParams();
    for (const [key, name] of Object.entries(KEYS)) if (view[key]) asked.set(name, view[key]);
    asked.set("page", view.page);
    if (replace) location.replace(`#${asked}`);
    else location.hash = asked;
  }

  function loadIndex() {
    loaded ||= page.loadAll("index", summary.index_parts).then(() => {
      parts.sort((a, b) => a.number - b.number);
      const joined = (name) => parts.flatMap((part) => part[name]);
      columns = { lower: joined("paths").map((path) => path.toLowerCase()), kinds: joined("kinds"), from: joined("from"), to: joined("to") };
    });
    return loaded;
  }

  const isFiltered = (view) => Object.keys(KEYS).some((key) => view[key]);
  const total = () => Object.values(page.kindCounts).reduce((sum, number) => sum + number, 0);

  async function findMatches(view) {
    await loadIndex();
    const query = view.query.toLowerCase();
    const kind = summary.kinds.indexOf(view.kind);
    const [from, to] = [summary.style_names.indexOf(view.from), summary.style_names.indexOf(view.to)];
    const matches = [];
    columns.lower.forEach((path, at) => {
      if (view.kind && columns.kinds[at] !== kind) return;
      if (view.from && (from < 0 || columns.from[at] !== from)) return;
      if (view.to && (to < 0 || columns.to[at] !== to)) return;
      if (query && !path.includes(query)) return;
      matches.push(at);
    });
    return matches;
  }

  async function show() {
    turn += 1;
    const mine = turn;
    const view = readView();
    if (document.activeElement !== byId("search")) byId("search").value = view.query;
    for (const key of ["kind", "from", "to"]) byId(key).value = view[key];
    byId("clear").hidden = !isFiltered(view);
    for (const button of document.querySelectorAll("[data-kind]")) button.setAttribute("aria-pressed", String(button.dataset.kind === view.kind));
    try {
      const matches = isFiltered(view) ? await findMatches(view) : null;
      const found = matches ? matches.length : total();
      const size = summary.page_size;
      page.shownPages = Math.max(1, Math.ceil(found / size));
      const current = Math.min(view.page, page.shownPages);
      const first = (current - 1) * size;
      const places = Array.from({ length: Math.max(0, Math.min(size, found - first)) }, (_, at) => (matches ? matches[first + at] : first + at));
      const changes = await Promise.all(places.map(async (at) => (await page.chunkOf("page", Math.floor(at / size) + 1)).changes[at % size]));
      if (mine !== turn) return;
      byId("changes").replaceChildren(...changes.map((change) => page.makeChange(change, summary.kinds)));
      byId("empty").hidden = found > 0;
      byId("empty").textContent = matches ? "No change matches." : "Nothing changed.";
      byId("count").textContent = places.length ? `${count(first + 1)}\u2013${count(first + places.length)} of ${plural(found, "change", "changes")}` : "0 changes";
      page.makePagers(current, page.shownPages, turnTo);
      if (byId("results").getBoundingClientRect().top < 0) byId("results").scrollIntoView();
      document.documentElement.dataset.ready = `list ${current}`;
    } catch (error) {
      page.showProblem(error);
    }
  }

  function step(by) {
    turnTo(Math.min(readView().page, page.shownPages) + by); // an address may name a page behind the last
  }

  function turnTo(target) {
    if (target < 1 || target > page.shownPages) return;
    setView({ page: target });
    byId("results").focus({ preventScroll: true });
  }

  function showCounts() {
    const { photos, faces } = summary;
    page.kindCounts = {
      "photo added": photos.added, "photo gone": photos.gone, "photo renamed": photos.renamed, "photo status": photos.status, "photo contents": photos.contents, "photo faces": photos.faces,
      "face added": faces.added, "face gone": faces.gone, "face style": faces.style_moved, "face items": faces.items_changed,
    };
    const labels = {
      "photo added": "photos added", "photo gone": "photos gone", "photo renamed": "photos renamed", "photo status": "photos of other status", "photo contents": "photos of other contents",
      "photo faces": "photos with other faces", "face added": "faces added", "face gone": "faces gone", "face style": "faces of another style", "face items": "faces with other items alone",
    };
    for (const [kind, label] of Object.entries(labels)) {
      const button = make("button", { type: "button", class: "tile", "aria-pressed": "false" }, make("strong", {}, count(page.kindCounts[kind])), make("span", {}, label));
      button.dataset.kind = kind;
      button.addEventListener("click", () => setView({ kind: readView().kind === kind ? "" : kind }));
      byId("counts").append(make("li", {}, button));
      byId("kind").append(option(kind, `${label} (${count(page.kindCounts[kind])})`));
    }
    byId("kind").prepend(option("", "Every change"));
    byId("from").append(option("", "Every style in A"), ...[...summary.style_names].sort().map((name) => option(name, name)));
    byId("to").append(option("", "Every style in B"), ...[...summary.style_names].sort().map((name) => option(name, name)));
    byId("kind").value = "";
  }

  function option(value, label) {
    const node = make("option", {}, label);
    node.value = value;
    return node;
  }

  function listen() {
    byId("toolbar").addEventListener("submit", (event) => event.preventDefault());
    for (const key of ["kind", "from", "to"]) byId(key).addEventListener("change", (event) => setView({ [key]: event.target.value }));
    byId("clear").addEventListener("click", () => {
      byId("search").value = "";
      setView({ query: "", kind: "", from: "", to: "" });
    });
    let typing = 0;
    byId("search").addEventListener("input", (event) => {
      clearTimeout(typing);
      typing = setTimeout(() => setView({ query: event.target.value }, true), 120);
    });
    document.querySelector(".skip").addEventListener("click", (event) => {
      event.preventDefault();
      byId("results").focus();
      byId("results").scrollIntoView();
    });
    document.addEventListener("keydown", (event) => {
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      if (event.target.closest("input, select, textarea, [role=region]")) return;
      if (event.key === "/") {
        event.preventDefault();
        byId("search").focus();
      } else if (event.key === "ArrowRight" && !event.shiftKey) step(1); // with Shift it extends a selection
      else if (event.key === "ArrowLeft" && !event.shiftKey) step(-1);
    });
    window.addEventListener("hashchange", show);
  }

  page.onChunk("index", (chunk) => parts.push(chunk));
  page.onChunk("summary", (chunk) => {
    summary = chunk;
    page.setHues([...new Set(summary.styles.flatMap(([a, b]) => [a, b]))]);
    page.showHead(summary, (from, to) => setView({ kind: "face style", from, to }));
    showCounts();
    listen();
    show();
  });
})((window.stylematchPage ??= {}));
