// Where the reader is, as the address has it: #VIEW?NAME=VALUE&... What somebody chose stays over a reload, and in a link.

function split() {
  const [path, query = ""] = location.hash.slice(1).split(/\?(.*)/s);
  return { path, query: new URLSearchParams(query) };
}

// The view with its parts, such as ["run", "sepsis-1f2e"]; [""] for none.
export function path() {
  return split().path.split("/").map(decoded);
}

// A part of an address as text; one that is not encoded as it should be, as it is.
export function decoded(part) {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}

export function parameter(name) {
  return split().query.get(name);
}

// Writes a choice into the address, without a step in the browser's history; null takes it out.
export function keep(name, value) {
  const { path: where, query } = split();
  if (value === null || value === "") query.delete(name);
  else query.set(name, value);
  const text = query.toString().replaceAll("%2C", ",");
  history.replaceState(history.state, "", `#${where}${text ? `?${text}` : ""}`);
}
