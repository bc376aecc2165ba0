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

  function makeItems(face, items, texts) {
    const cards = face.items.map(([number, score, similarity, tagFit, query, reason], rank) => {
      const item = items[number];
      const picture = item.picture ? page.makeCanvas(() => bringItem(item.picture), "") : make("span", { class: "no-picture" }, "no picture");
      const name = item.title || item.id;
      const linked = item.url && isWebAddress(item.url) ? make("a", { href: item.url, target: "_blank", rel: "noopener noreferrer" }, name) : make("span", {}, name);
      const figures = [
        similarity === null ? null : `similarity ${similarity.toFixed(2)} with the ${texts[query] === "worn" ? "clothes worn" : "style\u2019s typical item"}`,
        tagFit === null ? null : `tags fit ${percent(tagFit)}`,
        score === null ? null : `score ${score.toFixed(2)}`,
      ];
      return make(
        "li", { class: "item" },
        make("div", { class: "swatch" }, picture),
        make(
          "div", { class: "item-text" },
          make("h4", {}, make("span", { class: "rank" }, rank + 1), " ", linked),
          make("p", { class: "quiet" }, [item.category, item.price ? `price ${item.price}` : null, item.title ? item.id : null].filter(Boolean).join(" \u00b7 ")),
          make("p", {}, texts[reason]),
          make("p", { class: "quiet" }, figures.filter(Boolean).join(" \u00b7 ")),
        ),
      );
    });
    return section("Items", "the best first", cards.length ? make("ol", { class: "items" }, ...cards) : make("p", { class: "quiet" }, "None."));
  }

  function makeFaceChoice(photo, chosen, linkTo) {
    if (photo.faces.length < 2) return null;
    const links = photo.faces.map((face, number) => {
      const link = make("a", { href: linkTo(number), "aria-current": number === chosen ? "true" : null }, make("b", {}, number + 1), " ", face.style, " ", make("span", { class: "quiet" }, percent(face.score)));
      return make("li", {}, link);
    });
    return make("nav", { "aria-label": "Faces in this photo" }, make("ul", { class: "face-choice" }, ...links));
  }

  const bringItem = async ([chunk, place]) => (await page.chunkOf("pictures", chunk)).pictures[place];

  // chunk is the page of data that the photo is on, linkTo(number) the address of one of its faces; bring() promises its
  // thumbnail.
  page.makePerson = (photo, number, chunk, summary, linkTo, bring) => {
    const chosen = Math.min(number, Math.max(0, photo.faces.length - 1));
    const face = photo.faces[chosen];
    const frame = makeFrame(photo, { chosen, points: true, large: true, bring, choose: (at) => (location.hash = linkTo(at)) });
    const found = face && face.detection !== null ? `Face ${chosen + 1}, found with confidence ${face.detection.toFixed(2)}; box and landmarks as the tables have them.` : null;
    const left = make("div", { class: "person-picture" }, frame, found && make("p", { class: "quiet" }, found), makeFaceChoice(photo, chosen, linkTo));
    const right = face
      ? [makeStyle(face, chunk.texts), makeItems(face, chunk.items, chunk.texts), makeAttributes(face, summary.attributes), makeNeighbours(face, chunk.labelled, summary.attributes)]
      : [makeNoFace(photo, summary)];
    return [make("header", { class: "person-head" }, makePath(photo.path), make("p", { class: "quiet" }, photoFacts(photo))), make("div", { class: "person" }, left, make("div", { class: "panels" }, ...right))];
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
