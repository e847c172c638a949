export type Labels = Readonly<Record<string, string>>;
export type Selector = (labels: Labels) => boolean;

const key = '[A-Za-z0-9][-A-Za-z0-9_.]*(?:/[A-Za-z0-9][-A-Za-z0-9_.]*)?';
const exists = new RegExp(`^(!?)(${key})$`);
const equal = new RegExp(`^(${key})\\s*(==|=|!=)\\s*([-A-Za-z0-9_.]*)$`);
const member = new RegExp(`^(${key})\\s+(in|notin)\\s+\\(([-A-Za-z0-9_., ]*)\\)$`);

/** "a=b,!c,d in (e,f)". @throws Error when it is none. */
export function parseSelector(text: string): Selector {
  if (text === '') return () => true;
  const terms = text.split(/,(?![^(]*\))/).map((term) => parseTerm(term.trim()));
  return (labels) => terms.every((term) => term(labels));
}

function parseTerm(term: string): Selector {
  const byName = exists.exec(term);
  if (byName) return (labels) => Object.hasOwn(labels, byName[2] ?? '') === (byName[1] === '');
  const byValue = equal.exec(term);
  if (byValue) {
    const [, name = '', operator, value] = byValue;
    return operator === '!=' ? (labels) => labels[name] !== value : (labels) => labels[name] === value;
  }
  const bySet = member.exec(term);
  if (!bySet) throw new Error(`unable to parse requirement: ${term}`);
  const [, name = '', operator, list = ''] = bySet;
  const values = new Set(list.split(',').map((value) => value.trim()));
  return (labels) =>
    values.has(labels[name] ?? '') === (operator === 'in') || (operator === 'notin' && !(name in labels));
}
