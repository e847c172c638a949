import { describe, expect, it } from 'vitest';
import { dropEmpty, ownRules, sortElements } from './kernel-text.ts';

describe('what an operator sees', () => {
  it('is the same for the same elements in any order', () => {
    const listing = (elements: string) => `table inet octoplane {\n\tmap m {\n\t\telements = { ${elements} }\n\t}\n}\n`;
    expect(sortElements(listing('b : 1,\n\t\t\t     a : 2'))).toBe(sortElements(listing('a : 2, b : 1')));
    expect(sortElements(listing('b : 1, a : 2'))).toBe(
      'table inet octoplane {\n\tmap m {\n\t\telements = {\n\t\t\ta : 2,\n\t\t\tb : 1,\n\t\t}\n\t}\n}\n',
    );
  });

  it('leaves out sets and maps that are empty', () => {
    const full = '\tmap full {\n\t\ttype a : b\n\t\telements = {\n\t\t\ta : 2,\n\t\t}\n\t}\n\n';
    const empty = '\tset empty {\n\t\ttype a\n\t\tcomment "nothing"\n\t}\n\n';
    const chain = '\tchain c {\n\t\taccept\n\t}\n';
    expect(dropEmpty(`table t {\n${empty}${full}${empty}${chain}}\n`)).toBe(`table t {\n${full}${chain}}\n`);
  });

  it('is ours alone in iptables', () => {
    const save =
      '*nat\n:PREROUTING ACCEPT [7:8]\n:OCTO-SVC - [0:0]\n-A OTHER -j ACCEPT\n-A OCTO-SVC -j RETURN\nCOMMIT\n';
    expect(ownRules(save)).toBe('*nat\n:OCTO-SVC -\n-A OCTO-SVC -j RETURN\n');
  });
});
