// SPDX-License-Identifier: Apache-2.0
// Elements, scales, tables, and what all charts have in common.
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
  return element(
    'span',
    {class: 'legend'},
    low,
    element(
      'span',
      {class: 'ramp', 'aria-hidden': 'true'},
      ...steps.map(c => element('i', {style: 'background:' + c})),
    ),
    high,
  );
}

function ticks(low, high, wanted) {
  const rough = (high - low) / wanted,
    power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 2.5, 5, 10].map(m => m * power).find(s => s >= rough * 0.999);
  const out = [];
  for (let v = Math.ceil(low / step - 1e-9) * step; v <= high + step * 1e-9; v += step)
    out.push(Math.abs(v) < step * 1e-9 ? 0 : v);
  return out;
}

function table(caption, head, rows) {
  const cell = (tag, scope) => value => element(tag, scope ? {scope} : {}, String(value));
  return element(
    'div',
    {class: 'table', tabindex: '0', role: 'region', 'aria-label': caption},
    element(
      'table',
      {},
      element('caption', {}, caption),
      element('thead', {}, element('tr', {}, ...head.map(cell('th', 'col')))),
      element(
        'tbody',
        {},
        ...rows.map(row => element('tr', {}, cell('th', 'row')(row[0]), ...row.slice(1).map(cell('td')))),
      ),
    ),
  );
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
  svg.addEventListener('focus', () => {
    if (svg.matches(':focus-visible')) move(Math.max(0, now));
  });
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
  const box = svg.getBoundingClientRect(),
    view = svg.viewBox.baseVal;
  return [
    ((event.clientX - box.left) * view.width) / box.width,
    ((event.clientY - box.top) * view.height) / box.height,
  ];
}

function figure(label, svg, readout, ...rest) {
  svg.setAttribute('role', 'img');
  svg.setAttribute('aria-label', label + ' Arrow keys read out values.');
  return element('figure', {}, element('div', {class: 'scroll'}, svg), readout, ...rest);
}

const newReadout = () => element('output', {class: 'readout', 'aria-live': 'polite'});

/// A slider over MoE layers that redraws `draw(layer)` below it.
function byLayer(draw, extra = null, first = 0) {
  const box = element('div');
  const value = element('output');
  const slider = element('input', {
    type: 'range',
    min: 0,
    max: moeLayers.length - 1,
    value: first,
    'aria-label': 'Layer',
  });
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
