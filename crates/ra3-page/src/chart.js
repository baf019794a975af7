// Draws the figures of a page from their data, with uPlot. Colours are custom properties of the
// page and are read at each drawing, so a chart follows the theme. Without this script the tables
// behind the figures say the same.
"use strict";
(() => {
  // Beyond it an axis has no ticks.
  const LARGEST = 1e15;
  const POINTS_MAX = 30;
  const HEIGHT = 280;
  const FONT = "12px system-ui, sans-serif";
  const DASHES = { solid: [], dashed: [7, 4], dotted: [2, 4] };
  const UNITS = [[1e12, 1e12, "T"], [1e9, 1e9, "G"], [1e6, 1e6, "M"], [1e4, 1e3, "k"]];

  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
  const tint = (name, percent) => `color-mix(in srgb, ${colour(name)} ${percent}%, transparent)`;

  const short = (value, digits) => {
    const [, size, unit] = UNITS.find(([from]) => Math.abs(value) >= from) ?? [0, 1, ""];
    return Number((value / size).toPrecision(digits)) + unit;
  };

  const isDrawn = (value) => value !== null && Math.abs(value) <= LARGEST;

  // Columns of a series: x, y, low, high. What an axis has no place for is a gap, and what a
  // logarithm has no place for stands at its lower edge.
  const columns = (figure, points) => {
    const values = figure.series.flatMap((series) => series.points.flatMap((point) => point.slice(1)));
    const positive = values.filter((value) => isDrawn(value) && value > 0);
    const least = figure.y.scale === "linear" ? -LARGEST : Math.min(...positive);
    const usable = points.filter(([x]) => isDrawn(x) && (figure.x.scale === "linear" || x > 0));
    const column = (i) => usable.map((point) => (isDrawn(point[i]) ? Math.max(point[i], least) : null));
    return [usable.map((point) => point[0]), column(1), column(2), column(3)];
  };

  // A range in which something can be drawn, also where all values are the same.
  const wide = (low, high) => {
    if (low == null) return [0, 1];
    const size = Math.max(Math.abs(low), Math.abs(high));
    if (size < 1e-20) return [0, 1];
    return high - low <= 1e-9 * size ? [low - size / 2, high + size / 2] : [low, high];
  };

  // How far the heights of a figure go that are not quite by themselves: nine in ten of them, and
  // three times as far on either side. A loss that blew up once would flatten all the rest.
  const usual = ({ series }) => {
    const heights = series.flatMap(({ points }) => points.map((point) => point[1])).filter(isDrawn);
    heights.sort((a, b) => a - b);
    const at = (share) => heights[Math.round((heights.length - 1) * share)];
    const size = at(0.95) - at(0.05);
    return heights.length < 20 || !(size > 0) ? [-Infinity, Infinity] : [at(0.05) - 3 * size, at(0.95) + 3 * size];
  };

  const isCut = (figure) => {
    const [least, most] = usual(figure);
    const heights = figure.series.flatMap(({ points }) => points.map((point) => point[1]));
    return figure.y.scale === "linear" && heights.some((y) => isDrawn(y) && (y < least || y > most));
  };

  const range = {
    // Up to round values.
    y: (figure) => {
      const [least, most] = usual(figure);
      return (chart, low, high) => {
        const isInside = low != null && low <= most && high >= least;
        const edges = isInside ? [Math.max(low, least), Math.min(high, most)] : [low, high];
        return uPlot.rangeNum(...wide(...edges), 0.1, true);
      };
    },
    // As far as the data and the stretches behind them go.
    x: ({ spans }) => (chart, low, high) => {
      const edges = spans.flatMap((span) => [span.from, span.to]);
      return wide(Math.min(low, ...edges), Math.max(high, ...edges));
    },
  };

  const scale = (figure, key) => {
    const kind = figure[key].scale;
    if (kind === "linear") return { time: false, range: range[key](figure) };
    return { time: false, distr: 3, log: kind === "log2" ? 2 : 10 };
  };

  const axis = ({ label }, size) => ({
    label,
    size,
    font: FONT,
    labelFont: FONT,
    labelSize: 20,
    stroke: () => colour("soft"),
    grid: { stroke: () => colour("rule"), width: 1 },
    ticks: { stroke: () => colour("rule"), width: 1, size: 4 },
    values: (chart, splits) => splits.map((value) => (value === null ? "" : short(value, 6))),
  });

  // A line, and the two ends of its band, which the legend does not name.
  const lines = ({ name, colour: property, stroke, is_reference, points }) => [
    {
      label: name,
      stroke: () => colour(property),
      width: is_reference ? 1.5 : 2,
      dash: DASHES[stroke],
      points: {
        show: !is_reference && points.length <= POINTS_MAX,
        size: 7,
        width: 0,
        fill: () => colour(property),
      },
      value: (chart, y, i, at) => {
        if (y == null) return "–";
        const [low, high] = [chart.data[i + 1][at], chart.data[i + 2][at]];
        return short(y, 4) + (high > low ? ` [${short(low, 4)}, ${short(high, 4)}]` : "");
      },
    },
    { class: "end", points: { show: false } },
    { class: "end", points: { show: false } },
  ];

  // The lines have points at different places: each says the one nearest to the pointer.
  const nearest = (chart, i, at, x) => {
    const [xs, ys] = [chart.data[0], chart.data[i]];
    if (i === 0 || ys[at] != null) return at;
    let best = at;
    let least = Infinity;
    ys.forEach((y, k) => {
      const distance = Math.abs(xs[k] - x);
      if (y != null && distance < least) [best, least] = [k, distance];
    });
    return best;
  };

  const shade = (spans) => (chart) => {
    const { left, top, width, height } = chart.bbox;
    for (const span of spans.filter((span) => span.colour)) {
      const edges = [span.from, span.to].map((x) =>
        Math.max(left, Math.min(left + width, chart.valToPos(x, "x", true))));
      chart.ctx.fillStyle = tint(span.colour, 12);
      chart.ctx.fillRect(edges[0], top, edges[1] - edges[0], height);
    }
  };

  const mark = (point) => ({ ctx, valToPos }) => {
    if (!point?.every(isDrawn)) return;
    ctx.beginPath();
    ctx.arc(valToPos(point[0], "x", true), valToPos(point[1], "y", true), 8 * devicePixelRatio, 0, 7);
    ctx.lineWidth = 2 * devicePixelRatio;
    ctx.strokeStyle = colour("ink");
    ctx.stroke();
  };

  // A line that is switched off takes its band along.
  const toggle = (chart, i, { show }) => {
    if (show === undefined || i % 3 !== 1) return;
    chart.setSeries(i + 1, { show });
    chart.setSeries(i + 2, { show });
  };

  const options = (figure, width) => {
    const { series, spans } = figure;
    const owner = (i) => series[Math.floor((i - 1) / 3)];
    const position = (chart, x) => {
      if (x == null) return "–";
      const inside = spans.find((span) => span.from <= x && x < span.to);
      return short(x, 6) + (inside ? `, ${inside.name}` : "");
    };
    return {
      width,
      height: HEIGHT,
      scales: { x: scale(figure, "x"), y: scale(figure, "y") },
      axes: [axis(figure.x, 36), axis(figure.y, 52)],
      series: [{ label: figure.x.label, value: position }, ...series.flatMap(lines)],
      bands: series.map(({ colour: property }, k) => ({
        series: [3 * k + 3, 3 * k + 2],
        fill: () => tint(property, 16),
      })),
      cursor: { dataIdx: nearest, y: false },
      legend: {
        markers: {
          width: 2,
          stroke: (chart, i) => (i === 0 ? "transparent" : `var(--${owner(i).colour})`),
          fill: () => "none",
          dash: (chart, i) => (i === 0 ? "solid" : owner(i).stroke),
        },
      },
      hooks: { drawClear: [shade(spans)], draw: [mark(figure.mark)], setSeries: [toggle] },
    };
  };

  const draw = (data) => {
    const figure = JSON.parse(data.textContent);
    const place = document.createElement("div");
    place.setAttribute("role", "img");
    place.setAttribute("aria-label", figure.title);
    data.after(place);
    if (isCut(figure)) {
      const note = document.createElement("small");
      note.textContent = "values far outside are cut off: the table has them";
      data.parentElement.querySelector("figcaption")?.append(note);
    }
    const tables = figure.series.map((series) => columns(figure, series.points));
    const chart = new uPlot(options(figure, place.clientWidth), uPlot.join(tables), place);
    chart.over.title = "drag to zoom, double-click to see all";
    new ResizeObserver(() => chart.setSize({ width: place.clientWidth, height: HEIGHT })).observe(place);
    return chart;
  };

  const charts = [...document.querySelectorAll("script.chart")].map(draw);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () =>
    charts.forEach((chart) => chart.redraw()));
})();
