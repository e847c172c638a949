import { guestTests } from '../../support/uml/guest-tests.ts';

/** The host's kernel may have no IPVS, so all of it runs in a user-mode kernel that does: see test/support/uml. */
const files = ['test/kernel/ipvs/*.guest.ts', 'test/kernel/faults.test.ts', 'test/kernel/hitless.test.ts'];
await guestTests(files, { timeoutMs: 2_400_000, processor: 1 });
