// The player's script: moves the variable --k of a .player to frame k, and shows the line of numbers that goes with it.
// It listens on the document and keeps nothing but timers, because results, players and all, are replaced at any time.
(() => {
  const playing = new WeakMap();
  const points = new WeakMap();
  const of = (event) => (event.target.closest ? event.target.closest(".player") : null);
  const scrubber = (player) => player.querySelector("input[type=range]");

  function show(player, k) {
    const range = scrubber(player);
    k = Math.min(Math.max(k, 0), Number(range.max));
    range.value = k;
    player.style.setProperty("--k", k);
    const lines = player.querySelector(".numbers").children;
    for (let j = 0; j < lines.length; j++) lines[j].hidden = j !== k;
    range.setAttribute("aria-valuetext", lines[k].textContent);
    player.querySelectorAll("canvas").forEach((canvas) => draw(canvas, k));
  }

  const step = (player, by) => show(player, Number(scrubber(player).value) + by);

  function pause(player) {
    clearTimeout(playing.get(player));
    playing.delete(player);
    player.querySelector(".play").textContent = "Play";
  }

  function play(player) {
    const range = scrubber(player);
    if (range.value === range.max) show(player, 0);
    player.querySelector(".play").textContent = "Pause";
    const whole = 5000 / player.querySelector(".speed").value; // milliseconds from the first frame to the last
    const next = () => {
      if (!player.isConnected || range.value === range.max) return pause(player);
      step(player, 1);
      playing.set(player, setTimeout(next, Math.min(whole / 10, whole / Number(range.max))));
    };
    playing.set(player, setTimeout(next, 0));
  }

  const toggle = (player) => (playing.has(player) ? pause(player) : play(player));

  // Enlarging one tile: the sheet's window becomes the tile's. Nothing chosen is the whole grid.
  function enlarge(player, tile) {
    player.classList.toggle("one", tile !== "");
    player.querySelector("[data-act=tile]").value = tile;
    player.querySelectorAll(".sheet").forEach((sheet) => {
      const columns = Number(sheet.dataset.columns);
      const at = (axis, n) => sheet.style.setProperty(axis, n);
      const size = (name) => Number(getComputedStyle(sheet).getPropertyValue(name)) + Number(sheet.dataset.gap);
      const k = tile === "" ? 0 : Math.min(Number(tile), Number(sheet.dataset.tiles) - 1);
      at("--x", (k % columns) * size("--tw"));
      at("--y", Math.floor(k / columns) * size("--th"));
    });
  }

  function tileAt(sheet, event) {
    const box = sheet.getBoundingClientRect();
    const style = getComputedStyle(sheet);
    const unit = box.width / Number(style.getPropertyValue("--w"));
    const cell = (from, side) => Math.floor(from / unit / (Number(style.getPropertyValue(side)) + Number(sheet.dataset.gap)));
    const k = cell(event.clientY - box.top, "--th") * sheet.dataset.columns + cell(event.clientX - box.left, "--tw");
    return k < Number(sheet.dataset.tiles) ? String(k) : "";
  }

  // Particles: 16-bit coordinates, the picture in the middle half of their range.
  function draw(canvas, k) {
    if (!points.has(canvas)) {
      const bytes = Uint8Array.from(atob(canvas.dataset.points), (c) => c.charCodeAt(0));
      points.set(canvas, new Uint16Array(bytes.buffer));
    }
    const all = points.get(canvas), n = Number(canvas.dataset.count);
    const side = Math.round(canvas.clientWidth * (window.devicePixelRatio || 1));
    if (canvas.width !== side || canvas.height !== side) canvas.width = canvas.height = side;
    const context = canvas.getContext("2d"), dot = Math.max(2, side / 160);
    context.clearRect(0, 0, side, side);
    context.globalAlpha = 0.75;
    context.fillStyle = getComputedStyle(canvas).color;
    for (let j = 2 * k * n; j < 2 * (k + 1) * n; j += 2) {
      const x = ((all[j] - 16384) / 32767) * side, y = ((all[j + 1] - 16384) / 32767) * side;
      context.fillRect(x - dot / 2, y - dot / 2, dot, dot);
    }
  }

  document.addEventListener("input", (event) => {
    const player = of(event);
    if (!player) return;
    if (event.target.type === "range") {
      pause(player);
      show(player, Number(event.target.value));
    } else if (event.target.dataset.act === "tile") enlarge(player, event.target.value);
  });

  document.addEventListener("click", (event) => {
    const player = of(event);
    if (!player) return;
    const act = event.target.dataset.act;
    if (act === "play") toggle(player);
    else if (act === "back" || act === "on") {
      pause(player);
      step(player, act === "on" ? 1 : -1);
    } else if (event.target.matches(".sheet") && player.querySelector("[data-act=tile]")) {
      enlarge(player, player.classList.contains("one") ? "" : tileAt(event.target, event));
      scrubber(player).focus({ preventScroll: true });
    }
  });

  document.addEventListener("keydown", (event) => {
    const player = of(event);
    if (!player || event.ctrlKey || event.metaKey || event.altKey || event.target.matches("select")) return;
    const moves = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1, Home: -Infinity, End: Infinity };
    if (event.key === " " && !event.target.matches("button")) toggle(player);
    else if (event.key === "Escape" && player.classList.contains("one")) enlarge(player, "");
    else if (event.key in moves) {
      pause(player);
      step(player, moves[event.key]);
    } else return;
    event.preventDefault();
  });

  // A canvas that has just come into the page is drawn; so is every one when the window's width changes.
  const redraw = (all) =>
    document.querySelectorAll(".player canvas").forEach((canvas) => {
      if ((all || !points.has(canvas)) && canvas.clientWidth) draw(canvas, Number(scrubber(canvas.closest(".player")).value));
    });
  new MutationObserver(() => redraw(false)).observe(document, { childList: true, subtree: true });
  window.addEventListener("resize", () => redraw(true));
})();
