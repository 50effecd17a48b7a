"use strict";
(() => {
  const root = document.documentElement;
  const button = document.getElementById("theme");
  const system = window.matchMedia("(prefers-color-scheme: dark)");
  const key = "metal_jax-report-theme";
  const remembered = () => {
    try {
      return localStorage.getItem(key);
    } catch {
      return null; // a browser may refuse storage to files
    }
  };
  const show = () => {
    const dark = root.dataset.theme ? root.dataset.theme === "dark" : system.matches;
    button.textContent = dark ? "Light" : "Dark";
    button.setAttribute("aria-label", dark ? "Switch to light colours" : "Switch to dark colours");
    return dark;
  };
  const saved = remembered();
  if (saved === "dark" || saved === "light") root.dataset.theme = saved;
  button.addEventListener("click", () => {
    root.dataset.theme = show() ? "light" : "dark";
    show();
    try {
      localStorage.setItem(key, root.dataset.theme);
    } catch {
      // as above: the choice then lasts as long as the page
    }
  });
  system.addEventListener("change", show);
  show();
  button.hidden = false;
})();
