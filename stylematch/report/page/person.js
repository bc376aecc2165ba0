// A person's page: the photo with the face drawn on it, what was seen, what decided the style, and the items.
"use strict";
((page) => {
  const { make, makeBar, makeFrame, count, percent, plural } = page;
  const ATTRIBUTES_SHOWN = 12;
  const words = (name) => name.replaceAll("_", " ");

  function makePath(path) {
    const cut = path.lastIndexOf("/") + 1;
    return make("h2", { class: "path", id: "person-title", tabindex: "-1", dir: "ltr" }, make("span", { class: "folder" }, path.slice(0, cut)), make("span", {}, path.slice(cut)));
  }

  function photoFacts(photo) {
    const size = photo.bytes < 1000 ? `${photo.bytes} B` : photo.bytes < 1e6 ? `${Math.round(photo.bytes / 1e3)} kB` : `${(photo.bytes / 1e6).toFixed(1)} MB`;
    const sides = photo.width && photo.height ? `${count(photo.width)} \u00d7 ${count(photo.height)} px` : null;
    return [sides, photo.format, size, photo.faces.length ? plural(photo.faces.length, "face", "faces") : null].filter(Boolean).join(" \u00b7 ");
  }

  const section = (title, note, ...children) => make("section", { class: "panel" }, make("h3", {}, title, note ? make("span", { class: "quiet" }, note) : null), ...children);

  function makeStyle(face, texts) {
    const row = (label, style, score) => make(
      "li", {},
      make("span", { class: "who" }, label),
      make("span", { class: "name" }, style),
      makeBar(score, page.hueOf(style)),
      make("span", { class: "number" }, percent(score)),
    );
    const badge = make("p", { class: "verdict-style" }, make("span", { class: "dot", "aria-hidden": "true" }), make("strong", {}, face.style), " ", make("span", { class: "quiet" }, `${percent(face.score)} sure, ${percent(face.margin)} ahead of the second`));
    badge.style.setProperty("--hue", page.hueOf(face.style));
    return section(
      "Style", null, badge,
      make("p", { class: "why" }, texts[face.why]),
      make("ul", { class: "deciders", "aria-label": "Who said what" }, row("Rules", face.rule_style, face.rule_score), row("Neighbours", face.neighbour_style, face.neighbour_score), row("Together", face.style, face.score)),
      make("p", { class: "rule" }, make("span", { class: "quiet" }, `Rule of ${face.style} `), make("code", {}, texts[face.rule])),
    );
  }

  function makeAttributes(face, names) {
    const order = face.attributes.map((_, number) => number).sort((a, b) => face.attributes[b] - face.attributes[a] || a - b);
    const rows = order.map((number, rank) => {
      const share = face.attributes[number] / 1000;
      const row = make("li", {}, make("span", { class: "name" }, words(names[number])), makeBar(share), make("span", { class: "number" }, percent(share)));
      row.hidden = rank >= ATTRIBUTES_SHOWN;
      return row;
    });
    const more = make("button", { type: "button", class: "plain" }, `Show all ${rows.length}`);
    more.hidden = rows.length <= ATTRIBUTES_SHOWN;
    more.addEventListener("click", () => {
      for (const row of rows) row.hidden = false;
      more.hidden = true;
    });
    return section("Attributes", "the most probable first", make("ul", { class: "meters" }, ...rows), more);
  }

  function makeNeighbours(face, labelled, names) {
    if (!face.nearest) return null;
    const rows = face.nearest.map(([number, similarity]) => {
      const known = labelled[number];
      const mine = known.shows.filter((at) => face.attributes[at] >= 500).map((at) => words(names[at]));
      const dot = make("span", { class: "dot", "aria-hidden": "true" });
      dot.style.setProperty("--hue", page.hueOf(known.style));
      return make(
        "li", {},
        make("span", { class: "number", title: "cosine similarity" }, similarity.toFixed(2)),
        make("span", {}, dot, make("strong", {}, known.style), " ", make("span", { class: "quiet" }, known.id)),
        make("span", { class: "quiet shared" }, mine.length ? `shares ${mine.join(", ")}` : "shares no attribute"),
      );
    });
    const shares = face.shares.map(([style, share]) => `${style} ${percent(share)}`).join(", ");
    return section("Nearest labelled faces", "of the gallery that votes", make("p", { class: "why" }, `The vote of all that were asked: ${shares}.`), make("ol", { class: "neighbours" }, ...rows));
  }

  const isWebAddress = (address) => /^https?:\/\//i.test(address);

  const shortened = (reason) => reason.replace(/ \([^()]*\)/g, "");

  // Picture, name and price are read at a glance; the whole reason and the figures are there on demand.
  function makeItems(face, items, texts, { linkToItem }) {
    const cards = face.items.map(([number, score, similarity, tagFit, query, reason], rank) => {
      const item = items[number];
      const name = item.title || item.id;
      const linked = item.url && isWebAddress(item.url) ? make("a", { href: item.url, target: "_blank", rel: "noopener noreferrer" }, name) : make("span", {}, name);
      const figures = [
        similarity === null ? null : `similarity ${similarity.toFixed(2)} with the ${texts[query] === "worn" ? "clothes worn" : "style\u2019s typical item"}`,
        tagFit === null ? null : `tags fit ${percent(tagFit)}`,
        score === null ? null : `score ${score.toFixed(2)}`,
        item.title ? item.id : null,
      ];
      const told = make("p", { class: "quiet item-figures" }, figures.filter(Boolean).join(" \u00b7 "));
      told.hidden = true;
      const because = make("p", { class: "because" }, shortened(texts[reason]));
      const why = make("button", { type: "button", "aria-expanded": "false", "aria-label": `Why: ${name}` }, "Why");
      why.addEventListener("click", () => {
        told.hidden = !told.hidden;
        because.classList.toggle("whole", !told.hidden);
        because.replaceChildren(...make("p", {}, told.hidden ? shortened(texts[reason]) : texts[reason]).childNodes);
        why.setAttribute("aria-expanded", String(!told.hidden));
      });
      return make(
        "li", { class: "item" },
        page.makeSwatch(item.picture, "", "no picture"),
        make("h4", {}, make("span", { class: "rank" }, rank + 1), " ", linked),
        make("p", { class: "quiet" }, [item.category, item.price ? `price ${item.price}` : null].filter(Boolean).join(" \u00b7 ")),
        because,
        told,
        make("p", { class: "item-links" }, why, make("a", { href: linkToItem(item.id), "aria-label": `Who has it: ${name}` }, "Who has it")),
      );
    });
    return section("Items", `for ${face.style}, the best first`, cards.length ? make("ol", { class: "items" }, ...cards) : make("p", { class: "quiet" }, "None."));
  }

  function makeFaceChoice(photo, chosen, linkTo) {
    if (photo.faces.length < 2) return null;
    const links = photo.faces.map((face, number) => {
      const link = make("a", { href: linkTo(number), "aria-current": number === chosen ? "true" : null }, make("b", {}, number), " ", face.style, " ", make("span", { class: "quiet" }, percent(face.score)));
      return make("li", {}, link);
    });
    return make("nav", { "aria-label": "Faces in this photo" }, make("ul", { class: "face-choice" }, ...links));
  }

  // chunk is the page of data that the photo is on. linkTo(number) is the address of one of its faces, linkToItem(id)
  // that of the photos with an item; bring() promises its thumbnail.
  page.makePerson = (photo, number, chunk, summary, { linkTo, linkToItem, bring }) => {
    const chosen = Math.min(number, Math.max(0, photo.faces.length - 1));
    const face = photo.faces[chosen];
    const frame = makeFrame(photo, { chosen, points: true, large: true, bring, choose: (at) => (location.hash = linkTo(at)) });
    const found = face && face.detection !== null ? `Face ${chosen}, found with confidence ${face.detection.toFixed(2)}; box and landmarks as the tables have them.` : null;
    const left = make("div", { class: "person-picture" }, frame, found && make("p", { class: "quiet" }, found), makeFaceChoice(photo, chosen, linkTo));
    const right = face
      ? [makeStyle(face, chunk.texts), makeAttributes(face, summary.attributes), makeNeighbours(face, chunk.labelled, summary.attributes)]
      : [makeNoFace(photo, summary)];
    const items = face ? makeItems(face, chunk.items, chunk.texts, { linkToItem }) : null;
    return [make("header", { class: "person-head" }, makePath(photo.path), make("p", { class: "quiet" }, photoFacts(photo))), make("div", { class: "person" }, left, make("div", {}, items, make("div", { class: "panels" }, ...right)))];
  };

  function makeNoFace(photo, summary) {
    const kind = summary.kinds.find((known) => known.status === photo.status && known.reason === photo.reason);
    return make(
      "section", { class: `panel verdict ${photo.status}` },
      make("h3", {}, page.STATUS_NAMES[photo.status] || photo.status, " ", make("code", {}, photo.reason)),
      make("p", {}, photo.message || (kind && kind.meaning) || ""),
    );
  }
})((window.stylematchPage ??= {}));
