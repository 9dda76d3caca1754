// The little Markdown that models write, as DOM nodes: paragraphs, headings, lists, tables, code, bold, italics. No HTML is
// ever parsed: what is not known stays as the text it is. Links are shown as text and not followed.

function inline(text, into) {
  const pattern = /`([^`]+)`|\*\*([^*]+)\*\*|\*([^*\s][^*]*)\*/g;
  let from = 0;
  for (const match of text.matchAll(pattern)) {
    into.append(text.slice(from, match.index));
    const node = document.createElement(match[1] ? "code" : match[2] ? "strong" : "em");
    node.textContent = match[1] ?? match[2] ?? match[3];
    into.append(node);
    from = match.index + match[0].length;
  }
  into.append(text.slice(from));
  return into;
}

const bullet = /^\s*[-*+]\s+(.*)$/;
const numbered = /^\s*(\d+)[.)]\s+(.*)$/;
const heading = /^(#{1,6})\s+(.*)$/;
const row = /^\s*\|.*\|\s*$/;
const rule = /^\s*\|(\s*:?-+:?\s*\|)+\s*$/;  // between a table's head and its rows

function list(lines, at, pattern, tag) {
  const node = document.createElement(tag);
  if (tag === "ol") node.start = Number(lines[at].match(pattern)[1]);
  for (; at < lines.length && pattern.test(lines[at]); at++) {
    node.append(inline(lines[at].match(pattern).at(-1), document.createElement("li")));
  }
  return [node, at];
}

function code(lines, at) {
  const node = document.createElement("pre");
  const inner = document.createElement("code");
  const body = [];
  for (at++; at < lines.length && !lines[at].startsWith("```"); at++) body.push(lines[at]);
  inner.textContent = body.join("\n");
  node.append(inner);
  return [node, at + 1];
}

const isTable = (lines, at) => row.test(lines[at]) && at + 1 < lines.length && rule.test(lines[at + 1]);

function table(lines, at) {
  const node = document.createElement("table");
  for (let tag = "th"; at < lines.length && row.test(lines[at]); at++) {
    if (rule.test(lines[at])) { tag = "td"; continue; }
    const line = document.createElement("tr");
    for (const cell of lines[at].trim().slice(1, -1).split("|")) line.append(inline(cell.trim(), document.createElement(tag)));
    node.append(line);
  }
  const wide = document.createElement("div");  // scrolls by itself
  wide.className = "wide";
  wide.append(node);
  return [wide, at];
}

function paragraph(lines, at) {
  const node = document.createElement("p");
  const special = (line) => !line.trim() || line.startsWith("```") || bullet.test(line) || numbered.test(line) || heading.test(line);
  for (let first = true; at < lines.length && (first || !(special(lines[at]) || isTable(lines, at))); at++, first = false) {
    if (!first) node.append(document.createElement("br"));
    inline(lines[at], node);
  }
  return [node, at];
}

/// A fragment for `text`, which may end anywhere: an open code fence is shown as code so far.
export function render(text) {
  const out = document.createDocumentFragment();
  const lines = text.split("\n");
  for (let at = 0; at < lines.length;) {
    const line = lines[at];
    let node;
    if (!line.trim()) { at++; continue; }
    if (line.startsWith("```")) [node, at] = code(lines, at);
    else if (isTable(lines, at)) [node, at] = table(lines, at);
    else if (bullet.test(line)) [node, at] = list(lines, at, bullet, "ul");
    else if (numbered.test(line)) [node, at] = list(lines, at, numbered, "ol");
    else if (heading.test(line)) { node = inline(line.match(heading)[2], document.createElement("h3")); at++; }
    else [node, at] = paragraph(lines, at);
    out.append(node);
  }
  return out;
}
