// Follows what happens: replaces the parts of the page that the coordinator sends anew. Without this script every page
// reads the same after a reload.
"use strict";

// lists whose items come and go: what is in each, in order
const lists = new Map();

const keepList = (list, ids) => {
  const box = document.getElementById(list);
  if (!box) return;
  lists.set(list, ids);
  const wanted = new Set(ids);
  [...box.children].forEach((item) => { if (!wanted.has(item.id)) item.remove(); });
  let at = box.firstElementChild;
  for (const item of ids.map((id) => document.getElementById(id)).filter(Boolean)) {
    if (item === at) at = at.nextElementSibling;
    else box.insertBefore(item, at);
  }
};

const elementOf = (html) => {
  const holder = document.createElement("template");
  holder.innerHTML = html;
  return holder.content.firstElementChild;
};

const addItem = (id, html) => {
  for (const [list, ids] of lists) {
    const position = ids.indexOf(id);
    if (position < 0) continue;
    const next = ids.slice(position + 1).map((other) => document.getElementById(other)).find(Boolean);
    document.getElementById(list).insertBefore(elementOf(html), next ?? null);
  }
};

const replaceRegion = (id, html) => {
  const old = document.getElementById(id);
  if (!old) { addItem(id, html); return; }
  // a box that is scrolled by keys keeps the focus; what else somebody is at stays until they leave it
  const boxes = (of) => [...of.querySelectorAll(".scroll, .tail")];
  const held = boxes(old).indexOf(document.activeElement);
  if (held < 0 && old.contains(document.activeElement) && document.activeElement !== document.body) return;
  // and so does what they opened or scrolled back to
  const tail = old.querySelector(".tail");
  if (tail !== null && tail.scrollTop < -1) return;
  if (old.querySelector("details[open]")) return;
  const fresh = elementOf(html);
  if (!fresh || old.isEqualNode(fresh)) return;
  // a table that was scrolled sideways stays where it was
  const scrolled = boxes(old).map((box) => box.scrollLeft);
  old.replaceWith(fresh);
  boxes(fresh).forEach((box, position) => { box.scrollLeft = scrolled[position] ?? 0; });
  if (held >= 0) boxes(fresh)[held]?.focus({ preventScroll: true });
};

const follow = (path) => {
  let source;
  const open = () => {
    if (source) return;
    source = new EventSource(path);
    source.onmessage = (event) => {
      const { id, html, list, ids } = JSON.parse(event.data);
      if (list) keepList(list, ids);
      else replaceRegion(id, html);
    };
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
