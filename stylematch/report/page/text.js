// Text and nodes. Everything that a file or a catalogue named goes through here and becomes text, never HTML.
"use strict";
((page) => {
  // Characters that draw nothing, or that turn the order of what follows (line feeds, escapes, bidi controls).
  const HIDDEN = /[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/gu;
  const SHORT = { "\n": "\\n", "\r": "\\r", "\t": "\\t" };
  const SVG = "http://www.w3.org/2000/svg";

  function escapeHidden(character) {
    const code = character.codePointAt(0).toString(16);
    return SHORT[character] || (code.length <= 2 ? `\\x${code.padStart(2, "0")}` : `\\u{${code}}`);
  }

  const plainText = (text) => String(text).replace(HIDDEN, escapeHidden);

  function appendText(node, text) {
    let end = 0;
    for (const match of text.matchAll(HIDDEN)) {
      if (match.index > end) node.append(text.slice(end, match.index));
      const mark = document.createElement("span");
      mark.className = "hidden-character";
      mark.textContent = escapeHidden(match[0]);
      node.append(mark);
      end = match.index + match[0].length;
    }
    if (end < text.length) node.append(text.slice(end));
  }

  function fill(node, attributes, children) {
    for (const [name, value] of Object.entries(attributes || {})) {
      if (value !== null && value !== undefined && value !== false) node.setAttribute(name, plainText(value));
    }
    for (const child of children.flat()) {
      if (child === null || child === undefined || child === false) continue;
      if (child instanceof Node) node.append(child);
      else appendText(node, String(child));
    }
    return node;
  }

  const make = (tag, attributes, ...children) => fill(document.createElement(tag), attributes, children);
  const draw = (tag, attributes, ...children) => fill(document.createElementNS(SVG, tag), attributes, children);

  // A bar of a share from 0 to 1; the number stands beside it as text.
  function makeBar(share, hue) {
    const bar = make("span", { class: "bar", "aria-hidden": "true" }, make("i"));
    bar.firstChild.style.width = `${100 * Math.min(1, Math.max(0, share || 0))}%`;
    if (hue !== undefined) bar.style.setProperty("--hue", hue);
    return bar;
  }

  const hues = new Map();
  const hash = (name) => [...name].reduce((sum, character) => (sum * 31 + character.codePointAt(0)) % 360, 7);

  Object.assign(page, {
    make,
    draw,
    makeBar,
    plainText,
    byId: (id) => document.getElementById(id),
    count: (number) => number.toLocaleString("en-US"),
    plural: (number, one, many) => `${number.toLocaleString("en-US")} ${number === 1 ? one : many}`,
    percent: (share) => (share === null || share === undefined ? "" : share > 0 && share < 0.005 ? "<1\u00a0%" : `${Math.round(100 * share)}\u00a0%`),
    fileName: (path) => path.slice(path.lastIndexOf("/") + 1),
    // Styles get far-apart hues, the most frequent first; others one by their name.
    setHues: (names) => names.forEach((name, rank) => hues.set(name, Math.round((265 + 137.508 * rank) % 360))),
    hueOf: (name) => hues.get(name) ?? hash(name),
  });
})((window.stylematchPage ??= {}));
