/** Of this machine's clock that only goes forward: the same for every process, so that their records can be laid side by side. */
export const monotonicUs = (): number => Number(process.hrtime.bigint() / 1000n);
