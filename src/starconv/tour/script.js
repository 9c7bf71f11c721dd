"use strict";
// Theme, section marks, copy buttons and the stepper. Nothing is computed here: the stepper shows what Python put in
// the page as JSON.
(() => {
  const root = document.documentElement;
  const stored = (value) => {
    try {
      if (value === undefined) return localStorage.getItem("starconv-theme");
      localStorage.setItem("starconv-theme", value);
    } catch { /* storage is off: the choice lasts as long as the page */ }
    return null;
  };
  const setTheme = (theme) => { if (theme === "light" || theme === "dark") root.dataset.theme = theme; };
  setTheme(stored());
  document.getElementById("theme").addEventListener("click", () => {
    const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
    setTheme(dark ? "light" : "dark");
    stored(root.dataset.theme);
  });

  const links = new Map([...document.querySelectorAll("nav .sections a")].map((link) => [link.hash.slice(1), link]));
  const watcher = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      const link = links.get(entry.target.id);
      if (!link) continue;
      if (entry.isIntersecting) link.setAttribute("aria-current", "location"); else link.removeAttribute("aria-current");
    }
  }, { rootMargin: "-45% 0px -54% 0px" });
  document.querySelectorAll("main > section").forEach((section) => watcher.observe(section));

  document.querySelectorAll("details.code").forEach((details) => {
    if (!navigator.clipboard) return;
    const button = document.createElement("button");
    button.type = "button";
    button.className = "copy";
    button.textContent = "Copy";
    button.addEventListener("click", async () => {
      try {
        await navigator.clipboard.writeText(details.querySelector("code").textContent);
        button.textContent = "Copied";
      } catch {
        button.textContent = "Not allowed";
      }
      setTimeout(() => { button.textContent = "Copy"; }, 1500);
    });
    details.append(button);
  });

  const stepper = document.getElementById("stepper");
  const { columns, steps } = JSON.parse(document.getElementById("step-data").textContent);
  const cells = (id) => new Map([...document.querySelectorAll(`#${id} td`)].map((cell) => [cell.dataset.at, cell]));
  const [inputs, taps, outputs] = ["step-x", "step-k", "step-o"].map(cells);
  const make = (tag, name, text) => {
    const element = document.createElement(tag);
    element.className = name;
    element.textContent = text;
    return element;
  };
  let current = 0;
  const mark = (map, keys) => map.forEach((cell, key) => cell.classList.toggle("on", keys.includes(key)));
  const show = (index) => {
    current = (index + steps.length) % steps.length;
    const step = steps[current];
    mark(inputs, step.inputs);
    mark(taps, step.taps);
    mark(outputs, [step.output]);
    outputs.get(step.output).classList.add("seen");
    document.getElementById("step-title").textContent = `${step.title} = ${step.sum}`;
    const line = document.getElementById("step-products");
    line.replaceChildren();
    step.terms.forEach((term, place) => {
      if (place) line.append(make("span", "plus", "+"));
      const box = make("span", "term", term);
      box.append(make("small", "", step.products[place]));
      line.append(box);
    });
    line.append(make("span", "plus", "="), make("strong", "", step.sum));
  };
  outputs.forEach((cell, key) => cell.addEventListener("click", () => {
    show(steps.findIndex((step) => step.output === key));
  }));
  document.getElementById("step-back").addEventListener("click", () => show(current - 1));
  document.getElementById("step-on").addEventListener("click", () => show(current + 1));
  stepper.addEventListener("keydown", (event) => {
    const moves = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: columns, ArrowUp: -columns };
    const target = event.key === "Home" ? 0 : event.key === "End" ? steps.length - 1
      : event.key in moves ? current + moves[event.key] : null;
    if (target === null || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    show(target);
  });
  document.getElementById("step-controls").hidden = false;
  stepper.classList.add("ready");
  show(0);
})();
