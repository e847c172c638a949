/** OTEL_TRACES_SAMPLER, understood. */
export interface SamplerSetting {
  /** Of all changes, so many: 1 all, 0 none. */
  readonly ratio: number;
  /** "parentbased_...": where objects carry trace contexts, those decide. */
  readonly followsLinks: boolean;
}

const defaultSampler: SamplerSetting = { ratio: 1, followsLinks: true };

/** The standard's names. What is not understood is told to `warn` and replaced by the default, as the standard wants it. */
export function samplerSetting(
  name: string | undefined,
  argument: string | undefined,
  warn: (message: string) => void,
): SamplerSetting {
  if (name === undefined || name === '') return defaultSampler;
  const followsLinks = name.startsWith('parentbased_');
  switch (followsLinks ? name.slice('parentbased_'.length) : name) {
    case 'always_on':
      return { ratio: 1, followsLinks };
    case 'always_off':
      return { ratio: 0, followsLinks };
    case 'traceidratio':
      return { ratio: ratioOf(argument, warn), followsLinks };
    default:
      warn(
        `OTEL_TRACES_SAMPLER=${name} is not a sampler; use parentbased_traceidratio, for example. All changes are traced.`,
      );
      return defaultSampler;
  }
}

function ratioOf(argument: string | undefined, warn: (message: string) => void): number {
  const ratio = argument === undefined || argument === '' ? 1 : Number(argument);
  if (ratio >= 0 && ratio <= 1) return ratio;
  warn(`OTEL_TRACES_SAMPLER_ARG=${argument} is not between 0 and 1. All changes are traced.`);
  return 1;
}

/** Draws, when a change is committed, whether its trace is kept. */
export interface HeadSampling {
  draw(traceId: string, linked: readonly string[]): boolean;
  /** Changes that are refused or late are kept however the draw went; not when traces were switched off altogether. */
  readonly keepsNotable: boolean;
}

/** `isWithin`: is this trace among the drawn ones? A matter of its id, so that all who draw by the same ratio draw the same. */
export function headSampling(
  { ratio, followsLinks }: SamplerSetting,
  isWithin: (traceId: string) => boolean,
): HeadSampling {
  return {
    keepsNotable: ratio > 0 || followsLinks,
    draw(traceId, linked) {
      if (followsLinks && linked.length > 0) return linked.some(isSampled);
      return ratio === 1 || (ratio > 0 && isWithin(traceId));
    },
  };
}

/** The last digits of a traceparent are its flags. */
const isSampled = (traceparent: string): boolean => (Number.parseInt(traceparent.slice(-2), 16) & 1) === 1;
