// SPDX-License-Identifier: Apache-2.0
// The text, token by token. Only one page of a document is in the DOM at a time.
const tokensPerPage = 1200;

/// What tokens may be coloured by: values, their range, and how to say one.
function measures() {
  const out = [];
  const [low, high] = range(meanExperts);
  if (high > low)
    out.push({name: 'experts, mean over layers', of: t => meanExperts[t], low, high, unit: 'experts'});
  const losses = Array.from(tokenLoss).sort((a, b) => a - b);
  const most = losses[Math.floor(0.98 * (losses.length - 1))] / 1000;
  out.push({name: 'loss', of: t => tokenLoss[t] / 1000, low: 0, high: Math.max(1, most), unit: 'nats'});
  for (const l of moeLayers) {
    const [least, greatest] = range(tokenExperts[l]);
    if (greatest > least)
      out.push({
        name: 'experts in layer ' + l,
        of: t => tokenExperts[l][t],
        low: least,
        high: greatest,
        unit: 'experts',
      });
  }
  return out;
}

/// Experts in each layer of one token, as small bars with their numbers.
function layerBars(token) {
  const tall = data.layers.length > 24 ? 7 : 15,
    width = 240,
    left = 58;
  const most = Math.max(...moeLayers.map(l => tokenExperts[l][token]), 1);
  const svg = element('svg', {
    viewBox: `0 0 ${width} ${moeLayers.length * tall + 4}`,
    width,
    'aria-hidden': 'true',
  });
  moeLayers.forEach((l, i) => {
    const n = tokenExperts[l][token],
      w = ((width - left - 30) * n) / most;
    svg.append(element('rect', {class: 'bar', x: left, y: i * tall + 1.5, width: w, height: tall - 3}));
    if (tall > 10 || i % 4 === 0)
      svg.append(
        element('text', {x: left - 7, y: i * tall + tall * 0.5 + 4, 'text-anchor': 'end'}, 'layer ' + l),
      );
    if (tall > 10) svg.append(element('text', {x: left + w + 5, y: i * tall + 12}, String(n)));
  });
  return svg;
}

function inspector() {
  const box = element(
    'aside',
    {class: 'inspect', 'aria-live': 'polite'},
    element('p', {class: 'note'}, 'Point at a token, or focus the text and press arrow keys.'),
  );
  const show = t => {
    const counts = moeLayers.map(l => tokenExperts[l][t]);
    const same = counts.every(n => n === counts[0]);
    box.replaceChildren(
      element('div', {class: 'token'}, JSON.stringify(data.tokens.strings[tokenText[t]]).slice(1, -1) || '·'),
      element(
        'dl',
        {},
        element('dt', {}, 'loss'),
        element('dd', {}, number(tokenLoss[t] / 1000) + ' nats'),
        element('dt', {}, 'probability'),
        element('dd', {}, percent(Math.exp(-tokenLoss[t] / 1000))),
        element('dt', {}, 'experts'),
        element('dd', {}, number(meanExperts[t]) + ' per layer'),
        element('dt', {}, 'together'),
        element(
          'dd',
          {},
          several(
            counts.reduce((a, b) => a + b, 0),
            'activation',
          ),
        ),
      ),
      same && counts.length > 8 ? element('p', {class: 'note'}, `${counts[0]} in every layer.`) : layerBars(t),
    );
    box.setAttribute(
      'aria-label',
      'experts in layers ' + moeLayers.map((l, i) => `${l}: ${counts[i]}`).join(', '),
    );
  };
  return {box, show};
}

function documentName(i) {
  const domain = data.domains[data.documents[i].domain].name;
  const same = data.documents.filter(d => d.domain === data.documents[i].domain);
  return same.length > 1 ? `${domain}, ${same.indexOf(data.documents[i]) + 1} of ${same.length}` : domain;
}

/// The text of one document at a time, by pages.
class Reader {
  constructor() {
    this.measures = measures();
    this.measure = this.measures[0];
    this.inspect = inspector();
    this.shown = data.documents.map((d, i) => i).filter(i => data.documents[i].tokens > 0);
    this.document = data.documents[this.shown[0]];
    this.page = 0;
    this.now = -1;
    const label = 'Tokens of the text; arrow keys move from token to token';
    this.text = element('div', {class: 'tokens', tabindex: '0', role: 'listbox', 'aria-label': label});
    this.scale = element('span');
    this.where = element('span', {class: 'note'});
    this.back = element('button', {type: 'button', onclick: () => this.turn(-1)}, 'Previous page');
    this.on = element('button', {type: 'button', onclick: () => this.turn(1)}, 'Next page');
    this.text.addEventListener('pointerover', event => {
      if (event.target.dataset.token) this.move(Number(event.target.dataset.token), false);
    });
    this.text.addEventListener('focus', () => {
      if (this.now < 0 && this.text.matches(':focus-visible')) this.move(this.first(), true);
    });
    this.text.addEventListener('keydown', event => this.key(event));
    this.draw();
  }

  pages() {
    return Math.max(1, Math.ceil(this.document.tokens / tokensPerPage));
  }
  /// The page's tokens are those from first() to before last().
  first() {
    return this.document.first + this.page * tokensPerPage;
  }
  last() {
    return Math.min(this.document.first + this.document.tokens, this.first() + tokensPerPage);
  }
  span(token) {
    return this.text.querySelector(`[data-token="${token}"]`);
  }

  draw() {
    const {measure: m, document: d} = this,
      first = this.first(),
      last = this.last();
    const lead =
      this.page === 0 && d.lead
        ? [element('span', {class: 'lead', title: 'has no ' + 'prediction'}, d.lead)]
        : [];
    const spans = Array.from({length: last - first}, (_, i) => {
      const t = first + i,
        step = amount((m.of(t) - m.low) / (m.high - m.low || 1));
      const string = data.tokens.strings[tokenText[t]];
      const style = `background:var(--s${step});color:var(--st${step})`;
      const empty = string === '' ? 'empty' : null;
      return element('span', {'data-token': t, id: 'token-' + t, role: 'option', class: empty, style}, string);
    });
    this.text.replaceChildren(...lead, ...spans);
    this.text.scrollTop = 0;
    this.text.removeAttribute('aria-activedescendant');
    this.now = -1;
    this.scale.replaceChildren(legend('s', number(m.low), `${number(m.high)} ${m.unit}`));
    const from = whole(first - d.first + 1),
      to = whole(last - d.first);
    this.where.textContent =
      `page ${this.page + 1} of ${this.pages()}, tokens ${from} to ${to} of ` + `${whole(d.tokens)}`;
    this.back.disabled = this.page === 0;
    this.on.disabled = this.page + 1 >= this.pages();
  }

  turn(by) {
    this.page = Math.max(0, Math.min(this.pages() - 1, this.page + by));
    this.draw();
  }

  move(token, follow) {
    const target = this.span(token);
    if (!target) return;
    const old = this.span(this.now);
    if (old) {
      old.classList.remove('now');
      old.removeAttribute('aria-selected');
    }
    target.classList.add('now');
    target.setAttribute('aria-selected', 'true');
    this.text.setAttribute('aria-activedescendant', target.id);
    if (follow) target.scrollIntoView({block: 'nearest'});
    this.now = token;
    this.inspect.show(token);
  }

  /// The token above (direction -1) or below (1): of the next line, the one nearest across.
  across(direction) {
    const here = this.span(this.now).getClientRects()[0];
    let line = null,
      best = this.now,
      least = Infinity;
    for (let t = this.now + direction; t >= this.first() && t < this.last(); t += direction) {
      const box = this.span(t).getClientRects()[0];
      if (!box || Math.abs(box.top - here.top) < here.height / 2) continue;
      if (line === null) line = box.top;
      if (Math.abs(box.top - line) > here.height / 2) break;
      if (Math.abs(box.left - here.left) < least) {
        least = Math.abs(box.left - here.left);
        best = t;
      }
    }
    return best;
  }

  key(event) {
    const sideways = {ArrowRight: 1, ArrowLeft: -1}[event.key],
      upright = {ArrowDown: 1, ArrowUp: -1}[event.key];
    if (this.now < 0 && (sideways || upright)) this.move(this.first(), true);
    else if (sideways) this.move(this.now + sideways, true);
    else if (upright) this.move(this.across(upright), true);
    else if (event.key === 'Home') this.move(this.first(), true);
    else if (event.key === 'End') this.move(this.last() - 1, true);
    else if (event.key === 'PageDown' && !this.on.disabled) this.turn(1);
    else if (event.key === 'PageUp' && !this.back.disabled) this.turn(-1);
    else return;
    event.preventDefault();
  }

  /// What to read and how it is coloured.
  choices() {
    const read = event => {
      this.document = data.documents[event.target.value];
      this.page = 0;
      this.draw();
    };
    const color = event => {
      this.measure = this.measures[event.target.value];
      this.draw();
    };
    const names = this.shown.map(i => element('option', {value: i}, documentName(i)));
    const scales = this.measures.map((m, i) => element('option', {value: i}, m.name));
    return element(
      'div',
      {class: 'controls'},
      element('label', {}, 'Text', element('select', {onchange: read}, ...names)),
      element('label', {}, 'Colour by', element('select', {onchange: color}, ...scales)),
      this.scale,
    );
  }
}

function readerSection() {
  const reader = new Reader();
  const note =
    'A token’s experts are those that worked while it was predicted, at the position before it; its loss is ' +
    '−ln of its probability.';
  return {
    lead: 'Each token on a colour by how much work it took; the scale stands beside the choices.',
    body: [
      reader.choices(),
      element('div', {class: 'reader'}, reader.text, reader.inspect.box),
      element('div', {class: 'controls'}, reader.back, reader.on, reader.where),
      element('p', {class: 'note'}, note),
    ],
  };
}
