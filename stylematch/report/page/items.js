// The items that were recommended: their pictures, the strip of them on a card, and those that most faces have.
"use strict";
((page) => {
  const { make, byId, plural } = page;
  const MOST_SHOWN = 8;

  const bringItem = async ([chunk, place]) => (await page.chunkOf("pictures", chunk)).pictures[place];

  // A square with an item's picture, or with words where it has none. With a name it is a picture with a text of its own.
  function makeSwatch(place, name, words) {
    const label = name ? { title: name } : {};
    if (place) return make("span", { class: "swatch", ...label }, page.makeCanvas(() => bringItem(place), name, { small: true }));
    return make("span", { class: "swatch", ...(name ? { ...label, role: "img", "aria-label": name } : {}) }, make("span", { class: "no-picture", "aria-hidden": name ? "true" : null }, words));
  }

  // isAsked(number) says of an item whether the filters ask for it; null where they ask for none.
  function makeStrip(items, isAsked) {
    const swatches = items.map(([number, name, ...place]) => {
      const swatch = makeSwatch(place.length ? place : null, name, "\u2013");
      if (isAsked && isAsked(number)) swatch.classList.add("asked");
      return swatch;
    });
    return make("span", { class: "strip" }, ...swatches);
  }

  function showMost({ most, items }) {
    const list = byId("most");
    list.append(...most.map((item, rank) => {
      const text = make("span", { class: "most-text" }, make("span", { class: "name" }, item.title || item.category), make("span", { class: "quiet" }, plural(item.faces, "face", "faces")));
      const button = page.makeFilter({ class: "most-item", title: `${item.title || item.id}, ${item.category}` }, "item", item.id, makeSwatch(item.picture, "", item.category), text);
      const row = make("li", {}, button);
      row.hidden = rank >= MOST_SHOWN;
      return row;
    }));
    byId("most-panel").hidden = most.length === 0;
    byId("most-note").textContent = `faces that have each, of ${plural(items, "item", "items")}; choose one to see them`;
    const more = byId("most-more");
    more.hidden = most.length <= MOST_SHOWN;
    more.textContent = most.length < items ? `Show the first ${most.length}` : `Show all ${most.length}`;
    more.addEventListener("click", () => {
      for (const row of list.children) row.hidden = false;
      list.children[MOST_SHOWN].firstChild.focus(); // the button goes
      more.hidden = true;
    });
  }

  Object.assign(page, { makeSwatch, makeStrip, showMost });
})((window.stylematchPage ??= {}));
