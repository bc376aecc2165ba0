// Data come as classic scripts that call stylematchPage.receive(chunk), because a page that was opened from the file
// system may load scripts but not read files. The page waits for the chunks that it asked for.
"use strict";
((page) => {
  const KEPT = { tiles: 120, thumbs: 60, page: 20, pictures: 400 }; // 25 to 60 MB of each but tiles, at most
  const handlers = {};
  const keptOf = new Map(); // kind -> Map of number -> promise of the chunk; the most recently used last
  const received = new Map(); // chunks whose scripts have just run
  const numbered = (kind, number) => `${kind}-${String(number).padStart(5, "0")}`;

  function load(name) {
    return new Promise((resolve, reject) => {
      const script = document.createElement("script");
      script.src = `data/${name}.js`;
      script.onload = () => (script.remove(), resolve());
      script.onerror = () => (script.remove(), reject(new Error(`data/${name}.js is missing or unreadable`)));
      document.head.append(script);
    });
  }

  // Return one chunk of a kind that has no handler of its own; asked for twice at once, it is loaded once.
  function chunkOf(kind, number) {
    const name = numbered(kind, number);
    if (!keptOf.has(kind)) keptOf.set(kind, new Map());
    const kept = keptOf.get(kind);
    const chunk = kept.get(number) || load(name).then(() => received.get(name)).finally(() => received.delete(name));
    kept.delete(number);
    kept.set(number, chunk);
    for (const old of kept.keys()) {
      if (kept.size <= (KEPT[kind] ?? 80)) break;
      kept.delete(old);
    }
    return chunk;
  }

  async function loadAll(kind, parts) {
    await Promise.all(Array.from({ length: parts }, (_, part) => load(numbered(kind, part + 1))));
  }

  Object.assign(page, {
    receive(chunk) {
      if (handlers[chunk.kind]) handlers[chunk.kind](chunk);
      else received.set(numbered(chunk.kind, chunk.number), chunk);
    },
    onChunk: (kind, handler) => (handlers[kind] = handler),
    chunkOf,
    loadAll,
    showProblem(error) {
      page.byId("problem").textContent = `${error.message}. Keep the folder whole: index.html needs what lies beside it.`;
      page.byId("problem").hidden = false;
    },
  });
})((window.stylematchPage ??= {}));
