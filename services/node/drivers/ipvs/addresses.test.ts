import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { AddressBook } from './addresses.ts';

describe('service addresses', () => {
  it('stay as long as one of their owners does', () => {
    const book = new AddressBook();
    book.own('a', '10.96.0.1', false);
    book.own('b', '10.96.0.1', true);
    expect(book.acquisitions()).toEqual({ added: ['10.96.0.1'], pingable: ['10.96.0.1'] });
    expect(book.releases()).toEqual({ removed: [], unpingable: [] });
    book.disown('b', '10.96.0.1');
    expect(book.acquisitions()).toEqual({ added: [], pingable: [] });
    expect(book.releases()).toEqual({ removed: [], unpingable: ['10.96.0.1'] });
    book.disown('a', '10.96.0.1');
    expect(book.releases()).toEqual({ removed: ['10.96.0.1'], unpingable: [] });
  });

  it('that were found and that nobody owns are released', () => {
    const book = new AddressBook();
    book.reset([
      ['10.96.0.1', true],
      ['10.96.0.2', false],
    ]);
    book.own('a', '10.96.0.2', true);
    expect(book.acquisitions()).toEqual({ added: [], pingable: ['10.96.0.2'] });
    expect(book.releases()).toEqual({ removed: ['10.96.0.1'], unpingable: ['10.96.0.1'] });
  });

  it('in the kernel are those with owners, whatever came before', () => {
    const ip = fc.constantFrom('10.96.0.1', '10.96.0.2', 'fd00:96::1');
    const step = fc.tuple(fc.constantFrom('own', 'disown', 'settle'), fc.constantFrom('a', 'b'), ip, fc.boolean());
    fc.assert(
      fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
        const book = new AddressBook();
        const owned = new Map<string, Map<string, boolean>>();
        const kernel = new Map<string, boolean>();
        const settle = () => {
          const { added, pingable } = book.acquisitions();
          for (const each of added) kernel.set(each, false);
          for (const each of pingable) kernel.set(each, true);
          const { removed, unpingable } = book.releases();
          for (const each of unpingable) kernel.set(each, false);
          for (const each of removed) kernel.delete(each);
        };
        for (const [what, owner, address, pingable] of steps) {
          const owners = owned.get(address) ?? new Map<string, boolean>();
          owned.set(address, owners);
          if (what === 'settle') settle();
          else if (what === 'disown') {
            book.disown(owner, address);
            owners.delete(owner);
          } else {
            book.own(owner, address, pingable);
            owners.set(owner, pingable);
          }
        }
        settle();
        const wanted = [...owned].filter(([, owners]) => owners.size > 0);
        expect(kernel).toEqual(
          new Map(wanted.map(([address, owners]) => [address, [...owners.values()].includes(true)])),
        );
      }),
    );
  });
});
