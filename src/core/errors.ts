/**
 * The one registry of errors. Every error that leaves snapflip has a code from here; `runbooks/errors.md` lists them
 * all and a test keeps the two equal.
 *
 * `exit` is the CLI's exit code, `http` the status of the HTTP API, `retryable` whether the same call may succeed later
 * without anybody changing its input or the world.
 */
export const ERRORS = {
  CONFIG_INVALID: {
    meaning: 'The definition file is missing or does not parse.',
    http: 400,
    exit: 2,
    retryable: false,
  },
  USAGE: { meaning: 'The command line is wrong.', http: 400, exit: 2, retryable: false },
  DEFINITION_INVALID: {
    meaning: 'A dataset, index, table, column or expression of the definition cannot be used.',
    http: 400,
    exit: 2,
    retryable: false,
  },
  UNKNOWN_DATASET: {
    meaning: 'The dataset is not in the definition or the store.',
    http: 404,
    exit: 3,
    retryable: false,
  },
  UNKNOWN_INDEX: { meaning: 'The dataset has no index of that name.', http: 404, exit: 3, retryable: false },
  UNKNOWN_VERSION: { meaning: 'No version has that tag.', http: 404, exit: 3, retryable: false },
  NO_ACTIVE_VERSION: { meaning: 'The dataset has no active version yet.', http: 404, exit: 3, retryable: true },
  KEY_TOO_LONG: { meaning: "A row's key is longer than the limit.", http: 422, exit: 4, retryable: false },
  VALUE_TOO_LONG: { meaning: "A row's value is longer than the limit.", http: 422, exit: 4, retryable: false },
  BLOCK_TOO_LARGE: {
    meaning: 'The entries of one hash bucket exceed the block limit.',
    http: 422,
    exit: 4,
    retryable: false,
  },
  POSTGRES_UNREACHABLE: { meaning: 'PostgreSQL does not answer.', http: 503, exit: 5, retryable: true },
  POSTGRES_UNSUPPORTED: { meaning: 'PostgreSQL is too old, or a standby.', http: 503, exit: 5, retryable: false },
  PRIVILEGE_MISSING: {
    meaning: 'The PostgreSQL role may not do what is needed, or row security hides rows from it.',
    http: 403,
    exit: 5,
    retryable: false,
  },
  POSTGRES_FAILED: { meaning: 'PostgreSQL refused a statement.', http: 500, exit: 5, retryable: true },
  REGISTRY_NOT_MIGRATED: {
    meaning: "The registry's tables are missing or older than this snapflip.",
    http: 503,
    exit: 5,
    retryable: false,
  },
  NOT_APPLIED: {
    meaning: 'The definition was not applied yet, or it or its store changed since.',
    http: 409,
    exit: 5,
    retryable: false,
  },
  TEMPORAL_UNREACHABLE: { meaning: 'Temporal does not answer.', http: 503, exit: 5, retryable: true },
  STORE_UNREACHABLE: { meaning: 'The store does not answer.', http: 503, exit: 5, retryable: true },
  STORE_UNSUITABLE: {
    meaning: 'The store cannot keep what it is given (eviction, missing bucket, no conditional writes, not writable).',
    http: 503,
    exit: 5,
    retryable: false,
  },
  WEBHOOK_FAILED: {
    meaning: 'The receiver of a webhook or an alert does not answer, or not now.',
    http: 502,
    exit: 5,
    retryable: true,
  },
  WEBHOOK_REFUSED: {
    meaning: 'A webhook or an alert may not go where it should (address, redirect), or its receiver will not have it.',
    http: 502,
    exit: 5,
    retryable: false,
  },
  STORE_FULL: {
    meaning: 'The store or the temporary folder has too little room.',
    http: 507,
    exit: 5,
    retryable: false,
  },
  RUNS_DAMAGED: {
    meaning: 'A temporary file of a build is damaged or gone; the next attempt reads the source again.',
    http: 500,
    exit: 5,
    retryable: true,
  },
  COPY_FAILED: {
    meaning: 'A version that was copied to a further store does not read back there.',
    http: 503,
    exit: 5,
    retryable: true,
  },
  NOT_PUBLISHED: {
    meaning: 'A version could not be published to every store of the dataset, and is taken back.',
    http: 503,
    exit: 5,
    retryable: false,
  },
  STORE_DEGRADED: {
    meaning: 'A further store of the dataset is behind its first.',
    http: 503,
    exit: 5,
    retryable: true,
  },
  STORE_REBOUND: {
    meaning: 'The Redis that holds the pointer is not the one it was bound to (restart or failover).',
    http: 503,
    exit: 5,
    retryable: false,
  },
  LINEAGE_BROKEN: {
    meaning: "The parent's watermark is not in this database's history.",
    http: 409,
    exit: 6,
    retryable: false,
  },
  CHANGE_MISSED: {
    meaning: 'A captured change removes an entry that the parent does not have.',
    http: 409,
    exit: 6,
    retryable: false,
  },
  SOURCE_CHANGED: {
    meaning: "A source table's shape, identity or capture changed during the build.",
    http: 409,
    exit: 6,
    retryable: true,
  },
  CORRUPT: {
    meaning: 'A block, page or manifest is not what its checksum says, is truncated, or is missing.',
    http: 500,
    exit: 6,
    retryable: false,
  },
  FORMAT_TOO_NEW: {
    meaning:
      'The version was written by a newer snapflip than this reader can read, or the pointer by one that lets no older change it.',
    http: 500,
    exit: 6,
    retryable: false,
  },
  SHAPE_MISMATCH: {
    meaning: 'A typed reader met a value of another shape than it declared.',
    http: 500,
    exit: 6,
    retryable: false,
  },
  VERSION_RETIRED: {
    meaning: 'The version was retired; its blocks may be gone.',
    http: 410,
    exit: 6,
    retryable: false,
  },
  VERSION_QUARANTINED: {
    meaning: 'The version is quarantined and may never be flipped to.',
    http: 409,
    exit: 7,
    retryable: false,
  },
  CONFLICT: { meaning: 'The pointer is not in the state the change expected.', http: 409, exit: 7, retryable: false },
  SUPERSEDED: { meaning: 'The pointer already has an epoch as high or higher.', http: 409, exit: 7, retryable: false },
  UNABSORBED: {
    meaning: 'The pointer holds break-glass rollbacks that the registry has not absorbed yet.',
    http: 409,
    exit: 7,
    retryable: true,
  },
  PREFLIP_REFUSED: {
    meaning: 'What the gates approved is not what would be flipped to.',
    http: 409,
    exit: 7,
    retryable: false,
  },
  REFRESH_RUNNING: {
    meaning: 'Another refresh of the dataset, or a drill, is open.',
    http: 409,
    exit: 8,
    retryable: true,
  },
  FORBIDDEN: { meaning: 'The policy does not let this actor do that.', http: 403, exit: 17, retryable: false },
  APPROVAL_REFUSED: {
    meaning: 'What was to be approved or rejected does not wait for that, or is another version.',
    http: 409,
    exit: 18,
    retryable: false,
  },
  ON_HOLD: { meaning: 'The dataset is on hold.', http: 409, exit: 9, retryable: false },
  HELD: { meaning: 'A gate needs a person; nothing was flipped.', http: 409, exit: 10, retryable: false },
  REJECTED: { meaning: 'A gate refused the version; nothing was flipped.', http: 409, exit: 11, retryable: false },
  VERIFY_FAILED: {
    meaning: 'A version just flipped to does not read back as it was sealed.',
    http: 500,
    exit: 12,
    retryable: false,
  },
  BAKE_FAILED: {
    meaning: 'A version was beyond its limits while it was watched after the flip.',
    http: 409,
    exit: 12,
    retryable: false,
  },
  ROLLED_BACK: {
    meaning: 'The version was flipped to, failed its verification or its bake and was taken back.',
    http: 409,
    exit: 12,
    retryable: false,
  },
  CANCELLED: { meaning: 'The refresh was cancelled.', http: 409, exit: 13, retryable: false },
  READER_STALE: {
    meaning: 'The pointer could not be refreshed within the reader’s limit.',
    http: 503,
    exit: 14,
    retryable: true,
  },
  VERSION_EXPIRED: {
    meaning:
      'The version is known to be current only up to longer ago than its budget, beyond which the dataset refuses.',
    http: 503,
    exit: 14,
    retryable: true,
  },
  READER_CLOSED: { meaning: 'The reader or pin was closed.', http: 500, exit: 14, retryable: false },
  HISTORY_BROKEN: { meaning: 'The history chain does not verify.', http: 500, exit: 15, retryable: false },
  KEY_NOT_FOUND: { meaning: 'The version has no entry for the key.', http: 404, exit: 16, retryable: false },
  INTERNAL: { meaning: 'A fault of snapflip itself.', http: 500, exit: 70, retryable: false },
} as const satisfies Record<string, { meaning: string; http: number; exit: number; retryable: boolean }>

/** Stays what it is from release to release: branch on it, not on a message. */
export type ErrorCode = keyof typeof ERRORS

/** Ids that a message names, as fields. Never values of rows. */
export type ErrorDetails = Record<string, string | number | boolean | null | readonly string[]>

/**
 * An error with a code of the registry. The message says what was expected, what was found and what to do; ids are
 * fields in `details` too. Never put row contents or credentials into either.
 */
export class SnapflipError extends Error {
  override readonly name = 'SnapflipError'
  readonly code: ErrorCode
  readonly details: ErrorDetails

  constructor(code: ErrorCode, message: string, details: ErrorDetails = {}, cause?: unknown) {
    super(message, cause === undefined ? undefined : { cause })
    this.code = code
    this.details = details
  }

  get exitCode(): number {
    return ERRORS[this.code].exit
  }

  get retryable(): boolean {
    return ERRORS[this.code].retryable
  }
}

/** Whether it is one of ours, of this code where one is named. */
export function isSnapflipError(error: unknown, code?: ErrorCode): error is SnapflipError {
  return error instanceof SnapflipError && (code === undefined || error.code === code)
}
