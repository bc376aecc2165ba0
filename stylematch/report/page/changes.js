// One change as a card, and the tables at the head of a comparison.
"use strict";
((page) => {
  const { make, byId, count, percent, fileName, makeFrame } = page;

  const either = (a, b, text) => (a === b ? text(a) : [text(a), " \u2192 ", text(b)]);

  function styleLine(change) {
    const said = (style, score) => {
      if (!style) return null;
      const dot = make("span", { class: "dot", "aria-hidden": "true" });
      dot.style.setProperty("--hue", page.hueOf(style));
      return [dot, " ", make("strong", {}, style), " ", make("span", { class: "quiet" }, percent(score))];
    };
    const sides = [said(change.style_a, change.style_score_a), said(change.style_b, change.style_score_b)].filter(Boolean);
    return make("p", {}, sides.length === 2 ? [...sides[0], " \u2192 ", ...sides[1]] : sides[0] || []);
  }

  function makeItems(items) {
    const rows = items.map((item) => {
      const picture = item.picture ? make("img", { src: item.picture, alt: "", loading: "lazy", decoding: "async" }) : make("span", { class: "unseen" }, item.category);
      const ranks = item.change === "same" ? `${item.rank_b}` : item.change === "new" ? `new ${item.rank_b}` : item.change === "gone" ? `was ${item.rank_a}` : `${item.rank_a} \u2192 ${item.rank_b}`;
      return make("li", { class: item.change, title: `${item.item_id}, ${item.category}` }, make("span", { class: item.picture && item.picture.endsWith(".png") ? "swatch of-index" : "swatch" }, picture), ranks, make("span", { class: "label" }, ` ${item.item_id}`));
    });
    return make("ul", { class: "ranks", "aria-label": "Items, by their ranks in A and B" }, ...rows);
  }

  function faceText(change) {
    const number = change.face_b ?? change.face_a;
    const facts = [];
    if (change.overlap !== null) facts.push(`${percent(change.overlap)} of the items kept`);
    if (change.attribute && change.attribute_shift) facts.push(`${change.attribute.replaceAll("_", " ")} ${change.attribute_shift > 0 ? "+" : "\u2212"}${percent(Math.abs(change.attribute_shift))}`);
    return [styleLine(change), make("p", { class: "quiet" }, [`face ${number}`, ...facts].join(" \u00b7 ")), change.items.length ? makeItems(change.items) : null];
  }

  function photoText(change) {
    const status = (name) => (name ? name.replaceAll("_", " ") : "not there");
    const lines = [make("p", {}, ...[either(change.status_a, change.status_b, (name) => make("strong", {}, status(name)))].flat())];
    if (change.path_a) lines.push(make("p", { class: "quiet" }, `was ${change.path_a}`));
    if (change.reason_a !== change.reason_b) lines.push(make("p", { class: "quiet" }, `${change.reason_a || "\u2013"} \u2192 ${change.reason_b || "\u2013"}`));
    if (change.faces_a !== change.faces_b) lines.push(make("p", { class: "quiet" }, `faces ${change.faces_a ?? "\u2013"} \u2192 ${change.faces_b ?? "\u2013"}`));
    return lines;
  }

  function makeChange(change, kinds) {
    const isFace = Boolean(change.box);
    const faces = isFace ? [{ box: change.box, style: change.style_b || change.style_a, score: change.style_score_b ?? change.style_score_a }] : [];
    const frame = makeFrame({ ...change, faces, status: change.status_b || "", reason: change.reason_b || change.reason_a || "" });
    const folder = change.path.slice(0, change.path.lastIndexOf("/") + 1);
    const title = make("h3", { title: change.path }, folder ? make("span", { class: "quiet" }, folder) : null, fileName(change.path));
    return make("li", { class: "change" }, frame, make("div", {}, make("p", { class: "kind" }, kinds[change.kind]), title, ...(isFace ? faceText(change) : photoText(change))));
  }

  function showRuns({ runs, differing }) {
    const row = (label, text) => make("div", {}, make("dt", {}, label), make("dd", {}, text));
    const night = (run) => (run.snapshot_date ? `, night of ${run.snapshot_date}` : "");
    const told = (run) => `${run.folder}${night(run)}, run ${run.run_id}, finished ${run.finished}`;
    byId("runs").append(row("A", told(runs[0])), row("B", told(runs[1])), row("Made differently", differing.join(", ") || "nothing"));
  }

  // choose(from, to) filters by a cell of the matrix.
  function showMatrix({ styles }, choose) {
    const names = [...new Set(styles.flatMap(([a, b]) => [a, b]))].sort();
    const cells = new Map(styles.map(([a, b, faces]) => [JSON.stringify([a, b]), faces]));
    const most = Math.max(1, ...styles.filter(([a, b]) => a !== b).map(([, , faces]) => faces));
    const head = make("tr", {}, make("td", {}), ...names.map((name) => make("th", { scope: "col" }, make("span", {}, name))));
    const rows = names.map((from) => make("tr", {}, make("th", { scope: "row" }, from), ...names.map((to) => {
      const faces = cells.get(JSON.stringify([from, to])) || 0;
      const cell = make("td", { class: from === to ? "diagonal" : null }, from === to && faces ? count(faces) : null);
      if (from !== to && faces) {
        const button = make("button", { type: "button", "aria-label": `${faces} from ${from} to ${to}` }, count(faces));
        button.addEventListener("click", () => choose(from, to));
        cell.append(button);
        cell.style.setProperty("--heat", faces / most);
      }
      return cell;
    })));
    byId("matrix").append(names.length ? make("table", {}, make("thead", {}, head), make("tbody", {}, ...rows)) : make("p", { class: "quiet" }, "No face is in both."));
  }

  function showAttributes({ attributes }) {
    const head = ["attribute", "mean A", "mean B", "shift", "\u2265 50 %", "no more"].map((name) => make("th", { scope: "col" }, name));
    const rows = attributes.map((row) => make(
      "tr", {},
      make("th", { scope: "row" }, row.attribute.replaceAll("_", " ")),
      ...[row.mean_a, row.mean_b, row.mean_size].map((value) => make("td", {}, value.toFixed(3))),
      ...[row.became_likely, row.became_unlikely].map((value) => make("td", {}, count(value))),
    ));
    byId("attributes").append(rows.length ? make("table", {}, make("thead", {}, make("tr", {}, ...head)), make("tbody", {}, ...rows)) : make("p", { class: "quiet" }, "No face is in both."));
  }

  function showItems({ items }) {
    const row = (label, value) => make("div", {}, make("dt", {}, label), make("dd", {}, value));
    byId("items").append(
      row("lists compared", count(items.lists)),
      row("of these the same", count(items.same_lists)),
      row("with the same first item", count(items.same_first_item)),
      row("overlap of the lists", percent(items.overlap)),
      row("items moved to another rank", count(items.moved)),
      row("items new", count(items.new)),
      row("items gone", count(items.gone)),
    );
  }

  Object.assign(page, {
    makeChange,
    showHead(summary, choose) {
      showRuns(summary);
      showMatrix(summary, choose);
      showAttributes(summary);
      showItems(summary);
    },
  });
})((window.stylematchPage ??= {}));
