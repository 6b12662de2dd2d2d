// Names that read from right to left stand apart from the sentence round them: else the digits beside them change places.

const RTL = "\\u0590-\\u08ff\\ufb1d-\\ufdff\\ufe70-\\ufefc\\u{10800}-\\u{10fff}\\u{1e800}-\\u{1efff}";
const ANY = new RegExp(`[${RTL}]`, "u"); // looked for first: most texts have none, and NAMES takes far longer
const NAMES = new RegExp(`(\\S*[${RTL}]\\S*(?:\\s+\\S*[${RTL}]\\S*)*)`, "u");
const FIRST_STRONG = "\u2068";
const END = "\u2069";

// A text as the nodes it is shown by: what reads from right to left in `bdi`, the rest as text.
export function isolated(text) {
  if (!ANY.test(text)) return text === "" ? [] : [text];
  return text.split(NAMES).map((part, i) => {
    if (i % 2 === 0) return part;
    const name = document.createElement("bdi");
    name.textContent = part;
    return name;
  }).filter((part) => part !== "");
}

// The same where there can be no elements, as in SVG: with the characters that isolate.
export function isolatedText(text) {
  if (!ANY.test(text)) return text;
  return text.split(NAMES).map((part, i) => (i % 2 ? `${FIRST_STRONG}${part}${END}` : part)).join("");
}
