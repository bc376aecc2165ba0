// The gallery's page. Data come as classic scripts that call stylematchGallery(chunk), because a page opened from the
// file system may load scripts but not read files. Everything that a file or a catalogue named is inserted as text.
"use strict";
(() => {
  const KEPT_PAGES = 80;
  const FACES_SHOWN = 12;
  const STYLES_SHOWN = 12;
  const STATUS_NAMES = { scored: "Scored", no_face: "No face", rejected: "Rejected" };

  let summary = null;
  const pages = new Map(); // page number -> photos; the most recently used last
  const index = { paths: [], kinds: [], styles: [] };
  let indexLoaded = null; // a promise, once somebody has asked
  let shownPages = 1;
  let turn = 0; // rises with every change of view, so that a late answer to an old question is dropped

  const byId = (id) => document.getElementById(id);
  const count = (number) => number.toLocaleString("en-US");
  const percent = (share) => (share === null ? "" : share > 0 && share < 0.005 ? "<1\u00a0%" : `${Math.round(100 * share)}\u00a0%`);

  // ---- text -------------------------------------------------------------------------------------------------------
  // Characters that draw nothing, or that turn the order of what follows (line feeds, escapes, bidi controls).
  const HIDDEN = /[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/gu;
  const SHORT = { "\n": "\\n", "\r": "\\r", "\t": "\\t" };

  function escapeHidden(character) {
    const code = character.codePointAt(0).toString(16);
    return SHORT[character] || (code.length <= 2 ? `\\x${code.padStart(2, "0")}` : `\\u{${code}}`);
  }

  const plainText = (text) => String(text).replace(HIDDEN, escapeHidden);

  function appendText(node, text) {
    let end = 0;
    for (const match of String(text).matchAll(HIDDEN)) {
      if (match.index > end) node.append(text.slice(end, match.index));
      const mark = document.createElement("span");
      mark.className = "hidden-character";
      mark.textContent = escapeHidden(match[0]);
      node.append(mark);
      end = match.index + match[0].length;
    }
    if (end < text.length) node.append(text.slice(end));
  }

  function make(tag, attributes, ...children) {
    const node = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes || {})) {
      if (value !== null && value !== undefined && value !== false) node.setAttribute(name, plainText(value));
    }
    for (const child of children) {
      if (child === null || child === undefined) continue;
      if (child instanceof Node) node.append(child);
      else appendText(node, String(child));
    }
    return node;
  }

  // ---- data -------------------------------------------------------------------------------------------------------
  const receive = {
    summary(chunk) {
      summary = chunk;
      start();
    },
    page(chunk) {
      pages.set(chunk.number, chunk.photos);
    },
    index(chunk) {
      for (const name of ["paths", "kinds", "styles"]) for (const value of chunk[name]) index[name].push(value);
    },
  };
  window.stylematchGallery = (chunk) => receive[chunk.kind](chunk);

  function loadScript(name) {
    return new Promise((resolve, reject) => {
      const script = document.createElement("script");
      script.src = `data/${name}`;
      script.onload = () => (script.remove(), resolve());
      script.onerror = () => (script.remove(), reject(new Error(`data/${name} is missing or unreadable`)));
      document.head.append(script);
    });
  }

  const numbered = (kind, number) => `${kind}-${String(number).padStart(5, "0")}.js`;

  async function loadPage(number) {
    if (!pages.has(number)) await loadScript(numbered("page", number));
    const photos = pages.get(number);
    pages.delete(number);
    pages.set(number, photos);
    return photos;
  }

  function loadIndex() {
    indexLoaded ||= (async () => {
      for (let part = 1; part <= summary.index_parts; part += 1) await loadScript(numbered("index", part));
    })();
    return indexLoaded;
  }

  // ---- the view, kept in the address so that reload, back and bookmarks work ----------------------------------------
  function readView() {
    const asked = new URLSearchParams(location.hash.slice(1));
    return {
      query: asked.get("q") || "",
      status: asked.get("status") || "",
      style: asked.get("style") || "",
      page: Math.max(1, Number.parseInt(asked.get("page"), 10) || 1),
    };
  }

  function setView(changes, replace) {
    const view = { ...readView(), page: 1, ...changes };
    const asked = new URLSearchParams();
    if (view.query) asked.set("q", view.query);
    if (view.status) asked.set("status", view.status);
    if (view.style) asked.set("style", view.style);
    asked.set("page", view.page); // always there: an empty address would jump to the top
    if (replace) location.replace(`#${asked}`);
    else location.hash = asked;
  }

  // A status filter is "rejected", or "rejected:truncated" for one reason.
  function kindsOf(status) {
    const [name, reason] = status.split(":");
    return summary.kinds.map((kind) => kind.status === name && (!reason || kind.reason === reason));
  }

  function findMatches(view) {
    const query = view.query.toLowerCase();
    const kinds = view.status ? kindsOf(view.status) : null;
    const style = view.style ? summary.styles.findIndex((known) => known.name === view.style) : null;
    const matches = [];
    for (let position = 0; position < index.paths.length; position += 1) {
      if (kinds && !kinds[index.kinds[position]]) continue;
      if (style !== null && !index.styles[position].includes(style)) continue;
      if (query && !index.paths[position].toLowerCase().includes(query)) continue;
      matches.push(position);
    }
    return matches;
  }

  async function show() {
    turn += 1;
    const mine = turn;
    const view = readView();
    showControls(view);
    const filtered = Boolean(view.query || view.status || view.style);
    const size = summary.page_size;
    try {
      if (filtered) await loadIndex();
      if (mine !== turn) return;
      const matches = filtered ? findMatches(view) : null;
      const total = filtered ? matches.length : summary.counts.found;
      shownPages = Math.max(1, Math.ceil(total / size));
      const page = Math.min(view.page, shownPages);
      const first = (page - 1) * size;
      const positions = Array.from({ length: Math.min(size, total - first) }, (_, i) => first + i);
      const wanted = filtered ? positions.map((position) => matches[position]) : positions;
      const numbers = [...new Set(wanted.map((position) => Math.floor(position / size) + 1))];
      await Promise.all(numbers.map(loadPage));
      if (mine !== turn) return;
      const photos = wanted.map((position) => pages.get(Math.floor(position / size) + 1)[position % size]);
      byId("cards").replaceChildren(...photos.map((photo) => makeCard(photo, view)));
      if (total === 0) byId("cards").append(makeEmpty(filtered));
      showCount(first, wanted.length, total, filtered);
      showPagers(page);
      if (byId("results").getBoundingClientRect().top < 0) byId("results").scrollIntoView();
      for (const number of pages.keys()) {
        if (pages.size <= KEPT_PAGES) break;
        if (!numbers.includes(number)) pages.delete(number);
      }
      document.documentElement.dataset.ready = String(page);
    } catch (error) {
      byId("problem").textContent = `${error.message}. Keep the report folder whole: index.html needs what lies beside it.`;
      byId("problem").hidden = false;
    }
  }

  // ---- overview ---------------------------------------------------------------------------------------------------
  const hues = new Map();
  const hueOf = (style) => hues.get(style) ?? 0;
  const kindsByCount = () => [...summary.kinds].sort((a, b) => b.photos - a.photos || (a.reason < b.reason ? -1 : 1));
  const stylesByCount = () => [...summary.styles].sort((a, b) => b.faces - a.faces || (a.name < b.name ? -1 : 1));

  function makeFilter(attributes, key, value, ...children) {
    const button = make("button", { type: "button", "aria-pressed": "false", ...attributes }, ...children);
    button.dataset.key = key;
    button.dataset.value = value;
    button.addEventListener("click", () => setView({ [key]: readView()[key] === value ? "" : value }));
    return button;
  }

  function showOverview() {
    const { counts } = summary;
    const tile = (status, label, number) => {
      const share = status && counts.found ? percent(number / counts.found) : null;
      const parts = [make("strong", {}, count(number)), make("span", {}, label), share && make("em", {}, share)];
      return make("li", {}, makeFilter({ class: `tile ${status || "found"}${number ? "" : " none"}` }, "status", status, ...parts));
    };
    byId("counts").append(
      tile("", "photos found", counts.found),
      ...Object.entries(STATUS_NAMES).map(([status, name]) => tile(status, name.toLowerCase(), counts[status])),
      make("li", {}, make("div", { class: "tile faces" }, make("strong", {}, count(counts.faces)), make("span", {}, counts.faces === 1 ? "face" : "faces"))),
    );

    const styles = stylesByCount();
    const most = styles.length ? styles[0].faces : 1;
    byId("styles").append(...styles.map((style, rank) => {
      const bar = make("span", { class: "bar" }, make("i"));
      bar.firstChild.style.width = `${(100 * style.faces) / most}%`;
      const share = make("span", { class: "number" }, `${count(style.faces)} `, make("em", {}, percent(style.faces / counts.faces)));
      const button = makeFilter({ class: "style" }, "style", style.name, make("span", { class: "name" }, style.name), bar, share);
      button.style.setProperty("--hue", hueOf(style.name));
      const row = make("li", {}, button);
      row.hidden = rank >= STYLES_SHOWN;
      return row;
    }));
    byId("styles-panel").hidden = styles.length === 0;
    const more = byId("styles-more");
    more.hidden = styles.length <= STYLES_SHOWN;
    more.textContent = `Show all ${styles.length} styles`;
    more.addEventListener("click", () => {
      for (const row of byId("styles").children) row.hidden = false;
      more.hidden = true;
    });

    const reasons = kindsByCount().filter((kind) => kind.status !== "scored");
    byId("reasons").append(...reasons.map((kind) => {
      const parts = [make("code", {}, kind.reason), make("strong", {}, count(kind.photos)), make("span", {}, kind.meaning)];
      return make("li", {}, makeFilter({ class: `reason ${kind.status}` }, "status", `${kind.status}:${kind.reason}`, ...parts));
    }));
    byId("reasons-panel").hidden = reasons.length === 0;

    byId("facts").append(...summary.facts.map(([label, value]) => make("div", {}, make("dt", {}, label), make("dd", {}, value))));
    byId("facts-box").hidden = summary.facts.length === 0;
  }

  function showOptions() {
    const option = (value, label) => make("option", { value }, label);
    byId("status").append(option("", "Every status"));
    for (const [status, name] of Object.entries(STATUS_NAMES)) {
      if (summary.counts[status]) byId("status").append(option(status, `${name} (${count(summary.counts[status])})`));
      const kinds = kindsByCount().filter((kind) => kind.status === status && status !== "scored");
      for (const kind of kinds) byId("status").append(option(`${status}:${kind.reason}`, `\u2007\u2007${kind.reason} (${count(kind.photos)})`));
    }
    // The value of an option is compared with the style's name, so it is set as it is, not made visible.
    byId("style").append(option("", "Every style"));
    for (const style of stylesByCount()) {
      const choice = option("", `${style.name} (${count(style.faces)})`);
      choice.value = style.name;
      byId("style").append(choice);
    }
  }

  function showControls(view) {
    if (document.activeElement !== byId("search")) byId("search").value = view.query;
    byId("status").value = view.status;
    byId("style").value = view.style;
    byId("clear").hidden = !(view.query || view.status || view.style);
    for (const button of document.querySelectorAll("[data-key]")) {
      button.setAttribute("aria-pressed", String(view[button.dataset.key] === button.dataset.value));
    }
  }

  function showCount(first, shown, total, filtered) {
    const range = shown ? `${count(first + 1)}\u2013${count(first + shown)} of ${count(total)}` : "0";
    const noun = `${filtered ? "matching " : ""}${total === 1 ? "photo" : "photos"}`;
    byId("count").textContent = `${range} ${noun}`;
  }

  function showPagers(page) {
    for (const pager of document.querySelectorAll(".pager")) {
      pager.hidden = shownPages === 1;
      const step = (label, mark, target) => {
        const button = make("button", { type: "button", "aria-label": label, title: label }, mark);
        button.disabled = target < 1 || target > shownPages || target === page;
        button.addEventListener("click", () => turnTo(target));
        return button;
      };
      const field = make("input", { type: "number", min: 1, max: shownPages, value: page, "aria-label": "Page", inputmode: "numeric" });
      field.addEventListener("change", () => turnTo(Math.min(shownPages, Math.max(1, Math.round(Number(field.value)) || page))));
      pager.replaceChildren(
        step("First page", "\u00ab", 1),
        step("Previous page", "\u2039", page - 1),
        make("label", {}, field, make("span", {}, `of ${count(shownPages)}`)),
        step("Next page", "\u203a", page + 1),
        step("Last page", "\u00bb", shownPages),
      );
    }
  }

  function turnTo(page) {
    if (page < 1 || page > shownPages) return;
    setView({ page });
    byId("results").focus({ preventScroll: true }); // the button is about to be replaced
  }

  // ---- cards ------------------------------------------------------------------------------------------------------
  function makeCard(photo, view) {
    const faces = photo.faces.slice(0, FACES_SHOWN);
    const chosen = Math.max(0, faces.findIndex((face) => face.style === view.style));
    const panels = faces.map((face, i) => makeFace(face, faces.length > 1, i === chosen));
    const frame = makeFrame(photo, faces, (i) => panels[i].choose());
    panels.forEach((panel, i) => panel.onChosen(() => frame.mark(i)));
    if (faces.length) frame.mark(chosen);

    const facts = [
      photo.width && photo.height ? `${count(photo.width)} \u00d7 ${count(photo.height)} px` : null,
      photo.format,
      photo.bytes < 1000 ? `${photo.bytes} B` : photo.bytes < 1e6 ? `${Math.round(photo.bytes / 1e3)} kB` : `${(photo.bytes / 1e6).toFixed(1)} MB`,
      photo.faces.length > 1 ? `${photo.faces.length} faces` : null,
    ];
    const cut = photo.path.lastIndexOf("/") + 1;
    const body = make(
      "div", { class: "body" },
      make("h3", { class: "path", title: photo.path, dir: "ltr" }, make("span", { class: "folder" }, photo.path.slice(0, cut)), make("span", {}, photo.path.slice(cut))),
      make("p", { class: "quiet" }, facts.filter(Boolean).join(" \u00b7 ")),
      ...panels.map((panel) => panel.node),
    );
    if (photo.faces.length > faces.length) {
      body.append(make("p", { class: "quiet" }, `and ${count(photo.faces.length - faces.length)} smaller faces, in the faces table`));
    }
    if (photo.status !== "scored") {
      body.append(make(
        "div", { class: `verdict ${photo.status}` },
        make("p", {}, make("strong", {}, STATUS_NAMES[photo.status] || photo.status), " ", make("code", {}, photo.reason)),
        make("p", {}, photo.message || photo.meaning),
      ));
    }
    return make("article", { class: `card ${photo.status}`, "aria-label": photo.path }, frame.node, body);
  }

  function makeFrame(photo, faces, choose) {
    const name = photo.path.slice(photo.path.lastIndexOf("/") + 1);
    const node = make("div", { class: "frame" });
    const sized = photo.width && photo.height && photo.status !== "rejected";
    const ratio = sized ? photo.width / photo.height : 4 / 3;
    node.style.setProperty("--ratio", Math.min(4, Math.max(0.25, ratio)));
    if (photo.thumbnail) {
      const number = photo.faces.length;
      const alt = `${name}, ${number ? `${number} ${number === 1 ? "face" : "faces"}` : "no face found"}`;
      node.append(make("img", { src: photo.thumbnail, alt, loading: "lazy", decoding: "async" }));
    } else {
      node.classList.add("blank");
      node.append(make("p", {}, photo.status === "rejected" ? photo.reason : "no thumbnail"));
    }
    const boxes = faces.map((face, i) => {
      if (!face.box) return null;
      const label = `Face ${face.number}: ${face.style}, ${percent(face.score)}`;
      const several = faces.length > 1;
      const box = several ? make("button", { type: "button", class: "box", "aria-label": label, title: label }) : make("span", { class: "box", title: label });
      ["left", "top", "width", "height"].forEach((side, at) => { box.style[side] = `${face.box[at]}%`; });
      box.append(make("b", {}, face.number));
      if (face.box[1] < 10 * Math.max(0.7, ratio)) box.classList.add("at-top");
      if (several) box.addEventListener("click", () => choose(i));
      node.append(box);
      return box;
    });
    return {
      node: make("div", { class: "picture" }, node),
      mark(chosen) {
        boxes.forEach((box, i) => box && box.classList.toggle("chosen", i === chosen));
      },
    };
  }

  // A lone face is a plain section. Several faces fold, and one is open at a time; a closed one holds only its heading.
  function makeFace(face, folds, open) {
    const heading = [
      make("b", { class: "face-number", title: `Face ${face.number}` }, face.number),
      make("span", { class: "style-name" }, face.style),
      make("span", { class: "score", title: "style_score: how sure the style is" }, percent(face.score)),
    ];
    const node = make(folds ? "details" : "section", { class: "face" }, make(folds ? "summary" : "h4", { class: "face-heading" }, ...heading));
    node.style.setProperty("--hue", hueOf(face.style));
    const fill = () => {
      if (node.childElementCount === 1) node.append(...makeDetails(face));
    };
    let chosen = () => {};
    if (!folds || open) fill();
    node.open = folds && open;
    if (folds) {
      node.addEventListener("toggle", () => {
        if (!node.open) return;
        fill();
        for (const other of node.parentElement.querySelectorAll("details[open]")) if (other !== node) other.open = false;
        chosen();
      });
    }
    return {
      node,
      choose() {
        node.open = true;
      },
      onChosen(callback) {
        chosen = callback;
      },
    };
  }

  function makeDetails(face) {
    const attributes = face.attributes.map(([name, probability]) => {
      const bar = make("span", { class: "bar" }, make("i"));
      bar.firstChild.style.width = `${100 * probability}%`;
      return make("li", {}, make("span", { class: "name" }, name.replaceAll("_", " ")), bar, make("span", { class: "number" }, percent(probability)));
    });
    const parts = [make("p", { class: "why" }, face.why), make("ul", { class: "attributes", "aria-label": "Most probable attributes" }, ...attributes)];
    if (face.items.length) parts.push(...makeItems(face.items));
    return parts;
  }

  function makeItems(items) {
    const reason = make("p", { class: "item-reason", "aria-live": "polite" });
    const tiles = items.map((item) => {
      const picture = item.picture
        ? make("img", { src: item.picture, alt: "", loading: "lazy", decoding: "async" })
        : make("span", { class: "no-picture" }, "no picture");
      const similarity = item.similarity === null ? null : make("small", { title: "similarity" }, item.similarity.toFixed(2));
      const caption = make("span", { class: "caption" }, make("span", {}, item.category), similarity);
      const tile = make("button", { type: "button", class: "item", title: item.id, "aria-pressed": "false" }, make("span", { class: "swatch" }, picture), caption);
      const choose = () => {
        for (const other of tiles) other.setAttribute("aria-pressed", String(other === tile));
        reason.replaceChildren(make("span", {}, item.reason));
      };
      for (const event of ["click", "focus", "pointerenter"]) tile.addEventListener(event, choose);
      tile.choose = choose;
      return tile;
    });
    tiles[0].choose();
    return [make("ul", { class: "items", "aria-label": "Recommended items, the best first" }, ...tiles.map((tile) => make("li", {}, tile))), reason];
  }

  function makeEmpty(filtered) {
    return make("p", { class: "empty" }, filtered ? "No photo matches. Take a filter away, or search for another part of the path." : "No photos were found in this run.");
  }

  // ---- start ------------------------------------------------------------------------------------------------------
  function start() {
    stylesByCount().forEach((style, rank) => hues.set(style.name, Math.round((265 + 137.508 * rank) % 360)));
    showOverview();
    showOptions();
    byId("toolbar").addEventListener("submit", (event) => event.preventDefault());
    byId("status").addEventListener("change", (event) => setView({ status: event.target.value }));
    byId("style").addEventListener("change", (event) => setView({ style: event.target.value }));
    byId("clear").addEventListener("click", () => {
      byId("search").value = "";
      setView({ query: "", status: "", style: "" });
    });
    byId("skip").addEventListener("click", (event) => {
      event.preventDefault(); // the address holds the view
      byId("results").focus();
      byId("results").scrollIntoView();
    });
    let typing = 0;
    byId("search").addEventListener("input", (event) => {
      clearTimeout(typing);
      typing = setTimeout(() => setView({ query: event.target.value }, true), 150);
    });
    document.addEventListener("keydown", (event) => {
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      if (event.target.closest("input, select, textarea")) {
        if (event.key === "Escape" && event.target.id === "search") event.target.blur();
        return;
      }
      if (event.key === "/") {
        event.preventDefault();
        byId("search").focus();
        byId("search").select();
      } else if (event.key === "ArrowRight") turnTo(Math.min(readView().page, shownPages) + 1);
      else if (event.key === "ArrowLeft") turnTo(Math.min(readView().page, shownPages) - 1);
    });
    window.addEventListener("hashchange", show);
    show().then(loadIndex).catch(() => {});
  }
})();
