/** What a version holds, and how readers name it. */
export type { IndexManifest, Manifest } from '../schemas/manifest.ts'
/** A version beyond doubt, with its place in the registry's order; and the fencing number of the flip that made it active. */
export type { Epoch, VersionRef } from '../schemas/pointer.ts'
export { append, type Queryable } from './changelog/append.ts'
export { ERRORS, type ErrorCode, type ErrorDetails, isSnapflipError, SnapflipError } from './core/errors.ts'
/** What `reader.on` tells, by event. */
export type { FollowerEvents as ReaderEvents } from './reader/follower.ts'
export { any, atLeast, type Freshness, maxStale } from './reader/freshness.ts'
export type { Key, KeyPart } from './reader/key.ts'
export { open } from './reader/open.ts'
export type { ReaderLogger, ReaderOptions } from './reader/options.ts'
export type { Pin, PinOptions } from './reader/pin.ts'
export type { Reader } from './reader/reader.ts'
export type { Entry, ReadOptions, ValueTypes } from './reader/reads.ts'
