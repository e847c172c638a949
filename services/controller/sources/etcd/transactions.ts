import {
  Compare_CompareResult as Is,
  type RequestOp,
  Compare_CompareTarget as The,
  type TxnRequest,
} from '@octoplane/model/gen/etcd/etcdserverpb/rpc.ts';

/** What has to hold when a transaction is done, or nothing of it is. */
export type Condition = TxnRequest['compare'][number];

/** The key was created at this revision; 0: it is not there. */
export const createdAt = (key: string, revision: number): Condition => ({
  result: Is.EQUAL,
  key: Buffer.from(key),
  target: The.CREATE,
  targetUnion: { $case: 'createRevision', value: revision },
});

/** The key was last changed at this revision. */
export const changedAt = (key: string, revision: number): Condition => ({
  result: Is.EQUAL,
  key: Buffer.from(key),
  target: The.MOD,
  targetUnion: { $case: 'modRevision', value: revision },
});

/** The key is there, and says this. */
export const says = (key: string, value: string): Condition => ({
  result: Is.EQUAL,
  key: Buffer.from(key),
  target: The.VALUE,
  targetUnion: { $case: 'value', value: Buffer.from(value) },
});

/** `lease` "0": it stays. */
export const put = (key: string, value: string, lease = '0'): RequestOp => ({
  request: { $case: 'requestPut', value: { key: Buffer.from(key), value: Buffer.from(value), lease } },
});

export const remove = (key: string): RequestOp => ({
  request: { $case: 'requestDeleteRange', value: { key: Buffer.from(key), rangeEnd: Buffer.alloc(0) } },
});
