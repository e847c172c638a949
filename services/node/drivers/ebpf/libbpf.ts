import koffi from 'koffi';

/**
 * libbpf and the few calls of libc beside it: every signature is here and nowhere else. Integers that libbpf returns
 * are 0 or more, or -errno; pointers are null on failure, with errno set.
 */
export interface Libbpf {
  readonly openObject: (path: string, pinRoot: string | null, log: Buffer) => Pointer | null;
  readonly loadObject: (object: Pointer) => number;
  readonly closeObject: (object: Pointer) => void;
  readonly findMap: (object: Pointer, name: string) => Pointer | null;
  readonly mapFd: (map: Pointer) => number;
  /** The map after `map`, the first one after null; null after the last. */
  readonly nextMap: (object: Pointer, map: Pointer | null) => Pointer | null;
  readonly mapName: (map: Pointer) => string;
  readonly mapType: (map: Pointer) => number;
  readonly keyBytes: (map: Pointer) => number;
  readonly valueBytes: (map: Pointer) => number;
  readonly maxEntries: (map: Pointer) => number;
  readonly setMaxEntries: (map: Pointer, entries: number) => number;
  /** Of a section of constants, before the object is loaded. */
  readonly setInitialValue: (map: Pointer, value: Buffer, bytes: number) => number;
  readonly findProgram: (object: Pointer, name: string) => Pointer | null;
  readonly programFd: (program: Pointer) => number;
  /** The program after `program`, the first one after null; null after the last. */
  readonly nextProgram: (object: Pointer, program: Pointer | null) => Pointer | null;
  readonly programName: (program: Pointer) => string;
  /** With those of its functions. */
  readonly instructions: (program: Pointer) => number;
  readonly probeHelper: (programType: number, helper: number, options: null) => number;

  readonly createMap: (
    type: number,
    name: string,
    keyBytes: number,
    valueBytes: number,
    max: number,
    options: null,
  ) => number;
  readonly lookup: (fd: number, key: Buffer, value: Buffer) => number;
  readonly update: (fd: number, key: Buffer, value: Buffer, flags: bigint) => number;
  readonly updateInBackground: (fd: number, key: Buffer, value: Buffer, flags: bigint) => Promise<number>;
  readonly remove: (fd: number, key: Buffer) => number;
  readonly nextKey: (fd: number, key: Buffer | null, next: Buffer) => number;
  readonly updateBatch: (fd: number, keys: Buffer, values: Buffer, count: Uint32Array, options: null) => number;
  readonly removeBatch: (fd: number, keys: Buffer, count: Uint32Array, options: null) => number;
  readonly lookupBatch: (
    fd: number,
    from: Buffer | null,
    next: Buffer,
    keys: Buffer,
    values: Buffer,
    count: Uint32Array,
    options: null,
  ) => number;

  readonly pin: (fd: number, path: string) => number;
  readonly openPin: (path: string) => number;
  readonly info: (fd: number, info: Buffer, bytes: Uint32Array) => number;
  readonly programById: (id: number) => number;
  readonly createLink: (program: number, target: number, attachType: number, options: null) => number;
  readonly updateLink: (link: number, program: number, options: null) => number;
  /** A link of an iterator over the elements of one map. */
  readonly createMapIterator: (program: number, map: number) => number;
  readonly createIterator: (link: number) => number;
  readonly detachLink: (link: number) => number;
  readonly testRun: (program: number, options: TestRunOptions) => number;

  readonly closeFd: (fd: number) => number;
  readonly openPath: (path: string, flags: number) => number;
  readonly read: (fd: number, into: Buffer, bytes: number) => number;
  readonly setNamespace: (fd: number, type: number) => number;
  readonly mapMemory: (
    address: null,
    bytes: number,
    protection: number,
    flags: number,
    fd: number,
    offset: number,
  ) => Pointer;
  readonly unmapMemory: (address: Pointer, bytes: number) => number;
  readonly getSocketOption: (fd: number, level: number, name: number, value: Buffer, bytes: Uint32Array) => number;
  readonly socket: (family: number, type: number, protocol: number) => number;
  /** Bytes at an address, without a copy; valid until they are unmapped. */
  readonly view: (address: Pointer, bytes: number) => Buffer;
  readonly errno: () => number;
}

/** An address in this process; opaque. */
export type Pointer = bigint;

/** struct bpf_test_run_opts; libbpf writes its results back. */
export interface TestRunOptions {
  data_in: Buffer;
  data_out: Buffer;
  data_size_in: number;
  data_size_out: number;
  ctx_in: Buffer | null;
  ctx_out: Buffer | null;
  ctx_size_in: number;
  ctx_size_out: number;
  retval: number;
  repeat: number;
  duration: number;
  flags: number;
  cpu: number;
  batch_size: number;
}

let loaded: Libbpf | null = null;

/** @throws when the library is not installed. */
export function libbpf(): Libbpf {
  loaded ??= load();
  return loaded;
}

function load(): Libbpf {
  const bpf = koffi.load('libbpf.so.1');
  const libc = koffi.load('libc.so.6');
  declareStructs();
  // Its messages go to stderr, and say less than the log that is asked for with each object.
  bpf.func('void *libbpf_set_print(void *print)')(null);

  const openObject = bpf.func('void *bpf_object__open_file(const char *path, const OctoOpenOptions *options)');
  const update = bpf.func('int bpf_map_update_elem(int fd, const void *key, const void *value, uint64_t flags)');
  const createLink = bpf.func('int bpf_link_create(int program, int target, int type, const OctoLinkOptions *options)');
  const testRun = bpf.func('int bpf_prog_test_run_opts(int program, _Inout_ OctoTestRun *options)');
  return {
    openObject: (path, pinRoot, log) => openObject(path, openOptions(pinRoot, log)),
    loadObject: bpf.func('int bpf_object__load(void *object)'),
    closeObject: bpf.func('void bpf_object__close(void *object)'),
    findMap: bpf.func('void *bpf_object__find_map_by_name(void *object, const char *name)'),
    mapFd: bpf.func('int bpf_map__fd(void *map)'),
    nextMap: bpf.func('void *bpf_object__next_map(void *object, void *map)'),
    mapName: bpf.func('const char *bpf_map__name(void *map)'),
    mapType: bpf.func('int bpf_map__type(void *map)'),
    keyBytes: bpf.func('uint32_t bpf_map__key_size(void *map)'),
    valueBytes: bpf.func('uint32_t bpf_map__value_size(void *map)'),
    maxEntries: bpf.func('uint32_t bpf_map__max_entries(void *map)'),
    setMaxEntries: bpf.func('int bpf_map__set_max_entries(void *map, uint32_t entries)'),
    setInitialValue: bpf.func('int bpf_map__set_initial_value(void *map, const void *value, size_t bytes)'),
    findProgram: bpf.func('void *bpf_object__find_program_by_name(void *object, const char *name)'),
    programFd: bpf.func('int bpf_program__fd(void *program)'),
    nextProgram: bpf.func('void *bpf_object__next_program(void *object, void *program)'),
    programName: bpf.func('const char *bpf_program__name(void *program)'),
    instructions: bpf.func('size_t bpf_program__insn_cnt(void *program)'),
    probeHelper: bpf.func('int libbpf_probe_bpf_helper(int type, int helper, const void *options)'),

    createMap: bpf.func(
      'int bpf_map_create(int type, const char *name, uint32_t key, uint32_t value, uint32_t max, const void *options)',
    ),
    lookup: bpf.func('int bpf_map_lookup_elem(int fd, const void *key, void *value)'),
    update,
    updateInBackground: (...args) =>
      new Promise((resolve, reject) => {
        update.async(...args, (error: unknown, result: number) => (error ? reject(error) : resolve(result)));
      }),
    remove: bpf.func('int bpf_map_delete_elem(int fd, const void *key)'),
    nextKey: bpf.func('int bpf_map_get_next_key(int fd, const void *key, void *next)'),
    updateBatch: bpf.func(
      'int bpf_map_update_batch(int fd, const void *keys, const void *values, void *count, const void *options)',
    ),
    removeBatch: bpf.func('int bpf_map_delete_batch(int fd, const void *keys, void *count, const void *options)'),
    lookupBatch: bpf.func(
      'int bpf_map_lookup_batch(int fd, void *from, void *next, void *keys, void *values, void *count, const void *options)',
    ),

    pin: bpf.func('int bpf_obj_pin(int fd, const char *path)'),
    openPin: bpf.func('int bpf_obj_get(const char *path)'),
    info: bpf.func('int bpf_obj_get_info_by_fd(int fd, void *info, void *bytes)'),
    programById: bpf.func('int bpf_prog_get_fd_by_id(uint32_t id)'),
    createLink,
    createMapIterator: (program, map) => createLink(program, 0, BPF_TRACE_ITER, iteratorOptions(map)),
    createIterator: bpf.func('int bpf_iter_create(int link)'),
    updateLink: bpf.func('int bpf_link_update(int link, int program, const void *options)'),
    detachLink: bpf.func('int bpf_link_detach(int link)'),
    testRun: (program, options) => testRun(program, Object.assign(options, { sz: koffi.sizeof('OctoTestRun') })),

    closeFd: libc.func('int close(int fd)'),
    openPath: libc.func('int open(const char *path, int flags)'),
    read: libc.func('int64_t read(int fd, void *into, size_t bytes)'),
    setNamespace: libc.func('int setns(int fd, int type)'),
    mapMemory: libc.func('void *mmap(void *address, size_t bytes, int protection, int flags, int fd, int64_t offset)'),
    unmapMemory: libc.func('int munmap(void *address, size_t bytes)'),
    getSocketOption: libc.func('int getsockopt(int fd, int level, int name, void *value, void *bytes)'),
    socket: libc.func('int socket(int family, int type, int protocol)'),
    view: (address, bytes) => Buffer.from(koffi.view(address, bytes)),
    errno: () => koffi.errno(),
  };
}

function declareStructs(): void {
  koffi.struct('OctoOpenOptions', {
    sz: 'size_t',
    object_name: 'const char *',
    relaxed_maps: 'bool',
    pin_root_path: 'const char *',
    removed: 'uint32_t',
    kconfig: 'const char *',
    btf_custom_path: 'const char *',
    kernel_log_buf: 'void *',
    kernel_log_size: 'size_t',
    kernel_log_level: 'uint32_t',
  });
  koffi.struct('OctoLinkOptions', {
    sz: 'size_t',
    flags: 'uint32_t',
    iter_info: 'void *',
    iter_info_len: 'uint32_t',
    target_btf_id: 'uint32_t',
  });
  koffi.struct('OctoTestRun', {
    sz: 'size_t',
    data_in: 'void *',
    data_out: 'void *',
    data_size_in: 'uint32_t',
    data_size_out: 'uint32_t',
    ctx_in: 'void *',
    ctx_out: 'void *',
    ctx_size_in: 'uint32_t',
    ctx_size_out: 'uint32_t',
    retval: 'uint32_t',
    repeat: 'int',
    duration: 'uint32_t',
    flags: 'uint32_t',
    cpu: 'uint32_t',
    batch_size: 'uint32_t',
  });
}

const BPF_TRACE_ITER = 28;

/** union bpf_iter_link_info begins with the descriptor of the map. */
function iteratorOptions(map: number) {
  const info = Buffer.alloc(16);
  info.writeUInt32LE(map);
  return {
    sz: koffi.sizeof('OctoLinkOptions'),
    flags: 0,
    iter_info: info,
    iter_info_len: info.length,
    target_btf_id: 0,
  };
}

const openOptions = (pinRoot: string | null, log: Buffer) => ({
  sz: koffi.sizeof('OctoOpenOptions'),
  object_name: null,
  relaxed_maps: false,
  pin_root_path: pinRoot,
  removed: 0,
  kconfig: null,
  btf_custom_path: null,
  kernel_log_buf: log,
  kernel_log_size: log.length,
  kernel_log_level: 0,
});
