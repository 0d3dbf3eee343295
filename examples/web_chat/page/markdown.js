// Markdown into DOM nodes, while it arrives.
//
//     text ──▶ blocks: lines that belong together ──▶ elements ──▶ patched into the page
//               └─ inline(): emphasis, code, links ──▶ text nodes and elements
//
// Safety: text reaches the page as text nodes only, so there is no markup to be filtered. An
// address is used if it is absolute and of a known protocol, after the browser has parsed it.
//
// Cost: a block is final once a later block has certainly begun. Only the text of the other blocks
// is parsed again, and only the nodes that differ are changed: the reader's selection and focus
// stay, and nothing flickers. No expression below backtracks far: text may be hostile.
//
// It is the Markdown that models write: no HTML, no reference links, no indented code, no setext
// headings. A line end within a paragraph stays one.

const PROTOCOLS = ["http:", "https:", "mailto:"];
const MAX_DEPTH = 12; // of lists, quotes and emphasis; deeper marks are text

const FENCE = /^[ \t]*(`{3,}(?=[^`]*$)|~{3,})[ \t]*([^\s`]*)/;
const HEADING = /^ {0,3}(#{1,6})(?=\s|$)/;
const QUOTE = /^ {0,3}> ?/;
const ITEM = /^[ \t]*([-*+]|\d{1,9}[.)])(?=\s|$)/;
// A last line that may still become any kind of block: it is shown when its kind is known.
const UNDECIDED = /(^|\n)[ \t]*([-*+#>|`~_=:]+|\d{1,9}[.)]?)[ \t]*$/;

export class Markdown {
  #root;
  #text = ""; // of the blocks that are not final
  #finalCount = 0; // elements
  isOpen = true; // whether more text may follow

  constructor(root) {
    this.#root = root;
  }

  append(text) {
    this.#text += text.replaceAll("\r", "");
  }

  // Shows what has arrived; returns the elements that have become final, and those that are not.
  // `decorate` may change these elements before they are shown.
  render(decorate = () => {}) {
    const text = this.isOpen ? this.#text.replace(UNDECIDED, "") : this.#text;
    const blocks = parse(text.split("\n"));
    const fresh = elementsOf(blocks, this.isOpen);
    decorate(fresh);
    patchChildren(this.#root, fresh, this.#finalCount);
    const shown = nodesFrom(this.#root.children, this.#finalCount);
    const count = this.#finish(blocks);
    return {final: shown.slice(0, count), open: shown.slice(count)};
  }

  // Removes the text of the blocks that are final; returns their number.
  #finish(blocks) {
    const lines = this.#text.split("\n");
    const isCertain = ({certainAt}) => certainAt < lines.length - 1; // the last line is incomplete
    const count = Math.max(0, blocks.findLastIndex(isCertain)); // those before the last certain one
    if (count) this.#text = lines.slice(blocks[count].start).join("\n");
    this.#finalCount += count;
    return count;
  }
}

// --- blocks ----------------------------------------------------------------------
// A block: the line that it starts with, the line that makes it certain, and a function that
// returns its element, which knows whether more text may follow.

function parse(lines, depth = 0) {
  const blocks = [];
  let at = 0;
  while (at < lines.length) {
    if (!lines[at].trim()) {
      at++;
      continue;
    }
    const start = at;
    const kind = kindOf(lines, at, depth);
    const [end, element] = kind(lines, at, depth);
    blocks.push({start, certainAt: kind === table ? start + 1 : start, element});
    at = end;
  }
  return blocks;
}

function kindOf(lines, at, depth) {
  const line = lines[at];
  if (FENCE.test(line)) return fence;
  if (HEADING.test(line)) return heading;
  if (isRule(line)) return rule;
  if (depth < MAX_DEPTH && QUOTE.test(line)) return quote;
  if (depth < MAX_DEPTH && ITEM.test(line)) return list;
  if (isTable(lines, at)) return table;
  return paragraph;
}

function fence(lines, at) {
  const [, mark, language] = FENCE.exec(lines[at]);
  const indent = indentOf(lines[at]);
  const isEnd = (line) => {
    const closing = line.trim();
    return closing.length >= mark.length && closing === mark[0].repeat(closing.length);
  };
  let end = at + 1;
  while (end < lines.length && !isEnd(lines[end])) end++;
  const code = lines.slice(at + 1, end).map((line) => dedented(line, indent)).join("\n");
  return [end + 1, () => {
    const pre = made("pre", made("code", code));
    // Wide lines are scrolled, which the keyboard can do in an element with the focus.
    Object.assign(pre, {tabIndex: 0, role: "group", ariaLabel: `Code ${language}`.trim()});
    return pre;
  }];
}

function heading(lines, at) {
  const level = HEADING.exec(lines[at])[1].length;
  const text = lines[at].trim().slice(level).trim().replace(/(^|\s)#+$/, "");
  // The page has headings of its own: h1, and h2 for each question.
  return [at + 1, (isOpen) => made(`h${Math.min(level + 2, 6)}`, inline(text, isOpen))];
}

function isRule(line) {
  return /^([-*_])\1{2,}$/.test(line.replace(/[ \t]/g, ""));
}

function rule(_, at) {
  return [at + 1, () => made("hr")];
}

function quote(lines, at, depth) {
  let end = at;
  while (end < lines.length && QUOTE.test(lines[end])) end++;
  const quoted = lines.slice(at, end).map((line) => line.replace(QUOTE, ""));
  return [end, (isOpen) => made("blockquote", elementsOf(parse(quoted, depth + 1), isOpen))];
}

function list(lines, at, depth) {
  const kind = kindOfItem(lines[at]);
  const indent = indentOf(lines[at]);
  const width = indent + widthOf(lines[at]);
  const items = [];
  let end = at;
  for (;;) {
    let next = end;
    while (next < lines.length && !lines[next].trim()) next++;
    if (next === lines.length) break;
    if (isSibling(lines[next], indent)) {
      if (kindOfItem(lines[next]) !== kind) break;
      items.push([lines[next].replace(ITEM, "")]);
    } else if (isInside(lines, next, indent, next === end)) {
      for (const line of lines.slice(end, next + 1)) items.at(-1).push(dedented(line, width));
    } else {
      break;
    }
    end = next + 1;
  }
  return [end, (isOpen) => {
    const number = Number.parseInt(lines[at], 10);
    const element = Number.isNaN(number) ? made("ul") : Object.assign(made("ol"), {start: number});
    items.forEach((item, position) => {
      const isLast = position === items.length - 1;
      element.append(made("li", elementsOf(parse(item, depth + 1), isOpen && isLast)));
    });
    return element;
  }];
}

// "1." and "2." are of one kind, and their list is not that of "1)", "-" or "*".
function kindOfItem(line) {
  return ITEM.exec(line)[1].slice(-1);
}

function isSibling(line, indent) {
  return ITEM.test(line) && indentOf(line) < indent + 2 && !isRule(line);
}

// Whether a line is part of the item before it: if it is indented, or continues a paragraph.
function isInside(lines, at, indent, isAdjacent) {
  return indentOf(lines[at]) >= indent + 2 || (isAdjacent && !beginsBlock(lines, at));
}

// The width of the marker of an item, and of the blanks after it.
function widthOf(line) {
  const [, marker, blanks] = /^[ \t]*(\S+)([ \t]*)/.exec(line);
  return marker.length + (blanks.length > 4 ? 1 : Math.max(1, blanks.length));
}

function isTable(lines, at) {
  const rule = lines[at + 1] ?? "";
  return lines[at].includes("|") && /^[\s|:-]+$/.test(rule) && /\|/.test(rule) && /-/.test(rule);
}

function table(lines, at) {
  const sides = cells(lines[at + 1]).map((cell) => {
    if (!cell.endsWith(":")) return "";
    return cell.startsWith(":") ? "center" : "right";
  });
  let end = at + 2;
  while (end < lines.length && lines[end].includes("|")) end++;
  const row = (line, name) => made("tr", fragmentOf(cells(line).map((cell, column) => {
    const element = made(name, inline(cell));
    if (sides[column]) element.className = sides[column];
    return element;
  })));
  return [end, () => {
    const body = fragmentOf(lines.slice(at + 2, end).map((line) => row(line, "td")));
    const whole = made("table", made("thead", row(lines[at], "th")), made("tbody", body));
    const scroller = made("div", whole); // for wide tables, as for code
    Object.assign(scroller, {tabIndex: 0, role: "group", ariaLabel: "Table", className: "wide"});
    return scroller;
  }];
}

function cells(line) {
  const inner = line.trim().replace(/^\|/, "").replace(/(?<!\\)\|$/, "");
  return inner.split(/(?<!\\)\|/).map((cell) => cell.trim().replaceAll("\\|", "|"));
}

function paragraph(lines, at) {
  let end = at + 1;
  while (end < lines.length && lines[end].trim() && !beginsBlock(lines, end)) end++;
  const text = lines.slice(at, end).map((line) => line.trim()).join("\n");
  return [end, (isOpen) => made("p", inline(text, isOpen))];
}

// Whether a line ends the paragraph before it. "1986." does not begin a list there.
function beginsBlock(lines, at) {
  const line = lines[at];
  const item = ITEM.exec(line);
  const isItem = item && line.trim() !== item[1] && /^(\D|1[.)])/.test(item[1]);
  return isItem || FENCE.test(line) || HEADING.test(line) || isRule(line) || QUOTE.test(line) ||
    isTable(lines, at);
}

function elementsOf(blocks, isOpen) {
  return fragmentOf(blocks.map(({element}, at) => element(isOpen && at === blocks.length - 1)));
}

function indentOf(line) {
  return /^[ \t]*/.exec(line)[0].replaceAll("\t", "    ").length;
}

function dedented(line, width) {
  let at = 0;
  for (let column = 0; column < width && (line[at] === " " || line[at] === "\t"); at++) {
    column += line[at] === "\t" ? 4 : 1;
  }
  return line.slice(at);
}

// --- inline ----------------------------------------------------------------------

// While the text arrives, `end` lets the end of the text end a code span, too.
const tokens = (end) => new RegExp([
  String.raw`\\(?<escaped>[!-\/:-@\[-${"`"}{-~])`,
  String.raw`(?<!${"`"})(?<ticks>${"`"}+)(?!${"`"})(?<code>[^]*?)(?:(?<!${"`"})\k<ticks>(?!${"`"})${end})`,
  String.raw`(?<run>\*+|_+|~~)`,
  String.raw`(?<opening>!?\[)`,
  String.raw`(?<closing>\](?:\(\s*<?(?<target>(?:[^\s()<>]|\([^\s()]*\))*)>?(?:\s+"[^"]*")?\s*\))?)`,
  String.raw`<?(?<url>https?:\/\/[^\s<>${"`"}*"|]*[^\s<>${"`"}*"|.,;:!?)\]'_~])>?`,
].join("|"), "gu");
const TOKENS = tokens("");
const OPEN_TOKENS = tokens("|$");

const ELEMENTS = {"*": "em", _: "em", "**": "strong", __: "strong", "~~": "del"};

// Returns the nodes of a text. Emphasis whose end has not arrived is shown as if it had.
function inline(text, isOpen = false) {
  if (isOpen) text = withoutUnfinished(text);
  const nesting = new Nesting();
  let end = 0; // of the last token
  for (const match of text.matchAll(isOpen ? OPEN_TOKENS : TOKENS)) {
    nesting.add(text.slice(end, match.index));
    end = match.index + match[0].length;
    const {escaped, code, run, opening, closing, url} = match.groups;
    if (escaped) nesting.add(escaped);
    else if (code) nesting.add(made("code", withoutPadding(code)));
    else if (run) emphasize(nesting, run, text[match.index - 1], text[end]);
    else if (opening) nesting.open(opening);
    else if (closing) closeBracket(nesting, closing, match.groups.target);
    else if (url) nesting.add(urlOf(url) && !nesting.find(isBracket) ? link(url, [url]) : match[0]);
    else nesting.add(match[0]);
  }
  nesting.add(text.slice(end));
  return fragmentOf(nesting.end(isOpen));
}

// The nodes of a text, and the emphasis and brackets that are open in it.
class Nesting {
  #stack = [{mark: "", nodes: []}];

  add(node) {
    this.#stack.at(-1).nodes.push(node);
  }

  open(mark) {
    if (this.#stack.length < MAX_DEPTH) this.#stack.push({mark, nodes: []});
    else this.add(mark);
  }

  // Returns the position of the innermost open part whose mark is wanted; 0: there is none.
  find(isWanted) {
    return Math.max(0, this.#stack.findLastIndex(({mark}) => mark && isWanted(mark)));
  }

  markAt(position) {
    return this.#stack[position].mark;
  }

  // Ends the part at a position; marks within it that are still open have no partner: they are text.
  close(position) {
    this.flatten(position + 1);
    return this.#stack.pop().nodes;
  }

  flatten(position) {
    for (const {mark, nodes} of this.#stack.splice(position)) {
      this.add(mark);
      for (const node of nodes) this.add(node);
    }
  }

  end(isOpen) {
    while (isOpen && this.#stack.length > 1 && ELEMENTS[this.#stack.at(-1).mark]) {
      closeEmphasis(this, this.#stack.length - 1);
    }
    this.flatten(1);
    return this.#stack[0].nodes;
  }
}

function isBracket(mark) {
  return mark.endsWith("[");
}

function closeEmphasis(nesting, position) {
  const name = ELEMENTS[nesting.markAt(position)];
  nesting.add(made(name, fragmentOf(nesting.close(position))));
}

// A run of marks ends the emphasis that is open, and the marks that are left begin another one.
function emphasize(nesting, run, before = " ", after = " ") {
  const isInWord = run.startsWith("_") && /\w/.test(before) && /\w/.test(after);
  if (isInWord || run.length > 3) {
    nesting.add(run);
    return;
  }
  let marks = run;
  while (marks && /\S/.test(before)) {
    const position = nesting.find((mark) => mark === marks) ||
      nesting.find((mark) => marks.startsWith(mark));
    if (position <= nesting.find(isBracket)) break;
    marks = marks.slice(nesting.markAt(position).length);
    closeEmphasis(nesting, position);
  }
  for (const mark of marks.length === 3 ? [marks.slice(1), marks[0]] : [marks]) {
    if (ELEMENTS[mark] && /\S/.test(after)) nesting.open(mark);
    else nesting.add(mark);
  }
}

function closeBracket(nesting, closing, target) {
  const position = nesting.find(isBracket);
  const isLink = position && target !== undefined && urlOf(target);
  if (isLink) {
    nesting.add(link(target, nesting.close(position)));
    return;
  }
  if (position) nesting.flatten(position);
  nesting.add(closing); // so that an address that is not used is shown
}

// "`` `a` ``" is written with blanks, so that the code may begin with a backtick.
function withoutPadding(code) {
  return code.trim() && code.startsWith(" ") && code.endsWith(" ") ? code.slice(1, -1) : code;
}

// Removes the marks and the address that have begun to arrive at the end of a text.
function withoutUnfinished(text) {
  return text
    .replace(/!?\[([^[\]]*)\]\([^\s()[\]]*$/, "$1")
    .replace(/(?<![*_~`!\\[])[*_~`!\\[]+$/, "");
}

function urlOf(address) {
  const url = URL.canParse(address) ? new URL(address) : null;
  return PROTOCOLS.includes(url?.protocol) ? url : null;
}

function link(address, nodes) {
  const url = urlOf(address);
  const element = made("a", fragmentOf(nodes));
  element.textContent ||= address; // a link needs a name
  const target = {href: url.href, title: url.href, target: "_blank", rel: "noopener noreferrer"};
  return Object.assign(element, target);
}

// --- nodes -----------------------------------------------------------------------

export function made(name, ...children) {
  const element = document.createElement(name);
  element.append(...children);
  return element;
}

function fragmentOf(nodes) {
  const fragment = document.createDocumentFragment();
  for (const node of nodes) fragment.append(node); // one by one: there may be too many arguments
  fragment.normalize();
  return fragment;
}

// Changes the children of an element, from a position on, into others; nodes that are alike stay.
function patchChildren(element, fresh, from = 0) {
  const old = nodesFrom(element.childNodes, from);
  const now = [...fresh.childNodes];
  now.forEach((node, at) => {
    if (at >= old.length) element.append(node);
    else patch(old[at], node);
  });
  for (const node of old.slice(now.length)) node.remove();
}

// Copies no other nodes: most nodes of a long answer are final.
function nodesFrom(nodes, from) {
  return Array.from({length: nodes.length - from}, (_, at) => nodes[from + at]);
}

function patch(old, fresh) {
  if (old.nodeName !== fresh.nodeName) {
    old.replaceWith(fresh);
  } else if (old.nodeType === Node.TEXT_NODE) {
    // Appending keeps the reader's selection.
    if (fresh.data.startsWith(old.data)) old.appendData(fresh.data.slice(old.data.length));
    else old.data = fresh.data;
  } else if (old.cloneNode().isEqualNode(fresh.cloneNode())) {
    patchChildren(old, fresh);
  } else {
    old.replaceWith(fresh);
  }
}
