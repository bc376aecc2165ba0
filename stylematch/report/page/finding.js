// Finds photos by path, status, style, attribute, score and items, over all of a run: columns of numbers, one pass a question.
"use strict";
((page) => {
  const parts = [];
  const itemParts = [];
  let summary = null;
  let loaded = null; // a promise, once somebody has asked
  let columns = null;
  let items = null; // by number: ids, titles, categories; in lower case once somebody has searched

  // Parts may arrive in any order, so they are put together when all are there.
  function join() {
    parts.sort((a, b) => a.number - b.number);
    const photos = parts.reduce((sum, part) => sum + part.names.length, 0);
    const faces = parts.reduce((sum, part) => sum + part.styles.length, 0);
    const listed = parts.reduce((sum, part) => sum + part.items.length, 0);
    const words = summary.attribute_words;
    columns = {
      paths: new Array(photos),
      lower: null,
      kinds: new Uint16Array(photos),
      starts: new Uint32Array(photos + 1), // the faces of photo p are starts[p] to starts[p + 1]
      styles: new Uint16Array(faces),
      scores: new Uint16Array(faces),
      bits: new Uint32Array(faces * words),
      lists: new Uint32Array(faces + 1), // the items of face f are items[lists[f]] to items[lists[f + 1]]
      items: new Uint32Array(listed),
    };
    let photo = 0;
    let face = 0;
    let item = 0;
    for (const part of parts) {
      columns.styles.set(part.styles, face);
      columns.scores.set(part.scores, face);
      columns.bits.set(part.bits, face * words);
      columns.kinds.set(part.kinds, photo);
      columns.items.set(part.items, columns.lists[face]);
      part.lists.forEach((length, at) => (columns.lists[face + at + 1] = item += length));
      for (let at = 0; at < part.names.length; at += 1) {
        columns.paths[photo] = part.folders[part.folder[at]] + part.names[at];
        face += part.faces[at];
        photo += 1;
        columns.starts[photo] = face;
      }
    }
    parts.length = 0;
  }

  function joinItems() {
    itemParts.sort((a, b) => a.number - b.number);
    const all = (name) => itemParts.flatMap((part) => part[name]);
    items = { ids: all("ids"), titles: all("titles"), categories: all("categories"), lower: null };
    itemParts.length = 0;
  }

  function loadIndex() {
    loaded ||= Promise.all([
      page.loadAll("index", summary.index_parts).then(join),
      page.loadAll("items", summary.items_parts).then(joinItems),
    ]);
    return loaded;
  }

  // "rejected", or "rejected:truncated" for one reason.
  function kindsOf(status) {
    const [name, reason] = status.split(":");
    return summary.kinds.map((kind) => kind.status === name && (!reason || kind.reason === reason));
  }

  // "Smiling" for faces that show it, "!Smiling" for faces that do not. A name that is not there matches nothing.
  function attributeTest(wanted) {
    if (!wanted) return null;
    const without = wanted.startsWith("!") && !summary.attributes.includes(wanted);
    const number = summary.attributes.indexOf(without ? wanted.slice(1) : wanted);
    if (number < 0) return () => false;
    const word = number >> 5;
    const mask = (1 << (number & 31)) >>> 0;
    return (face) => ((columns.bits[face * summary.attribute_words + word] & mask) !== 0) !== without;
  }

  // A whole id finds its item alone, anything else what has it as a part of id or title. Of each item whether it is meant.
  function askedItems(view) {
    const category = view.category ? summary.categories.findIndex((known) => known.name === view.category) : null;
    const query = view.item.toLowerCase();
    const isWhole = Boolean(view.item) && items.ids.includes(view.item);
    if (query && !isWhole) items.lower ||= items.ids.map((id, number) => `${id}\n${items.titles[number] || ""}`.toLowerCase());
    const meant = (number) => !query || (isWhole ? items.ids[number] === view.item : items.lower[number].includes(query));
    return Uint8Array.from(items.ids, (_, number) => (category === null || items.categories[number] === category) && meant(number));
  }

  const asksForItems = (view) => Boolean(view.item || view.category);
  const asksForFaces = (view) => Boolean(view.style || view.attribute || view.low > 0 || view.high < 100) || asksForItems(view);
  const isFiltered = (view) => Boolean(view.query || view.status) || asksForFaces(view);

  function faceTest(view) {
    const style = view.style ? summary.styles.findIndex((known) => known.name === view.style) : null;
    const attribute = attributeTest(view.attribute);
    const asked = asksForItems(view) ? askedItems(view) : null;
    const hasItem = (face) => columns.items.subarray(columns.lists[face], columns.lists[face + 1]).some((number) => asked[number]);
    const [low, high] = [view.low * 10, view.high * 10];
    return (face) =>
      (style === null || columns.styles[face] === style) &&
      columns.scores[face] >= low &&
      columns.scores[face] <= high &&
      (attribute === null || attribute(face)) &&
      (asked === null || hasItem(face));
  }

  // Positions of the photos that match; one matches by its faces if a single face meets all that is asked of faces.
  async function findMatches(view) {
    await loadIndex();
    const query = view.query.toLowerCase();
    if (query) columns.lower ||= columns.paths.map((path) => path.toLowerCase());
    const kinds = view.status ? kindsOf(view.status) : null;
    const test = asksForFaces(view) ? faceTest(view) : null;
    const matches = [];
    for (let photo = 0; photo < columns.paths.length; photo += 1) {
      if (kinds && !kinds[columns.kinds[photo]]) continue;
      if (query && !columns.lower[photo].includes(query)) continue;
      if (test && firstFace(photo, test) < 0) continue;
      matches.push(photo);
    }
    return matches;
  }

  function firstFace(photo, test) {
    for (let face = columns.starts[photo]; face < columns.starts[photo + 1]; face += 1) {
      if (test(face)) return face - columns.starts[photo];
    }
    return -1;
  }

  Object.assign(page, {
    startFinding(known) {
      summary = known;
    },
    isFiltered,
    findMatches,
    // Returns what says of an item's number whether the filters ask for it, null where they ask for none.
    itemTest(view) {
      if (!asksForItems(view) || !items) return null;
      const asked = askedItems(view);
      return (number) => asked[number] === 1;
    },
    // Returns what says of a photo which of its faces the filters mean, from 0; the largest where they mean none. The
    // index must be there.
    loadIndex,
    faceFinder(view) {
      if (!asksForFaces(view) || !columns || !items) return () => 0;
      const test = faceTest(view);
      return (photo) => Math.max(0, firstFace(photo, test));
    },
  });
  page.onChunk("index", (chunk) => parts.push(chunk));
  page.onChunk("items", (chunk) => itemParts.push(chunk));
})((window.stylematchPage ??= {}));
