"use strict";
// Sorting, filters, plots and colors. The page is whole without any of it.
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const root = document.documentElement;
  const all = (selector, from = document) => [...from.querySelectorAll(selector)];
  all(".js").forEach((element) => { element.hidden = false; });

  // Colors: the system's, or the reader's choice, which a page opened as a file may be unable to keep.
  const wanted = matchMedia("(prefers-color-scheme: dark)");
  const stored = () => { try { return localStorage.getItem("theme"); } catch { return null; } };
  const dark = () => (root.dataset.theme ? root.dataset.theme === "dark" : wanted.matches);
  const toggle = document.getElementById("theme");
  const paint = () => { toggle.textContent = dark() ? "Light mode" : "Dark mode"; draw(); };
  if (["dark", "light"].includes(stored())) root.dataset.theme = stored();
  toggle.addEventListener("click", () => {
    root.dataset.theme = dark() ? "light" : "dark";
    try { localStorage.setItem("theme", root.dataset.theme); } catch { /* this page only */ }
    paint();
  });
  wanted.addEventListener("change", paint);

  // Sorting: buttons in the heads; what has no value stays last either way.
  const collator = new Intl.Collator("en", { numeric: true });
  const sort = (head) => {
    const table = head.closest("table"), body = table.tBodies[0], column = head.cellIndex;
    const down = head.getAttribute("aria-sort") === "ascending";
    all("thead th", table).forEach((other) => other.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    const number = head.dataset.kind === "number";
    const value = (row) => {
      const text = row.cells[column].dataset.value;
      return number ? (text === "" || Number.isNaN(Number(text)) ? null : Number(text)) : text;
    };
    const compare = (a, b) => {
      const [x, y] = [value(a), value(b)];
      if (x === null || y === null) return (x === null) - (y === null);
      return (down ? -1 : 1) * (number ? x - y : collator.compare(x, y));
    };
    [...body.rows].sort(compare).forEach((row) => body.append(row));
  };
  all("table.standings thead th").forEach((head) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => sort(head));
  });

  // Filters: a setting is shown if it fits the choices and has a row that fits the name.
  const form = document.getElementById("filters");
  const filter = () => {
    const chosen = new FormData(form), part = chosen.get("method").trim().toLowerCase();
    let shown = 0, rows = 0;
    all(".contest").forEach((section) => {
      const fits = ["protocol", "on", "preset"].every((name) => !chosen.get(name) || chosen.get(name) === section.dataset[name]);
      const own = all("tbody tr", section);
      own.forEach((row) => { row.hidden = !row.dataset.name.toLowerCase().includes(part); });
      const left = own.filter((row) => !row.hidden).length;
      section.hidden = !fits || !left;
      rows += own.length;
      shown += section.hidden ? 0 : left;
    });
    form.querySelector("output").textContent = `${shown} of ${rows} rows`;
    draw();
  };

  // Plots.
  const color = (name) => getComputedStyle(root).getPropertyValue(`--${name}`).trim();
  const layout = (more) => ({
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", font: { color: color("ink"), family: "system-ui, sans-serif", size: 12 },
    margin: { l: 55, r: 15, t: 15, b: 50 }, showlegend: false, hoverlabel: { namelength: -1 }, ...more,
  });
  const axis = (title, more) => ({
    title: { text: title }, gridcolor: color("line"), zeroline: false, linecolor: color("line"), automargin: true, ...more,
  });
  const options = { responsive: true, displaylogo: false, modeBarButtonsToRemove: ["lasso2d", "select2d", "toImage"] };
  const plain = (text) => String(text).replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;"); // the library reads tags
  const line = (key, at, dash) => ({
    type: "line", layer: "below", line: { color: color("floor"), width: 1, dash },
    ...(key === "x" ? { x0: at, x1: at, yref: "paper", y0: 0, y1: 1 } : { y0: at, y1: at, xref: "paper", x0: 0, x1: 1 }),
  });

  const tradeoff = (plot) => {
    const section = document.getElementById(`contest-${plot.id}`);
    if (section.hidden) return;
    const across = plot.across.find((of) => of.name === section.querySelector(".across").value);
    const name = across.name;
    const visible = new Set(all("tbody tr:not([hidden])", section).map((row) => row.dataset.row));
    const points = plot.points.filter((p) => visible.has(p.id) && p[name] !== null && p.y !== null);
    const front = points.filter((p) => p.front).sort((a, b) => a[name] - b[name]);
    const bars = (values) => ({ type: "data", array: values.map((v) => v ?? 0), color: color("quiet"), thickness: 1, width: 3 });
    const traces = [];
    if (name === "worst_excess" && front.length > 1) {
      traces.push({ x: front.map((p) => p[name]), y: front.map((p) => p.y), mode: "lines", hoverinfo: "skip",
        line: { shape: "hv", color: color("front"), width: 1 }, name: "Pareto front" });
    }
    traces.push({
      x: points.map((p) => p[name]), y: points.map((p) => p.y), customdata: points.map((p) => p.href), text: points.map((p) => plain(p.name)),
      mode: "markers+text", textposition: points.map((_, i) => ["top right", "bottom right", "top left", "bottom left"][i % 4]),
      cliponaxis: false, name: "methods", hovertemplate: "%{text}<br>%{y:.1f} at %{x:.1f}<extra></extra>",
      error_x: bars(points.map((p) => p[`sd_${name}`])), error_y: bars(points.map((p) => p.sdy)),
      marker: { size: 10, color: points.map((p) => (p.front ? color("point") : color("paper"))), line: { color: color("point"), width: 2 } },
    });
    const shapes = across.floors.map((at, i) => (at === null ? null : line("x", at, i || across.floors.length === 1 ? "dot" : "dash")));
    if (plot.floor !== null) shapes.push(line("y", plot.floor, "dash"));
    Plotly.react(`plot-${plot.id}`, traces, layout({ xaxis: axis(across.title), yaxis: axis(plot.upwards), shapes: shapes.filter(Boolean) }), options);
  };

  const bars = (row) => {
    const names = row.attributes.map((a) => plain(a.name)), of = (key) => row.attributes.map((a) => a[key]);
    const mark = (key, name, symbol) => ({
      x: names, y: of(key), name, mode: "markers", type: "scatter", marker: { symbol, size: 18, color: color("ink"), line: { width: 2, color: color("ink") } },
    });
    const traces = [
      { x: names, y: of("video_ap"), name: "video attacker", type: "bar", marker: { color: color("point") } },
      { x: names, y: of("frame_ap"), name: "single-frame attacker", type: "bar", marker: { color: color("privacy") } },
      mark("informed", "action-informed floor", "line-ew-open"), mark("prevalence", "prevalence", "circle-open-dot"),
    ].filter((trace) => trace.y.some((value) => value !== null));
    Plotly.react(`bars-${row.id}`, traces, layout({
      barmode: "group", showlegend: true, legend: { orientation: "h", y: 1.15 }, xaxis: axis(""), yaxis: axis("AP, percent", { range: [0, 105] }),
    }), options);
  };

  function draw() {
    if (typeof Plotly === "undefined") { all(".plot").forEach((figure) => { figure.hidden = true; }); return; }
    data.plots.forEach(tradeoff);
    data.bars.forEach(bars);
  }

  data.plots.forEach((plot) => {
    const select = document.getElementById(`contest-${plot.id}`).querySelector(".across");
    plot.across.forEach((of) => select.add(new Option(of.title, of.name)));
    select.addEventListener("change", () => tradeoff(plot));
  });
  if (form) {
    form.addEventListener("input", filter);
    form.addEventListener("submit", (event) => event.preventDefault());
    filter();
  }
  paint();
  data.plots.forEach((plot) => {
    const canvas = document.getElementById(`plot-${plot.id}`);
    if (canvas && canvas.on) canvas.on("plotly_click", (event) => { const to = event.points[0].customdata; if (to) location.assign(to); });
  });
})();
