/** Time, passed in wherever something is stamped or waits, so that tests own it. */
export interface Clock {
  /** Microseconds since 1970. Never goes back within a process, so that differences are durations. */
  nowUs(): number;
  /** Calls back once, unless cancelled. Does not keep the process alive. */
  after(ms: number, callback: () => void): Cancel;
}

export type Cancel = () => void;

export const systemClock: Clock = {
  nowUs: () => Math.round((performance.timeOrigin + performance.now()) * 1000),
  after(ms, callback) {
    const timer = setTimeout(callback, ms);
    timer.unref();
    return () => clearTimeout(timer);
  },
};
