// The head of the gallery: counts, the mix of styles, why photos have no face, how fast it went. Each count is a filter.
"use strict";
((page) => {
  const { make, makeBar, byId, count, percent } = page;
  const STYLES_SHOWN = 10;
  const STATUS_NAMES = { scored: "Scored", no_face: "No face", rejected: "Rejected" };

  const byCount = (rows, key) => [...rows].sort((a, b) => b[key] - a[key] || ((a.name || a.reason) < (b.name || b.reason) ? -1 : 1));

  function makeFilter(attributes, key, value, ...children) {
    const button = make("button", { type: "button", "aria-pressed": "false", ...attributes }, ...children);
    button.dataset.key = key;
    button.dataset.value = value;
    button.addEventListener("click", () => page.setView({ [key]: page.readView()[key] === value ? "" : value }));
    return button;
  }

  function showCounts({ counts }) {
    const tile = (status, label, number) => {
      const share = status && counts.found ? percent(number / counts.found) : null;
      const parts = [make("strong", {}, count(number)), make("span", {}, label), share && make("em", {}, share)];
      return make("li", {}, makeFilter({ class: `tile ${status || "found"}${number ? "" : " none"}` }, "status", status, ...parts));
    };
    byId("counts").append(
      tile("", counts.found === 1 ? "photo found" : "photos found", counts.found),
      ...Object.entries(STATUS_NAMES).map(([status, name]) => tile(status, name.toLowerCase(), counts[status])),
      make("li", {}, make("div", { class: "tile" }, make("strong", {}, count(counts.faces)), make("span", {}, counts.faces === 1 ? "face" : "faces"))),
    );
  }

  function showStyles({ counts, styles }) {
    const ordered = byCount(styles, "faces");
    const most = ordered.length ? ordered[0].faces : 1;
    byId("styles").append(...ordered.map((style, rank) => {
      const share = make("span", { class: "number" }, `${count(style.faces)} `, make("em", {}, percent(style.faces / counts.faces)));
      const bar = makeBar(style.faces / most, page.hueOf(style.name));
      const row = make("li", {}, makeFilter({ class: "style" }, "style", style.name, make("span", { class: "name" }, style.name), bar, share));
      row.hidden = rank >= STYLES_SHOWN;
      return row;
    }));
    byId("styles-panel").hidden = ordered.length === 0;
    const more = byId("styles-more");
    more.hidden = ordered.length <= STYLES_SHOWN;
    more.textContent = `Show all ${ordered.length} styles`;
    more.addEventListener("click", () => {
      for (const row of byId("styles").children) row.hidden = false;
      more.hidden = true;
    });
  }

  function showReasons({ kinds }) {
    const reasons = byCount(kinds, "photos").filter((kind) => kind.status !== "scored");
    byId("reasons").append(...reasons.map((kind) => {
      const parts = [make("code", {}, kind.reason), make("strong", {}, count(kind.photos)), make("span", {}, kind.meaning)];
      return make("li", {}, makeFilter({ class: `reason ${kind.status}` }, "status", `${kind.status}:${kind.reason}`, ...parts));
    }));
    byId("reasons-panel").hidden = reasons.length === 0;
  }

  const seconds = (value) => (value >= 100 ? `${count(Math.round(value))} s` : value >= 1 ? `${value.toFixed(1)} s` : `${Math.round(value * 1000)} ms`);
  const rate = (stage) => (stage.seconds > 0 ? stage.items / stage.seconds : 0);
  const shortRate = (value) => (value >= 100 ? count(Math.round(value)) : value.toFixed(1));

  // Wall time of the run's steps; then what the workers were busy with, summed over them.
  function showTiming({ stages }) {
    const whole = stages.find((stage) => stage.name === "score");
    const busy = stages.filter((stage) => stage.per_worker);
    byId("timing-panel").hidden = !stages.length;
    if (!stages.length) return;
    if (whole && whole.items) {
      byId("rate").append(make("strong", {}, shortRate(rate(whole))), ` photos a second, ${count(whole.items)} in ${seconds(whole.seconds)}`);
    }
    const shown = busy.length ? busy : stages;
    const longest = Math.max(...shown.map((stage) => stage.seconds), 1e-9);
    byId("timing").append(...shown.map((stage) => make(
      "li", { title: `${count(stage.items)} ${stage.unit} in ${seconds(stage.seconds)}` },
      make("span", { class: "name" }, stage.name),
      makeBar(stage.seconds / longest),
      make("span", { class: "number" }, `${seconds(stage.seconds)} `, make("em", {}, `${shortRate(rate(stage))} ${stage.unit}/s`)),
    )));
  }

  function showFacts({ facts }) {
    byId("facts").append(...facts.map(([label, value]) => make("div", {}, make("dt", {}, label), make("dd", {}, value))));
    byId("facts-box").hidden = facts.length === 0;
  }

  // A value that is compared with a name from the data is set as it is, not made visible.
  function option(value, label) {
    const node = make("option", {}, label);
    node.value = value;
    return node;
  }

  function showOptions(summary) {
    byId("status").append(option("", "Every status"));
    for (const [status, name] of Object.entries(STATUS_NAMES)) {
      if (summary.counts[status]) byId("status").append(option(status, `${name} (${count(summary.counts[status])})`));
      const kinds = byCount(summary.kinds, "photos").filter((kind) => kind.status === status && status !== "scored");
      for (const kind of kinds) byId("status").append(option(`${status}:${kind.reason}`, `\u2007\u2007${kind.reason} (${count(kind.photos)})`));
    }
    byId("style").append(option("", "Every style"), ...byCount(summary.styles, "faces").map((style) => option(style.name, `${style.name} (${count(style.faces)})`)));
    const words = (name) => name.replaceAll("_", " ");
    const shows = make("optgroup", { label: `shows (at least ${Math.round(100 * summary.likely)} %)` }, ...summary.attributes.map((name) => option(name, words(name))));
    const lacks = make("optgroup", { label: "does not show" }, ...summary.attributes.map((name) => option(`!${name}`, `not ${words(name)}`)));
    byId("attribute").append(option("", "Every attribute"), shows, lacks);
    byId("category").append(option("", "Every category"), ...byCount(summary.categories, "faces").map((category) => option(category.name, `${category.name} (${count(category.faces)})`)));
  }

  Object.assign(page, {
    STATUS_NAMES,
    makeFilter,
    showOverview(summary) {
      page.setHues(byCount(summary.styles, "faces").map((style) => style.name));
      showCounts(summary);
      showStyles(summary);
      showReasons(summary);
      page.showMost(summary);
      showFacts(summary);
      showOptions(summary);
    },
    showTiming,
  });
})((window.stylematchPage ??= {}));
