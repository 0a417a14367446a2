// Under each control of FORMULAS its formula, with the number or the choice that is in it now. Controls are moved by
// hand, by keys, by links and by each other, and not all of that makes an event: they are read a few times a second.
(() => {
  const value = (control) =>
    (control.querySelector("input[type=number]") ||
      control.querySelector("input[type=radio]:checked") ||
      control.querySelector("input[role=combobox], input[role=listbox]"))?.value;

  const lines = new Map(); // by the control's id

  // Under the control; under the whole row where a button stands beside it.
  function lineOf(id, control) {
    if (!lines.get(id)?.isConnected) {
      const line = Object.assign(document.createElement("p"), { className: "formula" });
      const row = control.closest(".with-die");
      row ? row.after(line) : control.append(line);
      lines.set(id, line);
    }
    return lines.get(id);
  }

  function refresh() {
    for (const [id, formula] of Object.entries(FORMULAS)) {
      const control = document.getElementById(id);
      if (!control) continue;
      const line = lineOf(id, control);
      const now = value(control) ?? "";
      if (line.dataset.now === now) continue;
      line.dataset.now = now;
      const text = typeof formula === "string" ? formula : formula[now] || "";
      line.innerHTML = text.replaceAll("{}", `<b>${now.replace(/[<&]/g, "")}</b>`);
    }
  }

  setInterval(refresh, 200);
})();
