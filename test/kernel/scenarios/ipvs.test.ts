import { guestTests } from '../../support/uml/guest-tests.ts';

/** The machine's kernel may have no IPVS: the stories are told in a user-mode kernel that has. */
await guestTests(['test/kernel/scenarios/ipvs.guest.ts'], { timeoutMs: 2_400_000 });
