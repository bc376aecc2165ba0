// The two rows of buttons that turn pages.
"use strict";
((page) => {
  const { make, count } = page;

  page.makePagers = (current, pages, turnTo) => {
    for (const pager of document.querySelectorAll(".pager")) {
      pager.hidden = pages === 1;
      const step = (label, mark, target) => {
        const button = make("button", { type: "button", "aria-label": label, title: label }, mark);
        button.disabled = target < 1 || target > pages || target === current;
        button.addEventListener("click", () => turnTo(target));
        return button;
      };
      const field = make("input", { type: "number", min: 1, max: pages, value: current, "aria-label": "Page", inputmode: "numeric" });
      field.addEventListener("change", () => turnTo(Math.min(pages, Math.max(1, Math.round(Number(field.value)) || current))));
      pager.replaceChildren(
        step("First page", "\u00ab", 1),
        step("Previous page", "\u2039", current - 1),
        make("label", {}, field, make("span", {}, `of ${count(pages)}`)),
        step("Next page", "\u203a", current + 1),
        step("Last page", "\u00bb", pages),
      );
    }
  };
})((window.stylematchPage ??= {}));
