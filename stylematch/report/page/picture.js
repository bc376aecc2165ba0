// A photo's thumbnail with what was found in it drawn on top: boxes, and the chosen face's landmarks.
"use strict";
((page) => {
  const { make, draw, plural, percent, fileName } = page;

  // A picture that lies in a data file is drawn on a canvas: the page's policy lets it load pictures from files alone.
  async function drawOn(canvas, encoded) {
    const bytes = Uint8Array.from(atob(encoded), (letter) => letter.charCodeAt(0));
    const isPng = bytes[0] === 0x89; // an index's picture of an item, grey on black; all others are JPEGs
    const type = isPng ? "image/png" : "image/jpeg";
    canvas.classList.toggle("of-index", isPng);
    const picture = await createImageBitmap(new Blob([bytes], { type }));
    [canvas.width, canvas.height] = [picture.width, picture.height];
    canvas.getContext("bitmaprenderer").transferFromImageBitmap(picture);
  }

  const waiting = new WeakMap(); // canvas -> what brings its picture
  const watch = (rootMargin) => new IntersectionObserver((entries, observer) => {
    for (const { target, isIntersecting } of entries) {
      if (!isIntersecting) continue;
      observer.unobserve(target);
      waiting.get(target)().then((encoded) => encoded && drawOn(target, encoded)).catch(page.showProblem);
    }
  }, { rootMargin });
  const [early, late] = [watch("600px"), watch("150px")];

  // bring() promises the picture in base64, and is asked when the canvas comes near; of many small ones, into sight.
  function makeCanvas(bring, alt, { small = false } = {}) {
    const canvas = make("canvas", alt ? { role: "img", "aria-label": alt } : { "aria-hidden": "true" });
    waiting.set(canvas, bring);
    (small ? late : early).observe(canvas);
    return canvas;
  }

  // The drawing's units are pixels of the full-size photo, like the tables'. A thumbnail is a picture's address,
  // or bring() promises it as makeCanvas wants it.
  function makeFrame(photo, { chosen = 0, points = false, large = false, choose = null, bring = null } = {}) {
    const name = fileName(photo.path);
    const node = make("div", { class: `frame${large ? " large" : ""}` });
    const sized = photo.width && photo.height && photo.status !== "rejected";
    const ratio = sized ? photo.width / photo.height : 4 / 3;
    node.style.setProperty("--ratio", Math.min(4, Math.max(0.25, ratio)));
    if (!photo.thumbnail) {
      node.classList.add("blank");
      node.append(make("p", {}, photo.status === "rejected" ? photo.reason : "no thumbnail"));
      if (!photo.faces.length) return node;
    } else {
      const alt = `${name}, ${photo.faces.length ? plural(photo.faces.length, "face", "faces") : "no face found"}`;
      node.append(bring ? makeCanvas(bring, alt) : make("img", { src: photo.thumbnail, alt, loading: "lazy", decoding: "async" }));
    }
    if (sized && photo.faces.length) node.append(makeMarks(photo, chosen, points, choose));
    return node;
  }

  function makeMarks(photo, chosen, points, choose) {
    const marks = draw("svg", { class: "marks", viewBox: `0 0 ${photo.width} ${photo.height}`, preserveAspectRatio: "none", "aria-hidden": "true" });
    photo.faces.forEach((face, number) => {
      const [x, y, width, height] = face.box;
      const label = `Face ${number}: ${face.style}, ${percent(face.score)}`;
      const place = { x, y, width, height, rx: width / 16 };
      const group = draw("g", { class: number === chosen ? "face chosen" : "face" }, draw("title", {}, label), draw("rect", { class: "shade", ...place }), draw("rect", { class: "line", ...place }));
      if (choose) group.addEventListener("click", () => choose(number));
      marks.append(group);
      if (points && number === chosen) {
        for (let at = 0; at < face.points.length; at += 2) {
          const [cx, cy] = [face.points[at], face.points[at + 1]];
          if (cx !== null && cy !== null) marks.append(draw("circle", { class: "landmark", cx, cy, r: Math.max(width / 45, photo.width / 250) }));
        }
      }
    });
    return marks;
  }

  Object.assign(page, { makeCanvas, makeFrame });
})((window.stylematchPage ??= {}));
