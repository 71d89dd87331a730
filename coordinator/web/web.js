// Follows what happens: replaces the parts of the page that the coordinator sends anew. Without this script every page
// reads the same after a reload.
"use strict";

const replaceRegion = ({ id, html }) => {
  const old = document.getElementById(id);
  if (!old) return;
  const tail = old.querySelector(".tail");
  const atTail = tail !== null && tail === document.activeElement;
  // somebody is at it: what they opened, focused or scrolled back to stays until they leave it
  if (old.contains(document.activeElement) && document.activeElement !== document.body && !atTail) return;
  if (tail !== null && tail.scrollTop < -1) return;
  if (old.querySelector("details[open]")) return;
  const holder = document.createElement("template");
  holder.innerHTML = html;
  const fresh = holder.content.firstElementChild;
  if (!fresh || old.isEqualNode(fresh)) return;
  // a table that was scrolled sideways stays where it was
  const scrolled = [...old.querySelectorAll(".scroll")].map((box) => box.scrollLeft);
  old.replaceWith(fresh);
  fresh.querySelectorAll(".scroll").forEach((box, position) => { box.scrollLeft = scrolled[position] ?? 0; });
  if (atTail) fresh.querySelector(".tail")?.focus({ preventScroll: true });
};

const follow = (path) => {
  let source;
  const open = () => {
    if (source) return;
    source = new EventSource(path);
    source.onmessage = (event) => replaceRegion(JSON.parse(event.data));
    source.onopen = () => document.body.classList.remove("away");
    source.onerror = () => document.body.classList.add("away");
  };
  const close = () => { if (source) { source.close(); source = undefined; } };
  // a page that nobody looks at asks for nothing
  document.addEventListener("visibilitychange", () => (document.hidden ? close() : open()));
  window.addEventListener("pagehide", close);
  if (!document.hidden) open();
};

// puts the cursor where the spec has its mistake
const goToMistake = (area) => {
  const line = Number(area.dataset.line), column = Number(area.dataset.column);
  const before = area.value.split("\n").slice(0, line - 1).join("\n");
  const at = (line > 1 ? before.length + 1 : 0) + column - 1;
  area.focus();
  area.setSelectionRange(at, at);
};

if (document.body.dataset.live) follow(document.body.dataset.live);
document.querySelectorAll("textarea[data-line]").forEach(goToMistake);
