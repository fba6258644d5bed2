// Runs once a page load. Two things that gradio does not do alike in all versions, or not at all:
// the tab refreshes itself while somebody looks at it, and buttons inside our HTML reach the server.
() => {
  const ID = "flux_speedup_tab";
  const LOOK_MS = 250;
  const MEASURING_MS = 1000;
  const PATIENCE_MS = 30000;
  const PATIENCE_MOST_MS = 600000;
  const root = document.querySelector("gradio-app")?.shadowRoot ?? document;
  const find = (part) => root.querySelector(`#${ID}${part}`);

  window.fluxSpeedup?.stop();
  let answered = "";
  let asked = 0;
  let waiting = false;
  let patience = PATIENCE_MS;
  let live = performance.now();

  const ask = (part, now) => {
    const button = find(part);
    if (!button) return;
    waiting = true;
    asked = now;
    button.click();
  };

  const look = () => {
    const page = find("");
    const pulse = find("_pulse")?.querySelector("[data-fsu-tick]");
    if (!page || !pulse) return;
    keep(page);
    const now = performance.now();
    if (pulse.dataset.fsuTick !== answered) {
      answered = pulse.dataset.fsuTick;
      waiting = false;
      patience = PATIENCE_MS;
    }
    if (document.hidden || page.getClientRects().length === 0) return;
    // A server that does not answer is asked ever more rarely.
    if (waiting && now - asked < patience) return;
    if (waiting) patience = Math.min(2 * patience, PATIENCE_MOST_MS);
    // Nobody's selection is taken away while they copy from the page.
    const selection = document.getSelection();
    if (selection && !selection.isCollapsed && page.contains(selection.anchorNode)) return;
    const every = 1000 * Number(pulse.dataset.fsuRefresh);
    if (every > 0 && now - live >= every) {
      live = now;
      ask("_live", now);
    } else if (pulse.dataset.fsuMeasuring === "1" && now - asked >= MEASURING_MS) {
      ask("_progress", now);
    }
  };

  // New HTML takes the place of the old one: what had the focus has it again, what was
  // unfolded or scrolled stays so.
  let kept = null;
  let focused = null;
  const unfolded = new Map();
  const scrolled = new Map();
  const keyed = (node) => node?.closest?.(`#${ID} [data-fsu-key]`);
  const observer = new MutationObserver(() => {
    for (const fold of kept.querySelectorAll("details[data-fsu-key]")) {
      const open = unfolded.get(fold.dataset.fsuKey);
      if (open !== undefined && fold.open !== open) fold.open = open;
    }
    for (const box of kept.querySelectorAll(".fsu-scroll[data-fsu-key]")) {
      const at = scrolled.get(box.dataset.fsuKey);
      if (at && box.scrollTop === 0 && box.scrollLeft === 0) box.scrollTo(at.left, at.top);
    }
    if (focused && (document.activeElement ?? document.body) === document.body) {
      kept.querySelector(`[data-fsu-key="${CSS.escape(focused)}"]`)?.focus({ preventScroll: true });
    }
  });
  const keep = (page) => {
    if (page === kept) return;
    kept = page;
    observer.disconnect();
    observer.observe(page, { childList: true, subtree: true });
  };
  const onFocus = (event) => {
    focused = keyed(event.target)?.dataset.fsuKey ?? null;
  };
  const onBlur = (event) => {
    const left = event.target;
    setTimeout(() => {
      if (left.isConnected && document.activeElement !== left && keyed(left)?.dataset.fsuKey === focused) focused = null;
    });
  };
  const onToggle = (event) => {
    if (keyed(event.target) === event.target) unfolded.set(event.target.dataset.fsuKey, event.target.open);
  };
  const onScroll = (event) => {
    const box = event.target;
    if (keyed(box) === box) scrolled.set(box.dataset.fsuKey, { left: box.scrollLeft, top: box.scrollTop });
  };
  const onClick = (event) => {
    const pressed = event.target.closest?.(`#${ID} [data-fsu-do]`);
    if (!pressed) return;
    // The first press may come before the first look.
    keep(find(""));
    window.fluxSpeedup.pressed = pressed.dataset.fsuDo;
    find("_pressed")?.click();
  };
  const listeners = [["focusin", onFocus], ["focusout", onBlur], ["toggle", onToggle], ["scroll", onScroll], ["click", onClick]];
  for (const [name, listener] of listeners) root.addEventListener(name, listener, true);

  const timer = setInterval(look, LOOK_MS);
  window.fluxSpeedup = {
    pressed: "",
    stop: () => {
      clearInterval(timer);
      observer.disconnect();
      for (const [name, listener] of listeners) root.removeEventListener(name, listener, true);
    },
  };
}
