// Presentation mode: the attribute data-at of #talk is the number of the stop that is shown; without it there is none.
(() => {
  const talk = () => document.querySelector("#talk");
  const on = () => talk()?.hasAttribute("data-at");

  function show(k) {
    const stops = talk().querySelectorAll(".slide");
    talk().dataset.at = Math.min(Math.max(k, 0), stops.length - 1);
    talk().scrollTop = 0;
    window.dispatchEvent(new Event("resize")); // particles are drawn once their canvas has a size
  }

  // What lies under the talk takes no keys while it is given.
  function alone(given) {
    for (const other of talk().parentElement.children) if (other !== talk()) other.inert = given;
  }

  const step = (by) => show(Number(talk().dataset.at) + by);

  function leave() {
    alone(false);
    talk().removeAttribute("data-at");
    if (document.fullscreenElement) document.exitFullscreen();
    document.querySelector("#present")?.focus();
  }

  document.addEventListener("click", (event) => {
    if (event.target.closest("#present")) {
      alone(true);
      show(0);
      document.activeElement.blur(); // else Space would press the button again
      document.documentElement.requestFullscreen?.().catch(() => {}); // a window will do
    } else if (event.target.closest("#talk-leave")) leave();
    else if (event.target.closest("[data-talk]")) step(Number(event.target.closest("[data-talk]").dataset.talk));
  });

  // Within a player the arrow keys are the player's own; the page keys, which presenters' remotes send, always turn.
  document.addEventListener("keydown", (event) => {
    if (!on() || event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey) return;
    const turns = { ArrowLeft: -1, ArrowRight: 1, PageUp: -1, PageDown: 1 };
    if (event.key in turns) step(turns[event.key]);
    else if (event.key === " " && event.target === document.body) {
      talk().querySelectorAll(".slide")[talk().dataset.at].querySelector("[data-act=play]")?.click();
    } else if (event.key === "Escape") document.querySelector("#talk-leave").click();
    else return;
    event.preventDefault();
  });
})();
