import type { Pointer } from '../../schemas/pointer.ts'
import { isSnapflipError, SnapflipError } from '../core/errors.ts'
import { expiredByMs } from '../core/expiry.ts'
import { formatBytes } from '../core/format-bytes.ts'
import { knownPointer } from '../registry/known-pointer.ts'
import { type Check, checked, good } from './check.ts'
import { disagreement } from './disagreement.ts'
import { furtherStandings, standingText } from './further-standing.ts'
import type { Session } from './session.ts'

/** Below this much of its memory or disk a store is said to be short. */
const FREE_BYTES_MIN = 64 << 20

/** Each store, and what the pointers in it say. */
export async function lookAtStores(session: Session): Promise<Check[]> {
  const { datasets, stores } = await session.config()
  const checks: Check[] = []
  for (const name of Object.keys(stores)) {
    const using = Object.entries(datasets).filter(([, definition]) => definition.stores.includes(name))
    const [first] = using
    if (first === undefined) {
      checks.push(good(`store ${name}`, 'no dataset uses it: not looked at'))
      continue
    }
    checks.push(
      await checked(`store ${name}`, async () => {
        const store = await session.store(first[0], name)
        await store.check()
        const free = await store.freeBytes()
        if (free !== null && free < FREE_BYTES_MIN) {
          throw new SnapflipError(
            'STORE_FULL',
            `Expected at least ${formatBytes(FREE_BYTES_MIN)} free in ${store.url}, found ${formatBytes(free)}. Give it more, or lower \`keep\`.`,
            { store: store.url, freeBytes: free },
          )
        }
        return `${store.url}: writable, keeps what it is given${free === null ? '' : `, ${formatBytes(free)} free`}`
      }),
    )
    for (const [dataset, definition] of using) {
      const isFirst = definition.stores[0] === name
      checks.push(
        isFirst
          ? await checked(`pointer ${dataset}`, () => lookAtPointer(session, dataset))
          : await checked(`pointer ${dataset} in ${name}`, () => lookAtFurther(session, dataset, name)),
      )
    }
  }
  return checks
}

async function lookAtPointer(session: Session, dataset: string): Promise<string> {
  const store = await session.store(dataset)
  const known = await knownPointer(await session.registry(), dataset).catch((error: unknown) => {
    // What is wrong with the registry is told by the look at it.
    if (isSnapflipError(error)) return null
    throw error
  })
  const pointer = (await store.pointer.read())?.pointer ?? null
  const differs = disagreement({ dataset, store: store.url }, pointer, known)
  if (differs !== null) throw differs
  if (pointer?.active == null) return 'no version yet'
  const expired = expiredByMs(pointer, new Date())
  if (expired !== null) throw beyondBudget(dataset, pointer, expired)
  if ((await store.data.readManifest(pointer.active.tag)) !== null) return `at ${pointer.active.tag}`
  throw new SnapflipError(
    'CORRUPT',
    `Expected the manifest of ${pointer.active.tag}, which the pointer of ${dataset} names, found none in ${store.url}. \`snapflip rollback ${dataset} --reason …\`, or \`snapflip refresh ${dataset} --full\`.`,
    { dataset, tag: pointer.active.tag },
  )
}

async function lookAtFurther(session: Session, dataset: string, name: string): Promise<string> {
  const standings = await furtherStandings(session, dataset, { registryAnswers: true })
  const standing = standings.find((one) => one.name === name)
  if (standing === undefined || standing.state === null) return 'nothing published yet'
  if (standing.state !== 'degraded' && standing.error === null) return `at ${standingText(standing)}`
  throw new SnapflipError(
    'STORE_DEGRADED',
    `Expected ${name} to hold what the first store of ${dataset} says, found it ${standingText(standing)} Once it answers, \`snapflip refresh ${dataset}\` brings it up.`,
    { dataset, store: name },
  )
}

function beyondBudget(dataset: string, { active, freshAsOf, ttl }: Pointer, byMs: number): SnapflipError {
  return new SnapflipError(
    'VERSION_EXPIRED',
    `Expected ${active?.tag} of ${dataset} to be known to be current within its budget of ${ttl?.budgetMs} ms, found it so as of ${freshAsOf?.at}. \`snapflip refresh ${dataset}\`, or see runbooks/version-expired.md.`,
    { dataset, tag: active?.tag ?? null, byMs },
  )
}
