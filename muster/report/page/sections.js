// SPDX-License-Identifier: Apache-2.0
// The sections about layers, difficulty, load, domains and pairs.
const layerNames = moeLayers.map(String);
const expertNames = l => data.layers[l].load.map((_, e) => String(e));
const mostExperts = Math.max(...moeLayers.map(l => data.layers[l].load.length), 0);
const mean = values => values.reduce((a, b) => a + b, 0) / Math.max(1, values.length);
/// log2 of a ratio on the scale of deviations that ends at a factor of 4.
const ratioColor = ratio => `var(--d${deviation(ratio > 0 ? Math.log2(ratio) / 2 : -1)})`;
const ratioLegend = () => legend('d', '¼ of usual or less', '4 times usual or more');

/// The least n such that `share` of the layer's tokens have n experts or fewer.
function quantileOf(histogram, share) {
  const total = histogram.reduce((a, b) => a + b, 0);
  let sum = 0;
  for (let n = 0; n < histogram.length; ++n) {
    sum += histogram[n];
    if (sum >= share * total) return n;
  }
  return histogram.length - 1;
}

function layersSection() {
  const layers = moeLayers.map(l => data.layers[l]);
  const domainMeans = d => layers.map(layer => layer.domain_mean[d]);
  const box = element('div');
  const draw = picked => {
    const series =
      picked < 0 && data.domains.length > 24
        ? []
        : data.domains.map((_, d) => ({kind: d === picked ? 'picked' : 'thin', values: domainMeans(d)}));
    box.replaceChildren(
      xyChart({
        label: 'Experts per token by layer.',
        x: 'layer',
        y: 'experts per token',
        names: layerNames,
        series: [
          {
            kind: 'line',
            values: layers.map(l => l.mean),
            low: layers.map(l => quantileOf(l.histogram, 0.1)),
            high: layers.map(l => quantileOf(l.histogram, 0.9)),
          },
          ...(data.domains.length > 1 ? series : []),
        ],
        text: i =>
          `Layer ${layerNames[i]}: ${number(layers[i].mean)} experts per token; 10th percentile ` +
          `${quantileOf(layers[i].histogram, 0.1)}, 90th ${quantileOf(layers[i].histogram, 0.9)}` +
          (picked >= 0 ? `; ${data.domains[picked].name}: ${number(layers[i].domain_mean[picked])}` : '') +
          `. Entropy of the router’s scores ${number(layers[i].entropy)} nats of at most ` +
          `${number(Math.log(layers[i].load.length))}.`,
      }),
    );
  };
  draw(-1);
  const half = Math.floor(layers.length / 2),
    lower = mean(layers.slice(0, half).map(l => l.mean)),
    upper = mean(layers.slice(-half).map(l => l.mean));
  const verdict = !half
    ? ''
    : Math.abs(lower - upper) < 0.005 * upper
      ? ` Lower and upper half use the same, ${number(lower)}.`
      : ` The lower half of the layers uses ${number(lower)} experts per token, the upper half ` +
        `${number(upper)}.`;
  const pick = element(
    'select',
    {onchange: e => draw(Number(e.target.value))},
    element('option', {value: -1}, 'none'),
    ...data.domains.map((d, i) => element('option', {value: i}, d.name)),
  );
  return {
    lead:
      'How many experts a token calls up in each layer: the mean, the band that holds the middle 80 % of ' +
      'tokens, and each domain as a thin line.' +
      verdict,
    body: [
      data.domains.length > 1
        ? element('div', {class: 'controls'}, element('label', {}, 'Highlight', pick))
        : null,
      box,
      tableAlternative(() =>
        table(
          'Experts per token by layer',
          ['layer', 'experts', 'mean', '10 %', 'median', '90 %', 'entropy of scores (nats)'],
          layers.map((l, i) => [
            layerNames[i],
            l.load.length,
            number(l.mean),
            quantileOf(l.histogram, 0.1),
            quantileOf(l.histogram, 0.5),
            quantileOf(l.histogram, 0.9),
            number(l.entropy),
          ]),
        ),
      ),
    ],
  };
}

function difficultySection() {
  const bins = data.difficulty.bins,
    last = bins[bins.length - 1];
  const nats = v => (v < 0.01 ? '0' : number(v, 2));
  const span = b => `${nats(b.low)}–${nats(b.high)}`;
  const between = b =>
    isFinite(b.experts_low) && b.experts_low !== null
      ? ` [${number(b.experts_low)}, ${number(b.experts_high)}]`
      : '';
  const says =
    bins.length < 2
      ? ''
      : ` The hardest part gets ${number(last.experts)}${between(last)} experts per token, the easiest ` +
        `${number(bins[0].experts)}${between(bins[0])}; rank correlation of loss and experts over tokens: ` +
        `${number(data.difficulty.correlation, 2)}.`;
  const known = bins.every(b => b.experts_low !== null);
  return {
    lead:
      `Tokens sorted by their loss into ${several(bins.length, 'part')} of equal size, with the experts that ` +
      'predicting them took.' +
      says,
    body: [
      xyChart({
        label: 'Experts per token by loss.',
        x: 'loss of the tokens, from to (nats)',
        y: 'experts per token, mean over layers',
        zero: false,
        labels: 10,
        names: bins.map(span),
        series: [
          {
            kind: 'dots',
            values: bins.map(b => b.experts),
            low: known ? bins.map(b => b.experts_low) : null,
            high: known ? bins.map(b => b.experts_high) : null,
          },
        ],
        text: i =>
          `Part ${i + 1}: losses of ${span(bins[i])} nats, ${several(bins[i].tokens, 'token')}, ` +
          `${number(bins[i].experts)}${between(bins[i])} experts per token.`,
      }),
      element(
        'p',
        {class: 'note'},
        known
          ? 'Bars are 95 % bootstrap intervals over blocks of 256 tokens. The axis does not begin at 0.'
          : 'The text is too short for intervals.',
      ),
      tableAlternative(() =>
        table(
          'Experts per token by loss',
          ['loss (nats)', 'tokens', 'experts per token', 'low', 'high'],
          bins.map(b => [
            span(b),
            whole(b.tokens),
            number(b.experts),
            number(b.experts_low),
            number(b.experts_high),
          ]),
        ),
      ),
    ],
  };
}

/// Load of an expert as a multiple of an equal share.
const loadRatio = (l, e) =>
  (data.layers[l].load[e] * data.layers[l].load.length) /
  Math.max(
    1,
    data.layers[l].load.reduce((a, b) => a + b, 0),
  );

function loadSection() {
  const busiest = moeLayers.map(l => Math.max(...data.layers[l].load.map((_, e) => loadRatio(l, e))));
  const idle = moeLayers.flatMap(l =>
    data.layers[l].load.map((n, e) => (n === 0 ? `${l}.${e}` : null)).filter(x => x),
  );
  const worst = busiest.indexOf(Math.max(...busiest));
  const lead =
    `Each expert’s activations against an equal share of its layer’s. The busiest expert of a layer has ` +
    `${number(mean(busiest))} times its share on average, ` +
    `${number(busiest[worst])} times in layer ${layerNames[worst]}; ` +
    (idle.length
      ? `${several(idle.length, 'expert')} never worked on these texts: ` +
        `${idle.slice(0, 20).join(', ')}${idle.length > 20 ? ' …' : ''} (layer.expert).`
      : 'every expert worked.');
  return {
    lead,
    body: [
      element('div', {class: 'controls'}, ratioLegend()),
      matrixChart({
        label: 'Load of experts by layer.',
        rows: layerNames,
        columns: Array.from({length: mostExperts}, (_, e) => String(e)),
        rowTitle: 'layer',
        columnTitle: 'expert',
        color: (r, e) =>
          e < data.layers[moeLayers[r]].load.length && data.layers[moeLayers[r]].load[e] > 0
            ? ratioColor(loadRatio(moeLayers[r], e))
            : null,
        text: (r, e) => {
          const layer = data.layers[moeLayers[r]];
          if (e >= layer.load.length) return `Layer ${layerNames[r]} has no expert ${e}.`;
          return (
            `Layer ${layerNames[r]}, expert ${e}: ${several(layer.load[e], 'activation')}, ` +
            `${number(loadRatio(moeLayers[r], e))} of an equal share; mean weight ` +
            `${number(layer.weight[e])}, mean loss of its tokens ${number(layer.loss[e])} nats.`
          );
        },
      }),
      tableAlternative(() =>
        table(
          'Load balance by layer',
          [
            'layer',
            'busiest / equal share',
            'coefficient of variation',
            'entropy of the load / greatest possible',
            'never worked',
          ],
          moeLayers.map((l, i) => [
            l,
            number(busiest[i]),
            number(data.layers[l].variation),
            number(data.layers[l].load_entropy),
            data.layers[l].load.filter(n => n === 0).length,
          ]),
        ),
      ),
    ],
  };
}

function domainsSection() {
  const scores = moeLayers.map(l => data.layers[l].specialisation);
  const best = scores.indexOf(scores.reduce((a, b) => (b.layer > a.layer ? b : a)));
  const lead =
    `How far experts prefer some of the ${data.domains.length} domains: 0 when each is used alike ` +
    `everywhere, 1 when each serves one domain only. ` +
    `Specialisation is greatest in layer ${layerNames[best]} (${number(scores[best].layer)}; ` +
    `${number(scores[best].chance, 2)} by chance).`;
  const most = Math.max(...scores.flatMap(s => s.experts.map(x => x || 0)), 1e-3);
  const heat = l => {
    const layer = data.layers[l],
      totals = layer.by_domain.map(row => row.reduce((a, b) => a + b, 0));
    const share = (d, e) => (totals[d] ? layer.by_domain[d][e] / totals[d] : 0);
    const average = e => mean(layer.by_domain.map((_, d) => share(d, e)));
    const score = e => layer.specialisation.experts[e];
    const rows = data.domains.map(d => d.name);
    return [
      matrixChart({
        label: `Experts by domain in layer ${l}.`,
        rows,
        columns: expertNames(l),
        rowTitle: 'domain',
        columnTitle: 'expert',
        bars: {
          values: expertNames(l).map((_, e) => score(e) || 0),
          most,
          title: 'specialisation of the ' + 'expert',
        },
        color: (d, e) => (average(e) > 0 ? ratioColor(share(d, e) / average(e)) : null),
        text: (d, e) =>
          `Layer ${l}, expert ${e}, ${rows[d]}: ${percent(share(d, e))} of the domain’s activations, ` +
          `${average(e) > 0 ? number(share(d, e) / average(e)) : '–'} times the mean over domains; ` +
          (score(e) === null
            ? 'the expert never worked.'
            : `specialisation ${number(score(e))}${layer.load[e] < 100 ? ' (of few activations: unsure)' : ''}.`),
      }),
      tableAlternative(() =>
        table(
          `Share of each domain’s activations, layer ${l}`,
          ['expert', 'specialisation', ...rows],
          layer.load.map((_, e) => [e, number(score(e)), ...rows.map((_, d) => percent(share(d, e)))]),
        ),
      ),
    ];
  };
  return {
    lead,
    body: [
      xyChart({
        label: 'Specialisation by layer.',
        x: 'layer',
        y: 'specialisation of the layer (dashed: by chance)',
        names: layerNames,
        height: 230,
        series: [
          {kind: 'line', values: scores.map(s => s.layer)},
          {kind: 'dashed', values: scores.map(s => s.chance)},
        ],
        text: i =>
          `Layer ${layerNames[i]}: ${number(scores[i].layer)}; ${number(scores[i].chance, 2)} would be ` +
          `expected without preferences.`,
      }),
      tableAlternative(() =>
        table(
          'Specialisation by layer',
          ['layer', 'specialisation', 'by chance'],
          scores.map((s, i) => [layerNames[i], number(s.layer), number(s.chance, 2)]),
        ),
      ),
      element('h3', {}, 'Experts and domains of one layer'),
      ...byLayer(heat, ratioLegend(), best),
      element(
        'p',
        {class: 'note'},
        'An expert’s specialisation is 1 − H(q) / ln D, q its use by domain with every domain scaled to ' +
          'the same size, D the number of domains. A layer’s is the mean over activations: the mutual ' +
          'information of expert and domain, as a share of ln D. Chance: the bias of this estimate for ' +
          'independent activations; neighbouring tokens are not independent, so values near it mean little.',
      ),
    ],
  };
}

function pairsSection() {
  const strongest = moeLayers
    .flatMap(l => data.layers[l].pairs.slice(0, 1).map(p => ({l, p})))
    .sort((x, y) => y.p[4] - x.p[4])[0];
  if (!strongest) return null;
  const draw = l => {
    const layer = data.layers[l],
      E = layer.load.length;
    const out = [];
    if (layer.lift) {
      const bytes = bytesOf(layer.lift); // rows of the upper triangle: 0 never, else 128 + 32 log2(lift)
      const at = (a, b) => bytes[(a * (2 * E - a - 1)) / 2 + b - a - 1];
      const lift = (a, b) => at(Math.min(a, b), Math.max(a, b));
      out.push(
        matrixChart({
          label: `Pairs of experts in layer ${l}.`,
          rows: expertNames(l),
          columns: expertNames(l),
          rowTitle: 'expert',
          columnTitle: 'expert',
          square: true,
          width: 560,
          color: (a, b) =>
            a === b || lift(a, b) === 0 ? null : `var(--d${deviation((lift(a, b) - 128) / 64)})`,
          text: (a, b) =>
            a === b
              ? `Expert ${a}.`
              : `Layer ${l}, experts ${a} and ${b}: ` +
                (lift(a, b) === 0
                  ? 'never together.'
                  : `together ${number(2 ** ((lift(a, b) - 128) / 32), 2)} times as often as by chance.`),
        }),
      );
    }
    const rows = layer.pairs.map(p => [`${p[0]} + ${p[1]}`, whole(p[2]), number(p[3]), number(p[4])]);
    out.push(
      rows.length
        ? table(`Pairs furthest above chance, layer ${l}`, ['experts', 'tokens', 'lift', 'z'], rows)
        : element('p', {}, 'No two experts of this layer worked on one token.'),
    );
    return [element('div', {class: 'columns'}, ...out)];
  };
  const says =
    strongest.p[4] > 0
      ? `The pair furthest above chance: experts ${strongest.p[0]} and ${strongest.p[1]} of layer ` +
        `${strongest.l}, together ${number(strongest.p[3])} times as often.`
      : 'No pair works together more often than by chance.';
  return {
    lead:
      `Which experts work on the same token, against how often they would if each were chosen by ` +
      `itself (lift). ${says}`,
    body: [
      ...byLayer(draw, legend('d', '¼ of chance or less', '4 times chance or more')),
      element(
        'p',
        {class: 'note'},
        'z: tokens beyond those expected, in units of the square root of the expected. Empty cells: never ' +
          'together.',
      ),
    ],
  };
}
