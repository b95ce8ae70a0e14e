// Draws tokens as coloured text. Every text comes in as textContent, so a token can never become markup.
const GLYPH = 1, BREAK = 2;

function element(tag, className, text) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

function drawParts(target, parts) {
  for (const [text, kind] of parts) {
    const sign = text.length > 1 ? "glyph named" : "glyph";
    target.append(kind ? element("i", sign, text) : document.createTextNode(text));
    if (kind === BREAK) target.append(document.createElement("br"));
  }
}

function drawToken(token, selected) {
  const kinds = ["special", "dim", "pinned"].filter((kind) => token[kind]);
  const made = element("span", ["token", ...kinds, ...(selected ? ["selected"] : [])].join(" "));
  const last = token.parts.at(-1)?.[1] === BREAK;  // a break at the end belongs behind the token, not into its ground
  drawParts(made, token.parts);
  if (last) made.lastChild.remove();
  made.dir = "auto";
  made.tabIndex = -1;
  made.setAttribute("role", "button");
  made.setAttribute("aria-label", token.label);
  if (token.color) {
    made.style.setProperty("--color", token.color);
    made.style.setProperty("--strength", `${Math.round(100 * token.strength)}%`);
  }
  return made;
}

function drawTip(tip, token) {
  const head = element("div", "tip-token");
  drawParts(head, token.tip);
  head.dir = "auto";
  const facts = element("dl", "facts");
  for (const [name, value] of token.facts) facts.append(element("dt", "", name), element("dd", "", value));
  const bars = element("div", "bars");
  const values = token.bars.map((bar) => bar.value);
  const low = Math.min(...values), reach = Math.max(...values) - low || 1;
  for (const bar of token.bars) {
    const track = element("span", "track"), fill = element("span", bar.chosen ? "fill chosen" : "fill");
    fill.style.width = `${4 + (96 * (bar.value - low)) / reach}%`;
    fill.style.setProperty("--color", bar.color);
    track.append(fill);
    bars.append(element("span", bar.chosen ? "name chosen" : "name", bar.name), track, element("span", "value", bar.text));
  }
  tip.replaceChildren(head, facts, bars);
}

function placeTip(tip, at) {
  if (tip.showPopover && !tip.matches(":popover-open")) tip.showPopover();
  const box = at.getClientRects()[0] ?? at.getBoundingClientRect();
  const below = box.bottom + 6 + tip.offsetHeight < window.innerHeight;
  tip.style.top = `${below ? box.bottom + 6 : Math.max(4, box.top - tip.offsetHeight - 6)}px`;
  tip.style.left = `${Math.max(4, Math.min(box.left, window.innerWidth - tip.offsetWidth - 8))}px`;
}

function drawStrip({ data, parentElement, setStateValue }) {
  const strip = parentElement.querySelector(".strip"), tip = parentElement.querySelector(".tip");
  const focused = strip.contains(parentElement.activeElement ?? null) ? strip.current : -1;
  const spans = data.tokens.map((token) => drawToken(token, token.row === data.selected));
  strip.replaceChildren();
  spans.forEach((span, i) => {
    if (data.tokens[i].breakable) strip.append(document.createElement("wbr"));
    strip.append(span);
    if (data.tokens[i].parts.at(-1)?.[1] === BREAK) strip.append(document.createElement("br"));
  });
  strip.setAttribute("aria-label", data.label);

  const hide = () => tip.hidePopover && tip.matches(":popover-open") && tip.hidePopover();
  const show = (i) => { drawTip(tip, data.tokens[i]); placeTip(tip, spans[i]); };
  const of = (event) => spans.indexOf(event.target.closest?.(".token"));
  const makeCurrent = (i) => {
    if (spans[strip.current]) spans[strip.current].tabIndex = -1;
    strip.current = i;
    spans[i].tabIndex = 0;
  };
  const select = (i) => {
    strip.querySelector(".selected")?.classList.remove("selected");
    spans[i].classList.add("selected");
    setStateValue("selected", data.tokens[i].row);
  };
  const steps = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: 10, ArrowUp: -10, Home: -Infinity, End: Infinity };

  strip.onmouseover = (event) => { const i = of(event); if (i >= 0) show(i); };
  strip.onmouseleave = hide;
  for (const span of spans) {  // focus does not bubble
    span.onfocus = (event) => { const i = of(event); makeCurrent(i); show(i); };
    span.onblur = hide;
  }
  strip.onclick = (event) => { const i = of(event); if (i >= 0) { makeCurrent(i); select(i); } };
  strip.onkeydown = (event) => {
    const i = of(event);
    if (i < 0) return;
    if (event.key === "Escape") hide();
    else if (event.key === "Enter" || event.key === " ") { event.preventDefault(); select(i); }
    else if (event.key in steps) {
      event.preventDefault();
      spans[Math.max(0, Math.min(spans.length - 1, i + steps[event.key]))].focus();
    }
  };
  hide();
  if (spans.length) makeCurrent(Math.min(Math.max(focused, 0), spans.length - 1));
  if (focused >= 0 && spans.length) spans[strip.current].focus({ preventScroll: true });
  return hide;
}
