// Light, dark, or as the system has it. Loaded before anything is drawn, so that nothing flashes.
(() => {
  const order = ["", "light", "dark"];
  const words = { "": "as the system", light: "light", dark: "dark" };
  const root = document.documentElement;
  let chosen = "";
  try {
    chosen = localStorage.getItem("theme") ?? "";
  } catch {
    // Without storage the choice lasts as long as the page.
  }
  const apply = () => {
    if (chosen) root.dataset.theme = chosen;
    else delete root.dataset.theme;
    document.dispatchEvent(new Event("themechange"));
  };
  apply();
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", apply);
  document.addEventListener("DOMContentLoaded", () => {
    const button = document.getElementById("theme");
    const name = () => {
      button.title = `Theme: ${words[chosen]}`;
      button.setAttribute("aria-label", button.title);
    };
    name();
    button.addEventListener("click", () => {
      chosen = order[(order.indexOf(chosen) + 1) % order.length];
      try {
        localStorage.setItem("theme", chosen);
      } catch {
        // As above.
      }
      apply();
      name();
    });
    if (document.querySelector("[data-retry]")) setTimeout(() => location.reload(), 3000);
  });
})();
