/** What an operator asks the kernel of the ipvs driver. */
export interface IpvsAnswers {
  /** `ipvsadm -Sn` */
  readonly services: string;
  /** `ipset save` */
  readonly sets: string;
  /** `ip -4 route show table local proto 79`, and the same with -6. */
  readonly routes: Readonly<Record<'-4' | '-6', string>>;
}

/**
 * Line by line, each as the command that would make it. What is draining is left out, destinations with weight 0 and services and
 * addresses with nothing else: it stays for as long as connections of the story before are remembered.
 */
export function ipvsText({ services, sets, routes }: IpvsAnswers): readonly string[] {
  const open = openServices(services);
  const elements = setElements(sets);
  const inUse = new Set([...open.map(addressOf), ...elements.filter((line) => !isAddress(line)).map(elementIp)]);
  return [
    ...open.map((line) => `ipvsadm ${line}\n`),
    ...elements.filter((line) => !isAddress(line) || inUse.has(elementIp(line))).map((line) => `ipset ${line}\n`),
    ...(['-4', '-6'] as const).flatMap((family) =>
      linesOf(routes[family])
        .filter((line) => inUse.has(line.split(' ')[1] ?? ''))
        .map((line) => `ip ${family} route add table local ${line.replaceAll(/\s+/g, ' ')}\n`)
        .sort(),
    ),
  ];
}

/** Services of ours, which have the scheduler flag 3, each before its destinations. */
function openServices(save: string): readonly string[] {
  const lines = linesOf(save).filter((line) => !/ -w 0\b/.test(line));
  const ours = new Set(lines.filter((line) => / flag-3\b/.test(line)).map(serviceOf));
  const open = new Set(lines.filter((line) => line.startsWith('-a')).map(serviceOf));
  return lines
    .filter((line) => ours.has(serviceOf(line)) && open.has(serviceOf(line)))
    .sort(by((line) => `${serviceOf(line)} ${line.startsWith('-A') ? 0 : 1} ${line}`));
}

/** Without the seed, which differs from set to set. */
const setElements = (save: string): readonly string[] =>
  linesOf(save)
    .filter((line) => / octo-ipvs-/.test(line))
    .map((line) => line.replace(/ initval 0x[0-9a-f]+/, ''))
    .sort(by((line) => `${line.split(' ')[1]} ${line.startsWith('create') ? 0 : 1} ${line}`));

/** "-t 10.96.0.10:80" of "-A -t 10.96.0.10:80 -s rr". */
const serviceOf = (line: string): string => line.split(' ').slice(1, 3).join(' ');
/** "10.96.0.10", "fd00:96::10"; of a mark the mark. */
const addressOf = (line: string): string => (line.split(' ')[2] ?? '').replace(/:\d+$/, '').replaceAll(/[[\]]/g, '');
/** "10.96.0.10" of "add octo-ipvs-internal-4 10.96.0.10,tcp:80". */
const elementIp = (line: string): string => (line.split(' ')[2] ?? '').split(',')[0] ?? '';
const isAddress = (line: string): boolean => line.startsWith('add octo-ipvs-address-');

const linesOf = (text: string): readonly string[] =>
  text
    .split('\n')
    .map((line) => line.trim())
    .filter((line) => line !== '');

const by =
  (keyOf: (line: string) => string) =>
  (a: string, b: string): number =>
    keyOf(a) < keyOf(b) ? -1 : 1;
