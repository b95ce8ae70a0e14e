(() => {
  const themes = JSON.parse(document.getElementById("themes").textContent);
  const prefersDark = matchMedia("(prefers-color-scheme: dark)");

  function draw(place, dark) {
    const figure = JSON.parse(document.getElementById(place.dataset.figure).textContent);
    const theme = themes[dark ? "dark" : "light"];
    const roles = (figure.layout.meta || {}).scales || {};
    figure.layout.template = theme.template;
    for (const axis in roles) figure.layout[axis].colorscale = theme.scales[roles[axis]];
    place.dataset.drawn = "yes";
    return Plotly.react(place, figure.data, figure.layout, themes.config);
  }

  const places = [...document.querySelectorAll(".figure")];
  const seen = new IntersectionObserver(
    entries => entries.filter(e => e.isIntersecting).forEach(e => { seen.unobserve(e.target); draw(e.target, prefersDark.matches); }),
    { rootMargin: "600px" });
  places.forEach(place => seen.observe(place));
  prefersDark.addEventListener("change", e => places.filter(p => p.dataset.drawn).forEach(p => draw(p, e.matches)));
  addEventListener("beforeprint", () => places.forEach(p => draw(p, false)));
  addEventListener("afterprint", () => places.forEach(p => draw(p, prefersDark.matches)));
})();
