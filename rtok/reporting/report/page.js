"use strict";
// Sorts and filters tables, shows the values of charts, leafs through examples. Everything that it adds is made of
// elements and text, never of markup, so that no text of a run can become any.
(() => {
  const ABSENT = new Set(["", "\u2013"]);

  function make(tag, properties, ...children) {
    const made = Object.assign(document.createElement(tag), properties);
    made.append(...children);
    return made;
  }

  // A cell as something to compare: 0.692 ± 0.031, 1,024, 8/255, 1:23:45.
  function number(text) {
    const plain = text.replace(/(\d),(?=\d{3})/g, "$1");
    const clock = /^(\d+):(\d\d)(?::(\d\d))?/.exec(plain);
    if (clock) return clock.slice(1).reduce((sum, part) => (part === undefined ? sum : 60 * sum + Number(part)), 0);
    const found = /^[-+]?\d*\.?\d+(?:e[-+]?\d+)?/i.exec(plain);
    return found ? Number(found[0]) : NaN;
  }

  function compare(a, b, numbers) {
    const [x, y] = numbers ? [number(a), number(b)] : [NaN, NaN];
    return Number.isNaN(x) || Number.isNaN(y) ? a.localeCompare(b, "en", { numeric: true }) : x - y;
  }

  const textOf = (line, column) => line.cells[column].textContent.trim();

  function sortable(table) {
    const body = table.tBodies[0];
    const lines = [...body.rows];
    const heads = [...table.tHead.rows[0].cells];
    heads.forEach((head, column) => {
      const button = make("button", { type: "button", title: "Sort" }, ...head.childNodes);
      head.append(button);
      button.addEventListener("click", () => {
        const next = { none: "ascending", ascending: "descending", descending: "none" };
        const order = next[head.getAttribute("aria-sort") || "none"];
        heads.forEach((other) => other.removeAttribute("aria-sort"));
        if (order !== "none") head.setAttribute("aria-sort", order);
        const sorted = order === "none" ? lines : [...lines].sort((first, second) => {
          const [a, b] = [textOf(first, column), textOf(second, column)];
          if (ABSENT.has(a) || ABSENT.has(b)) return ABSENT.has(a) - ABSENT.has(b);
          return compare(a, b, head.classList.contains("number")) * (order === "ascending" ? 1 : -1);
        });
        body.append(...sorted);
      });
    });
  }

  // A field for words, and a choice for each column of text with a few different values.
  function filterable(table) {
    const lines = [...table.tBodies[0].rows];
    const search = make("input", { type: "search", placeholder: "Filter", size: 14 });
    search.setAttribute("aria-label", "Show the lines that contain these words");
    const count = make("output", {});
    const choices = [];
    [...table.tHead.rows[0].cells].forEach((head, column) => {
      const values = [...new Set(lines.map((line) => textOf(line, column)))];
      if (head.classList.contains("number") || values.length < 2 || values.length > 12 || values.length === lines.length) return;
      const name = head.textContent.trim();
      const options = values.map((value) => make("option", { value }, value));
      const choice = make("select", {}, make("option", { value: "\u0000" }, `${name}: all`), ...options);
      choice.setAttribute("aria-label", `Show only this ${name}`);
      choices.push([column, choice]);
    });
    function apply() {
      const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
      for (const line of lines) {
        const all = line.textContent.toLowerCase();
        const chosen = choices.every(([column, choice]) => choice.value === "\u0000" || choice.value === textOf(line, column));
        line.hidden = !chosen || !words.every((word) => all.includes(word));
      }
      const shown = lines.filter((line) => !line.hidden).length;
      count.textContent = shown === lines.length ? "" : `${shown} of ${lines.length} lines`;
    }
    const tools = make("div", { className: "tools" }, search, ...choices.map(([, choice]) => choice), count);
    tools.addEventListener("input", apply);
    table.closest(".wide").before(tools);
  }

  for (const table of document.querySelectorAll("table")) {
    const lines = table.tBodies[0].rows.length;
    if (lines > 1) sortable(table);
    if (lines > 4) filterable(table);
  }

  // The value of the mark that is pointed at, or touched.
  const tip = make("div", { className: "tip", hidden: true });
  tip.setAttribute("role", "status");
  document.body.append(tip);
  function point(event) {
    const mark = event.target.closest ? event.target.closest(".mark") : null;
    tip.hidden = !mark;
    if (!mark) return;
    tip.textContent = mark.dataset.text;
    const place = mark.getBoundingClientRect();
    const left = Math.min(place.left, document.documentElement.clientWidth - tip.offsetWidth - 8);
    tip.style.left = `${Math.max(8, left) + scrollX}px`;
    tip.style.top = `${place.top + scrollY - tip.offsetHeight - 8}px`;
  }
  for (const mark of document.querySelectorAll(".mark")) {
    const title = mark.querySelector("title");
    mark.dataset.text = title.textContent;
    mark.setAttribute("aria-label", title.textContent);
    title.remove(); // the browser's own tip would cover this one
  }
  document.addEventListener("pointerover", point);
  document.addEventListener("pointerdown", point);

  // One example at a time; a picture opens large, where its views lie on top of each other.
  function browse(browser) {
    const examples = [...browser.querySelectorAll(".example")];
    const titles = examples.map((example) => example.querySelector(".panel-title"));
    let at = 0;
    const choice = make("select", {}, ...titles.map((title, i) => make("option", { value: String(i) }, title.textContent)));
    choice.setAttribute("aria-label", "Example");
    const place = make("output", {});
    function show(next) {
      at = (next + examples.length) % examples.length;
      examples.forEach((example, i) => { example.hidden = i !== at; });
      choice.value = String(at);
      place.textContent = `${at + 1} of ${examples.length}`;
    }
    const step = (words, by) => {
      const button = make("button", { type: "button" }, words);
      button.addEventListener("click", () => show(at + by));
      return button;
    };
    choice.addEventListener("change", () => show(Number(choice.value)));
    if (examples.length > 1) {
      browser.prepend(make("div", { className: "tools" }, step("\u2190 previous", -1), choice, step("next \u2192", 1), place));
      show(0);
    }
    examples.forEach((example, i) => {
      const images = [...example.querySelectorAll("img")];
      images.forEach((image, number) => {
        const button = make("button", { type: "button", title: "Enlarge" });
        image.before(button);
        button.append(image);
        button.addEventListener("click", () => enlarge(titles[i].textContent, images, number));
      });
    });
  }

  const dialog = make("dialog", {});
  document.body.append(dialog);
  function enlarge(title, images, first) {
    const large = make("img", {});
    const buttons = images.map((image, i) => {
      const button = make("button", { type: "button" }, image.alt);
      button.addEventListener("click", () => show(i));
      return button;
    });
    let at = first;
    function show(next) {
      at = (next + images.length) % images.length;
      large.src = images[at].src;
      large.alt = images[at].alt;
      buttons.forEach((button, i) => button.setAttribute("aria-pressed", String(i === at)));
    }
    const close = make("button", { type: "button" }, "close");
    close.addEventListener("click", () => dialog.close());
    dialog.onkeydown = (event) => {
      const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      if (by) show(at + by);
    };
    dialog.onclick = (event) => { if (event.target === dialog) dialog.close(); };
    dialog.replaceChildren(make("p", { className: "panel-title" }, title), ...buttons, close, large);
    show(first);
    dialog.showModal();
  }

  document.querySelectorAll(".examples").forEach(browse);
})();
