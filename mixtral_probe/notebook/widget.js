// Follows token_strip.js, whose `element` and `drawStrip` it uses.

function labelled(text, control) {
  const label = element("label", "", `${text} `);
  label.append(control);
  return label;
}

function choice(model, name, options) {
  const select = element("select");
  options.forEach((text, i) => select.append(Object.assign(element("option", "", text), { value: i })));
  select.value = model.get(name);
  select.onchange = () => { model.set(name, Number(select.value)); model.save_changes(); };
  model.on(`change:${name}`, () => { select.value = model.get(name); });
  return select;
}

function layerSlider(model) {
  const layers = model.get("layers"), slider = element("input"), shown = element("output");
  Object.assign(slider, { type: "range", min: 0, max: layers.length - 1, step: 1 });
  slider.setAttribute("aria-label", "Layer");
  const follow = () => {
    slider.value = layers.indexOf(model.get("layer"));
    shown.textContent = model.get("layer");
    slider.setAttribute("aria-valuetext", `layer ${model.get("layer")}`);
  };
  slider.oninput = () => { model.set("layer", layers[slider.value]); model.save_changes(); };
  model.on("change:layer", follow);
  follow();
  const label = labelled("Layer", slider);
  label.append(shown);
  return label;
}

function pager(model) {
  const box = element("span"), back = element("button", "", "‹"), on = element("button", "", "›"), shown = element("span");
  back.setAttribute("aria-label", "Back");
  on.setAttribute("aria-label", "On");
  const go = (step) => () => { model.set("page", model.get("page") + step); model.save_changes(); };
  const follow = () => {
    const page = model.get("page"), pages = model.get("pages");
    box.hidden = pages < 2;
    shown.textContent = ` page ${page + 1} of ${pages} `;
    back.disabled = page === 0;
    on.disabled = page + 1 >= pages;
  };
  back.onclick = go(-1);
  on.onclick = go(1);
  model.on("change:page change:pages", follow);
  follow();
  box.append(back, shown, on);
  return box;
}

function render({ model, el }) {
  const root = element("div", "mixtral-probe"), controls = element("div", "layers");
  const strip = element("div", "strip"), tip = element("div", "tip");
  strip.setAttribute("role", "group");
  tip.setAttribute("popover", "manual");
  const ranks = Array.from({ length: model.get("choices") }, (_, i) => ["first choice", "second choice"][i] ?? `choice ${i + 1}`);
  if (model.get("layers").length > 1) controls.append(layerSlider(model));
  if (ranks.length > 1) controls.append(labelled("Colour by", choice(model, "rank", ranks)));
  if (model.get("documents").length > 1) controls.append(labelled("Document", choice(model, "document", model.get("documents"))));
  controls.append(pager(model));
  root.append(controls, strip, tip);
  el.replaceChildren(root);
  const twin = document.getElementById(model.get("twin"))?.querySelector(".static");
  if (twin) twin.hidden = true;
  const setStateValue = (name, value) => { model.set(name, value); model.save_changes(); };
  const draw = () => drawStrip({ data: model.get("data"), parentElement: root, setStateValue });
  model.on("change:data", draw);
  draw();
  return () => { if (twin) twin.hidden = false; };
}

export default { render };
