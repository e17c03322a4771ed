// SPDX-License-Identifier: Apache-2.0
// Elements, scales, axes, tables, and the two kinds of chart: values over x, and a matrix of cells.
const SVG = 'http://www.w3.org/2000/svg';

function element(tag, attributes, ...children) {
  const svg = /^(svg|g|path|rect|circle|line|text|title)$/.test(tag);
  const out = svg ? document.createElementNS(SVG, tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes || {})) {
    if (name.startsWith('on')) out.addEventListener(name.slice(2), value);
    else if (value !== null && value !== undefined) out.setAttribute(name, value);
  }
  out.append(...children.filter(child => child !== null));
  return out;
}

/// A place on one of the scales of colors.css: t in [0, 1] from least to most.
const amount = t => Math.max(0, Math.min(15, Math.round(t * 15)));
/// u in [-1, 1], 0 as usual.
const deviation = u => Math.max(0, Math.min(14, Math.round(7 + u * 7)));

function legend(kind, low, high) {
  const steps = Array.from({length: kind === 's' ? 16 : 15}, (_, i) => `var(--${kind}${i})`);
  return element('span', {class: 'legend'}, low,
    element('span', {class: 'ramp', 'aria-hidden': 'true'}, ...steps.map(c => element('i', {style: 'background:' + c}))),
    high);
}

function ticks(low, high, wanted) {
  const rough = (high - low) / wanted, power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 2.5, 5, 10].map(m => m * power).find(s => s >= rough * 0.999);
  const out = [];
  for (let v = Math.ceil(low / step - 1e-9) * step; v <= high + step * 1e-9; v += step) out.push(Math.abs(v) < step * 1e-9 ? 0 : v);
  return out;
}

function table(caption, head, rows) {
  const cell = (tag, scope) => value => element(tag, scope ? {scope} : {}, String(value));
  return element('div', {class: 'table', tabindex: '0', role: 'region', 'aria-label': caption},
    element('table', {}, element('caption', {}, caption),
      element('thead', {}, element('tr', {}, ...head.map(cell('th', 'col')))),
      element('tbody', {}, ...rows.map(row => element('tr', {},
        cell('th', 'row')(row[0]), ...row.slice(1).map(cell('td')))))));
}

/// The same numbers as a table, made when it is opened (or printed out of an open one).
function tableAlternative(make) {
  const details = element('details', {}, element('summary', {}, 'As a table'));
  details.addEventListener('toggle', () => {
    if (details.open && details.children.length === 1) details.append(make());
  });
  return details;
}

/// Moves a cursor over cells or points: arrow keys, Home, End, pointer. `at` gives the index under an event.
function steerable(svg, readout, {count, columns, at, show, text}) {
  let now = -1;
  const move = index => {
    if (index < 0 || index >= count || index === now) return;
    now = index;
    show(now);
    readout.textContent = text(now);
  };
  svg.setAttribute('tabindex', '0');
  svg.addEventListener('focus', () => { if (svg.matches(':focus-visible')) move(Math.max(0, now)); });
  svg.addEventListener('pointermove', event => move(at(event)));
  svg.addEventListener('pointerdown', event => move(at(event)));
  svg.addEventListener('keydown', event => {
    const step = {ArrowRight: 1, ArrowLeft: -1, ArrowDown: columns, ArrowUp: -columns}[event.key];
    if (step !== undefined) move(now < 0 ? 0 : now + step);
    else if (event.key === 'Home') move(0);
    else if (event.key === 'End') move(count - 1);
    else return;
    event.preventDefault();
  });
}

/// Where an event is in the coordinates of the drawing.
function place(svg, event) {
  const box = svg.getBoundingClientRect(), view = svg.viewBox.baseVal;
  return [(event.clientX - box.left) * view.width / box.width, (event.clientY - box.top) * view.height / box.height];
}

function figure(label, svg, readout, ...rest) {
  svg.setAttribute('role', 'img');
  svg.setAttribute('aria-label', label + ' Arrow keys read out values.');
  return element('figure', {}, element('div', {class: 'scroll'}, svg), readout, ...rest);
}

const newReadout = () => element('output', {class: 'readout', 'aria-live': 'polite'});

/// Values over x = 0, 1, …. series: [{values, kind: line|thin|picked|dashed|dots, low, high, name}];
/// low and high (arrays) draw a band under a line and error bars on dots. text(i) is read out.
function xyChart({label, x, y, series, names, text, width = 760, height = 290, zero = true, ratio = null}) {
  const left = 58, right = 14, top = 26, bottom = 46, count = names.length;
  const all = series.flatMap(s => [...s.values, ...(s.low || []), ...(s.high || [])]).filter(v => v !== null && isFinite(v));
  let [low, high] = range(all);
  if (zero) low = Math.min(0, low);
  if (high === low) high = low + 1;
  high += (high - low) * 0.05;
  if (!zero) low -= (high - low) * 0.05;
  const px = i => left + (width - left - right) * (count > 1 ? (i + 0.5) / count : 0.5);
  const py = v => top + (height - top - bottom) * (1 - (v - low) / (high - low));
  const svg = element('svg', {viewBox: `0 0 ${width} ${height}`, width});
  for (const v of ticks(low, high, 5)) {
    svg.append(element('line', {class: 'grid', x1: left, x2: width - right, y1: py(v), y2: py(v)}),
      element('text', {x: left - 8, y: py(v) + 4, 'text-anchor': 'end'}, number(v)));
  }
  const every = Math.ceil(count / (ratio || 24));
  names.forEach((name, i) => {
    if (i % every === 0) svg.append(element('text', {x: px(i), y: height - bottom + 18, 'text-anchor': 'middle'}, name));
  });
  svg.append(element('text', {class: 'title', x: (left + width - right) / 2, y: height - 6, 'text-anchor': 'middle'}, x),
    element('text', {class: 'title', x: 0, y: 12}, y));
  const path = values => {
    let out = '', pen = 'M';
    values.forEach((v, i) => {
      if (v === null) { pen = 'M'; return; }
      out += `${pen}${px(i).toFixed(1)} ${py(v).toFixed(1)}`;
      pen = 'L';
    });
    return out;
  };
  for (const s of series) {
    if (s.kind === 'dots') {
      s.values.forEach((v, i) => {
        if (v === null) return;
        if (s.low && isFinite(s.low[i])) svg.append(element('path', {class: 'error', d: `M${px(i)} ${py(s.low[i])}V${py(s.high[i])}`}));
        svg.append(element('circle', {class: 'dot', cx: px(i), cy: py(v), r: 4.5}));
      });
      continue;
    }
    if (s.low) {
      const there = s.high.map((v, i) => v === null ? '' : `${i && s.high[i - 1] !== null ? 'L' : 'M'}${px(i)} ${py(v)}`).join('');
      const back = s.low.map((v, i) => v === null ? '' : `L${px(i)} ${py(v)}`).reverse().join('');
      svg.append(element('path', {class: 'band', d: there + back + 'Z'}));
    }
    svg.append(element('path', {class: s.kind, d: path(s.values)}));
    if (s.kind === 'line' && count <= 64) s.values.forEach((v, i) => {
      if (v !== null) svg.append(element('circle', {class: 'dot', cx: px(i), cy: py(v), r: 3.5}));
    });
  }
  const guide = element('line', {class: 'guide', y1: top, y2: height - bottom, x1: -9, x2: -9});
  svg.append(guide);
  const readout = newReadout();
  steerable(svg, readout, {count, columns: 1, text,
    at: event => Math.floor((place(svg, event)[0] - left) / (width - left - right) * count),
    show: i => { guide.setAttribute('x1', px(i)); guide.setAttribute('x2', px(i)); }});
  return figure(label, svg, readout);
}

/// A matrix of cells. color(r, c) gives a css colour or null for no evidence; cells of one colour are one path, so
/// that thousands cost little. bars [columns] from 0 to barTop stand above the columns.
function matrixChart({label, rows, columns, rowTitle, columnTitle, color, text, bars = null, barTop = 1, barTitle = '', square = false, width = 1060}) {
  const longest = Math.max(...rows.map(r => r.length));
  const left = Math.min(170, 26 + longest * 7), top = bars ? 74 : 30, bottom = 22;
  const cell = Math.max(4, Math.min(square ? 22 : 34, (width - left - 4) / columns.length));
  const tall = square ? cell : Math.max(7, Math.min(24, 620 / rows.length));
  const total = left + cell * columns.length + 4, height = top + tall * rows.length + bottom;
  const svg = element('svg', {viewBox: `0 0 ${total} ${height}`, width: total});
  const paths = new Map();
  const gap = Math.min(cell, tall) > 9 ? 1 : 0.4;
  for (let r = 0; r < rows.length; ++r) {
    for (let c = 0; c < columns.length; ++c) {
      const key = color(r, c) || 'none';
      const box = `M${(left + c * cell).toFixed(2)} ${(top + r * tall).toFixed(2)}h${(cell - gap).toFixed(2)}v${(tall - gap).toFixed(2)}h${(gap - cell).toFixed(2)}z`;
      paths.set(key, (paths.get(key) || '') + box);
    }
  }
  for (const [key, d] of paths) svg.append(key === 'none' ? element('path', {class: 'missing', d}) : element('path', {d, style: 'fill:' + key}));
  const everyRow = Math.ceil(13 / tall), everyColumn = Math.ceil(26 / cell);
  rows.forEach((name, r) => {
    if (r % everyRow === 0) svg.append(element('text', {x: left - 7, y: top + (r + 0.5) * tall + 4, 'text-anchor': 'end'}, name));
  });
  columns.forEach((name, c) => {
    if (c % everyColumn === 0) svg.append(element('text', {x: left + (c + 0.5) * cell - gap / 2, y: top + rows.length * tall + 15, 'text-anchor': 'middle'}, name));
  });
  if (bars) {
    const base = top - 8, room = 40;
    bars.forEach((v, c) => {
      const h = room * Math.max(0, v) / barTop;
      svg.append(element('rect', {class: 'bar', x: left + c * cell, width: Math.max(1, cell - gap), y: base - h, height: h}));
    });
    svg.append(element('line', {class: 'grid', x1: left, x2: total - 4, y1: base, y2: base}),
      element('text', {x: left - 7, y: base, 'text-anchor': 'end'}, '0'),
      element('text', {x: left - 7, y: base - room + 8, 'text-anchor': 'end'}, number(barTop, 2)));
  }
  svg.append(element('text', {class: 'title', x: 0, y: bars ? 12 : 14}, `${rowTitle} ↓   ${columnTitle} →${barTitle ? '   ' + barTitle : ''}`));
  const cursor = element('rect', {class: 'cursor', width: cell, height: tall, x: -99, y: -99});
  svg.append(cursor);
  const readout = newReadout();
  steerable(svg, readout, {count: rows.length * columns.length, columns: columns.length,
    text: i => text(Math.floor(i / columns.length), i % columns.length),
    at: event => {
      const [x, y] = place(svg, event);
      const c = Math.floor((x - left) / cell), r = Math.floor((y - top) / tall);
      return c < 0 || c >= columns.length || r < 0 || r >= rows.length ? -1 : r * columns.length + c;
    },
    show: i => {
      cursor.setAttribute('x', left + (i % columns.length) * cell - gap / 2);
      cursor.setAttribute('y', top + Math.floor(i / columns.length) * tall - gap / 2);
    }});
  return figure(label, svg, readout);
}

/// A slider over MoE layers that redraws `draw(layer)` below it.
function byLayer(draw, extra = null, first = 0) {
  const box = element('div');
  const value = element('output');
  const slider = element('input', {type: 'range', min: 0, max: moeLayers.length - 1, value: first, 'aria-label': 'Layer'});
  const update = () => {
    const l = moeLayers[slider.value];
    value.textContent = String(l);
    slider.setAttribute('aria-valuetext', 'layer ' + l);
    box.replaceChildren(...draw(l));
  };
  slider.addEventListener('input', update);
  update();
  return [element('div', {class: 'controls'}, element('label', {}, 'Layer', slider, value), extra), box];
}
