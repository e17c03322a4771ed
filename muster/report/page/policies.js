// SPDX-License-Identifier: Apache-2.0
// Policies compared, and what an activation plan says.
function policiesSection() {
  const policies = data.evaluation ? data.evaluation.policies : [];
  if (policies.length < 2) return null;
  const drawing = document.getElementById('pareto').content.cloneNode(true);
  const difference = p =>
    `${number(p.difference.mean)} [${number(p.difference.low)}, ${number(p.difference.high)}]`;
  return {
    lead:
      `What each policy costs and what it gives: perplexity against that of “${policies[0].policy}”, ` +
      `over experts per token and over speed; on the line stand the policies that no other beats in both.`,
    body: [
      element('figure', {}, element('div', {class: 'scroll'}, drawing)),
      element(
        'p',
        {class: 'note'},
        `Bars: 95 % intervals, paired over ${data.evaluation.units} ${data.evaluation.unit}. Speed: ` +
          `tokens scored per second with ${several(data.evaluation.threads, 'thread')}, one run.`,
      ),
      tableAlternative(() =>
        table(
          'Policies',
          [
            'policy',
            'perplexity',
            'nats per token against the first',
            'experts per token',
            'activated parameters',
            'tokens/s',
          ],
          policies.map((p, i) => [
            p.policy,
            number(p.all.perplexity, 4),
            i ? difference(p) : '–',
            number(p.all.experts_per_token),
            whole(Math.round(p.activated_parameters)),
            number(p.tokens_per_second),
          ]),
        ),
      ),
    ],
  };
}

function planSection() {
  const plan = data.plan;
  if (!plan) return null;
  const layers = plan.layers.map((p, l) => (p ? l : -1)).filter(l => l >= 0);
  const body = [];
  const budgets = layers.map(l => plan.layers[l].budget),
    before = layers.map(l => plan.layers[l].baseline);
  body.push(
    element('h3', {}, 'Budgets'),
    xyChart({
      label: 'Budget of each layer.',
      x: 'layer',
      y: 'experts per token (dashed: before)',
      names: layers.map(String),
      height: 230,
      series: [
        {kind: 'line', values: budgets},
        {kind: 'dashed', values: before},
      ],
      text: i => `Layer ${layers[i]}: ${number(budgets[i])} experts per token, ${number(before[i])} before.`,
    }),
    tableAlternative(() =>
      table(
        'Budgets (experts per token)',
        ['layer', 'budget', 'before'],
        layers.map((l, i) => [l, number(budgets[i]), number(before[i])]),
      ),
    ),
  );
  const impacts = layers.flatMap(l => plan.layers[l].impacts).filter(i => i);
  if (impacts.length) {
    const most = Math.max(...impacts.map(i => Math.abs(i[0])), 1e-9),
      experts = Math.max(...layers.map(l => plan.layers[l].impacts.length));
    const impact = (r, e) => plan.layers[layers[r]].impacts[e] || null;
    const say = i => `${number(i[0])} [${number(i[1])}, ${number(i[2])}] nats`;
    body.push(
      element('h3', {}, 'Impact of each expert'),
      element(
        'div',
        {class: 'controls'},
        legend('d', `−${number(most)}: better without`, `+${number(most)} nats: needed`),
      ),
      matrixChart({
        label: 'Counterfactual impact of experts.',
        rows: layers.map(String),
        columns: Array.from({length: experts}, (_, e) => String(e)),
        rowTitle: 'layer',
        columnTitle: 'expert',
        color: (r, e) => (impact(r, e) ? `var(--d${deviation(impact(r, e)[0] / most)})` : null),
        text: (r, e) =>
          `Layer ${layers[r]}, expert ${e}: ` +
          (impact(r, e) ? `hard tokens lose ${say(impact(r, e))} without it.` : 'no evidence.'),
      }),
      tableAlternative(() =>
        table(
          'Impact (nats)',
          ['layer.expert', 'impact', 'low', 'high'],
          layers.flatMap(l =>
            plan.layers[l].impacts
              .map((i, e) => (i ? [`${l}.${e}`, number(i[0]), number(i[1]), number(i[2])] : null))
              .filter(x => x),
          ),
        ),
      ),
    );
  }
  if (plan.dormant.length)
    body.push(
      element('h3', {}, 'Dormant experts'),
      table(
        'Experts that help the tokens that use them, but stand low in the gate’s ranking',
        ['layer.expert', 'impact (nats)', 'mean rank', 'tokens'],
        plan.dormant.map(d => [`${d.layer}.${d.expert}`, number(d.impact), number(d.rank), whole(d.tokens)]),
      ),
    );
  const moved = budgets.reduce((sum, b, i) => sum + Math.max(0, b - before[i]), 0);
  return {
    lead:
      `What the plan “${plan.name}” does: it moves ${several(moved, 'activation')} per token between ` +
      `layers and names ${several(plan.dormant.length, 'dormant expert')}.`,
    body,
  };
}

const sections = [
  ['reading', 'The text, token by token', readerSection],
  ['layers', 'Do lower layers need more experts?', layersSection],
  ['difficulty', 'Do harder tokens get more experts?', difficultySection],
  ['load', 'Is the load balanced?', loadSection],
  ['domains', 'Which experts specialise?', () => (data.domains.length > 1 ? domainsSection() : null)],
  ['pairs', 'Which experts work together?', pairsSection],
  ['policies', 'What do other policies cost?', policiesSection],
  ['plan', 'What does the plan change?', planSection],
];

function facts() {
  const e = data.evaluation && data.evaluation.policies[0];
  const out = [
    ['routing policy', data.model.policy],
    ['parameters', number(data.model.parameters / 1e6) + ' M'],
  ];
  if (e) out.push(['activated per token', number(e.activated_parameters / 1e6) + ' M']);
  out.push(
    [
      moeLayers.length === data.layers.length ? 'layers × experts' : 'layers with experts × experts',
      `${moeLayers.length} × ${mostExperts}`,
    ],
    ['experts per token', number(mean(moeLayers.map(l => data.layers[l].mean)))],
    ['tokens', whole(tokenCount)],
    ['domains', String(data.domains.length)],
  );
  if (e) out.push(['perplexity', number(e.all.perplexity, 4)]);
  document
    .getElementById('facts')
    .append(
      ...out.map(([name, value]) => element('div', {}, element('dt', {}, name), element('dd', {}, value))),
    );
}

facts();
for (const [id, heading, make] of sections) {
  if (!moeLayers.length && id !== 'reading') continue;
  const made = make();
  if (!made) continue;
  document
    .getElementById('main')
    .append(
      element(
        'section',
        {id, 'aria-labelledby': id + '-heading'},
        element('h2', {id: id + '-heading'}, heading),
        element('p', {}, made.lead),
        ...made.body.filter(x => x),
      ),
    );
  document.getElementById('contents').append(element('a', {href: '#' + id}, heading));
}
document.documentElement.dataset.ready = String(Math.round(performance.now()));
