// The form of a plan: says that it is being made, as a source may take its time.
const form = document.getElementById("plan");
const asking = document.getElementById("asking");

form.addEventListener("submit", () => {
  asking.textContent = asking.dataset.asking;
  form.querySelector("button").disabled = true;
});
// A page that the browser has kept comes back as it was left.
addEventListener("pageshow", () => {
  asking.textContent = "";
  form.querySelector("button").disabled = false;
});
