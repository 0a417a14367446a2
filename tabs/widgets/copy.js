// Buttons that copy: [data-copy] its text, [data-copy-link] the address of this page with its query. And [data-use], which
// puts seed and class of the image that is enlarged into the controls.
(() => {
  async function copy(text) {
    if (navigator.clipboard && window.isSecureContext) return navigator.clipboard.writeText(text);
    const field = document.createElement("textarea"); // a page that came over plain http from another machine
    field.value = text;
    document.body.append(field);
    field.select();
    document.execCommand("copy");
    field.remove();
  }

  function use(button) {
    const chosen = button.closest(".player").querySelector("[data-act=tile]").value;
    const [seed, name] = JSON.parse(button.dataset.use)[Number(chosen)];
    document.querySelectorAll("#class input").forEach((radio) => radio.value === name && radio.click());
    const field = document.querySelector("#seed input");
    field.value = seed;
    field.dispatchEvent(new Event("input", { bubbles: true }));
    field.dispatchEvent(new Event("change", { bubbles: true }));
    field.blur();
  }

  document.addEventListener("click", async (event) => {
    const button = event.target.closest ? event.target.closest("[data-copy], [data-copy-link], [data-use]") : null;
    if (!button) return;
    if (button.dataset.use) return use(button);
    const { copy: text, copyLink } = button.dataset;
    await copy(copyLink === undefined ? text : new URL(copyLink, location.href.split("?")[0]).href);
    const label = button.textContent;
    if (label === "Copied") return;
    button.textContent = "Copied";
    setTimeout(() => (button.textContent = label), 1200);
  });
})();
