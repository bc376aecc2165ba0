// The page: sends a picture, shows what comes back. Everything from the server is put in as text, never as HTML.
"use strict";

const SHOWN_ATTRIBUTES = 8;
const byId = (id) => document.getElementById(id);
const percent = (share) => `${(100 * share).toFixed(0)} %`;
let sending = null; // the request in flight; a newer picture ends it
let limits = null;

function element(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

function tell(status, problem = "") {
  byId("status").textContent = status;
  byId("problem").textContent = problem;
  byId("problem").hidden = !problem;
}

async function score(file) {
  sending?.abort();
  sending = new AbortController();
  const signal = sending.signal;
  byId("result").hidden = true;
  if (limits && file.size > limits.max_file_bytes) {
    tell("", `The picture has ${file.size.toLocaleString("en")} bytes; ${limits.max_file_bytes.toLocaleString("en")} are allowed.`);
    return;
  }
  tell("Scoring\u2026");
  try {
    const type = file.type.startsWith("image/") ? file.type : "application/octet-stream";
    const response = await fetch("score", { method: "POST", body: file, headers: { "Content-Type": type }, signal });
    const answer = await response.json();
    if (response.ok) show(file, answer);
    else tell("", `${answer.message} (${answer.reason})`);
  } catch (error) {
    if (!signal.aborted) tell("", `The server cannot be reached: ${error.message}`);
  }
}

function show(file, { photo, faces }) {
  const picture = byId("shown");
  URL.revokeObjectURL(picture.src);
  picture.src = URL.createObjectURL(file);
  byId("frame").hidden = false;
  picture.onerror = () => { byId("frame").hidden = true; }; // a format that the server reads and the browser does not
  byId("frame").querySelectorAll(".box").forEach((box) => box.remove());
  byId("frame").append(...faces.map((face) => boxOf(face, photo)));
  byId("faces").replaceChildren(...faces.map(faceCard));
  byId("result").hidden = false;
  const found = faces.length === 1 ? "One face" : `${faces.length} faces`;
  tell(faces.length ? `${found} found.` : `No face was found${photo.message ? `: ${photo.message}` : "."}`);
  byId("result-title").focus({ preventScroll: true });
}

function boxOf(face, photo) {
  const isAtTop = face.box.y < 0.08 * photo.height; // there is no room for its number above it
  const box = element("button", { type: "button", className: isAtTop ? "box at-top" : "box" }, element("b", { textContent: face.face + 1 }));
  box.setAttribute("aria-label", `Face ${face.face}: ${face.style.style}`);
  box.style.left = `${(100 * face.box.x) / photo.width}%`;
  box.style.top = `${(100 * face.box.y) / photo.height}%`;
  box.style.width = `${(100 * face.box.width) / photo.width}%`;
  box.style.height = `${(100 * face.box.height) / photo.height}%`;
  box.onclick = () => {
    const card = byId(`face-${face.face}`);
    card.scrollIntoView({ block: "nearest" });
    card.focus();
  };
  return box;
}

function faceCard(face) {
  const { style } = face;
  const attributes = Object.entries(face.attributes).sort((a, b) => b[1] - a[1]);
  const bars = attributes.map(([name, probability]) => {
    const label = name.replaceAll("_", " ");
    const meter = element("meter", { min: 0, max: 1, value: probability });
    meter.setAttribute("aria-label", label);
    return element("li", {}, element("span", { textContent: label }), element("span", { textContent: percent(probability) }), meter);
  });
  const all = element("details", {}, element("summary", { textContent: `All ${attributes.length} attributes` }),
    element("ul", { className: "attributes" }, ...bars.slice(SHOWN_ATTRIBUTES)));
  const card = element("article", { className: "face", id: `face-${face.face}`, tabIndex: -1 },
    element("h3", { textContent: `${face.face + 1}. ${style.style} (${percent(style.style_score)})` }),
    element("p", { className: "rule", textContent: `Rule: ${style.rule}` }),
    element("p", { className: "quiet", textContent: style.why }),
    element("h4", { textContent: "Items" }),
    element("ol", { className: "items" }, ...face.items.map(itemEntry)),
    element("h4", { textContent: "Most probable attributes" }),
    element("ul", { className: "attributes" }, ...bars.slice(0, SHOWN_ATTRIBUTES)), all);
  card.setAttribute("aria-label", `Face ${face.face}`);
  return card;
}

function itemEntry(item) {
  const picture = element("img", { src: item.picture, alt: "", loading: "lazy" });
  picture.onerror = () => picture.replaceWith(element("div", { className: "blank" }));
  return element("li", {}, picture, element("strong", { textContent: `${item.rank}. ${item.category}` }),
    element("span", { textContent: item.reason }));
}

function take(files) {
  if (files?.length) score(files[0]);
}

byId("picture").addEventListener("change", (event) => take(event.target.files));
byId("form").addEventListener("submit", (event) => { event.preventDefault(); take(byId("picture").files); });
document.addEventListener("paste", (event) => take(event.clipboardData.files));
for (const name of ["dragover", "dragleave", "drop"]) {
  document.addEventListener(name, (event) => {
    event.preventDefault();
    byId("drop").classList.toggle("over", name === "dragover");
    if (name === "drop") take(event.dataTransfer.files);
  });
}

fetch("info").then((response) => response.json()).then((info) => {
  limits = info;
  byId("gallery").hidden = !info.gallery;
}).catch(() => {}); // the server says the same when a picture is sent
