import { guestTests } from '../../support/uml/guest-tests.ts';

/** The host's kernel may have no IPVS, so *.guest.ts run in a user-mode kernel that does: see test/support/uml. */
await guestTests(['test/kernel/ipvs/*.guest.ts'], { timeoutMs: 900_000, processor: 1 });
