// SPDX-License-Identifier: Apache-2.0
// The text, token by token. Only one page of a document is in the DOM at a time.
const tokensPerPage = 1200;

/// What tokens may be coloured by: values, their range, and how to say one.
function measures() {
  const out = [];
  const [low, high] = range(meanExperts);
  if (high > low) out.push({name: 'experts, mean over layers', of: t => meanExperts[t], low, high, unit: 'experts'});
  const losses = Array.from(tokenLoss).sort((a, b) => a - b);
  const most = losses[Math.floor(0.98 * (losses.length - 1))] / 1000;
  out.push({name: 'loss', of: t => tokenLoss[t] / 1000, low: 0, high: Math.max(1, most), unit: 'nats'});
  for (const l of moeLayers) {
    const [least, greatest] = range(tokenExperts[l]);
    if (greatest > least) out.push({name: 'experts in layer ' + l, of: t => tokenExperts[l][t], low: least, high: greatest, unit: 'experts'});
  }
  return out;
}

/// Experts in each layer of one token, as small bars with their numbers.
function layerBars(token) {
  const tall = data.layers.length > 24 ? 7 : 15, width = 240, left = 58;
  const most = Math.max(...moeLayers.map(l => tokenExperts[l][token]), 1);
  const svg = element('svg', {viewBox: `0 0 ${width} ${moeLayers.length * tall + 4}`, width, 'aria-hidden': 'true'});
  moeLayers.forEach((l, i) => {
    const n = tokenExperts[l][token], w = (width - left - 30) * n / most;
    svg.append(element('rect', {class: 'bar', x: left, y: i * tall + 1.5, width: w, height: tall - 3}));
    if (tall > 10 || i % 4 === 0) svg.append(element('text', {x: left - 7, y: i * tall + tall * 0.5 + 4, 'text-anchor': 'end'}, 'layer ' + l));
    if (tall > 10) svg.append(element('text', {x: left + w + 5, y: i * tall + 12}, String(n)));
  });
  return svg;
}

function inspector() {
  const box = element('aside', {class: 'inspect', 'aria-live': 'polite'},
    element('p', {class: 'note'}, 'Point at a token, or focus the text and press arrow keys.'));
  const show = t => {
    const counts = moeLayers.map(l => tokenExperts[l][t]);
    const same = counts.every(n => n === counts[0]);
    box.replaceChildren(
      element('div', {class: 'token'}, JSON.stringify(data.tokens.strings[tokenText[t]]).slice(1, -1) || '·'),
      element('dl', {},
        element('dt', {}, 'loss'), element('dd', {}, number(tokenLoss[t] / 1000) + ' nats'),
        element('dt', {}, 'probability'), element('dd', {}, percent(Math.exp(-tokenLoss[t] / 1000))),
        element('dt', {}, 'experts'), element('dd', {}, number(meanExperts[t]) + ' per layer'),
        element('dt', {}, 'together'), element('dd', {}, several(counts.reduce((a, b) => a + b, 0), 'activation'))),
      same && counts.length > 8 ? element('p', {class: 'note'}, `${counts[0]} in every layer.`) : layerBars(t));
    box.setAttribute('aria-label', 'experts in layers ' + moeLayers.map((l, i) => `${l}: ${counts[i]}`).join(', '));
  };
  return {box, show};
}

function documentName(i) {
  const domain = data.domains[data.documents[i].domain].name;
  const same = data.documents.filter(d => d.domain === data.documents[i].domain);
  return same.length > 1 ? `${domain}, ${same.indexOf(data.documents[i]) + 1} of ${same.length}` : domain;
}

function readerSection() {
  const choices = measures(), inspect = inspector();
  const shown = data.documents.map((d, i) => i).filter(i => data.documents[i].tokens > 0);
  const state = {document: shown[0], page: 0, measure: choices[0], now: -1};
  const text = element('div', {class: 'tokens', tabindex: '0', role: 'listbox', 'aria-label': 'Tokens of the text; arrow keys move from token to token'});
  const scale = element('span'), where = element('span', {class: 'note'});
  const pages = () => Math.max(1, Math.ceil(data.documents[state.document].tokens / tokensPerPage));
  const span = i => text.querySelector(`[data-token="${i}"]`);

  const draw = () => {
    const d = data.documents[state.document];
    const first = d.first + state.page * tokensPerPage, last = Math.min(d.first + d.tokens, first + tokensPerPage);
    const children = [];
    if (state.page === 0 && d.lead) children.push(element('span', {class: 'lead', title: 'has no prediction'}, d.lead));
    for (let t = first; t < last; ++t) {
      const m = state.measure, s = amount((m.of(t) - m.low) / (m.high - m.low || 1));
      const string = data.tokens.strings[tokenText[t]];
      children.push(element('span', {'data-token': t, id: 'token-' + t, role: 'option', class: string === '' ? 'empty' : null,
        style: `background:var(--s${s});color:var(--st${s})`}, string));
    }
    text.replaceChildren(...children);
    text.scrollTop = 0;
    text.removeAttribute('aria-activedescendant');
    state.now = -1;
    scale.replaceChildren(legend('s', `${number(state.measure.low)}`, `${number(state.measure.high)} ${state.measure.unit}`));
    where.textContent = `page ${state.page + 1} of ${pages()}, tokens ${whole(first - d.first + 1)} to ${whole(last - d.first)} of ${whole(d.tokens)}`;
    back.disabled = state.page === 0;
    on.disabled = state.page + 1 >= pages();
  };
  const move = (t, follow) => {
    const target = span(t);
    if (!target) return;
    const old = span(state.now);
    if (old) { old.classList.remove('now'); old.removeAttribute('aria-selected'); }
    target.classList.add('now');
    target.setAttribute('aria-selected', 'true');
    text.setAttribute('aria-activedescendant', target.id);
    if (follow) target.scrollIntoView({block: 'nearest'});
    state.now = t;
    inspect.show(t);
  };
  const turn = by => { state.page = Math.max(0, Math.min(pages() - 1, state.page + by)); draw(); };
  const back = element('button', {type: 'button', onclick: () => turn(-1)}, 'Previous page');
  const on = element('button', {type: 'button', onclick: () => turn(1)}, 'Next page');
  text.addEventListener('pointerover', event => { if (event.target.dataset.token) move(Number(event.target.dataset.token), false); });
  text.addEventListener('focus', () => { if (state.now < 0 && text.matches(':focus-visible')) move(firstShown(), true); });
  const firstShown = () => data.documents[state.document].first + state.page * tokensPerPage;
  text.addEventListener('keydown', event => {
    const step = {ArrowRight: 1, ArrowLeft: -1, ArrowDown: 12, ArrowUp: -12}[event.key];
    if (step !== undefined) move(state.now < 0 ? firstShown() : state.now + step, true);
    else if (event.key === 'Home') move(firstShown(), true);
    else if (event.key === 'End') move(Number(text.lastElementChild.dataset.token), true);
    else if (event.key === 'PageDown' && !on.disabled) turn(1);
    else if (event.key === 'PageUp' && !back.disabled) turn(-1);
    else return;
    event.preventDefault();
  });
  const pick = element('select', {onchange: e => { state.document = Number(e.target.value); state.page = 0; draw(); }},
    ...shown.map(i => element('option', {value: i}, documentName(i))));
  const by = element('select', {onchange: e => { state.measure = choices[e.target.value]; draw(); }},
    ...choices.map((m, i) => element('option', {value: i}, m.name)));
  draw();
  return [element('div', {class: 'controls'}, element('label', {}, 'Text', pick), element('label', {}, 'Colour by', by), scale),
    element('div', {class: 'reader'}, text, inspect.box),
    element('div', {class: 'controls'}, back, on, where),
    element('p', {class: 'note'}, 'A token’s experts are those that worked while it was predicted, at the position before it; its loss is −ln of its probability.')];
}
