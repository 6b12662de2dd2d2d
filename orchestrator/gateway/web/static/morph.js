// Makes what is shown like what was just built, touching only what differs: what somebody selected, scrolled, focused or pointed
// at stays. Elements are the same thing if they have the same data-key or id, else if they stand at the same place.

export function fill(place, wanted) {
  const nodes = wanted.flat(Infinity).filter((n) => n !== null && n !== undefined && n !== false).map((n) => (n instanceof Node ? n : document.createTextNode(n)));
  const keyed = new Map([...place.childNodes].filter(keyOf).map((n) => [keyOf(n), n]));
  const stays = (next) => keyed.has(keyOf(next)) && same(keyed.get(keyOf(next)), next); // not where it is another kind of element now
  const kept = new Set(nodes.filter(stays).map(keyOf));
  let at = place.firstChild;
  for (const next of nodes) {
    const old = keyOf(next) ? keyed.get(keyOf(next)) : alike(at, next);
    if (!old || !same(old, next)) {
      place.insertBefore(next, at);
      continue;
    }
    while (!keyOf(next) && at !== old) at = dropped(at, kept);
    if (old === at) at = at.nextSibling;
    else if (isHeld(old) && follows(old, at)) at = overtaken(old, at);
    else place.insertBefore(old, at);
    update(old, next);
  }
  while (at) at = dropped(at, new Set());
}

// Whether somebody's focus, or an end of a selection, is in it, which would be lost if it were moved.
function isHeld(node) {
  const selection = getSelection();
  return node.contains(document.activeElement) || (!selection.isCollapsed && (node.contains(selection.anchorNode) || node.contains(selection.focusNode)));
}

function follows(node, at) {
  return Boolean(at && at.compareDocumentPosition(node) & Node.DOCUMENT_POSITION_FOLLOWING);
}

// Moves what stands before `held`, from `at` on, behind it; returns the first of that.
function overtaken(held, at) {
  const after = held.nextSibling;
  for (let node = at; node !== held; ) {
    const next = node.nextSibling;
    held.parentNode.insertBefore(node, after);
    node = next;
  }
  return held.nextSibling;
}

function dropped(node, kept) {
  const after = node.nextSibling;
  if (!kept.has(keyOf(node))) node.remove();
  return after;
}

function keyOf(node) {
  return node.nodeType === Node.ELEMENT_NODE ? node.dataset.key || node.id || null : null;
}

function alike(at, next) {
  for (let node = at; node; node = node.nextSibling) if (!keyOf(node) && same(node, next)) return node;
  return null;
}

function same(old, next) {
  return old.nodeType === next.nodeType && old.nodeName === next.nodeName && keyOf(old) === keyOf(next) && Boolean(old.adopt) === Boolean(next.adopt);
}

function update(old, next) {
  if (old.nodeType !== Node.ELEMENT_NODE) {
    if (old.data !== next.data) old.data = next.data;
    return;
  }
  if (old.adopt) {
    old.adopt(next); // it knows by itself what of it changed
    return;
  }
  become(old, next);
  if (VALUED.includes(old.nodeName) && old.value !== next.value) old.value = next.value;
}

// Takes over what another element has: attributes, handlers, children.
export function become(old, next) {
  attributes(old, next);
  fill(old, [...next.childNodes]);
}

// Fields whose attribute, once somebody has typed or chosen, is no longer what they show.
const VALUED = ["INPUT", "SELECT"];

// `open` is the reader's choice, `style` the ticking clock's.
const THEIRS = ["open", "style"];

function attributes(old, next) {
  for (const { name } of [...old.attributes]) if (!THEIRS.includes(name) && !next.hasAttribute(name)) old.removeAttribute(name);
  for (const { name, value } of next.attributes) if (!THEIRS.includes(name) && old.getAttribute(name) !== value) old.setAttribute(name, value);
  if (old instanceof HTMLInputElement) old.checked = next.checked;
  for (const name of new Set([...(old.handlers ?? []), ...(next.handlers ?? [])])) old[name] = next[name];
  old.handlers = next.handlers;
}
