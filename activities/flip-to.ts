import type { VersionRef } from '../schemas/pointer.ts'
import { flipRequestSchema } from '../schemas/refresh.ts'
import type { BakePolicy } from '../schemas/watch.ts'
import { requireStore } from '../src/registry/apply-store.ts'
import { requireNoDrill } from '../src/registry/drills.ts'
import { requireFree } from '../src/registry/intend-flip.ts'
import { refOf } from '../src/registry/known-pointer.ts'
import { version as versionRow } from '../src/registry/version.ts'
import { absorbBreakGlass } from './absorb.ts'
import type { Deps } from './deps.ts'
import { asActivity, notBeside } from './failure.ts'
import { makeFlip } from './flip.ts'
import { followAll } from './follow.ts'
import { notAsExpected } from './not-as-expected.ts'
import type { FlipFrom } from './parent.ts'
import { parseRequest } from './parse-request.ts'
import { repair } from './reconcile.ts'
import { requesterOf } from './requester.ts'
import { settleOpenFlips } from './settle-flips.ts'
import { throughRestarts } from './through-restarts.ts'
import { definitionOf } from './under-policy.ts'

/** A flip forward as it will be made, looked up before anything is changed. */
export interface FlipToPlan {
  dataset: string
  from: FlipFrom
  version: VersionRef
  reason: string
  actor: string
  /** Of the workflow, whose compensation is allowed with it. */
  runId: string
  searchable: boolean
  /** How what readers then get is watched, where that is declared. */
  bake?: BakePolicy
}

/** Looks what a flip to a version that is there already goes from, and whether it goes forward; nothing is changed yet. */
export const planFlipTo =
  (deps: Deps) =>
  (asked: { request: unknown; workflowId: string; runId: string }): Promise<FlipToPlan> =>
    asActivity(async (tell, signal) => {
      const request = parseRequest(flipRequestSchema, asked.request, 'a flip, with "to": the tag')
      const { dataset, reason, to } = request
      const { bake } = await definitionOf(deps, dataset)
      const { actor } = await requesterOf(deps, { ...asked, action: 'flip', request })
      const store = await deps.store(dataset)
      await requireStore(deps.pool, { dataset, url: store.url })
      await settleOpenFlips(deps, store, dataset)
      await repair(deps, store, { dataset, tell, signal })
      await absorbBreakGlass(deps, store, dataset)
      await notBeside(() => requireNoDrill(deps.pool, dataset))
      const pointer = (await store.pointer.read())?.pointer ?? null
      const row = await versionRow(deps.pool, dataset, to)
      await requireFree(deps.pool, row)
      const version = refOf(row)
      const active = pointer?.active ?? null
      const details = { dataset, tag: to }
      if (pointer === null || active === null) {
        const todo = `\`snapflip refresh ${dataset}\` makes one.`
        throw notAsExpected(`an active version of ${dataset}`, 'none', todo, details)
      }
      if (version === null || active.tag === to || row.ordinal < active.ordinal) {
        const expected = `a sealed version of ${dataset} that is newer than ${active.tag}, which readers are on`
        const todo = `\`snapflip versions ${dataset}\` lists them; back goes \`snapflip rollback ${dataset} --to …\`.`
        throw notAsExpected(expected, `${to} ${row.state}`, todo, details)
      }
      const from = { tag: active.tag, epoch: pointer.epoch }
      const { runId } = asked
      return { dataset, from, version, reason, actor, runId, searchable: deps.searchable, ...(bake && { bake }) }
    })

/** Moves the pointer forward. Again with the same flip id: finds it made. */
export const flipForward =
  (deps: Deps) =>
  ({ dataset, from, version, reason, actor, runId, bake, flipId }: FlipToPlan & { flipId: string }): Promise<void> =>
    asActivity(async (tell, signal) => {
      const store = await deps.store(dataset)
      const { watermark } = await versionRow(deps.pool, dataset, version.tag)
      const freshAsOf = watermark === null ? null : { snapshot: watermark.snapshot, at: watermark.at }
      const intent = {
        ...({ flipId, dataset, kind: 'flip', from: from.tag, to: version.tag, reason, actor } as const),
        manifestSha256: version.manifest,
        runId,
        ...(bake && { bakeMs: bake.forMs }),
      }
      const change = { expected: from, to: version, freshAsOf }
      await throughRestarts(
        () => makeFlip(deps, store, { intent, change }),
        () => repair(deps, store, { dataset, madeAfter: flipId, tell, signal }),
      )
      await settleOpenFlips(deps, store, dataset)
      await followAll(deps, { dataset, tell, signal })
    })
