import koffi from 'koffi';

/** Every function of libnftables that is called, see libnftables(3). */
interface Library {
  readonly create: (flags: number) => unknown;
  readonly free: (context: unknown) => void;
  readonly bufferErrors: (context: unknown) => number;
  readonly errorText: (context: unknown) => string;
  readonly bufferOutput: (context: unknown) => number;
  readonly outputText: (context: unknown) => string;
  readonly run: (context: unknown, text: string) => number;
}

const soname = 'libnftables.so.1';

let library: Library | null = null;

/** @throws Error when the library cannot be loaded; the package is named libnftables1. */
export function load(): Library {
  if (library) return library;
  const shared = koffi.load(soname);
  library = {
    create: shared.func('void *nft_ctx_new(uint32_t flags)'),
    free: shared.func('void nft_ctx_free(void *context)'),
    bufferErrors: shared.func('int nft_ctx_buffer_error(void *context)'),
    errorText: shared.func('const char *nft_ctx_get_error_buffer(void *context)'),
    bufferOutput: shared.func('int nft_ctx_buffer_output(void *context)'),
    outputText: shared.func('const char *nft_ctx_get_output_buffer(void *context)'),
    run: shared.func('int nft_run_cmd_from_buffer(void *context, const char *text)'),
  };
  return library;
}

/**
 * nft(8) in this process. Used for the frame, whose rules are many and rarely change, so that they stand in the project as text that an
 * operator knows; elements go by netlink (wire.ts), 8 times as fast and without the library's reading of what is there.
 *
 * A context lives for one call: one that is kept holds on to a cache as large as the table.
 */
export function runNft(text: string): string {
  const nft = load();
  const context = nft.create(0);
  if (context === null) throw new NftError('libnftables gives no context: out of memory', text);
  try {
    if (nft.bufferErrors(context) !== 0 || nft.bufferOutput(context) !== 0) {
      throw new NftError('libnftables does not keep its output: out of memory', text);
    }
    if (nft.run(context, text) !== 0) throw new NftError(nft.errorText(context).trim(), text);
    return nft.outputText(context);
  } finally {
    nft.free(context);
  }
}

/** What nft said, and the text that it said it of. */
export class NftError extends Error {
  override readonly name = 'NftError';
  readonly input: string;
  constructor(message: string, input: string) {
    super(message);
    this.input = input;
  }
}
