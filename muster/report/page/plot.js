// SPDX-License-Identifier: Apache-2.0
// The two kinds of chart: values over x, and a matrix of cells.

/// Where the values of an xyChart stand: its margins, ranges, and px(i), py(value).
function frameOf({series, names, width, height, zero}) {
  const f = {left: 58, right: 14, top: 26, bottom: 46, width, height, count: names.length};
  const all = series
    .flatMap(s => [...s.values, ...(s.low || []), ...(s.high || [])])
    .filter(v => v !== null && isFinite(v));
  let [low, high] = range(all);
  if (zero) low = Math.min(0, low);
  if (high === low) high = low + 1;
  high += (high - low) * 0.05;
  if (!zero) low -= (high - low) * 0.05;
  f.low = low;
  f.high = high;
  f.inner = width - f.left - f.right;
  f.px = i => f.left + f.inner * (f.count > 1 ? (i + 0.5) / f.count : 0.5);
  f.py = v => f.top + (height - f.top - f.bottom) * (1 - (v - low) / (high - low));
  return f;
}

function drawAxes(svg, f, {x, y, names, labels}) {
  for (const v of ticks(f.low, f.high, 5)) {
    svg.append(
      element('line', {class: 'grid', x1: f.left, x2: f.left + f.inner, y1: f.py(v), y2: f.py(v)}),
      element('text', {x: f.left - 8, y: f.py(v) + 4, 'text-anchor': 'end'}, number(v)),
    );
  }
  const every = Math.ceil(f.count / labels),
    below = f.height - f.bottom + 18;
  names.forEach((name, i) => {
    if (i % every === 0) svg.append(element('text', {x: f.px(i), y: below, 'text-anchor': 'middle'}, name));
  });
  svg.append(
    element('text', {class: 'title', x: f.left + f.inner / 2, y: f.height - 6, 'text-anchor': 'middle'}, x),
    element('text', {class: 'title', x: 0, y: 12}, y),
  );
}

/// A line through the values; null leaves a hole.
function linePath(f, values) {
  let out = '',
    pen = 'M';
  values.forEach((v, i) => {
    if (v !== null) out += `${pen}${f.px(i).toFixed(1)} ${f.py(v).toFixed(1)}`;
    pen = v === null ? 'M' : 'L';
  });
  return out;
}

function drawDots(svg, f, s) {
  s.values.forEach((v, i) => {
    if (v === null) return;
    if (s.kind === 'dots' && s.low) {
      svg.append(element('path', {class: 'error', d: `M${f.px(i)} ${f.py(s.low[i])}V${f.py(s.high[i])}`}));
    }
    svg.append(element('circle', {class: 'dot', cx: f.px(i), cy: f.py(v), r: s.kind === 'dots' ? 4.5 : 3.5}));
  });
}

function drawSeries(svg, f, s) {
  if (s.kind !== 'dots') {
    if (s.low) {
      const back = linePath(f, s.low).slice(1).split('L').reverse().join('L');
      svg.append(element('path', {class: 'band', d: `${linePath(f, s.high)}L${back}Z`}));
    }
    svg.append(element('path', {class: s.kind, d: linePath(f, s.values)}));
  }
  if (s.kind === 'dots' || (s.kind === 'line' && f.count <= 64)) drawDots(svg, f, s);
}

/// Values over x = 0, 1, … with `names`. series: [{values, kind: line|thin|picked|dashed|dots, low, high}]; low and
/// high, where given for all values, draw a band under a line and error bars on dots. text(i) is read out.
function xyChart({label, x, y, series, names, text, width = 760, height = 290, zero = true, labels = 24}) {
  const f = frameOf({series, names, width, height, zero});
  const svg = element('svg', {viewBox: `0 0 ${width} ${height}`, width});
  drawAxes(svg, f, {x, y, names, labels});
  for (const s of series) drawSeries(svg, f, s);
  const guide = element('line', {class: 'guide', y1: f.top, y2: height - f.bottom, x1: -9, x2: -9});
  svg.append(guide);
  const readout = newReadout();
  steerable(svg, readout, {
    count: f.count,
    columns: 1,
    text,
    at: event => Math.floor(((place(svg, event)[0] - f.left) / f.inner) * f.count),
    show: i => {
      guide.setAttribute('x1', f.px(i));
      guide.setAttribute('x2', f.px(i));
    },
  });
  return figure(label, svg, readout);
}

/// Cells of a matrixChart. Those of one colour are one path, so that thousands cost little.
function drawCells(svg, g, rows, columns, color) {
  const paths = new Map();
  const [w, h] = [g.cell - g.gap, g.tall - g.gap].map(v => v.toFixed(2));
  for (let r = 0; r < rows.length; ++r) {
    for (let c = 0; c < columns.length; ++c) {
      const key = color(r, c) || 'none';
      const corner = `M${(g.left + c * g.cell).toFixed(2)} ${(g.top + r * g.tall).toFixed(2)}`;
      paths.set(key, (paths.get(key) || '') + `${corner}h${w}v${h}h-${w}z`);
    }
  }
  for (const [key, d] of paths) {
    svg.append(element('path', key === 'none' ? {class: 'missing', d} : {d, style: 'fill:' + key}));
  }
}

function drawCellNames(svg, g, rows, columns) {
  const everyRow = Math.ceil(13 / g.tall),
    everyColumn = Math.ceil(26 / g.cell);
  rows.forEach((name, r) => {
    if (r % everyRow) return;
    svg.append(element('text', {x: g.left - 7, y: g.top + (r + 0.5) * g.tall + 4, 'text-anchor': 'end'}, name));
  });
  const below = g.top + rows.length * g.tall + 15;
  columns.forEach((name, c) => {
    if (c % everyColumn) return;
    const middle = g.left + (c + 0.5) * g.cell - g.gap / 2;
    svg.append(element('text', {x: middle, y: below, 'text-anchor': 'middle'}, name));
  });
}

function drawBars(svg, g, bars, most) {
  const base = g.top - 8,
    room = 40;
  bars.forEach((v, c) => {
    const height = (room * Math.max(0, v)) / most,
      width = Math.max(1, g.cell - g.gap);
    svg.append(element('rect', {class: 'bar', x: g.left + c * g.cell, y: base - height, width, height}));
  });
  svg.append(
    element('line', {class: 'grid', x1: g.left, x2: g.total - 4, y1: base, y2: base}),
    element('text', {x: g.left - 7, y: base, 'text-anchor': 'end'}, '0'),
    element('text', {x: g.left - 7, y: base - room + 8, 'text-anchor': 'end'}, number(most, 2)),
  );
}

/// A matrix of cells. color(r, c) gives a css colour, or null for no evidence; text(r, c) is read out. bars:
/// {values [columns], most, title} stand above the columns.
function matrixChart({label, rows, columns, rowTitle, columnTitle, color, text, bars, square, width = 1060}) {
  const g = {left: Math.min(170, 26 + Math.max(...rows.map(r => r.length)) * 7), top: bars ? 74 : 30};
  g.cell = Math.max(4, Math.min(square ? 22 : 34, (width - g.left - 4) / columns.length));
  g.tall = square ? g.cell : Math.max(7, Math.min(24, 620 / rows.length));
  g.gap = Math.min(g.cell, g.tall) > 9 ? 1 : 0.4;
  g.total = g.left + g.cell * columns.length + 4;
  const svg = element('svg', {viewBox: `0 0 ${g.total} ${g.top + g.tall * rows.length + 22}`, width: g.total});
  drawCells(svg, g, rows, columns, color);
  drawCellNames(svg, g, rows, columns);
  if (bars) drawBars(svg, g, bars.values, bars.most);
  const title = `${rowTitle} ↓   ${columnTitle} →` + (bars ? `   bars: ${bars.title}` : '');
  svg.append(element('text', {class: 'title', x: 0, y: 13}, title));
  const cursor = element('rect', {class: 'cursor', width: g.cell, height: g.tall, x: -99, y: -99});
  svg.append(cursor);
  const readout = newReadout();
  steerable(svg, readout, {
    count: rows.length * columns.length,
    columns: columns.length,
    text: i => text(Math.floor(i / columns.length), i % columns.length),
    at: event => {
      const [x, y] = place(svg, event);
      const c = Math.floor((x - g.left) / g.cell),
        r = Math.floor((y - g.top) / g.tall);
      return c < 0 || c >= columns.length || r < 0 || r >= rows.length ? -1 : r * columns.length + c;
    },
    show: i => {
      cursor.setAttribute('x', g.left + (i % columns.length) * g.cell - g.gap / 2);
      cursor.setAttribute('y', g.top + Math.floor(i / columns.length) * g.tall - g.gap / 2);
    },
  });
  return figure(label, svg, readout);
}
