/** An AbortSignal that fires at the first SIGTERM or SIGINT. A second one ends the process at once. */
export function terminationSignal(): AbortSignal {
  const abort = new AbortController();
  const onSignal = (name: NodeJS.Signals) => {
    if (abort.signal.aborted) process.exit(1);
    abort.abort(new Error(`ended by ${name}`));
  };
  process.on('SIGTERM', onSignal);
  process.on('SIGINT', onSignal);
  return abort.signal;
}
