// data-run of a stage is "waiting" from the press of a button until something arrives, an error too, and "stopped" after Stop.
// It stands on the stage, outside of what is streamed into it: a frame under way when Stop is pressed may yet come.
const turn = {
  set(id, state) {
    const stage = document.getElementById(id)?.closest(".stage"); // not there yet while a link opens its tab
    if (stage) stage.dataset.run = state;
  },
  wait(...ids) {
    ids.forEach((id, k) => turn.set(id, k ? "" : "waiting"));
  },
  settle(...ids) {
    ids.forEach((id) => document.getElementById(id)?.closest(".stage").dataset.run === "waiting" && turn.set(id, ""));
  },
  stop(...ids) {
    ids.forEach((id) => turn.set(id, "stopped"));
  },
};

const TOAST = "[data-testid=toast-body], .toast-message-item"; // an error says more than the waiting

new MutationObserver((changes) => {
  for (const { target, addedNodes } of changes) {
    const wrong = [...addedNodes].some((node) => node.matches?.(TOAST) || node.querySelector?.(TOAST));
    if (wrong) document.querySelectorAll(".stage[data-run=waiting]").forEach((stage) => (stage.dataset.run = ""));
    const stage = target.closest?.(".html-container")?.closest(".stage[data-run=waiting]");
    if (stage) stage.dataset.run = "";
  }
}).observe(document, { childList: true, subtree: true });
