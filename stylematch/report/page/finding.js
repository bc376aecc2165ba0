// Finds photos by path, status, style, attribute and score, over all of a run: columns of numbers, one pass a question.
"use strict";
((page) => {
  const parts = [];
  let summary = null;
  let loaded = null; // a promise, once somebody has asked
  let columns = null;

  // Parts may arrive in any order, so they are put together when all are there.
  function join() {
    parts.sort((a, b) => a.number - b.number);
    const photos = parts.reduce((sum, part) => sum + part.names.length, 0);
    const faces = parts.reduce((sum, part) => sum + part.styles.length, 0);
    const words = summary.attribute_words;
    columns = {
      paths: new Array(photos),
      lower: null,
      kinds: new Uint16Array(photos),
      starts: new Uint32Array(photos + 1), // the faces of photo p are starts[p] to starts[p + 1]
      styles: new Uint16Array(faces),
      scores: new Uint16Array(faces),
      bits: new Uint32Array(faces * words),
    };
    let photo = 0;
    let face = 0;
    for (const part of parts) {
      columns.styles.set(part.styles, face);
      columns.scores.set(part.scores, face);
      columns.bits.set(part.bits, face * words);
      columns.kinds.set(part.kinds, photo);
      for (let at = 0; at < part.names.length; at += 1) {
        columns.paths[photo] = part.folders[part.folder[at]] + part.names[at];
        face += part.faces[at];
        photo += 1;
        columns.starts[photo] = face;
      }
    }
    parts.length = 0;
  }

  function loadIndex() {
    loaded ||= page.loadAll("index", summary.index_parts).then(join);
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

  const asksForFaces = (view) => Boolean(view.style || view.attribute || view.low > 0 || view.high < 100);
  const isFiltered = (view) => Boolean(view.query || view.status) || asksForFaces(view);

  function faceTest(view) {
    const style = view.style ? summary.styles.findIndex((known) => known.name === view.style) : null;
    const attribute = attributeTest(view.attribute);
    const [low, high] = [view.low * 10, view.high * 10];
    return (face) =>
      (style === null || columns.styles[face] === style) &&
      columns.scores[face] >= low &&
      columns.scores[face] <= high &&
      (attribute === null || attribute(face));
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
    loadIndex,
    // Which face of a photo the filters mean, from 0; the largest where they mean none. The index must be there.
    matchedFace: (photo, view) => (asksForFaces(view) && columns ? Math.max(0, firstFace(photo, faceTest(view))) : 0),
  });
  page.onChunk("index", (chunk) => parts.push(chunk));
})((window.stylematchPage ??= {}));
